#include "cli/option_values.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/shown_json.h"

namespace tg {
namespace {

using PlainJson = nlohmann::json;

constexpr std::int64_t kMostPages = std::int64_t{1} << 22;

Result<PlainJson> parse_object(const std::string& text, const char* example) {
  PlainJson json = PlainJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return error(ErrorCode::kBadArgument, "'{}' is no JSON object; it looks like {}", text,
                 example);
  }
  return json;
}

Result<std::int64_t> positive(const std::string& key, const PlainJson& value, std::int64_t most) {
  if (!value.is_number_integer() || value < 1 || value > most) {
    return error(ErrorCode::kBadArgument, "{} {}: need a whole number in 1..{}", key,
                 shown_json(value), most);
  }
  return value.get<std::int64_t>();
}

// Reads one value or a list of them; `read` gives one, or an error.
template <typename T, typename Read>
Status read_values(const std::string& key, const PlainJson& value, std::vector<T>& out,
                   const Read& read) {
  if (value.is_array() && value.empty()) {
    return error(ErrorCode::kBadArgument, "{}: an empty list", key);
  }
  out.clear();
  // By reference: a copy of deeply nested lists would need as deep a stack.
  for (std::size_t i = 0; i < (value.is_array() ? value.size() : 1); ++i) {
    Result<T> one = read(value.is_array() ? value[i] : value);
    if (!one) return at_place(std::move(one).error(), key);
    out.push_back(*one);
  }
  return {};
}

Result<double> read_number(const PlainJson& value) {
  if (!value.is_number()) {
    return error(ErrorCode::kBadArgument, "{} is no number", shown_json(value));
  }
  return value.get<double>();
}

Result<std::int64_t> read_integer(const PlainJson& value) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<std::uint64_t>() > kMost)) {
    return error(ErrorCode::kBadArgument, "{} is no whole number below 2^63", shown_json(value));
  }
  return value.get<std::int64_t>();
}

Result<std::uint64_t> read_seed(const PlainJson& value) {
  if (!value.is_number_unsigned()) {
    return error(ErrorCode::kBadArgument, "{} is no whole number of 0 or more", shown_json(value));
  }
  return value.get<std::uint64_t>();
}

Result<std::int64_t> read_log_probs(const PlainJson& value) {
  if (value.is_boolean()) return value.get<bool>() ? 0 : -1;
  if (value.is_number_integer() && value >= 0 && value <= 100) return value.get<std::int64_t>();
  return error(ErrorCode::kBadArgument, "{} is neither true, false nor in 0..100",
               shown_json(value));
}

// The original takes a repetition penalty of 0 for "none".
Result<double> read_repetition(const PlainJson& value) {
  Result<double> number = read_number(value);
  if (number && *number == 0.0) return 1.0;
  return number;
}

template <typename T>
Result<T> of_user(const char* key, const std::vector<T>& values, std::int64_t user,
                  std::int64_t users) {
  if (values.size() == 1) return values[0];
  if (static_cast<std::int64_t>(values.size()) < users) {
    return error(ErrorCode::kBadArgument, "{} has {} values for {} users", key, values.size(),
                 users);
  }
  return values[static_cast<std::size_t>(user)];
}

}  // namespace

Result<PageParams> parse_page_params(const std::string& text, const PageParams& otherwise) {
  TG_ASSIGN(const PlainJson json,
            parse_object(text, R"({"page_block_size": 64, "page_max_num_blocks": 2048})"));
  PageParams params = otherwise;
  for (const auto& [key, value] : json.items()) {
    if (key == "page_block_size") {
      TG_ASSIGN(params.block_size, positive(key, value, 64));
      if (params.block_size != 16 && params.block_size != 32 && params.block_size != 64) {
        return error(ErrorCode::kBadArgument, "page_block_size {}: need 16, 32 or 64",
                     params.block_size);
      }
    } else if (key == "page_max_num_blocks") {
      TG_ASSIGN(params.max_num_blocks, positive(key, value, kMostPages));
    } else {
      return error(ErrorCode::kBadArgument,
                   "'{}' is unknown; known are page_block_size and page_max_num_blocks", key);
    }
  }
  return params;
}

