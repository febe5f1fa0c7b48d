// What: JSON as a form: values, objects and arrays made of leaves and rules, for the compiler of
//   schemas.
// Who owns: one JsonForm per grammar being made; refers to its builder. Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/form.h"

namespace tg {

class JsonForm {
 public:
  // A node that follows one value and then goes on to `next`.
  using Value = std::function<Result<FormNodeId>(FormNodeId next)>;

  struct Property {
    std::string name;
    bool required = false;
    Value value;
  };
  // Properties come in this order, others behind them.
  struct ObjectParts {
    std::vector<Property> properties;
    Value others;  // empty: there are none
  };
  struct ArrayParts {
    std::vector<Value> prefix;
    Value items;  // behind the prefix; empty: there are none
    std::uint64_t least = 0;
    std::optional<std::uint64_t> most;
  };
  // Of a string.
  struct Lengths {
    std::uint64_t least = 0;
    std::optional<std::uint64_t> most;
  };

  explicit JsonForm(FormBuilder& builder) : builder_(builder) {}

  Result<FormNodeId> object(const ObjectParts& parts, FormNodeId next);
  Result<FormNodeId> array(const ArrayParts& parts, FormNodeId next);
  // One of these JSON texts, or of `more`.
  Result<FormNodeId> choice(const std::vector<std::string>& texts, const Regex& more,
                            FormNodeId next);
  // The texts of `pattern`, which `key` names, or any when there is none.
  Result<FormNodeId> string(const std::optional<Regex>& pattern, const std::string& key,
                            const Lengths& lengths, FormNodeId next);
  // Leaves with one key are one leaf, whose walks through the vocabulary are made once.
  Result<FormNodeId> terminal(const std::string& key, const Regex& tree, FormNodeId next);

  Result<FormNodeId> any_value(FormNodeId next);
  Result<FormNodeId> any_object(FormNodeId next);
  Result<FormNodeId> any_array(FormNodeId next);

 private:
  Result<FormNodeId> behind_comma(FormNodeId next);
  Result<FormNodeId> close(char bracket, FormNodeId next);
  // A name that is none of these, with its colon.
  Result<FormNodeId> other_name(const std::vector<std::string>& names, FormNodeId next);
  // A string of so many characters of the set; of any, in any spelling, when it is empty.
  Result<FormNodeId> counted(const CodePointSet& set, std::uint32_t least, std::uint32_t most,
                             FormNodeId next);

  FormBuilder& builder_;
  std::optional<std::uint32_t> any_value_;  // rules
  std::optional<std::uint32_t> any_object_;
  std::optional<std::uint32_t> any_array_;
  std::shared_ptr<const ByteAutomaton> any_text_;  // in quotes, in one spelling
  std::map<std::vector<std::pair<char32_t, char32_t>>, std::shared_ptr<const ByteAutomaton>>
      characters_;  // of counted strings, by their set
};

}  // namespace tg
