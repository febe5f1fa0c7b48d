#include "grammar/schema_merge.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "grammar/schema_reader.h"
#include "text/utf8.h"

namespace tg {
namespace {

constexpr int kMostReferences = 64;            // one behind the other
constexpr std::size_t kMostCopied = 1 << 20;   // values copied by merging
constexpr std::size_t kComparesPerCopy = 256;  // of names or values; they take as long
constexpr std::size_t kMostPlaceBytes = 400;
constexpr std::size_t kMostListed = 2000;  // members of lists that are compared pair by pair

// Keywords of JSON Schema that decide about validity. Others are ignored, as the standard wants.
constexpr std::array kRules = {"$ref",
                               "$dynamicRef",
                               "$recursiveRef",
                               "allOf",
                               "anyOf",
                               "oneOf",
                               "not",
                               "if",
                               "then",
                               "else",
                               "type",
                               "enum",
                               "const",
                               "properties",
                               "required",
                               "additionalProperties",
                               "patternProperties",
                               "propertyNames",
                               "minProperties",
                               "maxProperties",
                               "dependentRequired",
                               "dependentSchemas",
                               "dependencies",
                               "unevaluatedProperties",
                               "items",
                               "prefixItems",
                               "additionalItems",
                               "unevaluatedItems",
                               "contains",
                               "minContains",
                               "maxContains",
                               "minItems",
                               "maxItems",
                               "uniqueItems",
                               "minLength",
                               "maxLength",
                               "pattern",
                               "format",
                               "minimum",
                               "maximum",
                               "exclusiveMinimum",
                               "exclusiveMaximum",
                               "multipleOf"};

SchemaJson nothing_fits() { return SchemaJson{{"enum", SchemaJson::array()}}; }

SchemaJson all_of(SchemaJson a, SchemaJson b) {
  SchemaJson list = SchemaJson::array();
  list.push_back(std::move(a));
  list.push_back(std::move(b));
  return SchemaJson{{"allOf", std::move(list)}};
}

bool has_rules(const SchemaJson& schema) {
  for (const auto& [key, value] : schema.items()) {
    if (!is_annotation(key)) return true;
  }
  return false;
}

// "const": x is "enum": [x].
void put_const_into_enum(SchemaJson& schema) {
  const auto found = schema.find("const");
  if (found == schema.end() || schema.contains("enum")) return;
  SchemaJson list = SchemaJson::array();
  list.push_back(*found);
  schema.erase("const");
  schema["enum"] = std::move(list);
}

// A list of "items" with "additionalItems", as it was before 2020.
void put_tuple_into_prefix(SchemaJson& schema) {
  const auto found = schema.find("items");
  if (found == schema.end() || !found->is_array()) return;
  SchemaJson list = std::move(*found);
  schema.erase("items");
  schema["prefixItems"] = std::move(list);
  const auto others = schema.find("additionalItems");
  if (others == schema.end()) return;
  SchemaJson items = std::move(*others);
  schema.erase("additionalItems");
  schema["items"] = std::move(items);
}

SchemaJson as_list(const SchemaJson& value) {
  return value.is_array() ? value : SchemaJson(SchemaJson::array({value}));
}

bool list_has(const SchemaJson& list, const SchemaJson& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// Members of both; an integer is a number.
SchemaJson common_types(const SchemaJson& a, const SchemaJson& b) {
  SchemaJson out = SchemaJson::array();
  for (const SchemaJson& type : a) {
    if (list_has(b, type) || (type == "integer" && list_has(b, "number"))) out.push_back(type);
  }
  for (const SchemaJson& type : b) {
    if (type == "integer" && list_has(a, "number") && !list_has(out, type)) out.push_back(type);
  }
  return out;
}

// Values in it.
std::size_t size_of(const SchemaJson& value) {
  std::size_t size = 1;
  if (value.is_structured()) {
    for (const SchemaJson& member : value) size += size_of(member);
  }
  return size;
}

class SchemaMerger {
 public:
  // `work` counts values that are copied or compared.
  SchemaMerger(std::string place, std::size_t& work) : place_(std::move(place)), work_(work) {}

  Result<SchemaJson> merge(SchemaJson a, SchemaJson b) {
    put_const_into_enum(a);
    put_const_into_enum(b);
    put_tuple_into_prefix(a);
    put_tuple_into_prefix(b);
    obey_other_properties(a, b);
    obey_other_properties(b, a);
    TG_RETURN_IF_ERROR(merge_prefix(a, b));
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) {
        a[key] = value;
      } else if (!is_annotation(key)) {
        TG_RETURN_IF_ERROR(merge_rule(key, a[key], value));
        if (key == "type" && a[key].empty()) return nothing_fits();
      }
    }
    return a;
  }

 private:
  // "additionalProperties" is about all but the properties of its own schema: what only the other
  // one names has to obey it.
  void obey_other_properties(const SchemaJson& a, SchemaJson& b) {
    const auto others = a.find("additionalProperties");
    const auto named = b.find("properties");
    if (others == a.end() || *others == true || named == b.end() || !named->is_object()) return;
    const auto own = a.find("properties");
    const bool has_own = own != a.end() && own->is_object();
    work_ += named->size() * (2 + (has_own ? own->size() / kComparesPerCopy : 0));
    for (const auto& [name, schema] : named->items()) {
      if (!has_own || !own->contains(name)) schema = all_of(schema, *others);
    }
  }

