// What: whether a request can be served at all: a pure function of the request and the numbers of
//   the runner, so that a command can ask before it loads anything.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "engine/request.h"

namespace tg {

struct AdmissionLimits {
  std::int64_t vocab = 0;
  std::int64_t max_context = 0;  // tokens of a request
  std::int64_t block = 64;       // positions per page
  std::int64_t blocks = 0;       // pages of a KV domain

  // Tokens (prompt and answer together) that a single request can have: the context, or the pages
  // of a KV domain if they hold less (the last sampled token is never run, so it needs no place).
  std::int64_t max_tokens_per_request() const;
};

// kBadArgument: an empty prompt, an id outside the vocabulary, sampling parameters out of range.
// kOutOfCapacity, with the arithmetic: prompt and max_new_tokens are more than the context or than
// all pages of a domain.
Status check_request(const Request& request, const AdmissionLimits& limits);

}  // namespace tg
