// Ranks that would not run the same thing are refused before they load anything.
#include "cli/rank_agreement.h"

#include <gtest/gtest.h>

#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "cli/ranks.h"
#include "mesh/thread_ranks.h"

namespace tg {
namespace {

RunSettings settings() {
  RunSettings s;
  s.kernels = *choose_kernels("reference");
  s.mesh.shape = kGalaxy;
  return s;
}

std::string text_of(const RunSettings& s, const ContextPlan& plan = {}, std::uint64_t seed = 0,
                    double rope_theta = 500000.0) {
  ModelConfig config = *known_shape("tiny");
  config.rope_theta = rope_theta;
  const auto source = open_random(std::move(config), seed);
  TG_CHECK(source);
  const auto text = settings_text(s, plan, **source);
  TG_CHECK(text);
  return *text;
}

void expect_difference(const std::string& mine, const std::vector<std::string>& parts) {
  const Status status = compare_settings(text_of(settings()), mine);
  ASSERT_FALSE(status);
  for (const std::string& part : parts) {
    EXPECT_NE(status.error().text().find(part), std::string::npos) << status.error().text();
  }
}

TEST(RankAgreement, EverySettingCounts) {
  EXPECT_TRUE(compare_settings(text_of(settings()), text_of(settings())));
  RunSettings s = settings();
  s.mesh.shape = {4, 4};
  expect_difference(text_of(s), {"\"mesh 4x4\" here, \"mesh 8x4\" on rank 0"});
  s = settings();
  s.mesh.collectives.all_gather[static_cast<std::size_t>(Use::kFf3)] = HopAlgorithm::kLine;
  expect_difference(text_of(s), {"topology of FF3.ag line", "topology of FF3.ag ring"});
  s = settings();
  s.mesh.collectives.payload = PayloadDType::kBfp8;
  expect_difference(text_of(s), {"ccl-dtype bfp8"});
  s = settings();
  s.dtype = ComputeDType::kF32;
  expect_difference(text_of(s), {"compute-dtype f32", "compute-dtype bf16"});
  s = settings();
  s.kv_format = KvFormat::kInt8;
  expect_difference(text_of(s), {"kv-dtype int8", "kv-dtype bf16"});
  ContextPlan plan;
  plan.max_seq_len = 77;
  expect_difference(text_of(settings(), plan), {"max-seq-len 77"});
  expect_difference(text_of(settings(), {}, 1), {"weights of norm.weight "});
  expect_difference(text_of(settings(), {}, 0, 10000.0), {"rope frequencies "});
  if (available_kernels().size() > 1) {
    s = settings();
    s.kernels = *choose_kernels("");
    expect_difference(text_of(s), {"kernels reference"});
  }
  EXPECT_FALSE(compare_settings("a 1\n", "a 1\nb 2\n"));
  EXPECT_FALSE(compare_settings("a 1\nb 2\n", "a 1\n"));
}

TEST(RankAgreement, ThoseThatDifferAreRefusedAndTheOthersGoOn) {
  std::vector<int> refused(4, -1);
  test::on_ranks(4, [&](Transport& transport) {
    const int rank = transport.rank();
    const Status status = agree_on_settings(transport, rank == 2 ? "mesh 4x2\n" : "mesh 8x4\n");
    refused[static_cast<std::size_t>(rank)] = status ? 0 : 1;
  });
  EXPECT_EQ(refused, (std::vector<int>{0, 0, 1, 0}));
}

TEST(RankCpus, AreTheShareOfTheHostWithinTheBinding) {
  EXPECT_EQ(cpus_of_rank(16, 16, 4), 4);  // unbound ranks share the host
  EXPECT_EQ(cpus_of_rank(8, 16, 4), 4);   // bound to a socket that two ranks share
  EXPECT_EQ(cpus_of_rank(1, 16, 2), 1);   // bound to a core
  EXPECT_EQ(cpus_of_rank(8, 16, 1), 8);
  EXPECT_EQ(cpus_of_rank(2, 2, 32), 1);
  EXPECT_EQ(cpus_of_rank(4, 0, 2), 2);  // the launcher's CPUs are not known
}

}  // namespace
}  // namespace tg
