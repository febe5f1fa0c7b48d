// What: the values of bench-serve's options that are more than a number.
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"
#include "cli/load_statistics.h"

namespace tg {

// "inf", or requests per second in 0.000001..1000000.
Result<double> parse_request_rate(const std::string& text);

// "50,90,99.9": each in 0..100, none twice.
Result<std::vector<double>> parse_percents(const std::string& text);

// {"ttft:500", "tpot:50", "e2el:20000"}: milliseconds above 0.
Result<GoodputLimits> parse_goodput(const std::vector<std::string>& words);

// "1000:30000": the first and the last token id of random prompts.
struct IdRange {
  TokenId first = 1000;
  TokenId last = 29999;
};
Result<IdRange> parse_id_range(const std::string& text);

// "http://host:port" of what users write: with or without a "/" or "/v1" behind it.
Result<std::string> parse_base_url(const std::string& text);

// For percentiles of a name: "p99", "p99.9".
std::string percentile_name(double percent);

}  // namespace tg
