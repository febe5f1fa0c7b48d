#include "server/completion_response.h"

#include <set>
#include <utility>

#include "server/json_text.h"

namespace tg {
namespace {

// {"token text": log-probability, ...}: the best ones, and the chosen one if it is not among them.
void append_top_of_completion(std::string& out, const Tokenizer& tokenizer,
                              const AnswerToken& token) {
  if (!token.has_logprob) {
    out += "null";
    return;
  }
  std::set<std::string> named;  // a vocabulary may spell two tokens alike; a key comes once
  const auto append = [&](TokenId id, float logprob) {
    const auto [text, is_new] = named.insert(token_text(tokenizer, id));
    if (!is_new) return;
    out += named.size() == 1 ? "{" : ",";
    append_json_string(out, *text);
    out += ':';
    append_json_number(out, logprob, kLogprobFloor);
  };
  bool has_chosen = false;
  for (const TokenLogprob& candidate : token.top) {
    append(candidate.token, candidate.logprob);
    has_chosen = has_chosen || candidate.token == token.id;
  }
  if (!has_chosen) append(token.id, token.logprob);
  out += '}';
}

template <typename Append>
void append_list(std::string& out, const char* key, const std::vector<AnswerToken>& tokens,
                 Append append) {
  out += key;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append(tokens[i]);
  }
  out += ']';
}

void append_completion_logprobs(std::string& out, const AnswerHead& head,
                                const std::vector<AnswerToken>& tokens) {
  out += R"(,"logprobs":)";
  if (!head.logprobs) {
    out += "null";
    return;
  }
  const Tokenizer& tokenizer = *head.tokenizer;
  append_list(out, R"({"tokens":[)", tokens, [&](const AnswerToken& token) {
    append_json_string(out, token_text(tokenizer, token.id));
  });
  append_list(out, R"(,"token_logprobs":[)", tokens, [&](const AnswerToken& token) {
    if (token.has_logprob) {
      append_json_number(out, token.logprob, kLogprobFloor);
    } else {
      out += "null";
    }
  });
  append_list(out, R"(,"top_logprobs":[)", tokens,
              [&](const AnswerToken& token) { append_top_of_completion(out, tokenizer, token); });
  append_list(out, R"(,"text_offset":[)", tokens,
              [&](const AnswerToken& token) { out += std::to_string(token.offset); });
  out += '}';
}

void append_completion_fields(std::string& out, const AnswerHead& head, const AnswerPiece& piece,
                              std::string_view reason) {
  out += R"(,"text":)";
  append_json_string(out, piece.text);
  append_completion_logprobs(out, head, piece.tokens);
  out += R"(,"finish_reason":)";
  if (reason.empty()) {
    out += "null";
  } else {
    append_json_string(out, reason);
  }
}

}  // namespace

std::string CompletionFormat::opening(std::int64_t /*choices*/) const { return {}; }

void CompletionFormat::add_piece(std::string& out, std::int64_t choice, AnswerPiece piece) {
  begin_event(out, choice);
  append_completion_fields(out, head(), piece, {});
  end_event(out);
}

void CompletionFormat::add_end(std::string& out, std::int64_t choice, AnswerPiece rest,
                               FinishReason reason) {
  begin_event(out, choice);
  append_completion_fields(out, head(), rest, finish_reason_text(reason));
  end_event(out);
}

void CompletionFormat::append_whole_choice(std::string& out, WholeAnswer answer) {
  append_completion_fields(out, head(), answer.content, finish_reason_text(answer.reason));
}

}  // namespace tg
