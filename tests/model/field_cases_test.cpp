// Cases from the field that need a model: C17 (pages and borders), C44 and C46 (row order, dtypes).
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

class CheckpointCases : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Tests run as processes side by side: each has its own.
    directory_ = testing::TempDir() + "tg_model_cases_" + std::to_string(::getpid());
    const std::string command = "python3 '" TG_SOURCE_DIR "/tests/tools/make_ckpt_cases.py' '" +
                                directory_ + "' > /dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(directory_); }

  static std::vector<TokenId> greedy(const std::string& name, std::size_t count) {
    TestModel model(directory_ + "/" + name, {.positions = 256});
    return model.greedy(expected()["prompt_ids"], count);
  }
  static nlohmann::json expected() { return test::read_json("cases/c44_expected.json"); }

  static std::string directory_;
};

std::string CheckpointCases::directory_;

TEST_F(CheckpointCases, C44BothRowOrdersGiveTheSameText) {
  const std::vector<TokenId> ids = expected()["greedy"];
  ASSERT_EQ(ids.size(), 24U);
  EXPECT_EQ(greedy("c44_pair/meta", 24), ids);
  EXPECT_EQ(greedy("c44_pair/hf", 24), ids);
}

TEST_F(CheckpointCases, C46StoredTypesAndTiedEmbeddings) {
  const std::vector<TokenId> ids = expected()["greedy"];
  for (const char* name : {"ok_mixed_norm_f32", "ok_all_f32", "ok_all_f16"}) {
    EXPECT_EQ(greedy(std::string("c46_dtypes/") + name, 24), ids) << name;
  }
  const std::vector<TokenId> tied =
      expected()["tied_greedy_12 (c46_dtypes/ok_tied, ok_tied_and_present)"];
  ASSERT_EQ(tied.size(), 12U);
  EXPECT_EQ(greedy("c46_dtypes/ok_tied", 12), tied);
  EXPECT_EQ(greedy("c46_dtypes/ok_tied_and_present", 12), tied);
}

// Pages that hold another prompt's keys and values, or not-a-number, must not be read.
TEST(C17, PageBordersAndStalePages) {
  std::vector<TokenId> prompt = {768};
  while (prompt.size() < 2049) {
    for (const TokenId id : {79, 686, 315, 982, 374}) prompt.push_back(id);
  }
  constexpr std::int64_t kPositions = 4096;
  TestModel contiguous(test::tiny("meta_mp8"),
                       {.threads = 1, .block = kPositions, .positions = kPositions});
  std::map<std::size_t, std::vector<TokenId>> expected;  // by length
  for (const std::int64_t block : {16, 32, 64}) {
    TestModel paged(test::tiny("meta_mp8"),
                    {.threads = 1, .block = block, .positions = kPositions});
    const std::vector<TokenId> other(static_cast<std::size_t>(kPositions), 999);
    paged.logits(other, {}, 512);
    for (const std::size_t length : std::initializer_list<std::size_t>{
             1,   2,   15,  16,  17,  31,  32,  33,   63,   64,   65,   127,  128,
             129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049}) {
      const std::vector<TokenId> ids(prompt.begin(),
                                     prompt.begin() + static_cast<std::ptrdiff_t>(length));
      const std::size_t count = length < 600 ? 70 : 20;
      if (!expected.contains(length)) expected[length] = contiguous.greedy(ids, count);
      ASSERT_EQ(paged.greedy(ids, count), expected[length])
          << "block " << block << " length " << length;
    }
  }
}

}  // namespace
}  // namespace tg
