// The program as a user meets it: answers, files, refusals (one line, status 2), cases from the
// field.
#include "program.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <vector>

namespace tg {
namespace {

using test::contains;
using test::expect_refusal;
using test::golden;
using test::ids_text;
using test::Outcome;
using test::ProgramFolder;
using test::small_model;

TEST(Program, HelpNamesEveryCommandAndOption) {
  const ProgramFolder folder("help");
  const Outcome all = folder.run("--help");
  EXPECT_EQ(all.status, 0);
  for (const char* command :
       {"text-demo", "decode-demo", "generate", "chat", "tokenize", "inspect", "repack"}) {
    EXPECT_TRUE(contains(all.out, command));
    EXPECT_EQ(folder.run(std::string(command) + " --help").status, 0);
  }
  const Outcome demo = folder.run("text-demo --help");
  for (const char* option : {"--input-prompts",
                             "--instruct",
                             "--repeat-batches",
                             "--max-seq-len",
                             "--batch-size",
                             "--max-generated-tokens",
                             "--paged-attention",
                             "--page-params",
                             "--sampling-params",
                             "--stop-at-eos",
                             "--case",
                             "--seed",
                             "--output",
                             "--prompt-ids",
                             "--compute-dtype",
                             "--threads",
                             "--kernels",
                             "--chat-template",
                             "batch-32-non-uniform-sampling",
                             "repeat2",
                             "long-128k-b1",
                             "pcc-80L"}) {
    EXPECT_TRUE(contains(demo.out, option)) << option;
  }
  EXPECT_EQ(folder.run("--version").status, 0);
}

TEST(Program, WrongCommandLinesAreRefused) {
  const ProgramFolder folder("usage");
  expect_refusal(folder.run(""), {"no command"});
  expect_refusal(folder.run("dance --fast"), {"'dance' is no command"});
  expect_refusal(folder.run("generate --pace 3"), {"--pace"});
  expect_refusal(folder.run("generate --prompt x"), {"--model", "LLAMA_DIR", "HF_MODEL"});
  expect_refusal(folder.run("generate --prompt x --model nowhere"),
                 {"--model nowhere", "no such file"});
  const std::string tiny = "--model '" + golden("tiny/hf") + "' ";
  expect_refusal(folder.run("generate " + tiny), {"--prompt", "--prompt-ids"});
  expect_refusal(folder.run("generate --prompt x --prompt-ids 1 " + tiny), {"either"});
  expect_refusal(folder.run("generate --prompt-ids 1,x " + tiny), {"'x'", "entry 2"});
  expect_refusal(folder.run("generate --prompt-ids 1,1024 " + tiny), {"1024", "0..1023"});
  expect_refusal(folder.run("generate --prompt x --kernels neon " + tiny),
                 {"--kernels", "neon", "reference"});
  expect_refusal(folder.run("generate --prompt x --threads 0 " + tiny),
                 {"--threads", "'0'", "1..4096"});
  expect_refusal(folder.run("generate --prompt x --compute-dtype f16 " + tiny), {"f16"});
  for (const char* command : {"generate --prompt x", "text-demo --prompt-ids 1", "inspect"}) {
    expect_refusal(folder.run(std::string(command) + " --kv-dtype int4 " + tiny),
                   {"--kv-dtype", "int4", "bf16", "int8", "bfp8"});
  }
  expect_refusal(folder.run("generate --prompt x --compute-dtype f32 --kv-dtype int8 " + tiny),
                 {"--compute-dtype f32 with --kv-dtype int8", "in f32"});
  expect_refusal(folder.run("generate --prompt x --temperature -1 " + tiny), {"temperature"});
  expect_refusal(folder.run("generate --prompt x --output none/out.json " + tiny),
                 {"none/out.json", "No such file"});
  expect_refusal(folder.run("generate --prompt x --instruct 1 --chat-template nope " + tiny),
                 {"--chat-template", "nope"});
  expect_refusal(folder.run("text-demo --case no-such-case " + tiny), {"no-such-case", "repeat2"});
  expect_refusal(folder.run("text-demo --case pcc-80L " + tiny), {"pcc-80L"});
  expect_refusal(folder.run("text-demo --batch-size 0 " + tiny), {"--batch-size", "'0'", "1..256"});
  expect_refusal(folder.run("text-demo --page-params '{\"page_block_size\": 48}' " + tiny),
                 {"--page-params", "page_block_size 48", "16, 32 or 64"});
  expect_refusal(folder.run("text-demo --page-params \"{'page_block_size': 64}\" " + tiny),
                 {"--page-params", "JSON"});
  expect_refusal(
      folder.run("text-demo --batch-size 3 --sampling-params '{\"seed\": [1, 2]}' " + tiny),
      {"--sampling-params", "seed has 2 values for 3 users"});
  for (const char* number : {"-1", "18446744073709551616", "1e3", "''", "0x10"}) {
    expect_refusal(folder.run("generate --prompt x --seed " + std::string(number) + " " + tiny),
                   {"--seed", "0..18446744073709551615"});
  }
  for (const char* number : {"-1", "9223372036854775807", "99999999999999999999", "''", "x"}) {
    expect_refusal(folder.run("generate --prompt x --max-generated-tokens " + std::string(number) +
                              " " + tiny),
                   {"--max-generated-tokens", "0..1000000000"});
  }
  expect_refusal(folder.run("generate --prompt x --temperature nan " + tiny), {"--temperature"});
  expect_refusal(folder.run("text-demo --repeat-batches 0 " + tiny), {"--repeat-batches"});
  expect_refusal(folder.run("text-demo --stop-at-eos true " + tiny), {"--stop-at-eos", "0 or 1"});
  expect_refusal(folder.run("text-demo --prompt-ids 1 --input-prompts f.json " + tiny),
                 {"--prompt-ids", "--input-prompts"});
  expect_refusal(folder.run("inspect --page-params x " + tiny), {"--page-params"});
  expect_refusal(folder.run("text-demo --input-prompts '' " + tiny), {"--input-prompts"});
  const std::string deep(60000, '[');
  expect_refusal(folder.run("text-demo --sampling-params '{\"temperature\": " + deep +
                            std::string(60000, ']') + "}' " + tiny),
                 {"--sampling-params", "a list of 1"});
  expect_refusal(folder.run("text-demo --sampling-params '{\"heat\": 1}' " + tiny),
                 {"--sampling-params", "'heat' is unknown"});
}

// Said before the weights are read: with the arithmetic.
TEST(Program, WhatCannotFitIsRefused) {
  const ProgramFolder folder("fit");
  const std::string tiny = "--model '" + golden("tiny/hf") + "' ";
  expect_refusal(folder.run("generate --prompt x --max-seq-len 131073 " + tiny),
                 {"131073", "131072"});
  expect_refusal(folder.run("generate --prompt-ids 1,2,3 --max-generated-tokens 30 "
                            "--max-seq-len 32 " +
                            tiny),
                 {"3", "30", "32"});
  expect_refusal(
      folder.run("text-demo --prompt-ids 1,2,3 --max-generated-tokens 600 "
                 "--page-params '{\"page_block_size\": 32, \"page_max_num_blocks\": 16}' " +
                 tiny),
      {"user 0", "3", "600", "16 pages", "32"});
  // 256 users of the full context: 80 GiB and more.
  expect_refusal(folder.run("text-demo --prompt-ids 1 --batch-size 256 --page-params "
                            "'{\"page_max_num_blocks\": 4194304}' --compute-dtype f32 " +
                            tiny),
                 {"the run needs", "KV cache", "pages x 64 positions", "available"});
}

// C15, the start: 32 users of 131072 tokens share 2048 pages of 64, which hold 4096 tokens of each.
TEST(Program, C15MoreUsersThanPagesAreServedFromOnePool) {
  const ProgramFolder folder("c15");
  const std::string tiny = "--model '" + golden("tiny/hf") + "' ";
  const std::string start = "text-demo --prompt-ids 1,2,3 --max-generated-tokens 2 " + tiny;
  const Outcome shared = folder.run(start +
                                    "--batch-size 32 --max-seq-len 131072 --page-params "
                                    "'{\"page_block_size\": 64, \"page_max_num_blocks\": 2048}' "
                                    "--output out.json");
  EXPECT_EQ(shared.status, 0) << shared.err;
  const nlohmann::json out = folder.json("out.json");
  EXPECT_EQ(out["settings"]["page_max_num_blocks"], 2048);
  EXPECT_EQ(out["users"].size(), 32);
  // A pool that cannot hold even one user of that length is refused with the arithmetic.
  expect_refusal(folder.run(start + "--batch-size 4 --max-seq-len 2048 --page-params "
                                    "'{\"page_block_size\": 32, \"page_max_num_blocks\": 16}'"),
                 {"2048", "16 pages x 32 positions = 512 tokens"});
  // On the mesh, too, where a column has the pages of its users.
  expect_refusal(folder.run(start + "--mesh 8x4 --batch-size 4 --max-seq-len 2048 --page-params "
                                    "'{\"page_block_size\": 32, \"page_max_num_blocks\": 16}'"),
                 {"2048", "16 pages x 32 positions = 512 tokens"});
}

// Codes of keys and values: the text of a user is the same in any company, and the memory is
// counted.
TEST(Program, KvDtype) {
  const ProgramFolder folder("kv_dtype");
  const std::string tiny = " --model '" + golden("tiny/hf") + "' ";
  for (const std::string dtype : {"int8", "bfp8"}) {
    const std::string numbers = " --kv-dtype " + dtype + tiny;
    const std::string prompt =
        " --prompt-ids 5,900,77,12,3,4,5,6,7 --max-generated-tokens 24 --stop-at-eos 0 --output ";
    ASSERT_EQ(folder.run("generate" + prompt + "one.json" + numbers).status, 0);
    ASSERT_EQ(folder.run("text-demo --batch-size 3" + prompt + "three.json" + numbers).status, 0);
    const auto one = folder.json("one.json");
    const auto three = folder.json("three.json");
    EXPECT_EQ(one["settings"]["kv_dtype"], dtype);
    for (std::size_t user = 0; user < 3; ++user) {
      EXPECT_EQ(three["users"][user]["output_ids"], one["users"][0]["output_ids"]) << dtype;
    }
    // 4 layers with keys and values of 8 heads of 16 dimensions; scales are 2 bytes, or 1.
    const int vector = dtype == "int8" ? 16 + 2 : 16 + 1;
    const Outcome shown = folder.run("inspect --users 2 --max-seq-len 640" + numbers);
    const std::string expected = " in " + dtype + " = 20 pages x 64 positions x " +
                                 std::to_string(4 * 2 * 8 * vector) + " bytes";
    EXPECT_TRUE(contains(shown.out, expected)) << shown.out << " lacks" << expected;
  }
  ASSERT_EQ(
      folder.run("generate --prompt-ids 5 --max-generated-tokens 2 --output a.json" + tiny).status,
      0);
  EXPECT_EQ(folder.json("a.json")["settings"]["kv_dtype"], "bf16");
}

TEST(Program, RopeScalingLengthensTheContext) {
  const ProgramFolder folder("rope");
  const std::string tiny = " --model '" + test::tiny("hf") + "'";
  const Outcome shown = folder.run("inspect --users 1 --rope-scaling linear:2" + tiny);
  EXPECT_TRUE(contains(shown.out, "linear scaling: factor 2\n")) << shown.out;
  expect_refusal(folder.run("inspect --rope-scaling linear:0" + tiny), {"--rope-scaling", "'0'"});
  // A factor of 1 is none; any other gives other answers.
  const std::string ask = "generate --prompt-ids 5,6,7,8,9 --max-generated-tokens 8 --output ";
  const auto ids = [&](const std::string& scaling) {
    EXPECT_EQ(folder.run(ask + "a.json --rope-scaling " + scaling + tiny).status, 0) << scaling;
    return folder.json("a.json")["users"][0]["output_ids"];
  };
  EXPECT_EQ(ids("none"), ids("linear:1"));
  EXPECT_NE(ids("none"), ids("linear:64"));
}

TEST(Program, EnvironmentNamesTheModel) {
  const ProgramFolder folder("environment");
  const std::string call = "generate --prompt-ids 1,2,3 --max-generated-tokens 3";
  EXPECT_EQ(folder.run(call, {}, "env LLAMA_DIR='" + golden("tiny/meta_mp8") + "'").status, 0);
  EXPECT_EQ(folder.run(call, {}, "env HF_MODEL='" + golden("tiny/hf") + "'").status, 0);
  expect_refusal(folder.run(call, {}, "env HF_MODEL=meta-llama/Llama-3.1-70B"),
                 {"$HF_MODEL", "meta-llama/Llama-3.1-70B"});
}

TEST(Program, GenerateGivesTheGoldenIdsInEveryForm) {
  const ProgramFolder folder("generate");
  const auto prompt =
      nlohmann::json::parse(test::read_whole(golden("model_tiny.json")))["prompts"]["33"];
  // One shard: all layers in one file, under Meta's name.
  ASSERT_EQ(folder.run("repack '" + golden("tiny/meta_mp8") + "' one_shard 4").status, 0);
  std::filesystem::rename(folder.file("one_shard/layers_0-3.pth"),
                          folder.file("one_shard/consolidated.00.pth"));
  for (const std::string& form : {std::string("one_shard"), golden("tiny/meta_mp8"),
                                  test::tiny("repacked"), golden("tiny/hf")}) {
    const Outcome run =
        folder.run("generate --model '" + form + "' --prompt-ids " + ids_text(prompt["ids"]) +
                   " --max-generated-tokens 64 --compute-dtype f32 "
                   "--stop-at-eos 0 --output out.json");
    ASSERT_EQ(run.status, 0) << run.err;
    const auto file = folder.json("out.json");
    const auto& user = file["users"][0];
    EXPECT_EQ(user["output_ids"], prompt["greedy_f32"]["hf"]) << form;
    EXPECT_EQ(user["prompt_ids"], prompt["ids"]);
    EXPECT_EQ(user["finish_reason"], "length");
    EXPECT_EQ(user["token_times_s"].size(), 64U);
    EXPECT_EQ(user["ttft_s"], user["token_times_s"][0]);
    EXPECT_EQ(run.out, user["text"].get<std::string>() + "\n");
    EXPECT_EQ(file["settings"]["compute_dtype"], "f32");
  }
}

class CheckpointCases : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<ProgramFolder>("checkpoints");
    const std::string command = "python3 '" TG_SOURCE_DIR "/tests/tools/make_ckpt_cases.py' '" +
                                folder_->file("cases") + "' > /dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
    std::istringstream lines(test::read_whole(folder_->file("cases/expected.tsv")));
    for (std::string line; std::getline(lines, line);) {
      const std::size_t tab = line.find('\t');
      verdicts_[line.substr(0, tab)] = line.substr(tab + 1, line.find('\t', tab + 1) - tab - 1);
    }
  }
  static void TearDownTestSuite() { folder_.reset(); }
  static std::string generate(const std::string& name, int count) {
    const auto expected =
        nlohmann::json::parse(test::read_whole(golden("cases/c44_expected.json")));
    return "generate --compute-dtype f32 --model 'cases/" + name + "' --prompt-ids " +
           ids_text(expected["prompt_ids"]) + " --stop-at-eos 0 --max-generated-tokens " +
           std::to_string(count) + " --output '" + folder_->file("out.json") + "'";
  }
  static std::unique_ptr<ProgramFolder> folder_;
  static std::map<std::string, std::string> verdicts_;
};
std::unique_ptr<ProgramFolder> CheckpointCases::folder_;
std::map<std::string, std::string> CheckpointCases::verdicts_;

