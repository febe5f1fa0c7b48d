// Another rope scaling than the checkpoint's own: what is taken, what the config says then.
#include "checkpoint/rope_override.h"

#include "checkpoint/config_writers.h"
#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "test_files.h"

namespace tg {
namespace {

Result<std::unique_ptr<TensorSource>> scaled(ModelConfig config, const char* text) {
  TG_ASSIGN(const RopeScaling scaling, parse_rope_scaling(text));
  TG_ASSIGN(std::unique_ptr<TensorSource> source, open_random(std::move(config), 0));
  return with_rope_scaling(std::move(source), scaling);
}

ModelConfig unscaled(std::int64_t context) {
  ModelConfig config = *known_shape("tiny");
  config.rope_scaling = {};
  config.max_context = context;
  return config;
}

TEST(RopeOverride, ContextIsWhatTheModelWasTrainedForTimesTheFactor) {
  const auto linear = scaled(unscaled(8192), "linear:4.5");
  ASSERT_TRUE(linear) << linear.error().text();
  EXPECT_EQ((*linear)->config().max_context, 36864);
  EXPECT_EQ((*linear)->config().rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ((*linear)->config().rope_scaling.factor, 4.5);

  const auto llama3 = scaled(unscaled(8192), "llama3:16");
  ASSERT_TRUE(llama3) << llama3.error().text();
  EXPECT_EQ((*llama3)->config().max_context, 131072);
  EXPECT_EQ((*llama3)->config().rope_scaling.original_context, 8192);
}

TEST(RopeOverride, TakesThePlaceOfTheOwnScaling) {
  ModelConfig config = unscaled(131072);
  config.rope_scaling = {RopeScaling::Kind::kLlama3, 8.0, 1.0, 4.0, 8192, {}};
  const auto none = scaled(config, "none");
  ASSERT_TRUE(none) << none.error().text();
  EXPECT_EQ((*none)->config().max_context, 8192);

  config.rope_scaling.divisors = rope_divisors(config);  // as GGUF has it
  ASSERT_FALSE(config.rope_scaling.divisors.empty());
  const auto twice = scaled(config, "llama3:16");
  ASSERT_TRUE(twice) << twice.error().text();
  EXPECT_TRUE((*twice)->config().rope_scaling.divisors.empty());
  EXPECT_EQ((*twice)->config().max_context, 131072);

  config.rope_scaling.divisors[3] *= 1.5F;
  EXPECT_EQ(scaled(config, "linear:2").error().code, ErrorCode::kUnsupported);

  config.rope_scaling = {};
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 4.0;
  config.max_context = 16384;
  EXPECT_EQ((*scaled(config, "linear:2"))->config().max_context, 8192);
}

TEST(RopeOverride, WeightsAreTheSame) {
  const std::string path = std::string(TG_BINARY_DIR) + "/tiny/hf";
  const auto plain = test::open_or_fail(path);
  auto opened = test::open_or_fail(path);
  ASSERT_TRUE(plain != nullptr && opened != nullptr);
  const auto source = with_rope_scaling(std::move(opened), *parse_rope_scaling("linear:2"));
  ASSERT_TRUE(source) << source.error().text();
  EXPECT_EQ((*source)->files(), plain->files());
  const TensorInfo* q = (*source)->find("layers.1.attention.wq.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(test::read_all(**source, *q, q->rows()),
            test::read_all(*plain, *plain->find(q->name), q->rows()));
}

TEST(RopeOverride, RefusesWhatIsNoScaling) {
  for (const char* text : {"", "linear", "linear:", "linear:x", "linear:0", "linear:-2", "none:2",
                           "linear:nan", "linear:inf", "llama3:4 ", "llama3:1e9", "yarn:4"}) {
    const auto scaling = parse_rope_scaling(text);
    ASSERT_FALSE(scaling) << text;
    EXPECT_EQ(scaling.error().code, ErrorCode::kBadArgument) << text;
  }
  EXPECT_FALSE(scaled(unscaled(8), "linear:0.01"));
}

}  // namespace
}  // namespace tg
