// The same prompt gives bit-equal logits whatever runs beside it and however it is cut.
#include <cstring>
#include <random>

#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

constexpr std::int64_t kPromptLength = 300;
constexpr std::int64_t kUsers = 32;

std::vector<TokenId> prompt_of(std::uint32_t seed, std::int64_t length) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>(random() % 1024));
  return ids;
}

const std::vector<std::int64_t> kRows = {0, 1, 15, 16, 17, 63, 64, 127, 128, 255, 298, 299};

// Prompt 7 among 31 others of mixed lengths, `slot`-th of the step, all in one pool of shuffled
// pages; everybody decodes two more tokens together afterwards.
std::vector<std::vector<float>> in_a_batch(TestModel& model, std::int64_t slot,
                                           std::int64_t block) {
  std::vector<std::vector<TokenId>> prompts;
  for (std::int64_t u = 0; u < kUsers; ++u) {
    prompts.push_back(u == slot ? prompt_of(7, kPromptLength)
                                : prompt_of(static_cast<std::uint32_t>(100 + u), 1 + u * 13 % 97));
  }
  std::vector<PageId> free_pages(16384 / static_cast<std::size_t>(block));
  std::iota(free_pages.begin(), free_pages.end(), 0);
  std::mt19937 random(5);
  std::shuffle(free_pages.begin(), free_pages.end(), random);

  std::vector<std::vector<PageId>> pages(prompts.size());
  std::vector<std::vector<RowAsk>> asks(prompts.size());
  std::vector<StepSequence> sequences(prompts.size());
  for (std::size_t u = 0; u < prompts.size(); ++u) {
    const auto length = static_cast<std::int64_t>(prompts[u].size());
    for (std::int64_t p = 0; p < length + 2; p += block) {
      pages[u].push_back(free_pages.back());
      free_pages.pop_back();
    }
    for (const std::int64_t row : kRows) {
      if (row < length) asks[u].push_back({.kind = RowAsk::Kind::kLogits, .row = row});
    }
    sequences[u].tokens = prompts[u];
    sequences[u].pages = pages[u];
    sequences[u].asks = asks[u];
  }
  std::vector<std::vector<float>> mine;
  const auto step = [&] {
    auto result = model.runner().step({sequences});
    ASSERT_TRUE(result) << result.error().text();
    std::size_t answer = 0;
    for (std::size_t u = 0; u < sequences.size(); ++u) {
      for (std::size_t a = 0; a < sequences[u].asks.size(); ++a, ++answer) {
        if (static_cast<std::int64_t>(u) == slot) {
          mine.push_back(std::move(result->answers[answer].logits));
        }
      }
    }
  };
  step();
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::size_t u = 0; u < prompts.size(); ++u) {
      asks[u] = {{.kind = RowAsk::Kind::kLogits}};
      sequences[u].tokens = std::span<const TokenId>(prompts[u]).first(1);  // any token does
      sequences[u].first_position = static_cast<std::int64_t>(prompts[u].size()) + i;
      sequences[u].asks = asks[u];
    }
    step();
  }
  return mine;
}

// The same alone, in chunks.
std::vector<std::vector<float>> alone(TestModel& model, std::int64_t chunk) {
  std::vector<TokenId> ids = prompt_of(7, kPromptLength);
  ids.push_back(ids[0]);
  ids.push_back(ids[0]);
  std::vector<std::int64_t> rows = kRows;
  rows.push_back(kPromptLength);
  rows.push_back(kPromptLength + 1);
  return model.logits(ids, rows, chunk);
}

struct Numbers {
  const char* name;
  ComputeDType dtype;
  WeightsWish weights = WeightsWish::kBf16;
  KvFormat kv_format = KvFormat::kCompute;
};

const Numbers kKvInt8{"kv_int8", ComputeDType::kBf16, WeightsWish::kBf16, KvFormat::kInt8};

class BatchInvariance : public testing::TestWithParam<std::tuple<std::string, Numbers>> {};

