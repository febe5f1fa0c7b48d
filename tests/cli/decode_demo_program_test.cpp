// decode-demo as a user meets it: the golden ids through shuffled pages on any mesh, runs without a
// checkpoint, endurance, targets, refusals.
#include "program.h"

namespace tg {
namespace {

using test::contains;
using test::expect_refusal;
using test::golden;
using test::ids_text;
using test::Outcome;
using test::ProgramFolder;

std::string hash_of(const Outcome& run) {
  const std::string mark = "Hash of all sampled ids: ";
  const std::size_t at = run.out.find(mark);
  return at == std::string::npos ? "no hash in " + run.out + run.err
                                 : run.out.substr(at + mark.size(), 16);
}

TEST(DecodeDemo, ForcedPromptsGiveTheGoldenIdsOnEveryMesh) {
  const ProgramFolder folder("decode_golden");
  const auto prompt =
      nlohmann::json::parse(test::read_whole(golden("model_tiny.json")))["prompts"]["33"];
  for (const char* options :
       {"--mesh 1x1", "--mesh 8x4", "--mesh 8x4 --topology line", "--mesh 2x2 --paged-attention 0",
        "--mesh TG --page-params '{\"page_block_size\": 16}'"}) {
    const Outcome run = folder.run(
        "decode-demo --model '" + golden("tiny/meta_mp8") + "' --prompt-ids " +
        ids_text(prompt["ids"]) + " --max-generated-tokens 96 --batch-size 6 --compute-dtype f32 " +
        "--sampling-params '{\"temperature\": 0}' --output out.json " + options);
    ASSERT_EQ(run.status, 0) << run.err;
    const auto users = folder.json("out.json")["users"];
    ASSERT_EQ(users.size(), 6U);
    for (const auto& user : users) {
      EXPECT_EQ(user["output_ids"], prompt["greedy_f32"]["hf"]) << options;
      EXPECT_EQ(user["token_times_s"].size(), 64U);
    }
    EXPECT_TRUE(contains(run.out, "Iteration : 0, Prefill Iteration : 0, tok/s/user : "));
    EXPECT_TRUE(contains(run.out, "Iteration : 95, Decode Iteration : 63, tok/s/user : "))
        << run.out;
    EXPECT_TRUE(contains(run.out, "[User 5] "));
    for (const char* part : {"min ", "median ", "5th percentile ", "95th percentile ",
                             "Suggested target range", "Hash of all sampled ids"}) {
      EXPECT_TRUE(contains(run.out, part)) << part;
    }
  }
}

TEST(DecodeDemo, PromptFilesAsTheOriginal) {
  const ProgramFolder folder("decode_prompts");
  const std::string tiny = "decode-demo --model '" + golden("tiny/meta_mp8") +
                           "' --instruct 0 --max-generated-tokens 40 --output out.json ";
  folder.write("two.json", R"([{"prompt": "Hello"}, {"prompt": "The longer of the two"}])");
  ASSERT_EQ(folder.run(tiny + "--input-prompts two.json --batch-size 2 --repeat-batches 2").status,
            0);
  const auto batches = folder.json("out.json")["batches"];
  ASSERT_EQ(batches.size(), 2U);
  // Rotated by one: the second batch's users are the first's, the other way round.
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(batches[0]["users"][i]["prompt"], batches[1]["users"][1 - i]["prompt"]);
    EXPECT_EQ(batches[0]["users"][i]["output_ids"], batches[1]["users"][1 - i]["output_ids"]);
  }
  expect_refusal(folder.run(tiny + "--input-prompts two.json --batch-size 3"),
                 {"two.json", "2 prompts for 3 users"});
  folder.write("one.json", R"([{"prompt": "Hello"}])");
  EXPECT_EQ(folder.run(tiny + "--input-prompts one.json --batch-size 3").status, 0);
}

TEST(DecodeDemo, RandomWeightsNeedNoCheckpoint) {
  const ProgramFolder folder("decode_random");
  const std::string quick = "decode-demo --case quick --arch tiny --max-generated-tokens 30 ";
  const Outcome one = folder.run(quick + "--compute-dtype f32");
  ASSERT_EQ(one.status, 0) << one.err;
  const Outcome mesh = folder.run(quick + "--compute-dtype f32 --mesh 8x4");
  EXPECT_EQ(hash_of(mesh), hash_of(one));
  EXPECT_TRUE(contains(mesh.out, "Mesh 8x4: ")) << mesh.out;
  EXPECT_NE(hash_of(folder.run(quick + "--compute-dtype f32 --weights-seed 1")), hash_of(one));
  EXPECT_NE(hash_of(folder.run(quick + "--compute-dtype f32 --layers 2")), hash_of(one));
  // The shape and tokenizer of a checkpoint.
  const Outcome lent = folder.run("decode-demo --weights random --layers 7 --model '" +
                                  golden("tiny/meta_mp8") + "' --max-generated-tokens 12");
  EXPECT_EQ(lent.status, 0) << lent.err;
}

TEST(DecodeDemo, MeasuresOperations) {
  const ProgramFolder folder("decode_operations");
  const Outcome run =
      folder.run("decode-demo --case measure-device-perf --weights random --arch tiny --mesh 4x2");
  ASSERT_EQ(run.status, 0) << run.err;
  // Nothing is asked of a prompt's tokens, so their last layer ends with attention.
  for (const char* line :
       {"QKV        product              10 times", "WO         all-reduce           10 times",
        "FF1        reduce-scatter        9 times", "SDPA       attention            10 times"}) {
    EXPECT_TRUE(contains(run.out, line)) << line << " in " << run.out;
  }
}

TEST(DecodeDemo, LayersOfACheckpoint) {
  const ProgramFolder folder("decode_layers");
  const std::string tiny =
      "decode-demo --model '" + golden("tiny/meta_mp8") +
      "' --prompt-ids 1,2,3 --batch-size 2 --max-generated-tokens 20 --compute-dtype f32 ";
  const std::string all = hash_of(folder.run(tiny));
  EXPECT_EQ(hash_of(folder.run(tiny + "--layers 4")), all);
  EXPECT_NE(hash_of(folder.run(tiny + "--layers 2")), all);
  expect_refusal(folder.run(tiny + "--layers 5"), {"--layers", "5 layers", "1..4"});
}

// C15, second half: nothing beyond a user's pages is ever read.
TEST(DecodeDemo, C15WhatThePagesDoNotHoldIsRefusedWithTheSum) {
  const ProgramFolder folder("decode_c15");
  expect_refusal(
      folder.run("decode-demo --case quick --arch tiny --batch-size 32 --start-pos 4090 "
                 "--page-params '{\"page_block_size\": 64, \"page_max_num_blocks\": 2048}'"),
      {"32 users", "6090 positions", "4090 + 2000", "3072 pages of 64", "2048", "4096 positions"});
  const std::string end =
      "decode-demo --case quick --arch tiny --start-pos 4090 "
      "--page-params '{\"page_max_num_blocks\": 2048}' ";
  EXPECT_EQ(folder.run(end + "--max-generated-tokens 6").status, 0);
  expect_refusal(folder.run(end + "--max-generated-tokens 7"), {"4097 positions"});
  // Without a number of pages there are as many as the run needs.
  EXPECT_EQ(folder
                .run("decode-demo --case nd-hang-test --weights random --arch tiny --layers 1 "
                     "--start-pos 19900 --max-generated-tokens 20 --prompt-ids 1 --batch-size 32")
                .status,
            0);
  // A frozen position lasts for ever.
  EXPECT_EQ(folder
                .run("decode-demo --case quick --arch tiny --start-pos 4095 --stress-test 1 "
                     "--max-generated-tokens 300 --page-params '{\"page_max_num_blocks\": 2048}'")
                .status,
            0);
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --start-pos 131000"),
                 {"133000", "131072"});
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --max-seq-len 1999"),
                 {"2000 > 1999", "--max-seq-len"});
}

