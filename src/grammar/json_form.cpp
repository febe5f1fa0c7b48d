#include "grammar/json_form.h"

#include <algorithm>
#include <utility>

#include "grammar/json_texts.h"
#include "grammar/number_range.h"

namespace tg {
namespace {

constexpr FormNodeId kNowhere = FormBuilder::kNowhere;

Regex bracket(const char* sign) { return regex_sequence({regex_literal(sign), json_space()}); }

}  // namespace

Result<FormNodeId> JsonForm::terminal(const std::string& key, const Regex& tree, FormNodeId next) {
  if (tree->kind == RegexTree::Kind::kNothing) return kNowhere;
  TG_ASSIGN(const std::uint32_t leaf, builder_.named_leaf(key, tree));
  return builder_.leaf(leaf, next);
}

Result<FormNodeId> JsonForm::behind_comma(FormNodeId next) {
  return terminal("comma", bracket(","), next);
}

Result<FormNodeId> JsonForm::close(char sign, FormNodeId next) {
  const std::string text(1, sign);
  return terminal(sign == '}' ? "close object" : "close array",
                  regex_sequence({json_space(), regex_literal(text)}), next);
}

Result<FormNodeId> JsonForm::object(const ObjectParts& parts, FormNodeId next) {
  TG_ASSIGN(const FormNodeId end, close('}', next));
  // From the last property to the first. `member`: a member with this name or a later one has to
  // come; `going_on`: behind a member, the rest of the object.
  FormNodeId member = kNowhere;
  FormNodeId going_on = end;
  if (parts.others) {
    std::vector<std::string> names;
    names.reserve(parts.properties.size());
    for (const Property& property : parts.properties) names.push_back(property.name);
    std::string key = "other names";
    for (const std::string& name : names) key += " \"" + name + "\"";
    going_on = builder_.placeholder();
    TG_ASSIGN(const FormNodeId value, parts.others(going_on));
    if (value != kNowhere) {
      TG_ASSIGN(member,
                terminal(key, regex_sequence({json_name_other_than(names), bracket(":")}), value));
    }
    TG_ASSIGN(const FormNodeId comma, behind_comma(member));
    builder_.becomes(going_on, builder_.either({comma, end}));
  }
  bool may_end = true;
  for (std::size_t i = parts.properties.size(); i-- > 0;) {
    TG_RETURN_IF_ERROR(builder_.check_size());
    const Property& property = parts.properties[i];
    TG_ASSIGN(const FormNodeId value, property.value(going_on));
    FormNodeId here = kNowhere;
    if (value != kNowhere) {
      const Regex name = json_string_of(regex_literal(property.name));
      TG_ASSIGN(here,
                terminal("name " + property.name, regex_sequence({name, bracket(":")}), value));
    }
    if (property.required) may_end = false;
    member = property.required ? here : builder_.either({here, member});
    TG_ASSIGN(const FormNodeId comma, behind_comma(member));
    going_on = builder_.either({comma, may_end ? end : kNowhere});
  }
  // White space of an empty object is that of its opening.
  TG_ASSIGN(const FormNodeId empty, terminal("}", regex_literal("}"), next));
  const FormNodeId inside = builder_.either({member, may_end ? empty : kNowhere});
  return terminal("open object", bracket("{"), inside);
}

Result<FormNodeId> JsonForm::array(const ArrayParts& parts, FormNodeId next) {
  const std::uint64_t prefix = parts.prefix.size();
  std::uint64_t most = parts.most.value_or(RegexTree::kNoLimit);
  if (!parts.items) most = std::min(most, prefix);
  if (parts.least > most) return kNowhere;
  TG_ASSIGN(const FormNodeId end, close(']', next));
  // From this item on they are all alike, when there is no maximum.
  const bool endless = most >= RegexTree::kNoLimit;
  const std::uint64_t chain = endless ? std::max(parts.least, prefix) : most;
  FormNodeId item = kNowhere;  // one that has to come
  FormNodeId going_on = end;   // behind one
  if (endless) {
    going_on = builder_.placeholder();
    TG_ASSIGN(item, parts.items(going_on));
    TG_ASSIGN(const FormNodeId comma, behind_comma(item));
    builder_.becomes(going_on, builder_.either({comma, end}));
  }
  // Item i, and what follows when there are i + 1 of them.
  for (std::uint64_t i = chain; i-- > 0;) {
    TG_RETURN_IF_ERROR(builder_.check_size());
    const std::uint64_t count = i + 1;
    TG_ASSIGN(const FormNodeId comma, behind_comma(item));
    going_on = builder_.either({comma, count >= parts.least ? end : kNowhere});
    const Value& value = i < prefix ? parts.prefix[i] : parts.items;
    item = kNowhere;
    if (going_on != kNowhere) {
      TG_ASSIGN(item, value(going_on));
    }
  }
  TG_ASSIGN(const FormNodeId empty, terminal("]", regex_literal("]"), next));
  return terminal("open array", bracket("["),
                  builder_.either({item, parts.least == 0 ? empty : kNowhere}));
}

Result<FormNodeId> JsonForm::string(const std::optional<Regex>& pattern, const Lengths& lengths,
                                    FormNodeId next) {
  const bool bounded = lengths.least > 0 || lengths.most;
  if (!pattern && !bounded) return terminal("string", json_string(), next);
  if (lengths.most && *lengths.most < lengths.least) return kNowhere;
  std::uint32_t most = RegexTree::kNoLimit;
  if (lengths.most && *lengths.most <= FormLeaf::kMostCharacters) {
    most = static_cast<std::uint32_t>(*lengths.most);
  }
  if (lengths.least > FormLeaf::kMostCharacters) {
    return error(ErrorCode::kOutOfCapacity, "a string of at least {} characters; at most {}",
                 lengths.least, FormLeaf::kMostCharacters);
  }
  const auto least = static_cast<std::uint32_t>(lengths.least);
  if (!pattern) {
    if (character_ == nullptr) {
      TG_ASSIGN(ByteAutomaton automaton, ByteAutomaton::compile(json_character()));
      character_ = std::make_shared<const ByteAutomaton>(std::move(automaton));
    }
    return builder_.leaf(builder_.add_leaf(FormLeaf(character_, least, most)), next);
  }
  const Regex text = json_string_of(*pattern);
  if (text->kind == RegexTree::Kind::kNothing) return kNowhere;
  const RegexLengths reach = regex_lengths(*pattern);
  if (reach.least >= least && reach.most <= most) {
    TG_ASSIGN(const std::uint32_t leaf, builder_.add_leaf(text));
    return builder_.leaf(leaf, next);
  }
  const Regex counted = json_string_of(regex_repeat(regex_set(CodePointSet::all()), least, most));
  TG_ASSIGN(const ByteAutomaton left, ByteAutomaton::compile(text));
  TG_ASSIGN(const ByteAutomaton right, ByteAutomaton::compile(counted));
  TG_ASSIGN(std::optional<ByteAutomaton> both, ByteAutomaton::intersection(left, right));
  if (!both) return kNowhere;
  return builder_.leaf(builder_.add_leaf(FormLeaf(std::move(*both))), next);
}

Result<FormNodeId> JsonForm::any_object(FormNodeId next) {
  if (!any_object_) {
    any_object_ = builder_.declare_rule();
    ObjectParts parts;
    parts.others = [this](FormNodeId behind) { return any_value(behind); };
    TG_ASSIGN(const FormNodeId entry, object(parts, FormBuilder::kReturn));
    builder_.define_rule(*any_object_, entry);
  }
  return builder_.call(*any_object_, next);
}

Result<FormNodeId> JsonForm::any_array(FormNodeId next) {
  if (!any_array_) {
    any_array_ = builder_.declare_rule();
    ArrayParts parts;
    parts.items = [this](FormNodeId behind) { return any_value(behind); };
    TG_ASSIGN(const FormNodeId entry, array(parts, FormBuilder::kReturn));
    builder_.define_rule(*any_array_, entry);
  }
  return builder_.call(*any_array_, next);
}

Result<FormNodeId> JsonForm::any_value(FormNodeId next) {
  if (!any_value_) {
    any_value_ = builder_.declare_rule();
    const Regex scalar = regex_either({json_string(), any_number(false), regex_literal("true"),
                                       regex_literal("false"), regex_literal("null")});
    TG_ASSIGN(const FormNodeId simple, terminal("scalar", scalar, FormBuilder::kReturn));
    TG_ASSIGN(const FormNodeId in_object, any_object(FormBuilder::kReturn));
    TG_ASSIGN(const FormNodeId in_array, any_array(FormBuilder::kReturn));
    builder_.define_rule(*any_value_, builder_.either({simple, in_object, in_array}));
  }
  return builder_.call(*any_value_, next);
}

}  // namespace tg
