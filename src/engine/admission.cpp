#include "engine/admission.h"

#include <algorithm>

#include "engine/page_pool.h"
#include "model/sampling_params.h"

namespace tg {

std::int64_t AdmissionLimits::max_tokens_per_request() const {
  return std::min(max_context, blocks * block + 1);
}

Status check_request(const Request& request, const AdmissionLimits& limits) {
  const std::int64_t vocab = limits.vocab;
  const auto prompt = static_cast<std::int64_t>(request.prompt_ids.size());
  if (prompt == 0) return error(ErrorCode::kBadArgument, "the prompt has no tokens");
  for (std::int64_t i = 0; i < prompt; ++i) {
    const TokenId id = request.prompt_ids[static_cast<std::size_t>(i)];
    if (id < 0 || id >= vocab) {
      return error(ErrorCode::kBadArgument, "prompt token {} is {}: the vocabulary's ids are 0..{}",
                   i, id, vocab - 1);
    }
  }
  TG_RETURN_IF_ERROR(validate(request.sampling, vocab));
  if (request.prompt_top_n < 0 || request.prompt_top_n > vocab) {
    return error(ErrorCode::kBadArgument, "prompt_top_n {} is not in 0..{}", request.prompt_top_n,
                 vocab);
  }
  const std::int64_t context = limits.max_context;
  const std::int64_t places = limits.blocks * limits.block;
  if (prompt > context || pages_for(prompt, limits.block) > limits.blocks) {
    return error(ErrorCode::kOutOfCapacity,
                 "a prompt of {} tokens: the context holds {}, the page pool {} ({} pages of {})",
                 prompt, context, places, limits.blocks, limits.block);
  }
  if (!request.max_new_tokens) {
    if (prompt >= limits.max_tokens_per_request()) {
      return error(ErrorCode::kOutOfCapacity,
                   "a prompt of {} tokens leaves no room to answer: context and page pool hold {}",
                   prompt, limits.max_tokens_per_request());
    }
    return {};
  }
  const std::int64_t max_new = *request.max_new_tokens;
  if (max_new < 0 || request.min_new_tokens < 0 || request.min_new_tokens > max_new) {
    return error(ErrorCode::kBadArgument,
                 "min_new_tokens {} and max_new_tokens {}: 0 <= min <= max must hold",
                 request.min_new_tokens, max_new);
  }
  if (max_new > context - prompt) {
    return error(ErrorCode::kOutOfCapacity,
                 "a prompt of {} and {} new tokens are more than the context of {}", prompt,
                 max_new, context);
  }
  // The last sampled token is never run, so it needs no place.
  const std::int64_t positions = prompt + std::max<std::int64_t>(max_new - 1, 0);
  const std::int64_t pages = pages_for(positions, limits.block);
  if (pages > limits.blocks) {
    return error(ErrorCode::kOutOfCapacity,
                 "a prompt of {} and {} new tokens need {} pages of {} positions: the whole pool "
                 "has {} pages, {} positions",
                 prompt, max_new, pages, limits.block, limits.blocks, places);
  }
  return {};
}

}  // namespace tg