// C37 (containers, given as they lie), C39, C46: what is bad is one line with its file and status
// 2, and no answer file; what is good runs.
TEST_F(CheckpointCases, BadFilesAreOneLine) {
  std::size_t refused = 0;
  for (const auto& [name, verdict] : verdicts_) {
    if (verdict != "reject" || name.starts_with("c37")) continue;
    const Outcome outcome = folder_->run(generate(name, 4));
    expect_refusal(outcome, {name});
    EXPECT_FALSE(std::filesystem::exists(folder_->file("out.json"))) << name;
    ++refused;
  }
  EXPECT_EQ(refused, 10U);
  for (const auto& [name, verdict] : verdicts_) {
    if (!name.starts_with("c37")) continue;
    // A container by itself is no checkpoint, but the reader says what is wrong with it.
    expect_refusal(folder_->run("inspect --model 'cases/" + name + "'"), {name});
  }
  for (const auto& [name, verdict] : verdicts_) {
    if (verdict != "reject-under-verify") continue;
    EXPECT_EQ(folder_->run("inspect --model 'cases/" + name + "'").status, 0);
    expect_refusal(folder_->run("inspect --verify --model 'cases/" + name + "'"), {"CRC-32"});
  }
}

TEST_F(CheckpointCases, C44AndC46GiveTheExpectedIds) {
  const auto expected = nlohmann::json::parse(test::read_whole(golden("cases/c44_expected.json")));
  for (const char* name : {"c44_pair/meta", "c44_pair/hf", "c46_dtypes/ok_mixed_norm_f32",
                           "c46_dtypes/ok_all_f32", "c46_dtypes/ok_all_f16"}) {
    const Outcome run = folder_->run(generate(name, 24));
    ASSERT_EQ(run.status, 0) << run.err;
    EXPECT_EQ(folder_->json("out.json")["users"][0]["output_ids"], expected["greedy"]) << name;
    std::filesystem::remove(folder_->file("out.json"));
  }
  for (const char* name : {"c46_dtypes/ok_tied", "c46_dtypes/ok_tied_and_present"}) {
    ASSERT_EQ(folder_->run(generate(name, 12)).status, 0);
    EXPECT_EQ(folder_->json("out.json")["users"][0]["output_ids"],
              expected["tied_greedy_12 (c46_dtypes/ok_tied, ok_tied_and_present)"]);
    std::filesystem::remove(folder_->file("out.json"));
  }
}