TEST_P(BatchInvariance, LogitsAreBitEqual) {
  const auto& [kernels, numbers] = GetParam();
  std::vector<std::vector<float>> first;
  const auto expect_same = [&](const std::vector<std::vector<float>>& logits, const char* what,
                               std::int64_t number) {
    ASSERT_EQ(logits.size(), kRows.size() + 2);
    if (first.empty()) first = logits;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      ASSERT_EQ(logits[i].size(), 1024U);
      ASSERT_EQ(std::memcmp(logits[i].data(), first[i].data(), 1024 * sizeof(float)), 0)
          << what << " " << number << " row " << i;
    }
  };
  for (const int threads : {1, 2}) {
    for (const std::int64_t block : {64, 16}) {
      // The plain loops are slow: half of the combinations.
      if (kernels == "reference" && (threads == 1) != (block == 16)) continue;
      if (kernels == "reference" && numbers.weights != WeightsWish::kBf16 && block == 16) continue;
      if (numbers.kv_format != KvFormat::kCompute && (threads == 1) != (block == 16)) continue;
      TestModel model(test::tiny("meta_mp8"), {.dtype = numbers.dtype,
                                               .kv_format = numbers.kv_format,
                                               .threads = threads,
                                               .block = block,
                                               .positions = 16384,
                                               .max_rows = 2048,
                                               .kernels = kernels,
                                               .weights = numbers.weights});
      for (const std::int64_t chunk : {302, 128, 16, 1}) {
        if (chunk == 1 && threads == 1) continue;
        expect_same(alone(model, chunk), "chunk", chunk);
      }
      for (const std::int64_t slot : {0, 7, 31}) {
        expect_same(in_a_batch(model, slot, block), "slot", slot);
      }
    }
  }
}

class LongContext : public testing::TestWithParam<std::tuple<std::string, Numbers>> {};

// A context of several spans: in parts for several threads, in one piece for a single one, decoded
// or as a prompt.
TEST_P(LongContext, DoesNotShowItsParts) {
  const auto& [kernels, numbers] = GetParam();
  const std::vector<TokenId> ids = prompt_of(9, 2 * kAttentionSpan + 90);
  const auto last = static_cast<std::int64_t>(ids.size()) - 1;
  const std::vector<std::int64_t> rows = {kAttentionSpan - 1, kAttentionSpan, last - 1, last};
  std::vector<std::vector<float>> expected;
  for (const int threads : {1, 2, 5}) {
    TestModel model(test::tiny("meta_mp8"), {.dtype = numbers.dtype,
                                             .kv_format = numbers.kv_format,
                                             .threads = threads,
                                             .block = 32,
                                             .positions = 2048,
                                             .max_rows = 2048,
                                             .kernels = kernels});
    for (const std::int64_t chunk : {last + 1, last - 2, std::int64_t{500}}) {
      const auto logits = model.logits(ids, rows, chunk);
      if (expected.empty()) expected = logits;
      ASSERT_EQ(logits, expected) << threads << " threads, chunks of " << chunk;
    }
    // The last two by themselves, beside what the chunks have left in the pages.
    for (std::int64_t row = last - 1; row <= last; ++row) {
      const auto pages = model.pages(last + 1);
      std::vector<RowAsk> asks = {{.kind = RowAsk::Kind::kLogits}};
      StepSequence sequence;
      sequence.tokens = std::span<const TokenId>(ids).subspan(static_cast<std::size_t>(row), 1);
      sequence.first_position = row;
      sequence.pages = pages;
      sequence.asks = asks;
      const auto result = model.runner().step({std::span(&sequence, 1)});
      ASSERT_TRUE(result) << result.error().text();
      ASSERT_EQ(result->answers[0].logits, expected[static_cast<std::size_t>(row - last + 3)]);
    }
  }
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : available_kernels()) names.emplace_back(table->name);
  return names;
}

// The plain loops do rows whole.
std::vector<std::string> vector_kernel_names() {
  std::vector<std::string> names = kernel_names();
  std::erase(names, "reference");
  return names;
}

INSTANTIATE_TEST_SUITE_P(Kernels, LongContext,
                         testing::Combine(testing::ValuesIn(vector_kernel_names()),
                                          testing::Values(Numbers{"f32", ComputeDType::kF32},
                                                          Numbers{"bf16", ComputeDType::kBf16},
                                                          kKvInt8)),
                         [](const auto& name_of) {
                           return std::get<0>(name_of.param) + "_" +
                                  std::get<1>(name_of.param).name;
                         });

INSTANTIATE_TEST_SUITE_P(
    Kernels, BatchInvariance,
    testing::Combine(testing::ValuesIn(kernel_names()),
                     testing::Values(Numbers{"f32", ComputeDType::kF32},
                                     Numbers{"bf16", ComputeDType::kBf16},
                                     Numbers{"int8", ComputeDType::kBf16, WeightsWish::kInt8},
                                     Numbers{"int4", ComputeDType::kBf16, WeightsWish::kInt4})),
    [](const auto& name_of) {
      return std::get<0>(name_of.param) + "_" + std::get<1>(name_of.param).name;
    });

INSTANTIATE_TEST_SUITE_P(KvCodes, BatchInvariance,
                         testing::Combine(testing::ValuesIn(vector_kernel_names()),
                                          testing::Values(kKvInt8)),
                         [](const auto& name_of) { return std::get<0>(name_of.param); });

}  // namespace
}  // namespace tg
