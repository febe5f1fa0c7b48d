// The pure parts around a run: pages and context, memory, performance, the answer file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/answer_file.h"
#include "cli/context_plan.h"
#include "cli/memory.h"
#include "cli/performance.h"

namespace tg {
namespace {

ModelConfig llama70b() {
  ModelConfig c;
  c.dim = 8192;
  c.layers = 80;
  c.heads = 64;
  c.kv_heads = 8;
  c.head_dim = 128;
  c.ffn_dim = 28672;
  c.vocab = 128256;
  c.max_context = 131072;
  return c;
}

TEST(ContextPlan, PagesForWhatCanBeUsed) {
  const auto one = plan_context(llama70b(), {.users = 1, .block = 64, .blocks = 2048});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->max_seq_len, 131072);
  EXPECT_EQ(one->capacity.blocks, 2048);
  const auto many = plan_context(llama70b(), {.users = 32, .block = 64, .blocks = 2048});
  EXPECT_EQ(many->capacity.blocks, 2048);
  EXPECT_EQ(many->max_seq_len, 131072);
  // No more pages than all users together can fill.
  const auto few = plan_context(llama70b(), {.users = 2, .max_seq_len = 100, .blocks = 2048});
  EXPECT_EQ(few->capacity.blocks, 4);
  EXPECT_EQ(few->max_seq_len, 100);
  EXPECT_GE(plan_context(llama70b(), {.users = 256})->capacity.max_rows, 256);
}

TEST(ContextPlan, WithoutALengthTheShorterOfCaseAndModelCounts) {
  EXPECT_EQ(plan_context(llama70b(), {.default_max_seq_len = 1024})->max_seq_len, 1024);
  ModelConfig config = llama70b();
  config.max_context = 512;
  EXPECT_EQ(plan_context(config, {.default_max_seq_len = 1024})->max_seq_len, 512);
}

TEST(ContextPlan, UnpagedIsOnePagePerUser) {
  const auto plan = plan_context(llama70b(), {.users = 3, .max_seq_len = 1000, .paged = false});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->capacity.blocks, 3);
  EXPECT_EQ(plan->capacity.block, 1024);
}

TEST(ContextPlan, RefusalsHaveTheArithmetic) {
  EXPECT_EQ(plan_context(llama70b(), {.users = 0}).error().text(),
            "--batch-size 0: need 1..256 users");
  EXPECT_EQ(plan_context(llama70b(), {.max_seq_len = 0}).error().text(),
            "--max-seq-len 0: need at least 1");
  EXPECT_EQ(plan_context(llama70b(), {.max_seq_len = 200000}).error().text(),
            "--max-seq-len 200000: the model's context is 131072 tokens");
  EXPECT_EQ(
      plan_context(llama70b(), {.max_seq_len = 2048, .block = 32, .blocks = 16}).error().text(),
      "--max-seq-len 2048: 16 pages x 32 positions = 512 tokens do not hold one such sequence");
}

WeightFormats all_bf16() {
  WeightFormats formats;
  formats.layers.resize(80);
  return formats;
}

TEST(Memory, The70BIsCountedBeforeLoading) {
  const KvCapacity capacity{64, 2048, 512};
  const MemoryNeed need = memory_need(llama70b(), *ShardPlan::make(llama70b(), {}), {}, all_bf16(),
                                      ComputeDType::kBf16, KvFormat::kCompute, capacity, 2);
  EXPECT_NEAR(static_cast<double>(need.weights), 2.0 * 70.55e9, 0.01e9);
  EXPECT_EQ(need.kv_cache, std::int64_t{80} * 2 * 8 * 128 * 2 * 64 * 2048);
  EXPECT_GT(need.activations, std::int64_t{512} * 28672 * 4);
  EXPECT_LT(need.activations, std::int64_t{1} << 30);
  const Status refused = check_memory(need, capacity, 1, 1, std::int64_t{24} << 30);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfCapacity);
  for (const char* part :
       {"131 GiB", "40 GiB", "2048 pages x 64 positions x 327680 bytes", "available are 24 GiB"}) {
    EXPECT_NE(refused.error().message.find(part), std::string::npos)
        << refused.error().message << " lacks " << part;
  }
  EXPECT_TRUE(check_memory(need, capacity, 1, 1, std::int64_t{200} << 30));
  EXPECT_TRUE(check_memory(need, capacity, 1, 1, 0));
  EXPECT_GT(available_memory(), std::int64_t{16} << 20);
}