TEST(DecodeDemo, StressRunsAreRepeatableAndDoNotGrow) {
  const ProgramFolder folder("decode_stress");
  const std::string stress =
      "decode-demo --case mini-stress-test --model '" + golden("tiny/meta_mp8") +
      "' --prompt-ids 1,2,3 --mesh 8x4 --batch-size 32 --max-generated-tokens 1000 "
      "--sampling-params '{\"temperature\": 0.8, \"top_k\": 32}'";
  const Outcome first = folder.run(stress);
  ASSERT_EQ(first.status, 0) << first.err;  // status 1: more than 8 MiB of growth
  EXPECT_TRUE(contains(first.out, "Memory (RssAnon + VmSwap): ")) << first.out;
  EXPECT_TRUE(contains(first.out, "after iteration 999"));
  EXPECT_EQ(hash_of(folder.run(stress)), hash_of(first));
}

TEST(DecodeDemo, ATargetThatIsMissedIsStatus1) {
  const ProgramFolder folder("decode_target");
  const std::string quick = "decode-demo --case quick --arch tiny --max-generated-tokens 30 ";
  const Outcome missed = folder.run(quick + "--target-tsu 1000000:2000000");
  EXPECT_EQ(missed.status, 1);
  EXPECT_TRUE(contains(missed.err, "Throughput is out of targets 1000000.00..2000000.00"));
  EXPECT_TRUE(contains(missed.out, "26 of the first 26 iterations outside")) << missed.out;
  EXPECT_EQ(folder.run(quick + "--target-tsu 0:1000000").status, 0);
  const Outcome nothing = folder.run(
      "decode-demo --case quick --arch tiny --max-generated-tokens 3 --target-tsu 0:1000000");
  EXPECT_EQ(nothing.status, 1);
  EXPECT_TRUE(contains(nothing.err, "no decode iteration"));
  expect_refusal(folder.run(quick + "--target-tsu 5"), {"--target-tsu '5'", "LOW:HIGH"});
}

