#include "grammar/schema_reader.h"

#include <string>
#include <vector>

namespace tg {
namespace {

constexpr std::size_t kMostSchemaBytes = 1 << 20;
constexpr std::size_t kMostSchemaDepth = 64;      // compiling recurses per level
constexpr std::size_t kMostSchemaMembers = 2000;  // of one object: finding one is linear
constexpr std::size_t kMostNameBytes = 1024;

// Only looks; the document is made afterwards.
class SchemaLimits : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(std::int64_t /*value*/) override { return true; }
  bool number_unsigned(std::uint64_t /*value*/) override { return true; }
  bool number_float(double /*value*/, const std::string& /*text*/) override { return true; }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(nlohmann::ordered_json::binary_t& /*value*/) override { return true; }
  bool start_object(std::size_t /*size*/) override { return open(); }
  bool start_array(std::size_t /*size*/) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (name.size() > kMostNameBytes) {
      problem_ = fmt::format("a name of {} bytes; at most {}", name.size(), kMostNameBytes);
    } else if (++members_.back() > kMostSchemaMembers) {
      problem_ = fmt::format("an object of more than {} members", kMostSchemaMembers);
    }
    return problem_.empty();
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& what) override {
    constexpr int kNumberOverflow = 406;  // of the library
    if (what.id == kNumberOverflow) {
      problem_ = fmt::format("a number that is too large, at byte {}", position);
    }
    bad_at_ = position;
    malformed_ = true;
    return false;
  }

  const std::string& problem() const { return problem_; }
  bool malformed() const { return malformed_; }
  std::size_t bad_at() const { return bad_at_; }

 private:
  bool open() {
    members_.push_back(0);
    if (members_.size() <= kMostSchemaDepth) return true;
    problem_ = fmt::format("more than {} levels", kMostSchemaDepth);
    return false;
  }
  bool close() {
    members_.pop_back();
    return true;
  }

  std::vector<std::size_t> members_;  // so far, of each open object
  std::string problem_;
  bool malformed_ = false;
  std::size_t bad_at_ = 0;
};

}  // namespace

Result<nlohmann::ordered_json> read_schema(std::string_view text) {
  if (text.size() > kMostSchemaBytes) {
    return error(ErrorCode::kOutOfCapacity, "a schema of {} bytes; at most {}", text.size(),
                 kMostSchemaBytes);
  }
  SchemaLimits limits;
  const bool fine = nlohmann::ordered_json::sax_parse(text.begin(), text.end(), &limits);
  if (!limits.problem().empty()) {
    return error(ErrorCode::kOutOfCapacity, "a schema with {}", limits.problem());
  }
  if (!fine || limits.malformed()) {
    return error(ErrorCode::kBadInput, "the schema is not JSON from byte {} on", limits.bad_at());
  }
  nlohmann::ordered_json schema =
      nlohmann::ordered_json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!schema.is_object() && !schema.is_boolean()) {
    return error(ErrorCode::kBadInput, "the schema is neither an object nor true or false");
  }
  return schema;
}

}  // namespace tg
