// What: short names for what every engine test does: an engine, a prompt, a request, the answer's
// ids. Who owns: the test. Thread: the test's.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/fake_runner.h"

namespace tg::test {

inline std::unique_ptr<Engine> engine_for(FakeRunner& runner, EngineOptions options = {}) {
  Result<std::unique_ptr<Engine>> engine = Engine::create(runner, std::move(options));
  EXPECT_TRUE(engine.has_value()) << engine.error().text();
  return std::move(*engine);
}

inline std::vector<TokenId> tokens_of(const AnswerSink& sink) {
  std::vector<TokenId> ids;
  for (const SampledToken& s : sink.sampled) ids.push_back(s.token);
  return ids;
}

inline std::vector<TokenId> prompt_of(std::int64_t length, std::uint64_t seed,
                                      std::int64_t vocab = 64) {
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<TokenId>(mix(seed * 1000003U + static_cast<std::uint64_t>(i)) %
                                       static_cast<std::uint64_t>(vocab)));
  }
  return ids;
}

inline Request request_of(std::vector<TokenId> prompt, std::int64_t max_new) {
  Request request;
  request.prompt_ids = std::move(prompt);
  request.max_new_tokens = max_new;
  return request;
}

}  // namespace tg::test
