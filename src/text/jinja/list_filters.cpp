#include "text/jinja/list_filters.h"

#include <algorithm>

#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja::filters {
namespace {

// An attribute as map(attribute="a.b.0") names it: names and numbers with dots between them.
Result<Value> follow_path(const Value& value, const Value& path, Meter& meter) {
  if (!path.is_string()) return get_item(value, path, meter);
  Value at = value;
  std::string_view rest = path.string();
  while (true) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool is_number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    const auto index = is_number ? parse_integer(part, 10) : std::nullopt;
    TG_ASSIGN(at, get_item(at, index ? Value(*index) : Value(part), meter));
    if (dot == std::string_view::npos) return at;
    rest.remove_prefix(dot + 1);
  }
}

// The value that an item is ordered, joined or summed by.
Result<Value> key_of(const Value& item, const Value* attribute, bool case_sensitive, Meter& meter) {
  Value key = item;
  if (attribute != nullptr && !attribute->is_none()) {
    TG_ASSIGN(key, follow_path(item, *attribute, meter));
  }
  if (!case_sensitive && key.is_string()) {
    if (!meter.spend(static_cast<std::int64_t>(key.string().size() / 32))) {
      return meter.exhausted();
    }
    return Value(to_lower(key.string()));
  }
  return key;
}

// Of sort(attribute="a,b"): a list, whose order asks for the first that differs.
Result<Value> keys_of(const Value& item, const Value& attributes, bool case_sensitive,
                      Meter& meter) {
  if (!attributes.is_string()) return key_of(item, &attributes, case_sensitive, meter);
  List keys;
  std::string_view rest = attributes.string();
  while (true) {
    const std::size_t comma = rest.find(',');
    const Value path(rest.substr(0, comma));
    TG_ASSIGN(Value key, key_of(item, &path, case_sensitive, meter));
    keys.push_back(std::move(key));
    if (!meter.spend(1)) return meter.exhausted();
    if (comma == std::string_view::npos) return make_list(std::move(keys));
    rest.remove_prefix(comma + 1);
  }
}

using Keyed = std::pair<Value, Value>;  // key, item

// Stable, as Python's; with `reverse` too. A merge sort, because values without a total order (NaN,
// or a comparison that fails) may send std::sort out of its range.
Status sort_keyed(std::vector<Keyed>& all, bool reverse, Meter& meter) {
  Status status;
  const auto less = [&](const Keyed& a, const Keyed& b) {
    if (!status || !meter.ok()) return false;
    const auto answer =
        reverse ? less_than(b.first, a.first, meter) : less_than(a.first, b.first, meter);
    if (!answer) status = tl::unexpected<Error>(answer.error());
    return answer && *answer;
  };
  const std::size_t size = all.size();
  std::vector<Keyed> merged(size);
  const auto at = [&](std::size_t i) {
    return all.begin() + static_cast<std::ptrdiff_t>(std::min(i, size));
  };
  for (std::size_t run = 1; run < size; run *= 2) {
    auto out = merged.begin();
    for (std::size_t i = 0; i < size; i += 2 * run) {
      out = std::merge(at(i), at(i + run), at(i + run), at(i + 2 * run), out, less);
    }
    std::swap(all, merged);
  }
  if (!meter.ok()) return meter.exhausted();
  return status;
}

Result<Value> extreme(const Value& subject, const Arguments& arguments, Meter& meter,
                      bool largest) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"case_sensitive", "attribute"}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  if (all->items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  Value best = all->items[0];
  TG_ASSIGN(Value best_key, key_of(best, bound.get(1), bound.truth_or(0, false), meter));
  for (std::size_t i = 1; i < all->items.size(); ++i) {
    TG_ASSIGN(Value key, key_of(all->items[i], bound.get(1), bound.truth_or(0, false), meter));
    TG_ASSIGN(const bool better,
              largest ? less_than(best_key, key, meter) : less_than(key, best_key, meter));
    if (better) {
      best = all->items[i];
      best_key = std::move(key);
    }
    if (!meter.ok()) return meter.exhausted();
  }
  return best;
}

// Arguments from the i-th positional one on.
Arguments rest_of(const Arguments& arguments, std::size_t i) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(i),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

// select and reject, or by attribute selectattr and rejectattr: those whose test gives `wanted`.
Result<Value> choose(const Value& subject, const Arguments& arguments, Meter& meter,
                     bool by_attribute, bool wanted) {
  std::size_t used = by_attribute ? 1 : 0;
  if (arguments.positional.size() < used) {
    return error(ErrorCode::kBadInput, "needs the name of an attribute");
  }
  const Builtin* test = nullptr;
  if (arguments.positional.size() > used) {
    const Value& name = arguments.positional[used];
    if (!name.is_string()) return error(ErrorCode::kBadInput, "the name of a test must be a text");
    test = find_test(name.string());
    if (test == nullptr) return error(ErrorCode::kUnsupported, "no test named '{}'", name.string());
    ++used;
  }
  const Arguments rest = rest_of(arguments, used);
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  List out;
  for (const Value& item : all->items) {
    Value looked_at = item;
    if (by_attribute) {
      TG_ASSIGN(looked_at, follow_path(item, arguments.positional[0], meter));
    }
    bool result = is_true(looked_at);
    if (test != nullptr) {
      TG_ASSIGN(const Value answer, test->function(looked_at, rest, meter));
      result = is_true(answer);
    }
    if (result == wanted) out.push_back(item);
    if (!meter.spend(1)) return meter.exhausted();
  }
  return make_generator(std::move(out));
}

}  // namespace

