// --speculative and --draft-model as a user meets them: the same answers, what the file and the
// numbers say, what is refused.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "program.h"

namespace tg {
namespace {

using test::contains;
using test::expect_refusal;
using test::golden;
using test::Outcome;
using test::ProgramFolder;
using test::small_model;

// The ids and log-probabilities of all users of all repeats.
std::string answers(const nlohmann::json& file) {
  nlohmann::json all;
  for (const auto& batch : file["batches"]) {
    for (const auto& user : batch["users"]) {
      all.push_back({user["output_ids"], user["finish_reason"], user["logprobs"]});
    }
  }
  return all.dump();
}

TEST(SpeculativeProgram, TheAnswersStayTheSame) {
  const ProgramFolder folder("speculation");
  const std::string demo =
      "text-demo --model '" + golden("tiny/hf") + "' --input-prompts '" +
      golden("cases/prompts/c21_mixed_32.json") +
      "' --batch-size 6 --repeat-batches 2 --max-generated-tokens 40 --speculative-rows 48 "
      "--sampling-params '{\"temperature\": [0, 0.8, 0, 1, 0, 0.5], \"seed\": [1, 2, 3, 4, 5, 6], "
      "\"repetition_penalty\": [1, 1, 0.5, 1.1, 0.3, 1], \"log_probs\": 2}' --output out.json ";
  const auto run = [&](const std::string& options) {
    const Outcome outcome = folder.run(demo + options);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return std::pair(outcome, folder.json("out.json"));
  };
  const auto [plain_outcome, plain] = run("");
  EXPECT_EQ(plain["settings"]["speculative"], "none");
  EXPECT_EQ(plain["totals"]["speculation"]["proposed"], 0);
  EXPECT_FALSE(contains(plain_outcome.out, "guessed"));
  const std::string plain_2x2 = answers(run("--mesh 2x2").second);  // sums in another order
  const std::string draft = "--speculative draft --draft-model '" + test::tiny("meta") + "' ";
  const std::vector<std::string> ways = {
      "--speculative ngram",
      "--speculative ngram --speculative-tokens 3 --mesh 2x2",
      draft,
      draft + "--mesh 2x2 --speculative-tokens 9",
      draft + "--page-params '{\"page_block_size\": 16, \"page_max_num_blocks\": 60}'",
  };
  for (const std::string& options : ways) {
    SCOPED_TRACE(options);
    const auto [outcome, file] = run(options);
    EXPECT_EQ(answers(file), contains(options, "2x2") ? plain_2x2 : answers(plain));
    const auto& counts = file["totals"]["speculation"];
    EXPECT_GT(counts["accepted"].get<int>(), 0);
    EXPECT_LE(counts["accepted"], counts["proposed"]);
    EXPECT_TRUE(contains(outcome.out, "guessed tokens accepted"));
    EXPECT_EQ(file["settings"]["speculative"], contains(options, "ngram") ? "ngram" : "draft");
    int accepted = 0;
    for (const auto& batch : file["batches"]) {
      for (const auto& user : batch["users"]) {
        if (user.contains("speculation")) accepted += user["speculation"]["accepted"].get<int>();
      }
    }
    EXPECT_EQ(accepted, counts["accepted"]);
  }
}

// demo/summarize.json: an answer that quotes its context takes less than half of the steps.
TEST(SpeculativeProgram, AQuotingAnswerTakesFewSteps) {
  const ProgramFolder folder("quoting");
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  const std::string demo = "text-demo --model '" + small_model() + "' --input-prompts '" +
                           std::string(TG_SOURCE_DIR) +
                           "/demo/summarize.json' --batch-size 1 --max-generated-tokens 80 "
                           "--sampling-params '{\"temperature\": 0}' --output out.json ";
  ASSERT_EQ(folder.run(demo).status, 0);
  const auto plain = folder.json("out.json")["users"][0];
  ASSERT_EQ(folder.run(demo + "--speculative ngram").status, 0);
  const auto guessed = folder.json("out.json")["users"][0];
  EXPECT_EQ(guessed["output_ids"], plain["output_ids"]);
  EXPECT_EQ(plain["output_ids"].size(), 80U);
  EXPECT_GT(guessed["speculation"]["accepted"].get<int>(), 40);
}

TEST(SpeculativeProgram, ChatIsTheSame) {
  const ProgramFolder folder("speculative_chat");
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  const std::string chat =
      "chat --temperature 0 --max-generated-tokens 24 --model '" + small_model() + "' ";
  const std::string lines = "Count: 1 2 3 4 1 2 3 4\nRepeat that.\n";
  const Outcome plain = folder.run(chat, lines);
  const Outcome guessed = folder.run(chat + "--speculative ngram", lines);
  ASSERT_EQ(guessed.status, 0) << guessed.err;
  EXPECT_FALSE(plain.out.empty());
  EXPECT_EQ(guessed.out, plain.out);
}

TEST(SpeculativeProgram, GenerateSaysHowWellItGuessed) {
  const ProgramFolder folder("guessed");
  const std::string tiny = "--model '" + golden("tiny/hf") + "' ";
  const Outcome run = folder.run(
      "generate --prompt-ids 1,2,3 --temperature 0 --stop-at-eos 0 "
      "--max-generated-tokens 30 --speculative draft --draft-model '" +
      test::tiny("meta") + "' " + tiny);
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "guessed tokens accepted (100.0 %)")) << run.err;
}

TEST(SpeculativeProgram, WhatCannotWorkIsRefused) {
  const ProgramFolder folder("no_speculation");
  const std::string start = "generate --prompt-ids 1,2,3 --model '" + golden("tiny/hf") + "' ";
  expect_refusal(folder.run(start + "--speculative magic"), {"--speculative", "magic", "ngram"});
  expect_refusal(folder.run(start + "--speculative draft"), {"--draft-model"});
  expect_refusal(folder.run(start + "--draft-model x"), {"--speculative draft"});
  expect_refusal(folder.run(start + "--speculative draft --draft-model nowhere"),
                 {"--draft-model nowhere", "no such file"});
  expect_refusal(folder.run(start + "--speculative ngram --speculative-tokens 65"),
                 {"--speculative-tokens", "65", "1..64"});
  expect_refusal(folder.run(start + "--speculative ngram --speculative-rows 1"),
                 {"--speculative-rows", "2..512"});
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  expect_refusal(folder.run(start + "--speculative draft --draft-model '" + small_model() + "'"),
                 {"--draft-model", "49152", "1024"});
  // The same number of ids, of which two have changed places.
  std::filesystem::copy(golden("tiny/hf"), folder.file("swapped"));
  std::string tokenizer = test::read_whole(folder.file("swapped/tokenizer.json"));
  nlohmann::json json = nlohmann::json::parse(tokenizer);
  auto& added = json["added_tokens"];
  std::swap(added[0]["content"], added[1]["content"]);
  std::filesystem::remove(folder.file("swapped/tokenizer.json"));
  folder.write("swapped/tokenizer.json", json.dump());
  expect_refusal(folder.run(start + "--speculative draft --draft-model swapped"),
                 {"--draft-model", "token ", "swapped"});
  // The sum of both, when it is more than there is.
  expect_refusal(folder.run("text-demo --prompt-ids 1 --batch-size 256 --compute-dtype f32 "
                            "--page-params '{\"page_max_num_blocks\": 4194304}' --model '" +
                            golden("tiny/hf") + "' --speculative draft --draft-model '" +
                            golden("tiny/hf") + "'"),
                 {"its draft model", "together", "available"});
}

}  // namespace
}  // namespace tg
