// A step of decoding asks for no memory: not the forward pass, not the sampler, not the engine with
// its scheduler, on one device and on a mesh within one process. Counted is every call of malloc
// and its relatives, of operator new, and of mmap, from any thread, while Engine::step() runs. Not
// covered: steps with prefill, with a new or an ending request, with log-probabilities (their lists
// are part of the answer) or proposals; ranks, whose messages have other sizes from step to step;
// and what a sink makes of a token, such as text.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "allocation/memory_calls.h"
#include "engine/engine.h"
#include "model/test_model.h"

namespace tg {
namespace {

class CountingSink : public TokenSink {
 public:
  bool on_token(const TokenEvent& event) override {
    ++tokens;
    last = event.sampled.token;
    return true;
  }
  void on_finish(const FinishEvent& event) override {
    finished = true;
    EXPECT_NE(event.reason, FinishReason::kError) << event.error.text();
  }
  std::int64_t tokens = 0;
  TokenId last = 0;
  bool finished = false;
};

SamplingParams greedy() { return {}; }

SamplingParams top_k() {
  SamplingParams p;
  p.temperature = 0.8;
  p.top_k = 32;
  p.top_p = 0.9;
  p.seed = 7;
  return p;
}

// The whole vocabulary stays in play, and the ids so far are looked at.
SamplingParams all_ids() {
  SamplingParams p;
  p.temperature = 1.5;
  p.top_k = 0;
  p.top_p = 0.95;
  p.repetition_penalty = 1.1;
  p.seed = 8;
  return p;
}

// Calls for memory in 60 steps of decoding of so many users, whose contexts begin at `prompt`.
std::int64_t calls_of_steps(test::ModelSetting setting, std::int64_t users,
                            const SamplingParams& sampling, std::int64_t prompt = 20) {
  constexpr std::int64_t kWarmUp = 12;
  constexpr std::int64_t kSteps = 60;
  setting.block = 16;  // a page is taken every 16 steps
  test::TestModel model(test::tiny("meta"), setting);
  EngineOptions options;
  options.max_users = users;
  auto engine = Engine::create(model.runner(), options);
  TG_CHECK(engine);
  std::vector<CountingSink> sinks(static_cast<std::size_t>(users));
  for (std::int64_t u = 0; u < users; ++u) {
    Request request;
    for (std::int64_t i = 0; i < prompt; ++i) {
      request.prompt_ids.push_back(static_cast<TokenId>(1 + (i * 31 + u * 7) % 200));
    }
    request.max_new_tokens = kWarmUp + kSteps + 20;
    request.sampling = sampling;
    request.ignore_eos = true;
    EXPECT_TRUE((*engine)->submit(std::move(request), &sinks[static_cast<std::size_t>(u)]));
  }
  while (sinks.back().tokens < kWarmUp) (*engine)->step();
  const std::int64_t before = sinks.back().tokens;
  const std::int64_t calls = test::memory_calls([&] {
    for (std::int64_t i = 0; i < kSteps; ++i) (*engine)->step();
  });
  EXPECT_EQ(sinks.back().tokens, before + kSteps);
  EXPECT_EQ((*engine)->last_step().decode_rows, users);
  return calls;
}

test::ModelSetting on(MeshShape mesh, WeightsWish weights) {
  test::ModelSetting setting;
  setting.dtype = ComputeDType::kBf16;
  setting.mesh = mesh;
  setting.weights = weights;
  return setting;
}

TEST(DecodeStep, AsksForNoMemory) {
  for (const MeshShape mesh : {MeshShape{1, 1}, MeshShape{2, 2}}) {
    for (const WeightsWish weights : {WeightsWish::kBf16, WeightsWish::kInt8}) {
      for (const std::int64_t users : {1, 8}) {
        SCOPED_TRACE(fmt::format("mesh {}, {}, {} users", text(mesh), name(weights), users));
        EXPECT_EQ(calls_of_steps(on(mesh, weights), users, greedy()), 0);
        EXPECT_EQ(calls_of_steps(on(mesh, weights), users, top_k()), 0);
        EXPECT_EQ(calls_of_steps(on(mesh, weights), users, all_ids()), 0);
      }
    }
  }
}

// From position 512 on a context is attended to in spans, by several threads.
TEST(DecodeStep, NorWhereAContextIsDivided) {
  EXPECT_EQ(calls_of_steps(on({1, 1}, WeightsWish::kBf16), 1, greedy(), 480), 0);
  EXPECT_EQ(calls_of_steps(on({2, 2}, WeightsWish::kBf16), 3, top_k(), 480), 0);
}

}  // namespace
}  // namespace tg
