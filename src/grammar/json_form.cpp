#include "grammar/json_form.h"

#include <algorithm>
#include <utility>

#include "grammar/json_texts.h"
#include "grammar/number_range.h"

namespace tg {
namespace {

constexpr FormNodeId kNowhere = FormBuilder::kNowhere;
constexpr std::uint32_t kFewCharacters = 8;  // that are written out rather than counted

Regex bracket(const char* sign) { return regex_sequence({regex_literal(sign), json_space()}); }

}  // namespace

Result<FormNodeId> JsonForm::terminal(const std::string& key, const Regex& tree, FormNodeId next) {
  if (tree->kind == RegexTree::Kind::kNothing) return kNowhere;
  std::optional<std::uint32_t> leaf = builder_.find_leaf(key);
  if (!leaf) {
    TG_ASSIGN(leaf, builder_.add_leaf(tree));
    builder_.name_leaf(key, *leaf);
  }
  return builder_.leaf(*leaf, next);
}

Result<FormNodeId> JsonForm::choice(const std::vector<std::string>& texts, const Regex& more,
                                    FormNodeId next) {
  std::vector<FormNodeId> nodes;
  if (!texts.empty()) {
    TG_ASSIGN(ByteAutomaton automaton, ByteAutomaton::one_of(texts, builder_.budget()));
    TG_ASSIGN(const std::uint32_t leaf, builder_.add_leaf(FormLeaf(std::move(automaton))));
    nodes.push_back(builder_.leaf(leaf, next));
  }
  if (more->kind != RegexTree::Kind::kNothing) {
    TG_ASSIGN(const std::uint32_t leaf, builder_.add_leaf(more));
    nodes.push_back(builder_.leaf(leaf, next));
  }
  return builder_.either(std::move(nodes));
}

Result<FormNodeId> JsonForm::other_name(const std::vector<std::string>& names, FormNodeId next) {
  if (names.empty()) {
    return terminal("any name", regex_sequence({json_string(), bracket(":")}), next);
  }
  if (any_text_ == nullptr) {
    const Regex any = regex_repeat(regex_set(CodePointSet::all()), 0, RegexTree::kNoLimit);
    TG_ASSIGN(ByteAutomaton automaton,
              ByteAutomaton::compile(json_string_of(any), builder_.budget()));
    any_text_ = std::make_shared<const ByteAutomaton>(std::move(automaton));
  }
  std::vector<std::string> texts;
  std::string key = "other names";
  for (const std::string& name : names) {
    texts.push_back(json_text_of(name));
    key += ' ' + texts.back();
  }
  std::optional<std::uint32_t> leaf = builder_.find_leaf(key);
  if (!leaf) {
    TG_ASSIGN(ByteAutomaton automaton,
              ByteAutomaton::none_of(std::move(texts), *any_text_, builder_.budget()));
    TG_ASSIGN(leaf, builder_.add_leaf(FormLeaf(std::move(automaton))));
    builder_.name_leaf(key, *leaf);
  }
  TG_ASSIGN(const FormNodeId colon, terminal("colon", bracket(":"), next));
  return builder_.leaf(*leaf, colon);
}

Result<FormNodeId> JsonForm::counted(const CodePointSet& set, std::uint32_t least,
                                     std::uint32_t most, FormNodeId next) {
  std::vector<std::pair<char32_t, char32_t>> key;
  for (const CodePointRange& range : set.ranges()) key.emplace_back(range.first, range.last);
  std::shared_ptr<const ByteAutomaton>& character = characters_[std::move(key)];
  if (character == nullptr) {
    const Regex tree = set.empty() ? json_character() : json_character_of(set);
    TG_ASSIGN(ByteAutomaton automaton, ByteAutomaton::compile(tree, builder_.budget()));
    character = std::make_shared<const ByteAutomaton>(std::move(automaton));
  }
  TG_ASSIGN(const std::uint32_t leaf, builder_.add_leaf(FormLeaf(character, least, most)));
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
    going_on = builder_.placeholder();
    TG_ASSIGN(const FormNodeId value, parts.others(going_on));
    if (value != kNowhere) {
      TG_ASSIGN(member, other_name(names, value));
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
  if (endless) {
    const FormNodeId behind = builder_.placeholder();
    TG_ASSIGN(item, parts.items(behind));
    TG_ASSIGN(const FormNodeId comma, behind_comma(item));
    builder_.becomes(behind, builder_.either({comma, end}));
  }
  // Item i, and what follows when there are i + 1 of them.
  for (std::uint64_t i = chain; i-- > 0;) {
    TG_RETURN_IF_ERROR(builder_.check_size());
    TG_ASSIGN(const FormNodeId comma, behind_comma(item));
    const FormNodeId behind = builder_.either({comma, i + 1 >= parts.least ? end : kNowhere});
    const Value& value = i < prefix ? parts.prefix[i] : parts.items;
    item = kNowhere;
    if (behind != kNowhere) {
      TG_ASSIGN(item, value(behind));
    }
  }
  TG_ASSIGN(const FormNodeId empty, terminal("]", regex_literal("]"), next));
  return terminal("open array", bracket("["),
                  builder_.either({item, parts.least == 0 ? empty : kNowhere}));
}

Result<FormNodeId> JsonForm::string(const std::optional<Regex>& pattern, const std::string& key,
                                    const Lengths& lengths, FormNodeId next) {
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
  if (!pattern) return counted({}, least, most, next);
  const RegexTree& tree = **pattern;
  if (tree.kind == RegexTree::Kind::kRepeat && tree.parts[0]->kind == RegexTree::Kind::kSet) {
    const std::uint32_t at_least = std::max(least, tree.least);
    const std::uint32_t at_most = std::min(most, tree.most);
    if (at_least > at_most) return kNowhere;
    const bool many =
        at_most == RegexTree::kNoLimit ? at_least > kFewCharacters : at_most > kFewCharacters;
    if (many) return counted(tree.parts[0]->set, at_least, at_most, next);
  }
  const std::string name = fmt::format("text {} {} {}", least, most, key);
  const auto found = builder_.find_leaf(name);
  if (found) return builder_.leaf(*found, next);
  const Regex text = json_string_of(*pattern);
  if (text->kind == RegexTree::Kind::kNothing) return kNowhere;
  AutomatonBudget& budget = builder_.budget();
  TG_ASSIGN(std::optional<ByteAutomaton> automaton, ByteAutomaton::compile(text, budget));
  const RegexLengths reach = regex_lengths(*pattern);
  if (reach.least < least || reach.most > most) {
    const Regex any = regex_repeat(regex_set(CodePointSet::all()), least, most);
    TG_ASSIGN(const ByteAutomaton limits, ByteAutomaton::compile(json_string_of(any), budget));
    TG_ASSIGN(automaton, ByteAutomaton::intersection(*automaton, limits, budget));
  }
  if (!automaton) return kNowhere;
  TG_ASSIGN(const std::uint32_t leaf, builder_.add_leaf(FormLeaf(std::move(*automaton))));
  builder_.name_leaf(name, leaf);
  return builder_.leaf(leaf, next);
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
