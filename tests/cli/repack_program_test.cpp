// Case C43 from the field and its relatives: llama-tg repack as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <thread>
#include <vector>

#include "program.h"

namespace tg {
namespace {

namespace fs = std::filesystem;
using test::golden;
using test::Outcome;
using test::ProgramFolder;
using test::small_model;
using testing::AllOf;
using testing::HasSubstr;

const std::string kShards = golden("tiny/meta_mp8");

void expect_success(const Outcome& outcome, const std::string& part) {
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr(part));
}

void expect_plain_refusal(const Outcome& outcome, const std::string& part) {
  EXPECT_EQ(outcome.status, 2) << outcome.out;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(testing::StartsWith("llama-tg: error: "), HasSubstr(part)));
}

struct FileState {
  std::string bytes;
  ino_t inode = 0;
  std::int64_t changed_ns = 0;
  bool operator==(const FileState&) const = default;
};

std::map<std::string, FileState> state_of(const std::string& directory) {
  std::map<std::string, FileState> out;
  for (const auto& entry : fs::directory_iterator(directory)) {
    struct stat s{};
    EXPECT_EQ(::stat(entry.path().c_str(), &s), 0);
    out[entry.path().filename()] = {test::read_whole(entry.path()), s.st_ino,
                                    s.st_mtim.tv_sec * 1'000'000'000 + s.st_mtim.tv_nsec};
  }
  return out;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& [name, state] : state_of(directory)) names.push_back(name);
  return names;
}

TEST(RepackProgram, TheDefaultIsTenLayersAndASecondRunChangesNothing) {
  const ProgramFolder folder("repack");
  expect_success(folder.run("repack " + kShards + " out"), "39 tensors of 4 layers");
  const auto first = state_of(folder.file("out"));
  EXPECT_EQ(names_in(folder.file("out")),
            (std::vector<std::string>{"layers_0-3.pth", "params.json", "tokenizer.model"}));
  const Outcome again = folder.run("repack " + kShards + " out --chunk-size 10 --verify");
  expect_success(again, "0 written, 1 were there");
  EXPECT_THAT(again.out, HasSubstr("verified: 39 tensors, 2394368 values equal"));
  EXPECT_EQ(state_of(folder.file("out")), first);
}

TEST(RepackProgram, TheSourcesOwnDirectoryHalfFinishedTwice) {
  const ProgramFolder folder("repack_same");
  fs::copy(kShards, folder.file("model"), fs::copy_options::recursive);
  const auto before = state_of(folder.file("model"));
  expect_success(folder.run("repack model model 3"), "2 files; 2 written");
  auto after = state_of(folder.file("model"));
  EXPECT_EQ(after.size(), before.size() + 2);
  for (const auto& [name, state] : before) EXPECT_EQ(after[name], state) << name;
  // Half finished: a reader would take the repacked files, of which one is missing.
  fs::remove(folder.file("model/layers_0-2.pth"));
  expect_success(folder.run("repack model ./model/../model 3"), "1 written, 1 were there");
  EXPECT_EQ(state_of(folder.file("model"))["layers_0-2.pth"].bytes, after["layers_0-2.pth"].bytes);
  EXPECT_EQ(state_of(folder.file("model"))["layers_3-3.pth"], after["layers_3-3.pth"]);
  expect_plain_refusal(folder.run("repack model model --to safetensors"), "another directory");
  // Without the shards there is nothing to read but the own output.
  for (int i = 0; i < 8; ++i) {
    fs::remove(folder.file("model/consolidated.0" + std::to_string(i) + ".pth"));
  }
  expect_plain_refusal(folder.run("repack model model 3"), "is in the repacked form already");
}

TEST(RepackProgram, WrongAsksAreRefusedBeforeAnythingIsMade) {
  const ProgramFolder folder("repack_refusals");
  const std::string ask = "repack " + kShards + " out ";
  expect_plain_refusal(folder.run(ask + "0"), "'0': need a whole number in 1..");
  expect_plain_refusal(folder.run(ask + "--chunk-size 0"), "--chunk-size");
  expect_plain_refusal(folder.run(ask + "-1"), "-1");
  expect_plain_refusal(folder.run(ask + "2 --chunk-size 3"), "as 2 and as 3");
  expect_plain_refusal(folder.run(ask + "-n 80"),
                       "80 is given, the checkpoint's number of layers is 4");
  expect_plain_refusal(folder.run(ask + "--hidden-size 8192"),
                       "8192 is given, the checkpoint's hidden size is 256");
  expect_plain_refusal(folder.run(ask + "--to gguf"), "gguf");
  expect_plain_refusal(folder.run("repack nowhere out"), "nowhere: no such file");
  expect_plain_refusal(folder.run("repack " + kShards), "out");
  EXPECT_FALSE(fs::exists(folder.file("out")));
  folder.write("file", "x");
  expect_plain_refusal(folder.run("repack " + kShards + " file"), "file: is no directory");
  expect_success(folder.run(ask + "1000 --num_layers 4 --hidden_size 256"), "in 1 files");
  expect_plain_refusal(folder.run(ask + "3"), "layers_0-3.pth; remove them");
}

