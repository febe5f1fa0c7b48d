// What: the answers of /v1/chat/completions as JSON; where tools may be called, an answer that may
//   become a call is held back until it is one or is not.
// Who owns: one per request. Thread: one at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/answer_format.h"
#include "server/tool_calls.h"

namespace tg {

class ChatFormat : public AnswerFormat {
 public:
  // `tools`: names of those that the model may call; none: every answer is text.
  // With `one_call`, of several calls in an answer only the first counts.
  ChatFormat(AnswerHead head, std::vector<std::string> tools, bool one_call)
      : AnswerFormat(std::move(head), "chat.completion", "chat.completion.chunk"),
        tools_(std::move(tools)),
        one_call_(one_call) {}

  std::string opening(std::int64_t choices) const override;
  void add_piece(std::string& out, std::int64_t choice, AnswerPiece piece) override;
  void add_end(std::string& out, std::int64_t choice, AnswerPiece rest,
               FinishReason reason) override;

 private:
  void append_whole_choice(std::string& out, WholeAnswer answer) override;
  // Adds to what is held of the choice; false when all of it may go out as text.
  bool hold(std::int64_t choice, AnswerPiece& piece);
  std::vector<ToolCall> calls_in(std::string_view text) const;
  std::string call_id(std::int64_t choice, std::size_t call) const;
  std::string calls_text(const std::vector<ToolCall>& calls, std::int64_t choice,
                         bool with_index) const;

  struct Held {
    AnswerPiece piece;
    bool is_text = false;
  };
  std::vector<std::string> tools_;
  bool one_call_;
  std::map<std::int64_t, Held> held_;  // by choice
  std::int64_t whole_choices_ = 0;     // written so far
};

}  // namespace tg
