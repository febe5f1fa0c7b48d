// The oracle's tiny model on meshes of devices in one process: same goldens, and still
// batch-invariant.
#include <cstring>
#include <random>

#include "rank_runners.h"
#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

const std::vector<std::string> kLengths = {"1", "2", "31", "32", "33", "127", "128", "129", "1000"};
const std::vector<MeshShape> kMeshes = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 2}, {8, 1}, {8, 4}};

CollectivePlan plan_of(HopAlgorithm algorithm) {
  CollectivePlan plan;
  plan.set_all(algorithm);
  return plan;
}

class MeshModel : public testing::TestWithParam<std::tuple<MeshShape, HopAlgorithm>> {
 protected:
  test::ModelSetting setting() const {
    test::ModelSetting s{.dtype = ComputeDType::kF32};
    s.mesh = std::get<0>(GetParam());
    s.collectives = plan_of(std::get<1>(GetParam()));
    return s;
  }
  nlohmann::json prompts_ = test::read_json("model_tiny.json")["prompts"];
  test::GoldenArrays arrays_{"model_tiny.safetensors"};
};

TEST_P(MeshModel, LogitsInF32) {
  TestModel model(test::tiny("meta_mp8"), setting());
  for (const std::string& length : kLengths) {
    const std::vector<TokenId> ids = prompts_[length]["ids"];
    const auto rows = arrays_.ints("len" + length + ".f32.rows");
    const auto expected = arrays_.floats("len" + length + ".f32.logits");
    const auto logits = model.logits(ids, {rows.begin(), rows.end()});
    ASSERT_EQ(logits.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
      EXPECT_LT(agreement.largest, 2e-4) << "length " << length << " row " << rows[i];
    }
  }
}

TEST_P(MeshModel, GreedyTextInF32) {
  TestModel model(test::tiny("meta_mp8"), setting());
  for (const std::string& length : kLengths) {
    const std::vector<TokenId> expected = prompts_[length]["greedy_f32"]["hf"];
    EXPECT_EQ(model.greedy(prompts_[length]["ids"], 64), expected) << "length " << length;
  }
}

TEST_P(MeshModel, HiddenStatesInF32) {
  TestModel model(test::tiny("hf"), setting());
  const auto expected = arrays_.floats("hidden33.f32");
  std::int64_t stages = 0;
  model.runner().set_probe([&](std::int64_t stage, std::span<const float> rows) {
    EXPECT_EQ(stage, stages++);
    const auto agreement = test::compare(
        rows, expected.subspan(static_cast<std::size_t>(stage) * rows.size(), rows.size()));
    EXPECT_LT(agreement.largest, 1e-4) << " stage " << stage;
  });
  model.logits(std::vector<TokenId>(prompts_["33"]["ids"]), {});
  EXPECT_EQ(stages, 6);
}

std::string mesh_name(const MeshShape& mesh, HopAlgorithm algorithm) {
  return "m" + text(mesh) + (algorithm == HopAlgorithm::kRing ? "_ring" : "_line");
}

INSTANTIATE_TEST_SUITE_P(Meshes, MeshModel,
                         testing::Combine(testing::ValuesIn(kMeshes),
                                          testing::Values(HopAlgorithm::kRing,
                                                          HopAlgorithm::kLine)),
                         [](const auto& name_of) {
                           return mesh_name(std::get<0>(name_of.param), std::get<1>(name_of.param));
                         });

std::vector<TokenId> mesh_prompt(std::uint32_t seed, std::int64_t length) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>(random() % 1024));
  return ids;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// 32 users of mixed lengths, spread over the columns, in one prefill step and two decode steps:
// every row's logits. Each user's pages are its own run of its domain's pool.
std::vector<std::vector<float>> batch_logits(TestModel& model, std::int64_t cols,
                                             const std::vector<std::vector<TokenId>>& prompts,
                                             std::int64_t first_domain) {
  constexpr std::int64_t kPages = 6;  // of 64 positions, per user
  std::vector<std::vector<PageId>> pages(prompts.size());
  std::vector<std::vector<RowAsk>> asks(prompts.size());
  std::vector<StepSequence> sequences(prompts.size());
  std::vector<PageId> next_page(static_cast<std::size_t>(cols), 0);
  for (std::size_t u = 0; u < prompts.size(); ++u) {
    const std::int64_t domain = (static_cast<std::int64_t>(u) + first_domain) % cols;
    for (std::int64_t p = 0; p < kPages; ++p) {
      pages[u].push_back(next_page[static_cast<std::size_t>(domain)]++);
    }
    asks[u] = {
        {.kind = RowAsk::Kind::kLogits, .row = static_cast<std::int64_t>(prompts[u].size()) - 1}};
    sequences[u].tokens = prompts[u];
    sequences[u].pages = pages[u];
    sequences[u].kv_domain = static_cast<std::int32_t>(domain);
    sequences[u].asks = asks[u];
  }
  std::vector<std::vector<float>> all;
  for (std::int64_t step = 0; step < 3; ++step) {
    auto result = model.runner().step({sequences});
    if (!result) {
      ADD_FAILURE() << result.error().text();
      return all;
    }
    for (RowAnswer& answer : result->answers) all.push_back(std::move(answer.logits));
    for (std::size_t u = 0; u < prompts.size(); ++u) {
      asks[u] = {{.kind = RowAsk::Kind::kLogits}};
      sequences[u].tokens = std::span<const TokenId>(prompts[u]).first(1);
      sequences[u].first_position = static_cast<std::int64_t>(prompts[u].size()) + step;
      sequences[u].asks = asks[u];
    }
  }
  return all;
}

