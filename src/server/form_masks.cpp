#include "server/form_masks.h"

#include <utility>

namespace tg {
namespace {

class ConstraintMask : public TokenMask {
 public:
  explicit ConstraintMask(std::unique_ptr<TokenConstraint> constraint)
      : constraint_(std::move(constraint)) {}
  Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) override {
    return constraint_->allowed_after(output);
  }

 private:
  std::unique_ptr<TokenConstraint> constraint_;
};

Result<std::shared_ptr<const Grammar>> grammar_of_form(const AnswerForm& form) {
  switch (form.kind) {
    case AnswerForm::Kind::kAny:
      return nullptr;
    case AnswerForm::Kind::kJsonObject:
      return json_object_grammar();
    case AnswerForm::Kind::kJsonSchema:
      return json_schema_grammar(form.source);
    case AnswerForm::Kind::kRegex:
      return regex_grammar(form.source);
    case AnswerForm::Kind::kChoice:
      return choice_grammar(form.choices);
  }
  return nullptr;
}

}  // namespace

Result<std::shared_ptr<const Grammar>> FormMasks::grammar(const AnswerForm& form) {
  auto made = grammar_of_form(form);
  // Whatever the grammar calls it, the request is to blame.
  if (!made) return field_error(form.field, "{}: {}", form.field, made.error().text());
  return made;
}

std::unique_ptr<TokenMask> FormMasks::mask(const std::shared_ptr<const Grammar>& grammar) {
  if (grammar == nullptr) return nullptr;
  std::call_once(made_, [this] { vocabulary_ = make_token_vocabulary(*tokenizer_, stop_ids_); });
  return std::make_unique<ConstraintMask>(make_token_constraint(vocabulary_, grammar));
}

}  // namespace tg