Result<SamplingSpec> parse_sampling_params(const std::string& text, SamplingSpec otherwise) {
  TG_ASSIGN(const PlainJson json,
            parse_object(text, R"({"temperature": 0.7, "top_p": 0.9, "seed": [1, 2]})"));
  SamplingSpec spec = std::move(otherwise);
  for (const auto& [key, value] : json.items()) {
    Status status;
    if (key == "temperature") {
      status = read_values(key, value, spec.temperature, read_number);
    } else if (key == "top_p") {
      status = read_values(key, value, spec.top_p, read_number);
    } else if (key == "top_k") {
      status = read_values(key, value, spec.top_k, read_integer);
    } else if (key == "min_p") {
      status = read_values(key, value, spec.min_p, read_number);
    } else if (key == "presence_penalty") {
      status = read_values(key, value, spec.presence_penalty, read_number);
    } else if (key == "frequency_penalty") {
      status = read_values(key, value, spec.frequency_penalty, read_number);
    } else if (key == "repetition_penalty") {
      status = read_values(key, value, spec.repetition_penalty, read_repetition);
    } else if (key == "seed") {
      status = read_values(key, value, spec.seed, read_seed);
    } else if (key == "log_probs" || key == "enable_log_probs") {
      status = read_values(key, value, spec.log_probs, read_log_probs);
    } else {
      return error(ErrorCode::kBadArgument,
                   "'{}' is unknown; known are temperature, top_p, top_k, min_p, seed, "
                   "presence_penalty, frequency_penalty, repetition_penalty and log_probs",
                   key);
    }
    TG_RETURN_IF_ERROR(status);
  }
  return spec;
}

Result<SamplingParams> sampling_for_user(const SamplingSpec& spec, std::int64_t user,
                                         std::int64_t users) {
  SamplingParams p;
  TG_ASSIGN(p.temperature, of_user("temperature", spec.temperature, user, users));
  TG_ASSIGN(p.top_p, of_user("top_p", spec.top_p, user, users));
  TG_ASSIGN(p.top_k, of_user("top_k", spec.top_k, user, users));
  TG_ASSIGN(p.min_p, of_user("min_p", spec.min_p, user, users));
  TG_ASSIGN(p.presence_penalty, of_user("presence_penalty", spec.presence_penalty, user, users));
  TG_ASSIGN(p.frequency_penalty, of_user("frequency_penalty", spec.frequency_penalty, user, users));
  TG_ASSIGN(p.repetition_penalty,
            of_user("repetition_penalty", spec.repetition_penalty, user, users));
  TG_ASSIGN(p.seed, of_user("seed", spec.seed, user, users));
  TG_ASSIGN(const std::int64_t log_probs, of_user("log_probs", spec.log_probs, user, users));
  p.top_logprobs = static_cast<std::int32_t>(log_probs);
  return p;
}

Result<std::vector<SamplingParams>> sampling_for_users(const std::string& json,
                                                       SamplingSpec otherwise, std::int64_t users,
                                                       std::optional<std::uint64_t> seed) {
  SamplingSpec spec = std::move(otherwise);
  if (!json.empty()) {
    Result<SamplingSpec> parsed = parse_sampling_params(json, std::move(spec));
    if (!parsed) return at_place(std::move(parsed).error(), "--sampling-params");
    spec = std::move(*parsed);
  }
  std::vector<SamplingParams> all;
  for (std::int64_t user = 0; user < users; ++user) {
    Result<SamplingParams> params = sampling_for_user(spec, user, users);
    if (!params) return at_place(std::move(params).error(), "--sampling-params");
    if (seed) params->seed = *seed;
    all.push_back(std::move(*params));
  }
  return all;
}

Result<std::vector<TokenId>> parse_id_list(const std::string& text) {
  std::vector<TokenId> ids;
  std::string_view rest = text;
  for (;;) {
    const std::string_view item = rest.substr(0, rest.find(','));
    const std::size_t begin = std::min(item.find_first_not_of(' '), item.size());
    const std::string_view digits = item.substr(begin, item.find_last_not_of(' ') + 1 - begin);
    TokenId id = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    if (status != std::errc() || end != digits.data() + digits.size() || id < 0) {
      return error(ErrorCode::kBadArgument, "'{}', entry {} of the list of ids, is no id (0..{})",
                   item, ids.size() + 1, std::numeric_limits<TokenId>::max());
    }
    ids.push_back(id);
    if (item.size() == rest.size()) return ids;
    rest.remove_prefix(item.size() + 1);
  }
}

}  // namespace tg