Result<Value> batch(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"linecount", "fill_with"}));
  TG_ASSIGN(const std::int64_t size, bound.integer_or(0, 0));
  if (size < 1) return error(ErrorCode::kBadInput, "batch needs a size of at least 1");
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  List out;
  for (std::size_t i = 0; i < all->items.size();) {
    List part;
    while (part.size() < static_cast<std::size_t>(size) && i < all->items.size()) {
      part.push_back(all->items[i++]);
    }
    while (bound.get(1) != nullptr && !bound.get(1)->is_none() &&
           part.size() < static_cast<std::size_t>(size)) {
      if (!meter.spend(1)) return meter.exhausted();
      part.push_back(*bound.get(1));
    }
    if (!meter.spend(2)) return meter.exhausted();  // a list is larger than an item
    TG_ASSIGN(Value made, make_list(std::move(part)));
    out.push_back(std::move(made));
  }
  return make_generator(std::move(out));
}

Result<Value> slice(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"slices", "fill_with"}));
  TG_ASSIGN(const std::int64_t count, bound.integer_or(0, 0));
  if (count < 1) return error(ErrorCode::kBadInput, "slice needs a number of at least 1");
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  if (count > meter.limits().steps || !meter.spend(2 * count)) {
    meter.spend(meter.limits().steps + 1);
    return meter.exhausted();
  }
  const std::size_t parts = static_cast<std::size_t>(count);
  const std::size_t longer = all->items.size() % parts;  // so many have one item more
  List out;
  auto next = all->items.begin();
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t size = all->items.size() / parts + (i < longer ? 1 : 0);
    const auto end = next + static_cast<std::ptrdiff_t>(size);
    List part(next, end);
    next = end;
    if (i >= longer && bound.get(1) != nullptr && !bound.get(1)->is_none()) {
      part.push_back(*bound.get(1));
    }
    TG_ASSIGN(Value made, make_list(std::move(part)));
    out.push_back(std::move(made));
  }
  return make_generator(std::move(out));
}

Result<Value> dictsort(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"case_sensitive", "by", "reverse"}));
  TG_ASSIGN(const std::string by, bound.text_or(1, "key"));
  if (by != "key" && by != "value") {
    return error(ErrorCode::kBadInput, "dictsort by '{}': must be 'key' or 'value'", by);
  }
  if (!subject.is_dict()) {
    return error(ErrorCode::kBadInput, "dictsort needs a dict, not {}", type_name(subject));
  }
  std::vector<Keyed> all;
  for (const auto& [key, value] : subject.dict().entries()) {
    TG_ASSIGN(Value order,
              key_of(by == "key" ? key : value, nullptr, bound.truth_or(0, false), meter));
    TG_ASSIGN(Value pair, make_tuple({key, value}));
    all.emplace_back(std::move(order), std::move(pair));
    if (!meter.spend(1)) return meter.exhausted();
  }
  TG_RETURN_IF_ERROR(sort_keyed(all, bound.truth_or(2, false), meter));
  List out;
  for (Keyed& one : all) out.push_back(std::move(one.second));
  return make_list(std::move(out));
}

Result<Value> first(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  return all->items.empty() ? Value::undefined("No first item, sequence was empty.")
                            : all->items.front();
}

Result<Value> last(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (subject.is_sequence() && subject.sequence().is_generator()) {
    return error(ErrorCode::kBadInput, "'generator' object is not reversible");
  }
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  return all->items.empty() ? Value::undefined("No last item, sequence was empty.")
                            : all->items.back();
}

Result<Value> items(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (subject.is_undefined()) return make_generator({});
  if (!subject.is_dict()) {
    return error(ErrorCode::kBadInput, "Can only get item pairs from a mapping.");
  }
  TG_ASSIGN(const Value pairs, call_method(subject, "items", {}, meter));
  return make_generator(pairs.sequence().items);
}

Result<Value> join(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"d", "attribute"}));
  const std::string separator = bound.get(0) == nullptr ? "" : text_of(*bound.get(0), meter);
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  List parts;
  for (const Value& item : all->items) {
    TG_ASSIGN(Value part, key_of(item, bound.get(1), true, meter));
    parts.push_back(std::move(part));
  }
  TG_ASSIGN(std::string out, join_text(parts, separator, meter));
  return Value(std::move(out));
}

