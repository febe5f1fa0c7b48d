// What: one answer on its way from tokens to text: the engine's events come in, pieces of text go
//   out that are whole characters and sure to stay (stop_texts.h), with the log-probabilities of
//   their tokens and where in the text each token begins.
// Who owns: shared by the engine's thread and the request's AnswerGroup.
// Thread: the engine's, as every TokenSink.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/stop_texts.h"
#include "text/stream_decoder.h"

namespace tg {

class Metrics;

struct AnswerToken {
  TokenId id = 0;
  bool has_logprob = true;  // the first token of a prompt has none
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;
  std::int64_t offset = 0;  // where its text begins, in characters
};

struct AnswerPiece {
  std::string text;
  std::vector<AnswerToken> tokens;  // where log-probabilities were asked for

  bool empty() const { return text.empty() && tokens.empty(); }
};

struct AnswerEnd {
  FinishReason reason = FinishReason::kStop;
  Error error;  // kError only
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;
};

// Who takes the pieces.
class AnswerReceiver {
 public:
  virtual ~AnswerReceiver() = default;
  virtual void on_piece(std::int64_t choice, AnswerPiece piece) = 0;
  // Once, as the last; `piece` is the rest of the text, often empty.
  virtual void on_end(std::int64_t choice, AnswerPiece piece, const AnswerEnd& end) = 0;
};

struct AnswerStreamOptions {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::int64_t choice = 0;
  std::vector<std::string> stop;
  bool keeps_stop_text = false;
  std::int64_t min_tokens = 0;  // no stop text counts before
  bool skip_special = true;
  bool logprobs = false;
  // The prompt, if it is to stand in front of the answer; else empty.
  std::vector<TokenId> echo_ids = {};
  bool echo_special = false;      // show its special tokens
  bool echo_hides_first = false;  // but not the first one, a BOS that the caller did not write
  std::unique_ptr<TokenMask> mask = nullptr;  // kept for the request's life
  bool counts_prompt = true;   // in usage and metrics: once per prompt, not per choice
  Metrics* metrics = nullptr;  // none: nobody counts
};

class AnswerStream : public TokenSink {
 public:
  AnswerStream(AnswerStreamOptions options, std::shared_ptr<AnswerReceiver> receiver);

  TokenMask* mask() const { return options_.mask.get(); }

  bool on_token(const TokenEvent& event) override;
  void on_prompt_scores(RequestId id, std::vector<SampledToken> scores) override;
  void on_finish(const FinishEvent& event) override;

 private:
  void echo(const std::vector<SampledToken>& scores);
  void add_token(TokenId id, const SampledToken* sampled);
  // Text of the prompt; text of the answer: false when a stop text ends it.
  void add_shown(const std::string& text);
  bool add_watched(const std::string& text);
  AnswerPiece take_piece();

  AnswerStreamOptions options_;
  std::shared_ptr<AnswerReceiver> receiver_;
  StreamDecoder decoder_;
  StopTexts stops_;
  bool echoed_ = false;
  bool stopped_ = false;         // by a stop text
  std::int64_t characters_ = 0;  // decoded so far, held back or not
  std::int64_t shown_ = 0;       // of them, in pieces
  std::string ready_;
  std::vector<AnswerToken> tokens_;  // not in a piece yet
};

}  // namespace tg