// The rest of C50 is in context_fetch_test.cpp and prompts_test.cpp; here is what the user sees.
TEST(Program, C50BadPromptFilesAreOneLine) {
  const ProgramFolder folder("c50");
  const std::map<std::string, std::vector<std::string>> parts = {
      {"context_file_scheme", {"entry 1", "file:///PATH/secret.txt", "only http and https"}},
      {"context_refused", {"entry 1", "http://127.0.0.1:1/never.txt"}},
      {"max_length_zero", {"entry 1", "\"max_length\" is 0"}},
      {"max_length_negative", {"entry 1", "\"max_length\" is -5"}},
      {"max_length_string", {"entry 1", "\"max_length\" is \"12\""}}};
  for (const auto& [name, words] : parts) {
    expect_refusal(
        folder.run("text-demo --output out.json --model '" + golden("tiny/hf") +
                   "' --input-prompts '" + golden("cases/prompts/c50_" + name + ".json") + "'"),
        words);
    EXPECT_FALSE(std::filesystem::exists(folder.file("out.json")));
  }
  expect_refusal(
      folder.run("text-demo --model '" + golden("tiny/hf") + "' --input-prompts no.json"),
      {"no.json"});
}

// Every prompt gives the same text in every repeat and slot, and alone.
TEST(Program, C21ThirtyTwoMixedUsers) {
  const ProgramFolder folder("c21");
  const std::string model = "--model '" + golden("tiny/hf") + "' ";
  const std::string prompts = golden("cases/prompts/c21_mixed_32.json");
  const Outcome run = folder.run("text-demo " + model + "--input-prompts '" + prompts +
                                 "' --batch-size 32 --repeat-batches 4 --max-generated-tokens 24 "
                                 "--output out.json");
  ASSERT_EQ(run.status, 0) << run.err;
  const auto file = folder.json("out.json");
  ASSERT_EQ(file["batches"].size(), 4U);
  std::map<std::string, std::set<std::string>> outputs;  // by prompt
  std::map<std::string, int> count;
  for (std::size_t b = 0; b < 4; ++b) {
    const auto& users = file["batches"][b]["users"];
    ASSERT_EQ(users.size(), 32U);
    // Rotated by one per repeat.
    EXPECT_EQ(users[0]["prompt"], file["batches"][0]["users"][b]["prompt"]);
    for (const auto& user : users) {
      EXPECT_EQ(user["output_ids"].size(), 24U);
      outputs[user["prompt"]].insert(user["output_ids"].dump());
      ++count[user["prompt"]];
    }
  }
  EXPECT_EQ(outputs.size(), 32U);
  for (const auto& [prompt, texts] : outputs) {
    EXPECT_EQ(texts.size(), 1U) << prompt;
    EXPECT_EQ(count[prompt], 4) << prompt;
  }
  // Alone.
  for (const char* kept : {"1", "5"}) {
    const auto list = nlohmann::json::parse(test::read_whole(prompts));
    const auto& entry = list[static_cast<std::size_t>(std::stoi(kept))];
    folder.write("one.json", nlohmann::json::array({entry}).dump());
    ASSERT_EQ(folder
                  .run("text-demo " + model +
                       "--input-prompts one.json --max-generated-tokens 24 --output one_out.json")
                  .status,
              0);
    const auto alone = folder.json("one_out.json")["users"][0];
    EXPECT_TRUE(outputs.at(alone["prompt"]).contains(alone["output_ids"].dump())) << kept;
  }
}

