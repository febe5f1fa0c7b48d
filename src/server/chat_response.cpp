#include "server/chat_response.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "server/json_text.h"

namespace tg {
namespace {

void append_chat_token(std::string& out, const Tokenizer& tokenizer, TokenId id, float logprob) {
  out += R"({"token":)";
  append_json_string(out, token_text(tokenizer, id));
  out += R"(,"logprob":)";
  append_json_number(out, logprob, kLogprobFloor);
  out += R"(,"bytes":[)";
  bool first = true;
  for (const char byte : tokenizer.token_bytes(id)) {
    if (!first) out += ',';
    first = false;
    out += std::to_string(static_cast<unsigned char>(byte));
  }
  out += ']';
}

void append_chat_logprobs(std::string& out, const AnswerHead& head,
                          const std::vector<AnswerToken>& tokens) {
  out += R"(,"logprobs":)";
  if (!head.logprobs) {
    out += "null";
    return;
  }
  out += R"({"content":[)";
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_chat_token(out, *head.tokenizer, tokens[i].id, tokens[i].logprob);
    out += R"(,"top_logprobs":[)";
    for (std::size_t t = 0; t < tokens[i].top.size(); ++t) {
      if (t > 0) out += ',';
      const TokenLogprob& candidate = tokens[i].top[t];
      append_chat_token(out, *head.tokenizer, candidate.token, candidate.logprob);
      out += '}';
    }
    out += "]}";
  }
  out += R"(],"refusal":null})";
}

void append_chat_reason(std::string& out, std::string_view reason) {
  out += R"(,"finish_reason":)";
  if (reason.empty()) {
    out += "null";
  } else {
    append_json_string(out, reason);
  }
}

constexpr std::string_view kToolCalls = "tool_calls";

}  // namespace

std::string ChatFormat::opening(std::int64_t choices) const {
  std::string out;
  for (std::int64_t choice = 0; choice < choices; ++choice) {
    begin_event(out, choice);
    // A call has no content, and what this becomes is not known yet.
    out += R"(,"delta":{"role":"assistant","content":)";
    out += tools_.empty() ? R"("")" : "null";
    out += R"(},"logprobs":null)";
    append_chat_reason(out, {});
    end_event(out);
  }
  return out;
}

bool ChatFormat::hold(std::int64_t choice, AnswerPiece& piece) {
  if (tools_.empty()) return false;
  Held& held = held_[choice];
  if (held.is_text) return false;
  held.piece.text += piece.text;
  held.piece.tokens.insert(held.piece.tokens.end(), std::make_move_iterator(piece.tokens.begin()),
                           std::make_move_iterator(piece.tokens.end()));
  if (may_be_tool_call(held.piece.text)) return true;
  held.is_text = true;
  piece = std::move(held.piece);
  return false;
}

void ChatFormat::add_piece(std::string& out, std::int64_t choice, AnswerPiece piece) {
  if (hold(choice, piece)) return;
  begin_event(out, choice);
  out += R"(,"delta":{"content":)";
  append_json_string(out, piece.text);
  out += '}';
  append_chat_logprobs(out, head(), piece.tokens);
  append_chat_reason(out, {});
  end_event(out);
}

void ChatFormat::add_end(std::string& out, std::int64_t choice, AnswerPiece rest,
                         FinishReason reason) {
  std::vector<ToolCall> calls;
  if (hold(choice, rest)) {
    rest = std::move(held_[choice].piece);
    calls = calls_in(rest.text);
  }
  begin_event(out, choice);
  if (!calls.empty()) {
    out += R"(,"delta":{"tool_calls":)" + calls_text(calls, choice, /*with_index=*/true) + "}";
    append_chat_logprobs(out, head(), rest.tokens);
    append_chat_reason(out, {});
    end_event(out);
    // The reason comes by itself, as OpenAI's: its client takes a call for complete only then.
    begin_event(out, choice);
    out += R"(,"delta":{},"logprobs":null)";
    append_chat_reason(out, kToolCalls);
    return end_event(out);
  }
  if (rest.text.empty()) {
    out += R"(,"delta":{})";
  } else {
    out += R"(,"delta":{"content":)";
    append_json_string(out, rest.text);
    out += '}';
  }
  append_chat_logprobs(out, head(), rest.tokens);
  append_chat_reason(out, finish_reason_text(reason));
  end_event(out);
}

std::vector<ToolCall> ChatFormat::calls_in(std::string_view text) const {
  std::vector<ToolCall> calls = parse_tool_calls(text, tools_);
  if (one_call_ && calls.size() > 1) calls.resize(1);
  return calls;
}

std::string ChatFormat::call_id(std::int64_t choice, std::size_t call) const {
  return fmt::format("call_{}_{}_{}", head().id, choice, call);
}

std::string ChatFormat::calls_text(const std::vector<ToolCall>& calls, std::int64_t choice,
                                   bool with_index) const {
  std::string out = "[";
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (i > 0) out += ',';
    out += '{';
    if (with_index) out += R"("index":)" + std::to_string(i) + ",";
    out += R"("id":)" + json_string(call_id(choice, i));
    out += R"(,"type":"function","function":{"name":)" + json_string(calls[i].name);
    out += R"(,"arguments":)" + json_string(calls[i].arguments) + "}}";
  }
  return out + "]";
}

void ChatFormat::append_whole_choice(std::string& out, WholeAnswer answer) {
  const std::int64_t choice = whole_choices_++;
  std::vector<ToolCall> calls;
  if (!tools_.empty()) calls = calls_in(answer.content.text);
  out += R"(,"message":{"role":"assistant","content":)";
  if (calls.empty()) {
    append_json_string(out, answer.content.text);
  } else {
    out += "null";
  }
  out += R"(,"refusal":null)";
  if (!calls.empty()) out += R"(,"tool_calls":)" + calls_text(calls, choice, /*with_index=*/false);
  out += '}';
  append_chat_logprobs(out, head(), answer.content.tokens);
  append_chat_reason(out, calls.empty() ? finish_reason_text(answer.reason) : kToolCalls);
}

}  // namespace tg
