// What: what a Grammar is inside: its form, and the masks that were made of it for a vocabulary.
// Who owns: shared by the constraints of one form. Thread: any.
#pragma once

#include <memory>
#include <mutex>

#include "grammar/form.h"
#include "grammar/token_constraint.h"
#include "grammar/token_masks.h"

namespace tg {

class Grammar {
 public:
  explicit Grammar(std::shared_ptr<const Form> form) : form_(std::move(form)) {}

  const std::shared_ptr<const Form>& form() const { return form_; }

  // Those of the vocabulary asked for last are kept: a program has one, or two in a test.
  std::shared_ptr<TokenMasks> masks_for(
      const std::shared_ptr<const TokenVocabulary>& vocabulary) const {
    const std::lock_guard lock(mutex_);
    if (masks_ == nullptr || masks_->vocabulary() != vocabulary) {
      masks_ = std::make_shared<TokenMasks>(vocabulary, form_);
    }
    return masks_;
  }

 private:
  std::shared_ptr<const Form> form_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<TokenMasks> masks_;
};

}  // namespace tg
