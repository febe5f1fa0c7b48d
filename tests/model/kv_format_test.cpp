// Keys and values in codes of 8 bits, in whole models: near the goldens on every mesh, and refused
// where they make no sense. That they show nothing of the batch is in batch_invariance_test.cpp and
// mesh_model_test.cpp.
#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

// Bounds were set after measuring, on all three meshes: the worst row of bf16 has a PCC of 0.99988
// and an RMS of 0.033; of int8 0.99949 and 0.069, of bfp8 0.99941 and 0.078. (RMS of 0.08 is what
// the references differ by among each other in bf16.)
TEST(KvFormat, LogitsStayNearTheGoldens) {
  const auto prompts = test::read_json("model_tiny.json")["prompts"];
  const test::GoldenArrays arrays("model_tiny.safetensors");
  for (const MeshShape mesh : {MeshShape{1, 1}, MeshShape{2, 2}, MeshShape{8, 4}}) {
    for (const KvFormat format : {KvFormat::kInt8, KvFormat::kBfp8}) {
      TestModel model(test::tiny("meta_mp8"),
                      {.dtype = ComputeDType::kBf16, .kv_format = format, .mesh = mesh});
      for (const char* length : {"33", "129", "1000"}) {
        const std::vector<TokenId> ids = prompts[length]["ids"];
        const std::string golden = std::string("len") + length + ".f32.";
        const auto rows = arrays.ints(golden + "rows");
        const auto expected = arrays.floats(golden + "logits");
        const auto logits = model.logits(ids, {rows.begin(), rows.end()});
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
          EXPECT_GT(agreement.pcc, 0.999)
              << name(format, ComputeDType::kBf16) << " on " << text(mesh) << ", row " << rows[i];
          EXPECT_LT(agreement.rms, 0.1);
        }
      }
    }
  }
}

TEST(KvFormat, CodesAreRefusedForF32) {
  ThreadTeam team(1);
  const auto source = open_checkpoint(test::tiny("hf"));
  ASSERT_TRUE(source);
  auto weights = load_weights(**source, *ShardPlan::make((*source)->config(), {}), {}, team);
  ASSERT_TRUE(weights);
  const auto runner = LlamaRunner::create(std::move(*weights), team,
                                          {.kernels = *choose_kernels(""),
                                           .dtype = ComputeDType::kF32,
                                           .capacity = {16, 4, 4},
                                           .kv_format = KvFormat::kBfp8});
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, ErrorCode::kBadArgument);
  EXPECT_EQ(runner.error().message,
            "a KV cache of bfp8 stands for values of bf16: f32 computing keeps them in f32");
}

// Half of the bytes and one thirty-second: the scales.
TEST(KvFormat, TakeHalfTheMemory) {
  ModelConfig config;
  config.layers = 80;
  config.kv_heads = 8;
  config.head_dim = 128;
  EXPECT_EQ(kv_bytes_per_position(config, ComputeDType::kBf16), 80 * 2 * 8 * 256);
  EXPECT_EQ(kv_bytes_per_position(config, ComputeDType::kBf16, KvFormat::kInt8), 80 * 2 * 8 * 136);
  EXPECT_EQ(kv_bytes_per_position(config, ComputeDType::kBf16, KvFormat::kBfp8), 80 * 2 * 8 * 136);
}

}  // namespace
}  // namespace tg
