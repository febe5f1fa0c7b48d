// Test helper: runs the built program as a user would and gives back what it wrote.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tg::test {

inline std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
  double seconds = 0.0;
};

// A folder of the test's own, which is also the program's current directory.
class ProgramFolder {
 public:
  explicit ProgramFolder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              ("tg_" + name + "_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~ProgramFolder() { std::filesystem::remove_all(path_); }
  ProgramFolder(const ProgramFolder&) = delete;
  ProgramFolder& operator=(const ProgramFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }

  // `arguments` are a shell's words behind "llama-tg"; `prefix` stands in front of it.
  // stdout and stderr go to `out` and `err`.
  Outcome run(const std::string& arguments, const std::string& input = {},
              const std::string& prefix = {}, const std::string& out = "stdout",
              const std::string& err = "stderr") const {
    write("stdin", input);
    const std::string command = "cd '" + path_.string() +
                                "' && env -u LLAMA_DIR -u HF_MODEL -u LLAMA_TG_CACHE timeout 120 " +
                                prefix + " '" + TG_BINARY_DIR "/src/llama-tg' " + arguments +
                                " < stdin > " + out + " 2> " + err;
    const auto begin = std::chrono::steady_clock::now();
    const int status = std::system(command.c_str());
    Outcome outcome;
    outcome.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (out == "stdout") outcome.out = read_whole(file(out));
    if (err == "stderr") outcome.err = read_whole(file(err));
    return outcome;
  }

  nlohmann::json json(const std::string& name) const {
    return nlohmann::json::parse(read_whole(file(name)));
  }

 private:
  std::filesystem::path path_;
};

inline std::string golden(const std::string& name) {
  return std::string(TG_SOURCE_DIR) + "/tests/golden/" + name;
}
// The tiny model in one of its four forms (tests/tools/make_tiny_forms.py).
inline std::string tiny(const std::string& form) {
  return std::string(TG_BINARY_DIR) + "/tiny/" + form;
}
inline std::string small_model() {
  return std::string(TG_SOURCE_DIR) + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// A refusal: status 2, one line on stderr with all the parts, nothing on stdout.
inline void expect_refusal(const Outcome& outcome, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("llama-tg: error: ")) << outcome.err;
  for (const std::string& part : parts) {
    EXPECT_TRUE(contains(outcome.err, part)) << "'" << part << "' is not in " << outcome.err;
  }
}

inline std::string ids_text(const nlohmann::json& ids) {
  std::string text;
  for (const auto& id : ids) text += (text.empty() ? "" : ",") + std::to_string(id.get<int>());
  return text;
}

}  // namespace tg::test
