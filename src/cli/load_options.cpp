#include "cli/load_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

namespace tg {
namespace {

constexpr double kLeastRate = 1e-6;  // one request in twelve days
constexpr double kMostRate = 1e6;
// 32-bit ids; no vocabulary has more.
constexpr TokenId kMostId = std::numeric_limits<TokenId>::max();

// The number that is the whole of the text.
template <typename T>
std::optional<T> number_in(std::string_view text) {
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<double> parse_request_rate(const std::string& text) {
  if (text == "inf") return std::numeric_limits<double>::infinity();
  const auto rate = number_in<double>(text);
  if (!rate || !(kLeastRate <= *rate && *rate <= kMostRate)) {
    return error(ErrorCode::kBadArgument, "'{}': need inf or a number in {}..{}", text, kLeastRate,
                 kMostRate);
  }
  return *rate;
}

Result<std::vector<double>> parse_percents(const std::string& text) {
  std::vector<double> percents;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const auto percent = number_in<double>(word);
    if (!percent || !(0.0 <= *percent && *percent <= 100.0)) {
      return error(ErrorCode::kBadArgument, "'{}' in '{}': need a number in 0..100", word, text);
    }
    if (std::find(percents.begin(), percents.end(), *percent) != percents.end()) {
      return error(ErrorCode::kBadArgument, "'{}': {} is there twice", text, word);
    }
    percents.push_back(*percent);
    begin = end + 1;
  }
  return percents;
}

Result<GoodputLimits> parse_goodput(const std::vector<std::string>& words) {
  GoodputLimits limits;
  for (const std::string& word : words) {
    const std::size_t colon = word.find(':');
    const std::string name = word.substr(0, colon);
    std::optional<double>* limit = name == "ttft"   ? &limits.ttft_ms
                                   : name == "tpot" ? &limits.tpot_ms
                                   : name == "e2el" ? &limits.e2el_ms
                                                    : nullptr;
    if (limit == nullptr || colon == std::string::npos) {
      return error(ErrorCode::kBadArgument, "'{}': need ttft:MS, tpot:MS or e2el:MS", word);
    }
    if (*limit) return error(ErrorCode::kBadArgument, "'{}': {} is there twice", word, name);
    *limit = number_in<double>(std::string_view(word).substr(colon + 1));
    if (!*limit || !(**limit > 0.0) || !std::isfinite(**limit)) {
      return error(ErrorCode::kBadArgument, "'{}': need milliseconds above 0", word);
    }
  }
  return limits;
}

Result<IdRange> parse_id_range(const std::string& text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto first = number_in<TokenId>(std::string_view(text).substr(0, colon));
  const auto last =
      number_in<TokenId>(std::string_view(text).substr(std::min(colon + 1, text.size())));
  if (!first || !last || *first < 0 || *first > *last) {
    return error(ErrorCode::kBadArgument,
                 "'{}': need FIRST:LAST with ids in 0..{}, FIRST no more than LAST", text, kMostId);
  }
  return IdRange{.first = *first, .last = *last};
}

Result<std::string> parse_base_url(const std::string& text) {
  const std::size_t host = text.starts_with("http://")    ? 7
                           : text.starts_with("https://") ? 8
                                                          : std::string::npos;
  if (host == std::string::npos || host == text.size() ||
      text.find_first_of(" \t\r\n?#") != std::string::npos) {
    return error(ErrorCode::kBadArgument, "'{}': need a URL like http://127.0.0.1:8000", text);
  }
  std::string base = text;
  const auto drop_slashes = [&base] {
    while (base.ends_with('/')) base.pop_back();
  };
  drop_slashes();
  if (base.ends_with("/v1")) {
    base.resize(base.size() - 3);
    drop_slashes();
  }
  return base;
}

std::string percentile_name(double percent) { return fmt::format("p{}", percent); }

}  // namespace tg
