// What: answers as JSON, whole or as server-sent events: what both endpoints have in common, and
//   the interface of the two that differ (completion_response.h, chat_response.h).
// Who owns: one per request, its AnswerGroup's. Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/answer_stream.h"
#include "text/tokenizer.h"

namespace tg {

struct AnswerHead {
  std::string id;
  std::int64_t created = 0;  // seconds since 1970
  std::string model;
  std::shared_ptr<const Tokenizer> tokenizer;  // for the texts of single tokens
  bool logprobs = false;
  bool include_usage = false;  // of a stream; a whole answer always has it
};

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt: found in the prefix cache
};

struct WholeAnswer {
  AnswerPiece content;
  FinishReason reason = FinishReason::kStop;
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  // Events. What a stream begins with, before any token is there.
  virtual std::string opening(std::int64_t choices) const = 0;
  virtual void add_piece(std::string& out, std::int64_t choice, AnswerPiece piece) = 0;
  virtual void add_end(std::string& out, std::int64_t choice, AnswerPiece rest,
                       FinishReason reason) = 0;
  // What comes behind the last choice: usage if asked for, and the end mark.
  std::string closing(const Usage& usage) const;

  // The body of an answer that comes in one.
  std::string whole(std::vector<WholeAnswer> answers, const Usage& usage);

 protected:
  AnswerFormat(AnswerHead head, const char* object, const char* chunk_object);
  const AnswerHead& head() const { return head_; }

  // One event with one choice: begin, the choice's fields, end.
  void begin_event(std::string& out, std::int64_t choice) const;
  void end_event(std::string& out) const;
  virtual void append_whole_choice(std::string& out, WholeAnswer answer) = 0;

 private:
  AnswerHead head_;
  const char* object_;
  const char* chunk_object_;
  std::string event_begin_;
};

// "stop" or "length": what clients know.
std::string_view finish_reason_text(FinishReason reason);

// A token as text: its own where that is UTF-8, else its bytes as "bytes:\xe2\x98", so that two
// tokens never look alike.
std::string token_text(const Tokenizer& tokenizer, TokenId id);

// Candidates that a mask has ruled out have this floor, as vLLM's: JSON knows no infinity.
inline constexpr float kLogprobFloor = -9999.0F;

}  // namespace tg
