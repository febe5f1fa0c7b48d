// JSON Schema as a form. What is decided here beyond the standard:
// - Properties come in the order of "properties", further ones behind them.
// - "additionalProperties" that is absent is false beside "properties" and true without them, as
//   OpenAI's strict mode and vLLM have it. A required name without a schema may have any value.
// - "oneOf" is "anyOf": an automaton cannot count how many fit.
// - Keywords of a type ("minLength", "items", ...) without "type" mean that type.
// - A "format" is a rule, not an annotation.
#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/json_form.h"
#include "grammar/json_texts.h"
#include "grammar/number_range.h"
#include "grammar/regex_parser.h"
#include "grammar/schema_merge.h"
#include "grammar/schema_values.h"
#include "text/utf8.h"

namespace tg {
namespace {

constexpr std::size_t kMostChoices = 20000;       // values of one "enum"
constexpr std::size_t kMostChoiceBytes = 100000;  // of those that are arrays and objects

constexpr std::array kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};

// Rules that no automaton of reasonable size can follow, or that nobody asked for yet.
constexpr std::array kRefused = {
    "$dynamicRef",   "$recursiveRef",        "not",           "if",           "patternProperties",
    "propertyNames", "minProperties",        "maxProperties", "dependencies", "dependentRequired",
    "contains",      "dependentSchemas",     "multipleOf",    "minContains",  "unevaluatedItems",
    "uniqueItems",   "unevaluatedProperties"};

struct TypeKeyword {
  const char* keyword;
  const char* type;
};
constexpr std::array<TypeKeyword, 16> kTypeKeywords = {{{"properties", "object"},
                                                        {"required", "object"},
                                                        {"additionalProperties", "object"},
                                                        {"items", "array"},
                                                        {"prefixItems", "array"},
                                                        {"additionalItems", "array"},
                                                        {"minItems", "array"},
                                                        {"maxItems", "array"},
                                                        {"minLength", "string"},
                                                        {"maxLength", "string"},
                                                        {"pattern", "string"},
                                                        {"format", "string"},
                                                        {"minimum", "number"},
                                                        {"maximum", "number"},
                                                        {"exclusiveMinimum", "number"},
                                                        {"exclusiveMaximum", "number"}}};

// "uniqueItems": false and the like forbid nothing.
bool forbids_nothing(std::string_view keyword, const SchemaJson& value) {
  if (keyword == "uniqueItems") return value == false;
  if (keyword == "unevaluatedProperties" || keyword == "unevaluatedItems") return value == true;
  if (keyword == "minProperties") return value == 0;
  return value.is_object() && value.empty() &&
         (keyword == "patternProperties" || keyword == "dependencies" ||
          keyword == "propertyNames" || keyword == "dependentRequired" ||
          keyword == "dependentSchemas");
}

std::string_view type_name_of(const SchemaJson& value) {
  if (value.is_object()) return "object";
  if (value.is_array()) return "array";
  if (value.is_string()) return "string";
  if (value.is_boolean()) return "boolean";
  if (value.is_null()) return "null";
  return value.is_number_integer() || value.get<double>() == std::floor(value.get<double>())
             ? "integer"
             : "number";
}

class SchemaCompiler {
 public:
  explicit SchemaCompiler(SchemaDocument& document) : document_(document), json_(builder_) {}

  Result<std::shared_ptr<const Form>> compile() {
    const std::uint32_t start = builder_.declare_rule();
    TG_ASSIGN(const FormNodeId entry, value(document_.root(), FormBuilder::kReturn));
    builder_.define_rule(start, entry);
    // Rules that others refer to, one after the other: a chain of references is no recursion here.
    while (!pending_.empty()) {
      const auto [rule, placed] = std::move(pending_.back());
      pending_.pop_back();
      TG_ASSIGN(const FormNodeId its, alternatives(placed, FormBuilder::kReturn));
      if (its == FormBuilder::kNowhere && nothing_fits_.empty()) nothing_fits_ = placed.place;
      builder_.define_rule(rule, its);
    }
    Result<std::shared_ptr<const Form>> form = builder_.finish();
    if (!form && form.error().code == ErrorCode::kBadInput && !nothing_fits_.empty()) {
      return schema_error(ErrorCode::kBadInput, nothing_fits_, "{}: no value fits here",
                          form.error().message);
    }
    return form;
  }

 private:
  Result<FormNodeId> value(const PlacedSchema& any, FormNodeId next) {
    if (next == FormBuilder::kNowhere) return next;
    TG_RETURN_IF_ERROR(builder_.check_size());
    TG_ASSIGN(const PlacedSchema placed, document_.resolved(any));
    const SchemaJson& schema = *placed.schema;
    const auto [found, is_new] = rules_.try_emplace(&schema, 0);
    if (is_new) {
      found->second = builder_.declare_rule();
      pending_.emplace_back(found->second, placed);
    }
    return builder_.call(found->second, next);
  }

