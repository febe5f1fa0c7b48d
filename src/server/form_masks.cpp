#include "server/form_masks.h"

#include <algorithm>
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

std::string key_of(const AnswerForm& form) {
  std::string key = std::to_string(static_cast<int>(form.kind)) + form.source;
  for (const std::string& choice : form.choices)
    key += fmt::format(" {} {}", choice.size(), choice);
  return key;
}

}  // namespace

Result<std::shared_ptr<const Grammar>> FormMasks::grammar(const AnswerForm& form) {
  if (form.kind == AnswerForm::Kind::kAny) return nullptr;
  const std::string key = key_of(form);
  if (auto kept = find(key)) return kept;
  auto made = grammar_of_form(form);
  // Whatever the grammar calls it, the request is to blame.
  if (!made) return field_error(form.field, "{}: {}", form.field, made.error().text());
  if (key.size() <= kMostSourceBytes && memory_of(**made) <= kMostGrammarBytes) keep(key, *made);
  return made;
}

std::shared_ptr<const Grammar> FormMasks::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&key](const Kept& kept) { return kept.first == key; });
  if (found == kept_.end()) return nullptr;
  std::rotate(found, found + 1, kept_.end());
  return kept_.back().second;
}

void FormMasks::keep(const std::string& key, const std::shared_ptr<const Grammar>& grammar) {
  const std::lock_guard lock(mutex_);
  if (kept_.size() == kMostKept) kept_.erase(kept_.begin());
  kept_.emplace_back(key, grammar);
}

std::unique_ptr<TokenMask> FormMasks::mask(const std::shared_ptr<const Grammar>& grammar) {
  if (grammar == nullptr) return nullptr;
  std::call_once(made_, [this] { vocabulary_ = make_token_vocabulary(*tokenizer_, stop_ids_); });
  return std::make_unique<ConstraintMask>(make_token_constraint(vocabulary_, grammar));
}

}  // namespace tg