  // "items" are those behind the "prefixItems" of its own schema: what only the other one has in
  // front has to obey it. Takes "prefixItems" out of b.
  Status merge_prefix(SchemaJson& a, SchemaJson& b) {
    const SchemaJson none = SchemaJson::array();
    const SchemaJson left = a.value("prefixItems", none);
    const SchemaJson right = b.value("prefixItems", none);
    if (!left.is_array() || !right.is_array()) {
      return schema_error(ErrorCode::kBadInput, place_, "\"prefixItems\" is not a list of schemas");
    }
    if (left.empty() && right.empty()) return {};
    work_ += 2 * (left.size() + right.size());
    const auto at = [](const SchemaJson& schema, const SchemaJson& prefix, std::size_t i) {
      if (i < prefix.size()) return prefix[i];
      return schema.value("items", SchemaJson(true));
    };
    SchemaJson merged = SchemaJson::array();
    for (std::size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
      merged.push_back(all_of(at(a, left, i), at(b, right, i)));
    }
    a["prefixItems"] = std::move(merged);
    b.erase("prefixItems");
    return {};
  }

  Status merge_rule(const std::string& key, SchemaJson& a, const SchemaJson& b) {
    if (a == b) return {};
    if (a.is_structured() && b.is_structured()) work_ += a.size() * b.size() / kComparesPerCopy;
    if (a.is_array() && b.is_array() && std::max(a.size(), b.size()) > kMostListed) {
      return schema_error(ErrorCode::kOutOfCapacity, place_,
                          "schemas that are merged: \"{}\" of {} and of {} values; at most {}", key,
                          a.size(), b.size(), kMostListed);
    }
    if (key == "type") {
      a = common_types(as_list(a), as_list(b));
    } else if (key == "properties" && a.is_object() && b.is_object()) {
      for (const auto& [name, schema] : b.items()) {
        a[name] = a.contains(name) && a[name] != schema ? all_of(a[name], schema) : schema;
      }
    } else if (key == "required" && a.is_array() && b.is_array()) {
      for (const SchemaJson& name : b) {
        if (!list_has(a, name)) a.push_back(name);
      }
    } else if (key == "enum" && a.is_array() && b.is_array()) {
      SchemaJson kept = SchemaJson::array();
      for (const SchemaJson& value : a) {
        if (list_has(b, value)) kept.push_back(value);
      }
      a = std::move(kept);
    } else if ((key == "minimum" || key == "minLength" || key == "minItems" ||
                key == "exclusiveMinimum") &&
               a.is_number() && b.is_number()) {
      if (a < b) a = b;
    } else if ((key == "maximum" || key == "maxLength" || key == "maxItems" ||
                key == "exclusiveMaximum") &&
               a.is_number() && b.is_number()) {
      if (b < a) a = b;
    } else if (key == "items" || key == "additionalProperties") {
      a = all_of(a, b);
    } else {
      return schema_error(ErrorCode::kUnsupported, place_,
                          "schemas that are merged: both have \"{}\", which is not supported", key);
    }
    return {};
  }

  std::string place_;
  std::size_t& work_;
};

}  // namespace

bool is_annotation(std::string_view keyword) {
  return std::find(kRules.begin(), kRules.end(), keyword) == kRules.end();
}