TEST(DecodeDemo, SamplingOptionsOverrideTheCaseOneByOne) {
  const ProgramFolder folder("decode_sampling");
  const std::string full =
      "decode-demo --case full --weights random --arch tiny --layers 2 --batch-size 3 "
      "--max-generated-tokens 20 ";
  const std::string five = hash_of(folder.run(full + "--sampling-params '{\"seed\": 5}'"));
  EXPECT_EQ(hash_of(folder.run(full + "--seed 5 --weights-seed 0")).size(), five.size());
  EXPECT_NE(hash_of(folder.run(full + "--sampling-params '{\"seed\": 6}'")), five);
  EXPECT_EQ(hash_of(folder.run(full + "--sampling-params '{\"seed\": 5, \"temperature\": 0.7, "
                                      "\"top_k\": 32, \"top_p\": 0.9}'")),
            five);
  const Outcome probabilities = folder.run(full + "--sampling-params '{\"log_probs\": true}'");
  EXPECT_EQ(probabilities.status, 0);
  EXPECT_TRUE(contains(probabilities.err, "log_probs are not kept")) << probabilities.err;
}

TEST(DecodeDemo, Refusals) {
  const ProgramFolder folder("decode_refusals");
  expect_refusal(folder.run("decode-demo --case slow"), {"'slow'", "full, quick, stress-test"});
  expect_refusal(folder.run("decode-demo"), {"no model"});
  expect_refusal(folder.run("decode-demo --weights random --arch llama9"),
                 {"--arch", "'llama9'", "llama3.3-70b"});
  expect_refusal(folder.run("decode-demo --arch tiny --model x"), {"--arch", "--weights random"});
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --prompt-ids 1024"),
                 {"1024", "vocabulary of 1024"});
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --mesh 3x4"),
                 {"8 kv heads", "3"});
  expect_refusal(folder.run("decode-demo --case mini-stress-test --weights random --arch tiny "
                            "--output out.json"),
                 {"--output out.json", "last ids"});
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --watchdog-s nan"),
                 {"--watchdog-s", "nan", "1..3600"});
  expect_refusal(folder.run("inspect --arch tiny --model x"), {"--arch", "--weights random"});
  expect_refusal(folder.run("inspect --weights random --arch tiny --model x"),
                 {"--arch", "--model"});
  expect_refusal(folder.run("decode-demo --case quick --arch tiny --stress-test 2"),
                 {"--stress-test", "2"});
}

}  // namespace
}  // namespace tg