struct InvarianceCase {
  MeshShape mesh;
  HopAlgorithm algorithm;
  ComputeDType dtype;
  PayloadDType payload;
  WeightsWish weights = WeightsWish::kBf16;
  KvFormat kv_format = KvFormat::kCompute;
};

class MeshInvariance : public testing::TestWithParam<InvarianceCase> {};

// User by user alone, on another column, in other company: the same bits.
TEST_P(MeshInvariance, UsersDoNotShow) {
  const auto& [mesh, algorithm, dtype, payload, weights, kv_format] = GetParam();
  test::ModelSetting setting{.dtype = dtype, .positions = 32 * 6 * 64, .max_rows = 5120};
  setting.mesh = mesh;
  setting.collectives = plan_of(algorithm);
  setting.collectives.payload = payload;
  setting.weights = weights;
  setting.kv_format = kv_format;
  TestModel model(test::tiny("meta_mp8"), setting);
  std::vector<std::vector<TokenId>> prompts;
  for (std::uint32_t u = 0; u < 32; ++u) prompts.push_back(mesh_prompt(u, 1 + u * 53 % 200));
  prompts[7] = mesh_prompt(7, 300);  // long enough to be spread over the columns
  const auto together = batch_logits(model, mesh.cols, prompts, 0);
  ASSERT_EQ(together.size(), 3 * 32U);
  const auto shifted = batch_logits(model, mesh.cols, prompts, 1);
  for (std::size_t i = 0; i < together.size(); ++i) {
    ASSERT_TRUE(same_bits(together[i], shifted[i])) << "user " << i % 32 << " step " << i / 32;
  }
  for (const std::size_t u : {0, 3, 7, 13, 31}) {
    const auto alone = batch_logits(model, mesh.cols, {prompts[u]}, 2);
    for (std::size_t step = 0; step < 3; ++step) {
      ASSERT_TRUE(same_bits(alone[step], together[step * 32 + u])) << "user " << u << " " << step;
    }
  }
  // In chunks of 1 and 100 the last row is the same.
  for (const std::int64_t chunk : {1, 100}) {
    const auto row = model.logits(prompts[7], {299}, chunk).at(0);
    ASSERT_TRUE(same_bits(row, together[7])) << "chunk " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Meshes, MeshInvariance,
    testing::Values(
        InvarianceCase{{8, 4}, HopAlgorithm::kRing, ComputeDType::kF32, PayloadDType::kF32},
        InvarianceCase{{8, 4}, HopAlgorithm::kLine, ComputeDType::kBf16, PayloadDType::kF32},
        InvarianceCase{{8, 4}, HopAlgorithm::kRing, ComputeDType::kBf16, PayloadDType::kBf16},
        InvarianceCase{{8, 4}, HopAlgorithm::kLine, ComputeDType::kBf16, PayloadDType::kBfp8},
        InvarianceCase{{1, 2}, HopAlgorithm::kRing, ComputeDType::kF32, PayloadDType::kF32},
        InvarianceCase{{2, 1}, HopAlgorithm::kRing, ComputeDType::kF32, PayloadDType::kF32},
        InvarianceCase{{2, 2}, HopAlgorithm::kLine, ComputeDType::kF32, PayloadDType::kBf16},
        InvarianceCase{{4, 2}, HopAlgorithm::kRing, ComputeDType::kBf16, PayloadDType::kF32},
        InvarianceCase{{8, 1}, HopAlgorithm::kLine, ComputeDType::kF32, PayloadDType::kF32},
        InvarianceCase{{8, 4},
                       HopAlgorithm::kRing,
                       ComputeDType::kBf16,
                       PayloadDType::kF32,
                       WeightsWish::kInt8},
        InvarianceCase{{2, 2},
                       HopAlgorithm::kLine,
                       ComputeDType::kBf16,
                       PayloadDType::kBf16,
                       WeightsWish::kPerformance},
        InvarianceCase{{8, 4},
                       HopAlgorithm::kRing,
                       ComputeDType::kBf16,
                       PayloadDType::kF32,
                       WeightsWish::kBf16,
                       KvFormat::kInt8},
        InvarianceCase{{2, 2},
                       HopAlgorithm::kLine,
                       ComputeDType::kBf16,
                       PayloadDType::kBfp8,
                       WeightsWish::kInt8,
                       KvFormat::kBfp8}),
    [](const auto& name_of) {
      const InvarianceCase& c = name_of.param;
      return mesh_name(c.mesh, c.algorithm) + (c.dtype == ComputeDType::kF32 ? "_f32_" : "_bf16_") +
             name(c.payload) + "_" + std::string(name(c.weights)) + "_kv_" +
             std::string(name(c.kv_format, c.dtype));
    });

// A long prompt on one column and short ones on the others, then two decode steps: the same bits as
// one process.
TEST(MeshModelRanks, AreOneProcessBitForBit) {
  const std::vector<std::vector<TokenId>> prompts = {mesh_prompt(1, 300), mesh_prompt(2, 1),
                                                     mesh_prompt(3, 40), mesh_prompt(4, 17)};
  std::vector<PageId> pages = {3, 1, 4, 0, 5};
  const auto logits_of = [&](LlamaRunner& runner) {
    std::vector<std::vector<float>> all;
    std::vector<std::vector<RowAsk>> asks(prompts.size());
    std::vector<StepSequence> sequences(prompts.size());
    for (std::int64_t step = 0; step < 3; ++step) {
      for (std::size_t u = 0; u < prompts.size(); ++u) {
        const auto length = static_cast<std::int64_t>(prompts[u].size());
        asks[u] = {{.kind = RowAsk::Kind::kLogits, .row = step == 0 ? length - 1 : 0}};
        sequences[u].tokens = step == 0 ? std::span<const TokenId>(prompts[u])
                                        : std::span<const TokenId>(prompts[u]).first(1);
        sequences[u].first_position = step == 0 ? 0 : length + step - 1;
        sequences[u].pages = pages;
        sequences[u].kv_domain = static_cast<std::int32_t>(u) % runner.kv_domains();
        sequences[u].asks = asks[u];
      }
      // One domain has no two users' worth of distinct pages here: each is its own pool.
      auto result = runner.step({sequences});
      EXPECT_TRUE(result) << result.error().text();
      if (!result) return all;
      for (RowAnswer& answer : result->answers) all.push_back(std::move(answer.logits));
    }
    return all;
  };
  for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
    // What keys are held in has nothing to do with the way that values take: once will do.
    for (const auto& [dtype, payload, kv_format] :
         {std::tuple(ComputeDType::kF32, PayloadDType::kF32, KvFormat::kCompute),
          std::tuple(ComputeDType::kBf16, PayloadDType::kBfp8, KvFormat::kCompute),
          std::tuple(ComputeDType::kBf16, PayloadDType::kF32, KvFormat::kInt8)}) {
      if (kv_format == KvFormat::kInt8 && algorithm == HopAlgorithm::kLine) continue;
      CollectivePlan plan = plan_of(algorithm);
      plan.payload = payload;
      std::vector<std::vector<float>> alone;
      test::on_rank_runners(
          kGalaxy, 1, plan, dtype, [&](LlamaRunner& runner) { alone = logits_of(runner); }, 0,
          kv_format);
      ASSERT_EQ(alone.size(), 12U);
      for (const int ranks : {2, 4, 8, 16, 32}) {
        if (kv_format != KvFormat::kCompute && ranks != 4 && ranks != 32) continue;
        std::vector<std::vector<float>> spread;
        test::on_rank_runners(
            kGalaxy, ranks, plan, dtype, [&](LlamaRunner& runner) { spread = logits_of(runner); },
            0, kv_format);
        ASSERT_EQ(spread.size(), alone.size());
        for (std::size_t i = 0; i < alone.size(); ++i) {
          ASSERT_TRUE(same_bits(spread[i], alone[i])) << ranks << " ranks, answer " << i;
        }
      }
    }
  }
}

// Values that cross as bf16 or bfp8 are still the same model.
TEST(MeshModelPayload, LogitsStayNear) {
  const auto prompts = test::read_json("model_tiny.json")["prompts"];
  const test::GoldenArrays arrays("model_tiny.safetensors");
  const std::vector<TokenId> ids = prompts["129"]["ids"];
  const auto rows = arrays.ints("len129.f32.rows");
  const auto expected = arrays.floats("len129.f32.logits");
  for (const PayloadDType payload : {PayloadDType::kBf16, PayloadDType::kBfp8}) {
    test::ModelSetting setting{.dtype = ComputeDType::kBf16};
    setting.mesh = kGalaxy;
    setting.collectives.payload = payload;
    TestModel model(test::tiny("meta_mp8"), setting);
    const auto logits = model.logits(ids, {rows.begin(), rows.end()});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
      EXPECT_GT(agreement.pcc, payload == PayloadDType::kBf16 ? 0.999 : 0.995) << name(payload);
    }
  }
}

}  // namespace
}  // namespace tg
