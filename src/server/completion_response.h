// What: the answers of /v1/completions as JSON.
// Who owns: one per request. Thread: one at a time.
#pragma once

#include "server/answer_format.h"

namespace tg {

class CompletionFormat : public AnswerFormat {
 public:
  explicit CompletionFormat(AnswerHead head)
      : AnswerFormat(std::move(head), "text_completion", "text_completion") {}

  std::string opening(std::int64_t choices) const override;
  void add_piece(std::string& out, std::int64_t choice, AnswerPiece piece) override;
  void add_end(std::string& out, std::int64_t choice, AnswerPiece rest,
               FinishReason reason) override;

 private:
  void append_whole_choice(std::string& out, WholeAnswer answer) override;
};

}  // namespace tg
