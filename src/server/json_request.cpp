#include "server/json_request.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "text/utf8.h"

namespace tg {
namespace {

// Builds a document as the parser goes along. The library's own builder looks every key of an
// ordered object up among the ones before, which takes minutes for a body of a million keys.
class RequestBuilder {
 public:
  explicit RequestBuilder(RequestJson& root) : root_(root) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string& /*spelled*/) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(RequestJson::binary_t& /*value*/) { return false; }  // no JSON has one
  bool start_object(std::size_t /*size*/) { return open(RequestJson::object()); }
  bool start_array(std::size_t /*size*/) { return open(RequestJson::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& value) {
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& /*error*/) {
    failed_at_ = position;
    return false;
  }

  bool too_deep() const { return too_deep_; }
  std::size_t failed_at() const { return failed_at_; }

 private:
  RequestJson* place(RequestJson&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    RequestJson& parent = *open_.back();
    if (parent.is_array()) {
      auto& items = parent.get_ref<RequestJson::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    auto& fields = parent.get_ref<RequestJson::object_t&>();
    fields.Container::emplace_back(std::move(key_), std::move(value));
    return &fields.back().second;
  }
  bool add(RequestJson&& value) {
    place(std::move(value));
    return true;
  }
  bool open(RequestJson&& container) {
    if (open_.size() >= kMostJsonDepth) {
      too_deep_ = true;
      return false;
    }
    // A parent does not grow while a child of it is open, so the pointer stays good.
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  RequestJson& root_;
  std::vector<RequestJson*> open_;
  std::string key_;
  bool too_deep_ = false;
  std::size_t failed_at_ = 0;
};

}  // namespace

Result<RequestJson> parse_inner_json(std::string_view text) {
  if (const std::size_t valid = valid_utf8_prefix(text); valid < text.size()) {
    return error(ErrorCode::kBadInput, "not UTF-8 at byte {}", valid);
  }
  RequestJson root;
  RequestBuilder builder(root);
  if (RequestJson::sax_parse(text.begin(), text.end(), &builder)) return root;
  if (builder.too_deep()) {
    return error(ErrorCode::kBadInput, "nested deeper than {} levels", kMostJsonDepth);
  }
  return error(ErrorCode::kBadInput, "not JSON: it fails at byte {} of {}", builder.failed_at(),
               text.size());
}

Result<RequestJson> parse_request_json(std::string_view body) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (body.starts_with(kByteOrderMark)) body.remove_prefix(kByteOrderMark.size());
  Result<RequestJson> parsed = parse_inner_json(body);
  if (!parsed) {
    return error(parsed.error().code, "the body is {}", parsed.error().message);
  }
  if (!parsed->is_object()) {
    return error(ErrorCode::kBadInput, "the body is {}, not a JSON object", shown_value(*parsed));
  }
  return parsed;
}

std::string shown_value(const RequestJson& value) {
  if (value.is_string()) return shown_text(value.get_ref<const std::string&>());
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  return value.dump();
}

std::optional<std::int64_t> whole_number(const RequestJson& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return {};
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return {};
  const auto number = value.get<double>();
  // A longer whole number has become the nearest double, at the ends of the range a wrong one.
  constexpr double kEnd = 0x1p63;
  if (!(number > -kEnd && number < kEnd) || number != std::trunc(number)) return {};
  return static_cast<std::int64_t>(number);
}

const RequestJson* RequestFields::find(const char* key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

Result<std::optional<std::int64_t>> RequestFields::whole(const char* key, std::int64_t least,
                                                         std::int64_t most) const {
  const RequestJson* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<std::int64_t> whole = whole_number(*value);
  if (!whole || *whole < least || *whole > most) {
    return wrong(key, *value, fmt::format("a whole number in {}..{}", least, most));
  }
  return whole;
}

Result<std::optional<double>> RequestFields::number(const char* key, double least,
                                                    double most) const {
  const RequestJson* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= least && number <= most)) {
    return wrong(key, *value, fmt::format("a number in {}..{}", least, most));
  }
  return number;
}

Result<bool> RequestFields::flag(const char* key, bool otherwise) const {
  const RequestJson* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return wrong(key, *value, "true or false");
  return value->get<bool>();
}

Result<std::optional<std::string>> RequestFields::text(const char* key) const {
  const RequestJson* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return wrong(key, *value, "a string");
  return value->get<std::string>();
}

}  // namespace tg
