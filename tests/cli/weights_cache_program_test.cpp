// --weights-cache as a user meets it: what it writes and says, that answers stay the same, and that
// nothing about it can stop a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cli/weights_cache_option.h"
#include "kernels/kernel_table.h"
#include "program.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

using test::contains;
using test::expect_refusal;
using test::golden;
using test::Outcome;
using test::ProgramFolder;

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().string());
  return names;
}

class WeightsCacheProgram : public testing::Test {
 protected:
  Outcome generate(const std::string& options, const std::string& prefix = {}) {
    const Outcome outcome = folder_.run(
        "generate --model model --prompt-ids 1,2,3 --max-generated-tokens 8 "
        "--stop-at-eos 0 --seed 1 " +
            options,
        {}, prefix);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    if (answer_.empty()) answer_ = outcome.out;
    EXPECT_EQ(outcome.out, answer_);
    return outcome;
  }
  WeightsCacheProgram() { fs::copy(golden("tiny/hf"), folder_.file("model")); }
  void change_last_byte(const std::string& path) {
    std::string bytes = test::read_whole(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
  }

  ProgramFolder folder_{"weights_cache"};
  std::string answer_;
};

TEST_F(WeightsCacheProgram, WrittenOnceThenMapped) {
  EXPECT_FALSE(contains(generate("").err, "cache"));
  EXPECT_TRUE(contains(generate("--weights-cache made/cache").err, "weights cache: wrote"));
  ASSERT_EQ(files_in(folder_.file("made/cache")).size(), 1U);
  EXPECT_TRUE(contains(generate("--weights-cache made/cache").err, "weights cache: mapped"));
  // By the environment, which the option overrules.
  const std::string by_environment = "env LLAMA_TG_CACHE=made/cache";
  EXPECT_TRUE(contains(generate("", by_environment).err, "weights cache: mapped"));
  EXPECT_FALSE(contains(generate("--weights-cache off", by_environment).err, "cache"));
  // Other formats, kernels and meshes have files of their own.
  folder_.run(
      "generate --model model --prompt-ids 1 --weights-dtype int8 --weights-cache made/cache "
      "--max-generated-tokens 1");
  folder_.run(
      "generate --model model --prompt-ids 1 --mesh 2x2 --weights-cache made/cache "
      "--max-generated-tokens 1");
  folder_.run(
      "generate --model model --prompt-ids 1 --weights-dtype bf16 --compute-dtype f32 "
      "--weights-cache made/cache --max-generated-tokens 1");
  folder_.run(
      "generate --model model --prompt-ids 1 --weights-dtype bf16 --weights-cache made/cache "
      "--max-generated-tokens 1");
  const std::size_t orders = available_kernels()[0]->order == WeightOrder::kRows ? 2 : 1;
  EXPECT_EQ(files_in(folder_.file("made/cache")).size(), 3U + orders);
}

TEST_F(WeightsCacheProgram, WhatDoesNotFitIsMadeAnew) {
  expect_refusal(folder_.run("inspect --model model --weights-cache cache --verify-cache"),
                 {"cache/model-"});
  generate("--weights-cache cache");
  const std::string path = files_in(folder_.file("cache")).at(0);
  const std::string inspect = "inspect --model model --weights-cache cache --verify-cache";
  EXPECT_TRUE(contains(folder_.run(inspect).out, "every byte verified"));

  fs::resize_file(path, fs::file_size(path) - 100);
  Outcome outcome = generate("--weights-cache cache");
  EXPECT_TRUE(contains(outcome.err, "not used, since")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "wrote")) << outcome.err;

  // The checkpoint changed in place: the old file goes.
  const fs::path config = folder_.file("model/model-00001-of-00003.safetensors");
  fs::last_write_time(config, fs::last_write_time(config) + std::chrono::seconds(1));
  const Outcome looked = folder_.run("inspect --model model --weights-cache cache");
  EXPECT_EQ(looked.status, 0) << looked.err;
  EXPECT_TRUE(contains(looked.out, "not used by a start")) << looked.out;
  const Outcome random = folder_.run("inspect --weights random --arch tiny --weights-cache cache");
  EXPECT_EQ(random.status, 0) << random.err;
  EXPECT_TRUE(contains(random.out, "come from no file")) << random.out;
  outcome = generate("--weights-cache cache");
  EXPECT_TRUE(contains(outcome.err, "for a file that was changed")) << outcome.err;
  EXPECT_EQ(files_in(folder_.file("cache")).size(), 1U);
  EXPECT_TRUE(contains(generate("--weights-cache cache").err, "mapped"));

  // Damage inside is for --verify-cache to find.
  change_last_byte(path);
  expect_refusal(folder_.run(inspect), {"CRC-32", "delete the file"});
  expect_refusal(folder_.run("inspect --model model --verify-cache"), {"--weights-cache"});
}

TEST_F(WeightsCacheProgram, AFolderThatCannotBeWrittenIsAWarning) {
  folder_.write("file", "not a folder");
  for (const char* place : {"file", "file/below", "/proc/nowhere"}) {
    const Outcome outcome = generate(std::string("--weights-cache ") + place);
    EXPECT_TRUE(contains(outcome.err, "warning")) << outcome.err;
  }
  // What a full disk says too: the file may not become as large.
  fs::create_directory(folder_.file("limited"));
  const Outcome outcome = generate("--weights-cache limited",
                                   "sh -c 'ulimit -f 8; trap \"\" XFSZ; exec \"$0\" \"$@\"'");
  EXPECT_TRUE(contains(outcome.err, "not written")) << outcome.err;
  EXPECT_TRUE(files_in(folder_.file("limited")).empty());
}

TEST(WeightsCacheFolder, OptionThenEnvironment) {
  std::map<std::string, std::string> variables;
  const Environment environment = [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  EXPECT_EQ(*weights_cache_folder("", environment), "");
  EXPECT_EQ(*weights_cache_folder("/here", environment), "/here");
  EXPECT_FALSE(weights_cache_folder("auto", environment));
  variables["HOME"] = "/home/me";
  EXPECT_EQ(*weights_cache_folder("auto", environment), "/home/me/.cache/llama-tg");
  variables["XDG_CACHE_HOME"] = "/cache";
  EXPECT_EQ(*weights_cache_folder("auto", environment), "/cache/llama-tg");
  variables["LLAMA_TG_CACHE"] = "auto";
  EXPECT_EQ(*weights_cache_folder("", environment), "/cache/llama-tg");
  EXPECT_EQ(*weights_cache_folder("off", environment), "");
}

}  // namespace
}  // namespace tg
