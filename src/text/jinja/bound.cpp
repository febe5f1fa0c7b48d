// Binding of arguments to parameters (declared in builtins.h).
#include <algorithm>

#include "text/jinja/builtins.h"

namespace tg::jinja {

Result<Bound> Bound::make(const Arguments& arguments, std::vector<std::string_view> names) {
  Bound bound;
  bound.names_ = std::move(names);
  bound.values_.resize(bound.names_.size(), nullptr);
  if (arguments.positional.size() > bound.names_.size()) {
    return error(ErrorCode::kBadInput, "takes at most {} arguments, {} given", bound.names_.size(),
                 arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto place = std::find(bound.names_.begin(), bound.names_.end(), name);
    if (place == bound.names_.end()) {
      return error(ErrorCode::kBadInput, "takes no argument named '{}'", name);
    }
    const Value*& slot = bound.values_[static_cast<std::size_t>(place - bound.names_.begin())];
    if (slot != nullptr) {
      return error(ErrorCode::kBadInput, "two values for the argument '{}'", name);
    }
    slot = &value;
  }
  return bound;
}

Result<std::string> Bound::text(std::size_t i) const {
  if (values_[i] == nullptr) {
    return error(ErrorCode::kBadInput, "needs the argument '{}'", names_[i]);
  }
  if (values_[i]->is_undefined()) {
    return error(ErrorCode::kBadInput, "{}", values_[i]->undefined_message());
  }
  if (!values_[i]->is_string()) {
    return error(ErrorCode::kBadInput, "the argument '{}' must be a text, not {}", names_[i],
                 type_name(*values_[i]));
  }
  return values_[i]->string();
}

Result<std::string> Bound::text_or(std::size_t i, std::string_view otherwise) const {
  if (values_[i] == nullptr) return std::string(otherwise);
  return text(i);
}

Result<std::int64_t> Bound::integer_or(std::size_t i, std::int64_t otherwise) const {
  if (values_[i] == nullptr) return otherwise;
  if (!values_[i]->is_integral()) {
    return error(ErrorCode::kBadInput, "the argument '{}' must be an integer, not {}", names_[i],
                 type_name(*values_[i]));
  }
  return values_[i]->integral();
}

bool Bound::truth_or(std::size_t i, bool otherwise) const {
  return values_[i] == nullptr ? otherwise : is_true(*values_[i]);
}

}  // namespace tg::jinja