  JsonForm::Value value_of(PlacedSchema placed) {
    return [this, placed = std::move(placed)](FormNodeId next) { return value(placed, next); };
  }

  // All that fits a schema without "$ref" and "allOf".
  Result<FormNodeId> alternatives(const PlacedSchema& placed, FormNodeId next) {
    const SchemaJson& schema = *placed.schema;
    if (!schema.is_object()) {
      return schema_error(ErrorCode::kBadInput, placed.place,
                          "a schema is neither an object nor true or false");
    }
    for (const char* keyword : kRefused) {
      const auto found = schema.find(keyword);
      if (found == schema.end() || forbids_nothing(keyword, *found)) continue;
      // "unevaluatedProperties": false is what is the case anyway unless others are allowed.
      if (std::string_view(keyword) == "unevaluatedProperties" && *found == false &&
          !schema.contains("additionalProperties") && schema.contains("properties")) {
        continue;
      }
      return schema_error(ErrorCode::kUnsupported, placed.place, "\"{}\" is not supported",
                          keyword);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (schema.contains(keyword)) return any_of(placed, keyword, next);
    }
    if (schema.contains("enum") || schema.contains("const")) return choice(placed, next);
    TG_ASSIGN(const std::vector<std::string> types, types_of(placed));
    if (types.empty()) return json_.any_value(next);
    std::vector<FormNodeId> nodes;
    for (const std::string& type : types) {
      TG_ASSIGN(const FormNodeId node, of_type(type, placed, next));
      nodes.push_back(node);
    }
    return builder_.either(std::move(nodes));
  }

  Result<FormNodeId> any_of(const PlacedSchema& placed, const char* keyword, FormNodeId next) {
    SchemaJson rest = *placed.schema;
    const SchemaJson& list = (*placed.schema)[keyword];
    rest.erase(keyword);
    if (!list.is_array() || list.empty()) {
      return schema_error(ErrorCode::kBadInput, placed.place, "\"{}\" is not a list of schemas",
                          keyword);
    }
    bool has_rest = false;
    for (const auto& [key, member] : rest.items()) has_rest = has_rest || !is_annotation(key);
    const PlacedSchema others{has_rest ? document_.keep(std::move(rest)) : nullptr, placed.place};
    std::vector<FormNodeId> nodes;
    for (std::size_t i = 0; i < list.size(); ++i) {
      PlacedSchema one{&list[i], schema_place(placed.place, keyword, i)};
      if (has_rest) {
        TG_ASSIGN(one, document_.both(others, one));
      }
      TG_ASSIGN(const FormNodeId node, value(one, next));
      nodes.push_back(node);
    }
    return builder_.either(std::move(nodes));
  }

  Result<FormNodeId> choice(const PlacedSchema& placed, FormNodeId next) {
    const SchemaJson& schema = *placed.schema;
    const bool has_list = schema.contains("enum");
    SchemaJson values = has_list ? schema["enum"] : SchemaJson::array({schema["const"]});
    if (!values.is_array() || values.size() > kMostChoices) {
      return schema_error(ErrorCode::kBadInput, placed.place,
                          "\"enum\" is not a list of at most {} values", kMostChoices);
    }
    TG_ASSIGN(const std::vector<std::string> types, explicit_types(placed));
    ValueRules rules(placed, builder_.budget());
    std::vector<std::string> texts;
    std::vector<Regex> others;
    std::size_t others_bytes = 0;
    for (const SchemaJson& member : values) {
      const std::string_view type = type_name_of(member);
      const bool fits = !schema.contains("type") ||
                        std::any_of(types.begin(), types.end(), [type](const std::string& allowed) {
                          return allowed == type || (allowed == "number" && type == "integer");
                        });
      const bool is_const = !has_list || !schema.contains("const") || schema["const"] == member;
      if (!fits || !is_const) continue;
      TG_ASSIGN(const bool allowed, at(placed, rules.allow(member)));
      if (!allowed) continue;
      if (member.is_string()) {
        texts.push_back(json_text_of(member.get_ref<const std::string&>()));
      } else if (!member.is_structured()) {
        texts.push_back(member.dump());
      } else {
        others_bytes += member.dump().size();
        if (others_bytes > kMostChoiceBytes) {
          return schema_error(ErrorCode::kOutOfCapacity, placed.place,
                              "arrays and objects of more than {} bytes to choose from",
                              kMostChoiceBytes);
        }
        others.push_back(json_value(member));
      }
    }
    return at(placed, json_.choice(texts, regex_either(std::move(others)), next));
  }

