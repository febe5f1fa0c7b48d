// Engine and model together on the Galaxy's mesh: what 32 users get at once is what each of them
// gets alone.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "model/test_model.h"

namespace tg {
namespace {

using test::prompt_of;
using test::request_of;
using test::tokens_of;

constexpr std::size_t kMeshUsers = 32;

// Prompts of 1 to 150 tokens and answers of 4 to 34, every third one sampled.
std::vector<Request> mesh_requests() {
  std::vector<Request> requests;
  for (std::uint64_t u = 0; u < kMeshUsers; ++u) {
    const std::int64_t length = u == 7 ? 150 : 1 + static_cast<std::int64_t>(u * 29 % 80);
    Request request =
        request_of(prompt_of(length, u, 1024), 4 + static_cast<std::int64_t>(u * 11 % 31));
    if (u % 3 == 1) {
      request.sampling.temperature = 0.9;
      request.sampling.top_p = 0.95;
      request.sampling.seed = u;
      request.sampling.repetition_penalty = 1.2;
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

struct MeshCase {
  const char* name;
  HopAlgorithm algorithm;
  PayloadDType payload;
  std::int64_t positions;  // of a column's pages
  std::int64_t chunk;
  bool crowded;  // users must give pages back
};

class MeshEngine : public testing::TestWithParam<MeshCase> {};

TEST_P(MeshEngine, ThirtyTwoUsersGetWhatEachGetsAlone) {
  const MeshCase& c = GetParam();
  test::ModelSetting setting{.dtype = ComputeDType::kBf16, .block = 16, .positions = c.positions};
  setting.mesh = kGalaxy;
  setting.collectives.set_all(c.algorithm);
  setting.collectives.payload = c.payload;
  test::TestModel model(test::tiny("meta_mp8"), setting);
  const std::vector<Request> requests = mesh_requests();

  // Alone: one after the other, so the pages hold what earlier ones left.
  std::vector<std::vector<TokenId>> alone;
  for (const Request& request : requests) {
    auto engine = Engine::create(model.runner(), EngineOptions{});
    ASSERT_TRUE(engine) << engine.error().text();
    AnswerSink sink;
    ASSERT_TRUE((*engine)->submit(request, &sink));
    (*engine)->run_until_idle();
    alone.push_back(tokens_of(sink));
    ASSERT_EQ(static_cast<std::int64_t>(alone.back().size()), *request.max_new_tokens);
  }

  EngineOptions options;
  options.max_users = static_cast<std::int64_t>(kMeshUsers);
  options.prefill_chunk = c.chunk;
  options.shuffle_pages = 3;
  auto engine = Engine::create(model.runner(), options);
  ASSERT_TRUE(engine) << engine.error().text();
  std::deque<AnswerSink> sinks(kMeshUsers);
  for (std::size_t u = 0; u < kMeshUsers; ++u) {
    ASSERT_TRUE((*engine)->submit(requests[u], &sinks[u]));
  }
  (*engine)->run_until_idle();
  std::int64_t preemptions = 0;
  for (std::size_t u = 0; u < kMeshUsers; ++u) {
    EXPECT_EQ(tokens_of(sinks[u]), alone[u]) << "user " << u;
    preemptions += sinks[u].preemptions;
  }
  EXPECT_EQ(preemptions > 0, c.crowded) << preemptions;
}

INSTANTIATE_TEST_SUITE_P(
    Galaxy, MeshEngine,
    testing::Values(MeshCase{"ring", HopAlgorithm::kRing, PayloadDType::kF32, 2048, 0, false},
                    MeshCase{"line_bf16", HopAlgorithm::kLine, PayloadDType::kBf16, 2048, 48,
                             false},
                    MeshCase{"crowded", HopAlgorithm::kRing, PayloadDType::kBfp8, 192, 64, true}),
    [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace tg