// Codes of 8 bits and their scales: nearly twice the pages in the same memory.
TEST(Memory, CodesOfKeysAndValuesTakeHalf) {
  const ShardPlan shards = *ShardPlan::make(llama70b(), {});
  const auto kv_cache = [&](KvFormat format, std::int64_t pages) {
    return memory_need(llama70b(), shards, {}, all_bf16(), ComputeDType::kBf16, format,
                       {64, pages, 512}, 2)
        .kv_cache;
  };
  for (const KvFormat format : {KvFormat::kInt8, KvFormat::kBfp8}) {
    EXPECT_EQ(kv_cache(format, 2048), std::int64_t{80} * 2 * 8 * (128 + 8) * 64 * 2048);
    EXPECT_LE(kv_cache(format, 3855), kv_cache(KvFormat::kCompute, 2048));
  }
}

// A Galaxy's four rows of devices on each of two hosts: what counts is the host's sum.
TEST(Memory, AllRanksOfAHostCount) {
  const KvCapacity capacity{64, 512, 512};
  const ShardPlan shards = *ShardPlan::make(llama70b(), kGalaxy);
  const RankGrid grid = *share_mesh(kGalaxy, 8);
  std::int64_t all = 0;
  for (int rank = 0; rank < 8; ++rank) {
    all += memory_need(llama70b(), shards, grid.block(rank), all_bf16(), ComputeDType::kBf16,
                       KvFormat::kCompute, capacity, 2)
               .weights;
  }
  // Every rank has the embedding, and its part of the rest.
  const double embedding = 2.0 * 128256 * 8192;
  EXPECT_NEAR(static_cast<double>(all), 2.0 * 70.55e9 + 7 * embedding, 0.01e9);
  const MemoryNeed one = memory_need(llama70b(), shards, grid.block(0), all_bf16(),
                                     ComputeDType::kBf16, KvFormat::kCompute, capacity, 2);
  EXPECT_TRUE(check_memory(one, capacity, 4, 4, 4 * one.total()));
  EXPECT_TRUE(check_memory(one, capacity, 4, 1, one.total()));
  const Status refused = check_memory(one, capacity, 4, 4, 4 * one.total() - 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfCapacity);
  for (const std::string& part :
       {"the run needs " + bytes_text(4 * one.total()) + " on this host, 4 ranks of " +
            bytes_text(one.total()) + " each",
        "weights " + bytes_text(one.weights), "available are " + bytes_text(4 * one.total() - 1),
        std::string("512 pages x 64 positions x 327680 bytes on each of 4 columns")}) {
    EXPECT_NE(refused.error().message.find(part), std::string::npos)
        << refused.error().message << " lacks " << part;
  }
}

TEST(Memory, BytesAreReadable) {
  EXPECT_EQ(bytes_text(0), "0 bytes");
  EXPECT_EQ(bytes_text(1023), "1023 bytes");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(std::int64_t{270} << 20), "270 MiB");
  EXPECT_EQ(bytes_text(std::int64_t{3} << 40), "3.0 TiB");
}