// Eight threads asked for where one CPU is: as fast as one thread, with one warning.
// Threads have stacks of what `ulimit -s` says; some systems give little.
TEST(Program, APromptNeedsNoLargeStack) {
  const ProgramFolder folder("small_stack");
  std::string ids = "1";
  for (int i = 0; i < 200; ++i) ids += ",2";
  const std::string call = "generate --model '" + golden("tiny/hf") + "' --prompt-ids " + ids +
                           " --max-generated-tokens 2 --seed 1";
  const Outcome usual = folder.run(call);
  const Outcome small = folder.run(call, {}, "sh -c 'ulimit -s 512; exec \"$0\" \"$@\"'");
  ASSERT_EQ(small.status, 0) << small.err;
  EXPECT_EQ(small.out, usual.out);
}

TEST(Program, C36MoreThreadsThanCpus) {
  const ProgramFolder folder("c36");
  const std::string call = "generate --model '" + golden("tiny/hf") +
                           "' --prompt-ids 1,2,3 --stop-at-eos 0 --max-generated-tokens 400 "
                           "--threads ";
  double one = 1e9;
  double eight = 1e9;
  for (int i = 0; i < 3; ++i) {  // the best of three: other tests run beside this one
    const Outcome single = folder.run(call + "1", {}, "taskset -c 0");
    const Outcome many = folder.run(call + "8", {}, "taskset -c 0");
    ASSERT_EQ(single.status, 0) << single.err;
    ASSERT_EQ(many.status, 0) << many.err;
    EXPECT_EQ(single.out, many.out);
    EXPECT_TRUE(contains(many.err, "--threads 8: this process may use 1 CPU, so 1 is taken"))
        << many.err;
    std::size_t warnings = 0;
    for (std::size_t at = 0; (at = many.err.find("warning", at)) != std::string::npos; ++at) {
      ++warnings;
    }
    EXPECT_EQ(warnings, 1U);
    one = std::min(one, single.seconds);
    eight = std::min(eight, many.seconds);
  }
  EXPECT_LT(eight, 1.5 * one + 0.1);
}