  Result<std::vector<std::string>> explicit_types(const PlacedSchema& placed) const {
    std::vector<std::string> types;
    const auto found = placed.schema->find("type");
    if (found == placed.schema->end()) return types;
    const SchemaJson list = found->is_array() ? *found : SchemaJson(SchemaJson::array({*found}));
    for (const SchemaJson& type : list) {
      const bool known =
          type.is_string() && std::find(kTypes.begin(), kTypes.end(),
                                        type.get_ref<const std::string&>()) != kTypes.end();
      if (!known) {
        return schema_error(ErrorCode::kBadInput, placed.place, "\"type\" is {}",
                            shown_text(type.dump()));
      }
      const auto& name = type.get_ref<const std::string&>();
      if (std::find(types.begin(), types.end(), name) == types.end()) types.push_back(name);
    }
    const bool number = std::find(types.begin(), types.end(), "number") != types.end();
    if (number) std::erase(types, "integer");
    return types;
  }

  // Empty: all of them.
  Result<std::vector<std::string>> types_of(const PlacedSchema& placed) const {
    TG_ASSIGN(std::vector<std::string> types, explicit_types(placed));
    if (placed.schema->contains("type")) {
      if (types.empty()) {
        return schema_error(ErrorCode::kBadInput, placed.place,
                            "no \"type\" is left to choose from");
      }
      return types;
    }
    for (const TypeKeyword& pair : kTypeKeywords) {
      if (placed.schema->contains(pair.keyword) &&
          std::find(types.begin(), types.end(), pair.type) == types.end()) {
        types.emplace_back(pair.type);
      }
    }
    return types;
  }

  Result<FormNodeId> of_type(const std::string& type, const PlacedSchema& placed, FormNodeId next) {
    if (type == "object") return object(placed, next);
    if (type == "array") return array(placed, next);
    if (type == "string") return string(placed, next);
    if (type == "boolean") {
      return json_.terminal("boolean",
                            regex_either({regex_literal("true"), regex_literal("false")}), next);
    }
    if (type == "null") return json_.terminal("null", regex_literal("null"), next);
    return number(placed, type == "integer", next);
  }

  Result<FormNodeId> object(const PlacedSchema& placed, FormNodeId next) {
    const SchemaJson& schema = *placed.schema;
    const auto properties = schema.find("properties");
    const auto others = schema.find("additionalProperties");
    const bool has_properties = properties != schema.end();
    if (has_properties && !properties->is_object()) {
      return schema_error(ErrorCode::kBadInput, placed.place, "\"properties\" is not an object");
    }
    JsonForm::ObjectParts parts;
    std::unordered_map<std::string, std::size_t> numbers;
    if (has_properties) {
      const std::string place = schema_place(placed.place, "properties");
      for (const auto& [name, property] : properties->items()) {
        numbers.emplace(name, parts.properties.size());
        parts.properties.push_back({name, false, value_of({&property, schema_place(place, name)})});
      }
    }
    const bool absent = others == schema.end();
    const bool closed = absent ? has_properties : *others == false;
    const JsonForm::Value any = [this](FormNodeId behind) { return json_.any_value(behind); };
    if (!closed) {
      parts.others = absent || *others == true
                         ? any
                         : value_of({&*others, schema_place(placed.place, "additionalProperties")});
    }
    const auto required = schema.find("required");
    if (required != schema.end() && !required->is_array()) {
      return schema_error(ErrorCode::kBadInput, placed.place,
                          "\"required\" is not a list of names");
    }
    for (const SchemaJson& name : required == schema.end() ? SchemaJson::array() : *required) {
      if (!name.is_string() || name.get_ref<const std::string&>().size() > 1024) {
        return schema_error(ErrorCode::kBadInput, placed.place,
                            "\"required\" is not a list of names of at most 1024 bytes");
      }
      const auto& text = name.get_ref<const std::string&>();
      const auto [found, is_new] = numbers.try_emplace(text, parts.properties.size());
      if (is_new) {
        if (!absent && closed) {
          return schema_error(
              ErrorCode::kBadInput, placed.place,
              "the required {} is not among the properties, and others are forbidden",
              shown_text(text));
        }
        parts.properties.push_back({text, true, closed ? any : parts.others});
      }
      parts.properties[found->second].required = true;
    }
    return at(placed, json_.object(parts, next));
  }

