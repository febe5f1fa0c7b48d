// llama-tg make-random, perplexity, bench and roofline as a user meets them.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <vector>

#include "program.h"

namespace tg {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::expect_refusal;
using test::Outcome;
using test::ProgramFolder;

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::string ids_of(const ProgramFolder& folder, const std::string& model) {
  const Outcome outcome = folder.run("generate --model " + model +
                                     " --prompt-ids 5,900,77 --max-generated-tokens 8 --threads 1 "
                                     "--stop-at-eos 0 --temperature 0 --output ids.json");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return test::ids_text(folder.json("ids.json")["users"][0]["output_ids"]);
}

TEST(MakeRandomProgram, AllFormsOfTheSameSeedAreTheSameModel) {
  const ProgramFolder folder("make_random");
  for (const char* words : {"a.gguf", "b.gguf --vocabulary bytes", "c --format safetensors",
                            "d.gguf --seed 1", "e.gguf --threads 1"}) {
    const Outcome made = folder.run("make-random --arch tiny --layers 2 " + std::string(words));
    ASSERT_EQ(made.status, 0) << made.err;
    EXPECT_TRUE(contains(made.out, "tiny with 2 layers, random weights of seed")) << made.out;
  }
  const std::string ids = ids_of(folder, "a.gguf");
  EXPECT_EQ(ids_of(folder, "b.gguf"), ids);
  EXPECT_EQ(ids_of(folder, "c"), ids);
  EXPECT_NE(ids_of(folder, "d.gguf"), ids);
  EXPECT_EQ(test::read_whole(folder.file("a.gguf")), test::read_whole(folder.file("e.gguf")));
  // With the vocabulary of bytes text goes in and out.
  const Outcome tokens = folder.run("tokenize --model b.gguf --text Hi");
  EXPECT_EQ(tokens.status, 0) << tokens.err;
  EXPECT_TRUE(contains(tokens.out, "72") && contains(tokens.out, "105")) << tokens.out;
}

TEST(MakeRandomProgram, QuantisedFilesAreRead) {
  const ProgramFolder folder("make_random_q");
  for (const std::string dtype : {"q8_0", "q4_0"}) {
    const std::string file = dtype + ".gguf";
    ASSERT_EQ(folder.run("make-random " + file + " --arch tiny --weights-dtype " + dtype).status,
              0);
    const Outcome shown = folder.run("inspect --model " + file);
    EXPECT_EQ(shown.status, 0) << shown.err;
    EXPECT_TRUE(
        contains(shown.out, dtype == "q8_0" ? "tensors in Q8_0   30" : "tensors in Q4_0   30"))
        << shown.out;
    EXPECT_FALSE(ids_of(folder, file).empty());
  }
}

TEST(MakeRandomProgram, Refusals) {
  const ProgramFolder folder("make_random_no");
  expect_refusal(folder.run("make-random a.gguf --arch llama9"),
                 {"--arch", "llama9", "llama3.2-1b"});
  expect_refusal(folder.run("make-random a --arch tiny --format safetensors --weights-dtype q8_0"),
                 {"q8_0", "safetensors"});
  expect_refusal(folder.run("make-random a.gguf --arch tiny --weights-dtype q4_k"),
                 {"rows of 352 values", "Q4_K needs multiples of 256"});
  folder.write("a.gguf", "mine");
  expect_refusal(folder.run("make-random a.gguf --arch tiny"), {"a.gguf", "--force"});
  EXPECT_EQ(test::read_whole(folder.file("a.gguf")), "mine");
  EXPECT_EQ(folder.run("make-random a.gguf --arch tiny --force").status, 0);
  expect_refusal(folder.run("make-random nowhere/a.gguf --arch tiny"), {"nowhere/a.gguf"});
}

// Of a model with random weights hardly any token is likelier than another; the first token of each
// window is given away. (The value on real text is the test of SmolLM2.)
TEST(PerplexityProgram, ScoresTextAndIds) {
  const ProgramFolder folder("perplexity");
  ASSERT_EQ(folder.run("make-random m.gguf --arch tiny --vocabulary bytes").status, 0);
  folder.write("t.txt", "thirty characters, one a token");
  const Outcome whole = folder.run("perplexity t.txt --model m.gguf --threads 1");
  ASSERT_EQ(whole.status, 0) << whole.err;
  const auto json = json_lines(whole.out).at(0);
  const std::int64_t tokens = json["tokens"];
  EXPECT_GT(tokens, 20);
  EXPECT_EQ(json["scored"], tokens - 1);
  EXPECT_NEAR(json["perplexity"], std::exp(json["mean_negative_log"].get<double>()), 1e-6);
  EXPECT_GT(json["perplexity"], 100.0);

  const Outcome ids = folder.run("tokenize --bos --model m.gguf", "thirty characters, one a token");
  ASSERT_EQ(ids.status, 0) << ids.err;
  folder.write("ids", ids.out);
  const Outcome same = folder.run("perplexity ids --ids --model m.gguf --threads 1");
  ASSERT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(json_lines(same.out).at(0)["perplexity"], json["perplexity"]);
  const Outcome cut = folder.run("perplexity ids --ids --window 7 --model m.gguf --threads 1");
  ASSERT_EQ(cut.status, 0) << cut.err;
  EXPECT_EQ(json_lines(cut.out).at(0)["scored"], tokens - (tokens + 6) / 7);

  folder.write("one", "5");
  expect_refusal(folder.run("perplexity one --ids --model m.gguf"), {"one", "1 tokens"});
  expect_refusal(folder.run("perplexity t.txt --ids --model m.gguf"), {"t.txt", "no id"});
  folder.write("large", "5,99999999");
  expect_refusal(folder.run("perplexity large --ids --model m.gguf"), {"large", "id 99999999"});
  folder.write("bytes", "\xff\xfe no text");
  expect_refusal(folder.run("perplexity bytes --model m.gguf"), {"bytes", "UTF-8"});
  expect_refusal(folder.run("perplexity ids --ids --window 1000000 --model m.gguf"),
                 {"--window 1000000", "context"});
  expect_refusal(folder.run("perplexity nowhere --model m.gguf"), {"nowhere"});
  expect_refusal(folder.run("perplexity t.txt --window 1 --model m.gguf"), {"--window"});
}

TEST(BenchProgram, AnswersEachMeasurement) {
  const ProgramFolder folder("bench");
  ASSERT_EQ(folder.run("make-random m.gguf --arch tiny").status, 0);
  const std::string options = "bench --model m.gguf --threads 2 --read-mib 8 ";
  const Outcome once = folder.run(options + "--measure decode:3:70:4,prefill:600,read:0.001");
  ASSERT_EQ(once.status, 0) << once.err;
  const auto lines = json_lines(once.out);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0]["threads"], 2);
  EXPECT_EQ(lines[1]["work"], "decode:3:70:4");
  EXPECT_EQ(lines[1]["tokens"], 12);
  EXPECT_EQ(lines[1]["step_s"].size(), 4U);
  EXPECT_NEAR(lines[1]["tokens_per_s"].get<double>(), 12 / lines[1]["seconds"].get<double>(), 1e-6);
  EXPECT_EQ(lines[2]["tokens"], 600);
  EXPECT_GT(lines[3]["best_bytes_per_s"], 1e8);

  // As often as stdin asks, within the room that --measure made.
  const Outcome asked = folder.run(options + "--on-request --measure decode:3:70:4",
                                   "decode:1:10:2\ndecode:3:70:1\n");
  ASSERT_EQ(asked.status, 0) << asked.err;
  EXPECT_EQ(json_lines(asked.out).size(), 3U);
  const Outcome large =
      folder.run(options + "--on-request --measure decode:3:70:4", "prefill:500\n");
  EXPECT_EQ(large.status, 2);
  EXPECT_TRUE(contains(large.err, "prefill:500")) << large.err;
  expect_refusal(folder.run(options + "--measure decode:3"),
                 {"--measure", "decode:3", "prefill:TOKENS"});
}

TEST(RooflineProgram, ShowsEveryCeilingOfThisMachine) {
  const ProgramFolder folder("roofline");
  const Outcome shown =
      folder.run("roofline --threads 1 --seconds 0.02 --read-mib 16 --output r.json");
  ASSERT_EQ(shown.status, 0) << shown.err;
  const auto json = folder.json("r.json");
  EXPECT_EQ(json["threads"], 1);
  for (const auto& one : json["arithmetic"]) {
    // Less than one operation per ns would be a mistake, and more than 100,000 too.
    EXPECT_GT(one["best_per_s"], 1e9) << one;
    EXPECT_LT(one["best_per_s"], 1e14) << one;
    EXPECT_LE(one["median_per_s"], one["best_per_s"]) << one;
    EXPECT_TRUE(contains(shown.out, one["instruction"].get<std::string>())) << shown.out;
  }
  EXPECT_GT(json["memory_read"]["median_bytes_per_s"], 1e8);
  EXPECT_TRUE(contains(shown.out, "memory read")) << shown.out;
}

}  // namespace
}  // namespace tg