std::string schema_place(const std::string& place, std::string_view step) {
  if (place.size() > kMostPlaceBytes) return place;  // merged schemas can go on for ever
  std::string out = place + "/";
  for (const char c : step.substr(0, 100)) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

std::string schema_place(const std::string& place, std::string_view step, std::size_t number) {
  return schema_place(schema_place(place, step), std::to_string(number));
}

Status SchemaDocument::read(std::string_view text) {
  TG_ASSIGN(root_, read_schema(text));
  return {};
}

const SchemaJson* SchemaDocument::keep(SchemaJson schema) {
  std::string text = schema.dump();
  const auto found = by_text_.find(text);
  if (found != by_text_.end()) return found->second;
  kept_.push_back(std::move(schema));
  by_text_.emplace(std::move(text), &kept_.back());
  return &kept_.back();
}

Result<PlacedSchema> SchemaDocument::target(std::string_view reference,
                                            const std::string& place) const {
  const auto bad = [&](const char* why) {
    return schema_error(ErrorCode::kBadInput, place, "\"$ref\": {} {}", shown_text(reference), why);
  };
  if (reference.empty() || reference[0] != '#' || (reference.size() > 1 && reference[1] != '/')) {
    return schema_error(ErrorCode::kUnsupported, place,
                        "\"$ref\": {} is not supported: only \"#\" and pointers \"#/...\" of the "
                        "same schema are",
                        shown_text(reference));
  }
  const SchemaJson* at = &root_;
  std::size_t begin = 1;
  while (begin < reference.size()) {
    const std::size_t end = std::min(reference.find('/', begin + 1), reference.size());
    std::string step;
    for (std::size_t i = begin + 1; i < end; ++i) {
      if (reference[i] == '~' && i + 1 < end &&
          (reference[i + 1] == '0' || reference[i + 1] == '1')) {
        step += reference[++i] == '0' ? '~' : '/';
      } else if (reference[i] == '%' && i + 2 < end) {
        const std::string digits(reference.substr(i + 1, 2));
        char* stop = nullptr;
        step += static_cast<char>(std::strtol(digits.c_str(), &stop, 16));
        if (stop != digits.c_str() + 2) return bad("has a bad %-escape");
        i += 2;
      } else {
        step += reference[i];
      }
    }
    if (at->is_array()) {
      const bool number = !step.empty() && step.size() < 6 &&
                          step.find_first_not_of("0123456789") == std::string::npos;
      const std::size_t index = number ? std::stoul(step) : at->size();
      if (index >= at->size()) return bad("leads nowhere");
      at = &(*at)[index];
    } else {
      const auto found = at->is_object() ? at->find(step) : at->end();
      if (!at->is_object() || found == at->end()) return bad("leads nowhere");
      at = &*found;
    }
    begin = end;
  }
  return PlacedSchema{at, std::string(reference.substr(0, 200))};
}

// With all of "$ref" and "allOf" merged into one.
Result<SchemaJson> SchemaDocument::flat(const PlacedSchema& placed, int depth) {
  const auto wrong = [&](const char* what) {
    return schema_error(ErrorCode::kBadInput, placed.place, "{}", what);
  };
  if (depth > kMostReferences) {
    return schema_error(ErrorCode::kBadInput, placed.place,
                        "more than {} references one behind the other, or one that leads to itself",
                        kMostReferences);
  }
  work_ += size_of(*placed.schema);
  if (work_ > kMostCopied) {
    return schema_error(ErrorCode::kOutOfCapacity, placed.place,
                        "merging schemas takes more than {} steps", kMostCopied);
  }
  const SchemaJson& schema = *placed.schema;
  if (schema.is_boolean()) return schema == true ? SchemaJson::object() : nothing_fits();
  if (!schema.is_object()) return wrong("a schema is neither an object nor true or false");
  SchemaJson merged = SchemaJson::object();
  for (const auto& [key, value] : schema.items()) {
    if (key != "$ref" && key != "allOf" && key != "$defs" && key != "definitions") {
      merged[key] = value;
    }
  }
  std::vector<PlacedSchema> parts;
  if (const auto found = schema.find("$ref"); found != schema.end()) {
    if (!found->is_string()) return wrong("\"$ref\" is not a text");
    TG_ASSIGN(PlacedSchema part, target(found->get_ref<const std::string&>(), placed.place));
    parts.push_back(std::move(part));
  }
  if (const auto found = schema.find("allOf"); found != schema.end()) {
    if (!found->is_array() || found->empty()) return wrong("\"allOf\" is not a list of schemas");
    for (std::size_t i = 0; i < found->size(); ++i) {
      parts.push_back({&(*found)[i], schema_place(placed.place, "allOf", i)});
    }
  }
  for (const PlacedSchema& part : parts) {
    TG_ASSIGN(SchemaJson flat_part, flat(part, depth + 1));
    TG_ASSIGN(merged,
              SchemaMerger(placed.place, work_).merge(std::move(merged), std::move(flat_part)));
  }
  return merged;
}

Result<PlacedSchema> SchemaDocument::resolved(const PlacedSchema& placed) {
  PlacedSchema at = placed;
  // A mere reference is its target itself, so that recursion comes back to the same object.
  for (int i = 0; i < kMostReferences; ++i) {
    const SchemaJson& schema = *at.schema;
    const auto reference = schema.is_object() ? schema.find("$ref") : schema.end();
    if (!schema.is_object() || reference == schema.end() || !reference->is_string()) break;
    SchemaJson rest = SchemaJson::object();
    for (const auto& [key, value] : schema.items()) {
      if (key != "$ref") rest[key] = nullptr;
    }
    if (has_rules(rest)) break;
    TG_ASSIGN(at, target(reference->get_ref<const std::string&>(), at.place));
  }
  const SchemaJson& schema = *at.schema;
  if (schema.is_object() && !schema.contains("$ref") && !schema.contains("allOf")) return at;
  const auto found = resolved_.find(&schema);
  if (found != resolved_.end()) return found->second;
  TG_ASSIGN(SchemaJson merged, flat(at, 0));
  return resolved_.try_emplace(&schema, PlacedSchema{keep(std::move(merged)), at.place})
      .first->second;
}

Result<PlacedSchema> SchemaDocument::both(const PlacedSchema& a, const PlacedSchema& b) {
  TG_ASSIGN(SchemaJson left, flat(a, 0));
  TG_ASSIGN(SchemaJson right, flat(b, 0));
  TG_ASSIGN(SchemaJson merged,
            SchemaMerger(b.place, work_).merge(std::move(left), std::move(right)));
  return PlacedSchema{keep(std::move(merged)), b.place};
}

}  // namespace tg