  Result<FormNodeId> array(const PlacedSchema& placed, FormNodeId next) {
    const SchemaJson& schema = *placed.schema;
    JsonForm::ArrayParts parts;
    auto prefix = schema.find("prefixItems");
    auto items = schema.find("items");
    std::string prefix_name = "prefixItems";
    std::string items_name = "items";
    if (items != schema.end() && items->is_array()) {  // as it was before 2020
      prefix = items;
      items = schema.find("additionalItems");
      prefix_name = "items";
      items_name = "additionalItems";
    }
    if (prefix != schema.end()) {
      if (!prefix->is_array()) {
        return schema_error(ErrorCode::kBadInput, placed.place, "\"{}\" is not a list of schemas",
                            prefix_name);
      }
      for (std::size_t i = 0; i < prefix->size(); ++i) {
        parts.prefix.push_back(
            value_of({&(*prefix)[i], schema_place(placed.place, prefix_name, i)}));
      }
    }
    if (items != schema.end() && *items != true && *items != false) {
      parts.items = value_of({&*items, schema_place(placed.place, items_name)});
    } else if (items != schema.end() ? *items == true : prefix == schema.end()) {
      parts.items = [this](FormNodeId behind) { return json_.any_value(behind); };
    }
    TG_ASSIGN(const std::optional<std::uint64_t> least, count_in(placed, "minItems"));
    TG_ASSIGN(parts.most, count_in(placed, "maxItems"));
    parts.least = least.value_or(0);
    return at(placed, json_.array(parts, next));
  }

  Result<FormNodeId> string(const PlacedSchema& placed, FormNodeId next) {
    const SchemaJson& schema = *placed.schema;
    std::optional<Regex> text;
    std::string key;
    if (const auto format = schema.find("format"); format != schema.end()) {
      if (!format->is_string()) {
        return schema_error(ErrorCode::kBadInput, placed.place, "\"format\" is not a text");
      }
      const auto& name = format->get_ref<const std::string&>();
      TG_ASSIGN(Regex tree, at(placed, json_format(name)));
      if (tree->kind != RegexTree::Kind::kEmpty) {
        text = std::move(tree);
        key = "format " + name;
      }
    }
    if (const auto pattern = schema.find("pattern"); pattern != schema.end()) {
      if (!pattern->is_string()) {
        return schema_error(ErrorCode::kBadInput, placed.place, "\"pattern\" is not a text");
      }
      if (text) {
        return schema_error(ErrorCode::kUnsupported, placed.place,
                            "\"pattern\" beside \"format\" is not supported");
      }
      const auto& source = pattern->get_ref<const std::string&>();
      TG_ASSIGN(text, at(placed, parse_regex(source, RegexUse::kSearch)));
      key = "pattern " + source;
    }
    JsonForm::Lengths lengths;
    TG_ASSIGN(const std::optional<std::uint64_t> least, count_in(placed, "minLength"));
    TG_ASSIGN(lengths.most, count_in(placed, "maxLength"));
    lengths.least = least.value_or(0);
    return at(placed, json_.string(text, key, lengths, next));
  }

  Result<FormNodeId> number(const PlacedSchema& placed, bool integer, FormNodeId next) {
    TG_ASSIGN(const std::optional<NumberBound> least,
              bound_in(placed, "minimum", "exclusiveMinimum", 1));
    TG_ASSIGN(const std::optional<NumberBound> most,
              bound_in(placed, "maximum", "exclusiveMaximum", -1));
    std::string key = integer ? "integer" : "number";
    if (!least && !most) return json_.terminal(key, any_number(integer), next);
    TG_ASSIGN(const Regex tree, at(placed, number_between(least, most, integer)));
    for (const auto& end : {least, most}) {
      key += end ? fmt::format(" {}{}", end->decimal, end->exclusive ? "!" : "") : " -";
    }
    return json_.terminal(key, tree, next);
  }

  // Names the place in an error that has none.
  template <typename T>
  static Result<T> at(const PlacedSchema& placed, Result<T> result) {
    if (!result && result.error().place.empty()) {
      return tl::unexpected<Error>(
          Error{result.error().code, result.error().message, "schema " + placed.place});
    }
    return result;
  }

  SchemaDocument& document_;
  FormBuilder builder_;
  JsonForm json_;
  std::unordered_map<const SchemaJson*, std::uint32_t> rules_;
  std::vector<std::pair<std::uint32_t, PlacedSchema>> pending_;
  std::string nothing_fits_;  // the first place of which that is true
};

}  // namespace

Result<std::shared_ptr<const Grammar>> json_object_grammar() {
  FormBuilder builder;
  JsonForm json(builder);
  const std::uint32_t start = builder.declare_rule();
  TG_ASSIGN(const FormNodeId entry, json.any_object(FormBuilder::kReturn));
  builder.define_rule(start, entry);
  TG_ASSIGN(std::shared_ptr<const Form> form, builder.finish());
  return std::make_shared<const Grammar>(std::move(form));
}

Result<std::shared_ptr<const Grammar>> json_schema_grammar(std::string_view schema) {
  SchemaDocument document;
  TG_RETURN_IF_ERROR(document.read(schema));
  TG_ASSIGN(std::shared_ptr<const Form> form, SchemaCompiler(document).compile());
  return std::make_shared<const Grammar>(std::move(form));
}

}  // namespace tg