// The acceptance of C06 that needs a whole program: what ends an answer.
TEST(Program, C06StopIdsOfEachForm) {
  const ProgramFolder folder("c06");
  const auto stop_ids = [&](const std::string& form) {
    const Outcome run = folder.run("inspect --model '" + test::tiny(form) + "'");
    EXPECT_EQ(run.status, 0) << run.err;
    const std::size_t at = run.out.find("stop ids");
    std::istringstream line(run.out.substr(at + 8, run.out.find('\n', at) - at - 8));
    std::vector<int> ids;
    for (int id = 0; line >> id;) ids.push_back(id);
    return ids;
  };
  // 768 + the places of <|end_of_text|>, <|eom_id|> and <|eot_id|>.
  const std::vector<int> all = {769, 776, 777};
  EXPECT_EQ(stop_ids("hf"), all);
  EXPECT_EQ(stop_ids("meta_mp8"), all);
  EXPECT_EQ(stop_ids("repacked"), all);
}

TEST(Program, TextDemoAnswersLikeTheGoldensAndTwiceTheSame) {
  const ProgramFolder folder("demo");
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  const std::string call = "text-demo --model '" + small_model() + "' --input-prompts '" +
                           TG_SOURCE_DIR
                           "/demo/demo.json' --batch-size 4 "
                           "--max-generated-tokens 48 --stop-at-eos 1 --output ";
  const Outcome first = folder.run(call + "first.json");
  const Outcome second = folder.run(call + "second.json --threads 1");
  ASSERT_EQ(first.status, 0) << first.err;
  ASSERT_EQ(second.status, 0) << second.err;
  for (const char* part : {"Encoded prompt lengths:", "# of users: 4", "==USER 3 - OUTPUT", "Paris",
                           "=== Performance metrics ===", "Average Time to First Token (TTFT):",
                           "TTFT per user (ms):", "p95"}) {
    EXPECT_TRUE(contains(first.out, part)) << part;
  }
  const auto a = folder.json("first.json")["users"];
  const auto b = folder.json("second.json")["users"];
  for (std::size_t user = 0; user < 4; ++user) {
    EXPECT_EQ(a[user]["output_ids"], b[user]["output_ids"]) << user;
    EXPECT_FALSE(a[user]["text"].get<std::string>().empty());
    EXPECT_FALSE(contains(a[user]["text"], "<|im_end|>"));
  }
}

