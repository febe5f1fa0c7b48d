// What: the values of options that are more than a number: page and sampling parameters as JSON,
//   lists of ids.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/sampling_params.h"

namespace tg {

struct PageParams {
  std::int64_t block_size = 64;
  std::int64_t max_num_blocks = 2048;
};

// {"page_block_size": 16|32|64, "page_max_num_blocks": 1..4194304}; what is missing is as in
// `otherwise`.
Result<PageParams> parse_page_params(const std::string& json, const PageParams& otherwise = {});

// Each field has one value for everybody, or one per user. The defaults are the original demo's.
struct SamplingSpec {
  std::vector<double> temperature = {0.0};
  std::vector<double> top_p = {1.0};
  std::vector<std::int64_t> top_k = {32};
  std::vector<double> min_p = {0.0};
  std::vector<double> presence_penalty = {0.0};
  std::vector<double> frequency_penalty = {0.0};
  std::vector<double> repetition_penalty = {1.0};  // 0 is taken as 1
  std::vector<std::uint64_t> seed = {0};
  std::vector<std::int64_t> log_probs = {-1};  // false: -1; true: 0, the token's own; n: and n best
};

// {"temperature": 0.7, "top_p": [0.9, 0.8], ...}; numbers or lists of numbers. What is missing is
// as in `otherwise`.
Result<SamplingSpec> parse_sampling_params(const std::string& json, SamplingSpec otherwise = {});

// The parameters of one user. kBadArgument when a list has fewer values than there are users.
Result<SamplingParams> sampling_for_user(const SamplingSpec& spec, std::int64_t user,
                                         std::int64_t users);

// Those of all users: what the JSON text says (it may be empty), the rest as in `otherwise`; a
// given seed takes the place of theirs. Errors name --sampling-params.
Result<std::vector<SamplingParams>> sampling_for_users(const std::string& json,
                                                       SamplingSpec otherwise, std::int64_t users,
                                                       std::optional<std::uint64_t> seed);

// "1,2,3": numbers of 0 or more, at least one.
Result<std::vector<TokenId>> parse_id_list(const std::string& text);

}  // namespace tg