Result<Value> length(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (subject.is_string()) meter.spend_bytes(subject.string().size());
  TG_ASSIGN(const std::int64_t count, length_of(subject));
  return Value(count);
}

Result<Value> list(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  return make_list(all->items);
}

Result<Value> map(const Value& subject, const Arguments& arguments, Meter& meter) {
  // A filter may be map itself, on the characters of a character, and so on.
  const Meter::Level level(meter);
  if (level.too_deep()) return level.error();
  const Builtin* filter = nullptr;
  const Value* attribute = nullptr;
  const Value* otherwise = nullptr;
  if (arguments.positional.empty()) {
    TG_ASSIGN(const Bound bound, Bound::make(arguments, {"attribute", "default"}));
    attribute = bound.get(0);
    otherwise = bound.get(1);
    if (attribute == nullptr) return error(ErrorCode::kBadInput, "map needs a filter");
  } else {
    const Value& name = arguments.positional[0];
    if (!name.is_string()) return error(ErrorCode::kBadInput, "map: the filter must be a text");
    filter = find_filter(name.string());
    if (filter == nullptr) {
      return error(ErrorCode::kUnsupported, "no filter named '{}'", name.string());
    }
  }
  const Arguments rest = filter == nullptr ? Arguments{} : rest_of(arguments, 1);
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  List out;
  for (const Value& item : all->items) {
    if (!meter.spend(1)) return meter.exhausted();
    Value made;
    if (filter != nullptr) {
      if (item.is_string()) meter.spend(static_cast<std::int64_t>(item.string().size() / 32));
      TG_ASSIGN(made, filter->function(item, rest, meter));
    } else {
      TG_ASSIGN(made, follow_path(item, *attribute, meter));
      if (made.is_undefined() && otherwise != nullptr) made = *otherwise;
    }
    out.push_back(std::move(made));
  }
  return make_generator(std::move(out));
}

Result<Value> max(const Value& subject, const Arguments& arguments, Meter& meter) {
  return extreme(subject, arguments, meter, true);
}

Result<Value> min(const Value& subject, const Arguments& arguments, Meter& meter) {
  return extreme(subject, arguments, meter, false);
}

Result<Value> reject(const Value& subject, const Arguments& arguments, Meter& meter) {
  return choose(subject, arguments, meter, false, false);
}

Result<Value> rejectattr(const Value& subject, const Arguments& arguments, Meter& meter) {
  return choose(subject, arguments, meter, true, false);
}

Result<Value> reverse(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  List items(all->items.rbegin(), all->items.rend());
  // What has no last item to begin with is made a list.
  if (subject.is_sequence() && subject.sequence().is_generator())
    return make_list(std::move(items));
  if (!subject.is_string()) return make_generator(std::move(items));
  TG_ASSIGN(std::string text, join_text(items, "", meter));
  return Value(std::move(text));
}

Result<Value> select(const Value& subject, const Arguments& arguments, Meter& meter) {
  return choose(subject, arguments, meter, false, true);
}

Result<Value> selectattr(const Value& subject, const Arguments& arguments, Meter& meter) {
  return choose(subject, arguments, meter, true, true);
}

Result<Value> sort(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"reverse", "case_sensitive", "attribute"}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  std::vector<Keyed> keyed;
  for (const Value& item : all->items) {
    const Value attribute = bound.get(2) == nullptr ? Value::none() : *bound.get(2);
    TG_ASSIGN(Value key, keys_of(item, attribute, bound.truth_or(1, false), meter));
    keyed.emplace_back(std::move(key), item);
  }
  TG_RETURN_IF_ERROR(sort_keyed(keyed, bound.truth_or(0, false), meter));
  List out;
  for (Keyed& one : keyed) out.push_back(std::move(one.second));
  return make_list(std::move(out));
}

Result<Value> sum(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"attribute", "start"}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  Value total = bound.get(1) == nullptr ? Value(std::int64_t{0}) : *bound.get(1);
  for (const Value& item : all->items) {
    TG_ASSIGN(const Value part, key_of(item, bound.get(0), true, meter));
    TG_ASSIGN(total, arithmetic("+", total, part, meter));
  }
  return total;
}

Result<Value> unique(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"case_sensitive", "attribute"}));
  TG_ASSIGN(const SequencePtr all, elements(subject, meter));
  Dict seen;
  List out;
  for (const Value& item : all->items) {
    TG_ASSIGN(const Value key, key_of(item, bound.get(1), bound.truth_or(0, false), meter));
    TG_ASSIGN(const Value* known, seen.find(key, meter));
    if (known != nullptr) continue;
    TG_RETURN_IF_ERROR(seen.set(key, Value(true), meter));
    out.push_back(item);
  }
  return make_generator(std::move(out));
}

}  // namespace tg::jinja::filters