TEST(PercentilesTest, AsNumpy) {
  const Percentiles p = percentiles({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(p.min, 1);
  EXPECT_DOUBLE_EQ(p.mean, 2.5);
  EXPECT_DOUBLE_EQ(p.p50, 2.5);
  EXPECT_DOUBLE_EQ(p.p95, 3.85);
  EXPECT_DOUBLE_EQ(p.p5, 1.15);
  EXPECT_DOUBLE_EQ(p.max, 4);
  EXPECT_DOUBLE_EQ(percentiles({7}).p99, 7);
  EXPECT_DOUBLE_EQ(percentiles({}).mean, 0);
}

std::vector<UserAnswer> two_users() {
  UserAnswer a;
  a.prompt_ids = {1, 2, 3};
  a.ttft_s = 0.5;
  a.token_times_s = {0.5, 0.75, 1.0};
  a.finish_reason = "length";
  UserAnswer b = a;
  b.ttft_s = 1.0;
  b.token_times_s = {1.0, 1.5};
  return {a, b};
}

TEST(PerformanceTest, OfTwoUsers) {
  const Performance p = measure(two_users());
  EXPECT_EQ(p.users, 2);
  EXPECT_EQ(p.prompt_tokens, 6);
  EXPECT_EQ(p.output_tokens, 5);
  EXPECT_DOUBLE_EQ(p.ttft.mean, 0.75);
  EXPECT_DOUBLE_EQ(p.token_interval.mean, 1.0 / 3.0);
  EXPECT_DOUBLE_EQ(p.token_interval.max, 0.5);
  ASSERT_EQ(p.at_tokens.size(), 1U);  // nobody got to the 128th
  EXPECT_EQ(p.at_tokens[0].users, 2);
  EXPECT_DOUBLE_EQ(p.at_tokens[0].interval_s, 0.375);
  EXPECT_DOUBLE_EQ(p.decode_tokens_per_s, 3.0);   // 3 tokens from 0.5 s to 1.5 s
  EXPECT_DOUBLE_EQ(p.prefill_tokens_per_s, 6.0);  // 6 tokens until 1 s
  const std::string text = performance_text(p, 2.0);
  for (const char* line :
       {"=== Performance metrics ===", "1st token decode time: 375.00 ms [2.67 t/s/u, 5.33 t/s]",
        "Average Time to First Token (TTFT): 750.00 ms",
        "Average speed: 333.33 ms @ 3.00 tok/s/user (3.00 tok/s throughput)",
        "TTFT per user (ms): 500.0 1000.0", "p95"}) {
    EXPECT_NE(text.find(line), std::string::npos) << text;
  }
}

TEST(PerformanceTest, TokensOfOneStepComeTogether) {
  std::vector<UserAnswer> users = two_users();
  users[0].token_times_s = {0.5, 0.5, 1.0};
  users[1].token_times_s = {1.0, 1.0, 1.0};
  users[0].speculation = {2, 8, 5};
  users[1].speculation = {1, 2, 1};
  const Performance p = measure(users);
  EXPECT_TRUE(p.at_tokens.empty());  // no time between the first token and the one before it
  EXPECT_DOUBLE_EQ(p.decode_tokens_per_s, 8.0);
  const std::string text = performance_text(p, 0.0);
  EXPECT_NE(text.find("Speculation: 6 of 10 guessed tokens accepted (60.0 %), 3.00 tokens per"),
            std::string::npos)
      << text;
  EXPECT_EQ(performance_text(measure(two_users()), 0.0).find("guessed"), std::string::npos);
}

TEST(PerformanceTest, NothingGenerated) {
  const Performance p = measure({});
  EXPECT_EQ(p.decode_tokens_per_s, 0.0);
  EXPECT_EQ(performance_text(p, 0.0).find("nan"), std::string::npos);
}

TEST(AnswerFile, HasEveryFieldAndStaysJson) {
  std::vector<UserAnswer> users = two_users();
  users[0].prompt = "a \xff prompt";
  users[0].output_ids = {5, 6};
  users[0].text = "text";
  users[0].sampling.top_logprobs = 1;
  users[0].sampling.seed = 18446744073709551615U;
  users[0].logprobs = {{5, -std::numeric_limits<float>::infinity(), {{6, -0.5F}}}};
  RunSummary summary;
  summary.command = "generate";
  summary.users = 2;
  const std::vector<std::vector<UserAnswer>> batches = {users, users};
  const auto j = nlohmann::json::parse(answer_json(summary, batches));
  EXPECT_EQ(j["batches"].size(), 2U);
  const auto& user = j["users"][0];
  for (const char* field : {"prompt_ids", "output_ids", "text", "finish_reason", "ttft_s",
                            "token_times_s", "sampling", "logprobs"}) {
    EXPECT_TRUE(user.contains(field)) << field;
  }
  EXPECT_EQ(user["output_ids"], (std::vector<int>{5, 6}));
  EXPECT_EQ(user["sampling"]["seed"].get<std::uint64_t>(), 18446744073709551615U);
  EXPECT_EQ(user["logprobs"][0]["logprob"], -9999.0);
  EXPECT_EQ(j["totals"]["prompt_tokens"], 12);
  EXPECT_EQ(j["totals"]["output_tokens"], 10);
  EXPECT_EQ(j["settings"]["command"], "generate");
}

TEST(AnswerFile, AppearsCompleteOrNotAtAll) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("tg_answers_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "out.json").string();
  EXPECT_TRUE(check_writable(path));
  EXPECT_TRUE(write_answer_file(path, "{}\n"));
  std::ifstream in(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "{}\n");
  EXPECT_FALSE(write_answer_file((folder / "none" / "out.json").string(), "{}"));
  const Status missing = check_writable((folder / "none" / "out.json").string());
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text().find("out.json: cannot be written"), std::string::npos);
  EXPECT_FALSE(check_writable(folder.string()));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  EXPECT_EQ(files, 1U);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tg