TEST(RepackProgram, AMissingTokenizerIsNamedAndMissingParamsAreAnError) {
  const ProgramFolder folder("repack_missing");
  fs::copy(kShards, folder.file("model"), fs::copy_options::recursive);
  fs::remove(folder.file("model/tokenizer.model"));
  const Outcome outcome = folder.run("repack model out");
  expect_success(outcome, "1 written");
  EXPECT_THAT(outcome.err, HasSubstr("model: no tokenizer.model there"));
  EXPECT_TRUE(fs::exists(folder.file("out/params.json")));
  fs::remove(folder.file("model/params.json"));
  expect_plain_refusal(folder.run("repack model out2"), "model/params.json: no such file");
  EXPECT_FALSE(fs::exists(folder.file("out2")));
  // OUT lost its small files: they come back, and the large one stays.
  const auto large = state_of(folder.file("out"))["layers_0-3.pth"];
  fs::remove(folder.file("out/params.json"));
  expect_success(folder.run("repack " + kShards + " out"), "0 written, 1 were there");
  EXPECT_EQ(state_of(folder.file("out"))["layers_0-3.pth"], large);
  EXPECT_EQ(names_in(folder.file("out")),
            (std::vector<std::string>{"layers_0-3.pth", "params.json", "tokenizer.model"}));
}

// The first file fits the limit and the second does not, or neither does.
TEST(RepackProgram, AFileThatCannotGrowIsAnErrorAndLeavesNothing) {
  const ProgramFolder folder("repack_limit");
  const auto limited = [&](int mib) {
    return folder.run("repack " + kShards + " out 3", {},
                      "bash -c 'ulimit -f " + std::to_string(mib * 1024) + "; exec \"$@\"' bash");
  };
  expect_plain_refusal(limited(1), "out/layers_0-2.pth: cannot be written after");
  EXPECT_EQ(names_in(folder.file("out")),
            (std::vector<std::string>{"params.json", "tokenizer.model"}));
  expect_success(limited(8), "2 written");
}

TEST(RepackProgram, TheSameGreedyAnswerAndProbabilitiesBeforeAndAfter) {
  const ProgramFolder folder("repack_greedy");
  expect_success(folder.run("repack " + kShards + " out 3"), "2 written");
  expect_success(folder.run("repack " + kShards + " hf 3 --to safetensors"), "2 written");
  expect_success(folder.run("repack hf from_hf 1"), "4 written");
  nlohmann::json before;
  for (const std::string& model :
       {kShards, std::string("out"), std::string("hf"), std::string("from_hf")}) {
    const Outcome outcome = folder.run("generate --model " + model +
                                       " --prompt-ids 5,77,300,12 --max-generated-tokens 24 "
                                       "--stop-at-eos 0 --logprobs 3 --threads 1 --output a.json");
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const nlohmann::json answer = folder.json("a.json").at("users").at(0);
    if (before.is_null()) before = answer;
    EXPECT_EQ(answer.at("output_ids"), before.at("output_ids")) << model;
    EXPECT_EQ(answer.at("logprobs"), before.at("logprobs")) << model;
  }
}

// 326 MB go through in one file while the process may have 16 MiB of memory of its own, that of the
// libraries included (mapped files do not count).
TEST(RepackProgram, MemoryStaysSmall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer needs more";
#endif
  const ProgramFolder folder("repack_memory");
  const Outcome outcome = folder.run("repack " + small_model() + " out 1000 --verify", {},
                                     "bash -c 'ulimit -d 16384; exec \"$@\"' bash");
  expect_success(outcome, "273 tensors of 30 layers, 310.7 MiB in 1 files; 1 written");
  EXPECT_THAT(outcome.out, HasSubstr("verified: 273 tensors, 162826560 values equal"));
}

TEST(RepackProgram, ASignalLeavesWholeFilesAndTheNextRunGoesOn) {
  const ProgramFolder folder("repack_signal");
  folder.write("empty", "");
  std::atomic<bool> ended = false;
  // Ends the program as soon as its first file is there; 29 are to come then.
  std::thread watcher([&] {
    while (!ended && !fs::exists(folder.file("out/layers_0-0.pth"))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const std::string pid = test::read_whole(folder.file("pid"));
    if (!ended && !pid.empty()) ::kill(std::stoi(pid), SIGTERM);
  });
  const std::string ask = "repack " + small_model() + " out 1";
  const Outcome stopped = folder.run(ask, {}, "bash -c 'echo $$ > pid; exec \"$@\"' bash");
  ended = true;
  watcher.join();
  EXPECT_EQ(stopped.status, 128 + SIGTERM) << stopped.out;
  EXPECT_THAT(stopped.err, HasSubstr("ended by signal 15"));
  const auto first = state_of(folder.file("out"));
  EXPECT_LT(first.size(), 31U);
  for (const auto& [name, state] : first) EXPECT_FALSE(name.starts_with(".")) << name;
  expect_success(folder.run(ask + " --verify"), "values equal");
  const auto second = state_of(folder.file("out"));
  EXPECT_EQ(second.size(), 31U);
  for (const auto& [name, state] : first) EXPECT_EQ(second.at(name), state) << name;
}

}  // namespace
}  // namespace tg