TEST(Program, SeedsAreTheOnlyRandomness) {
  const ProgramFolder folder("seeds");
  const auto ids = [&](const std::string& seed) {
    const Outcome run = folder.run("generate --model '" + golden("tiny/hf") +
                                   "' --prompt-ids 1,2,3 --stop-at-eos 0 --max-generated-tokens 16 "
                                   "--temperature 1 --output out.json " +
                                   seed);
    EXPECT_EQ(run.status, 0) << run.err;
    return folder.json("out.json")["users"][0]["output_ids"].dump();
  };
  EXPECT_EQ(ids("--seed 42"), ids("--seed 42"));
  EXPECT_EQ(ids("--seed 0"), ids("--seed 0"));
  EXPECT_NE(ids("--seed 42"), ids("--seed 43"));
  EXPECT_NE(ids(""), ids(""));
}

TEST(Program, OutputFollowsLinksAndSparesWhatIsNoFile) {
  const ProgramFolder folder("output");
  const std::string call =
      "generate --model '" + golden("tiny/hf") + "' --prompt-ids 1,2 --max-generated-tokens 2 ";
  folder.write("target.json", "old");
  std::filesystem::create_symlink(folder.file("target.json"), folder.file("link.json"));
  EXPECT_EQ(folder.run(call + "--output link.json").status, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link.json")));
  EXPECT_EQ(folder.json("target.json")["users"].size(), 1U);
  folder.write("kept.json", "old");
  std::filesystem::permissions(folder.file("kept.json"), std::filesystem::perms::owner_read);
  expect_refusal(folder.run(call + "--output kept.json"), {"kept.json", "read-only"});
  EXPECT_EQ(test::read_whole(folder.file("kept.json")), "old");
  // A pipe gets the text and stays a pipe.
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  const std::string reader = "cat '" + folder.file("pipe") + "' > '" + folder.file("got") + "' &";
  ASSERT_EQ(std::system(reader.c_str()), 0);
  EXPECT_EQ(folder.run(call + "--output pipe").status, 0);
  EXPECT_TRUE(std::filesystem::is_fifo(folder.file("pipe")));
}

TEST(Program, AnAnswerThatDoesNotArriveIsNoSuccess) {
  const ProgramFolder folder("full");
  const std::string call = "--model '" + golden("tiny/hf") + "' --prompt-ids 1,2";
  for (const std::string& command :
       {"generate --max-generated-tokens 2 " + call, std::string("inspect --help"),
        "text-demo --max-generated-tokens 2 " + call}) {
    const Outcome outcome = folder.run(command, {}, {}, "/dev/full");
    EXPECT_EQ(outcome.status, 2) << command;
    EXPECT_TRUE(contains(outcome.err, "stdout cannot be written: No space left")) << outcome.err;
  }
  // Errors that cannot be said keep their status, and the answer file is written all the same.
  EXPECT_EQ(folder.run("dance", {}, {}, "stdout", "/dev/full").status, 2);
  EXPECT_EQ(folder
                .run("generate --max-generated-tokens 2 --output o.json " + call, {}, {}, "stdout",
                     "/dev/full")
                .status,
            0);
  EXPECT_EQ(folder.json("o.json")["users"].size(), 1U);
}

TEST(Program, ModelsUnderOddNames) {
  const ProgramFolder folder("names");
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  std::filesystem::create_symlink(small_model(), folder.file("blob"));
  EXPECT_EQ(folder.run("generate --model blob --prompt Hi --max-generated-tokens 2").status, 0);
  ASSERT_EQ(::mkfifo(folder.file("x.gguf").c_str(), 0600), 0);
  expect_refusal(folder.run("inspect --model x.gguf"), {"x.gguf"});
  // Beside a GGUF file the tokenizer of another form does not count.
  std::filesystem::create_directory(folder.file("mixed"));
  std::filesystem::create_symlink(small_model(), folder.file("mixed/model.gguf"));
  std::filesystem::copy_file(golden("tiny/hf/tokenizer.json"), folder.file("mixed/tokenizer.json"));
  EXPECT_TRUE(
      contains(folder.run("inspect --model mixed").out, "tokenizer         mixed/model.gguf"));
}

TEST(Program, DeepJsonInACheckpointIsRefused) {
  const ProgramFolder folder("deep");
  std::filesystem::copy(golden("tiny/hf"), folder.file("model"));
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  for (const char* text : {"{\"chat_template\": @}", "{\"bos_token\": @}", "@",
                           "{\"chat_template\": [{\"name\": @, \"template\": @}]}"}) {
    std::string config = text;
    for (std::size_t at = 0; (at = config.find('@', at)) != std::string::npos;) {
      config.replace(at, 1, deep);
      at += deep.size();
    }
    folder.write("model/tokenizer_config.json", config);
    const Outcome outcome = folder.run("tokenize --model model --text Hi");
    EXPECT_TRUE(outcome.status == 0 || outcome.status == 2) << outcome.status << text;
  }
}

TEST(Program, PromptsThatAreNoTextAreRefused) {
  const ProgramFolder folder("bytes");
  expect_refusal(
      folder.run("generate --model '" + golden("tiny/hf") + "' --prompt \"$(printf 'a\\377b')\""),
      {"not UTF-8 at byte 1"});
}

TEST(Program, TokenizeThereAndBack) {
  const ProgramFolder folder("tokenize");
  const std::string model = "tokenize --model '" + golden("tiny/tokenizer.model") + "' ";
  const std::string text = "Four score <|eot_id|> \xC3\xA4\n";
  const Outcome ids = folder.run(model, text);
  ASSERT_EQ(ids.status, 0) << ids.err;
  const std::string list = ids.out.substr(0, ids.out.size() - 1);
  EXPECT_EQ(folder.run(model + "--decode " + list).out, text + "\n");
  EXPECT_TRUE(contains(folder.run(model + "--special --pieces", text).out, "<|eot_id|>"));
  EXPECT_FALSE(contains(folder.run(model + "--pieces", text).out, " <|eot_id|>"));
  EXPECT_TRUE(folder.run(model + "--bos --text ''").out.starts_with("768"));
  expect_refusal(folder.run(model + "--decode 5000"), {"5000", "0..1023"});
}

TEST(Program, ChatAnswersLineByLine) {
  const ProgramFolder folder("chat");
  ASSERT_TRUE(std::filesystem::exists(small_model())) << "run `make model`";
  const Outcome run =
      folder.run("chat --temperature 0 --max-generated-tokens 12 --model '" + small_model() + "'",
                 "What is the capital of France?\r\n/reset\r\n\r\n\xff no text\nWhat is the "
                 "capital of France?");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "not UTF-8")) << run.err;
  const std::size_t half = run.out.size() / 2;
  EXPECT_TRUE(contains(run.out, "Paris")) << run.out;
  EXPECT_EQ(run.out.substr(0, half), run.out.substr(half)) << run.out;
}

}  // namespace
}  // namespace tg
