// Prompt files: what is read, what is refused with which words, and field case C50.
#include "cli/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/http_servers.h"

namespace tg {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

class Prompts : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("tg_prompts_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    path_ = (folder_ / "p.json").string();
    options_.cache_directory = (folder_ / "cache").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  Result<std::vector<PromptEntry>> read(const std::string& json) const {
    std::ofstream(path_, std::ios::binary) << json;
    return read_prompt_file(path_);
  }
  // What is said about a refused file after its name.
  std::string refusal(const std::string& json) const {
    const auto entries = read(json);
    if (entries) return "was read";
    const std::string text = entries.error().text();
    EXPECT_THAT(text, StartsWith(path_ + ": "));
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text.substr(path_.size() + 2);
  }
  // The texts of the users of a file.
  Result<std::vector<std::string>> texts(const std::string& json, bool instruct = true) const {
    TG_ASSIGN(const auto entries, read(json));
    return load_prompts(path_, entries, entries.size(), instruct, options_);
  }

  fs::path folder_;
  std::string path_;
  ContextOptions options_;
};

TEST_F(Prompts, EveryKey) {
  const auto entries = read(R"([
    {"prompt": "a", "context": "c", "max_length": 3, "repeat_to": 10, "comment": "ignored"},
    {"prompt": "b", "context": null, "max_length": null, "repeat_to": null},
    {"prompt": "", "context": "only a context"}])");
  ASSERT_TRUE(entries) << entries.error().text();
  ASSERT_EQ(entries->size(), 3U);
  EXPECT_EQ((*entries)[0].prompt, "a");
  EXPECT_EQ((*entries)[0].context, "c");
  EXPECT_EQ((*entries)[0].max_length, 3);
  EXPECT_EQ((*entries)[0].repeat_to, 10);
  EXPECT_EQ((*entries)[1].context, "");
  EXPECT_FALSE((*entries)[1].max_length);
  EXPECT_FALSE((*entries)[1].repeat_to);
}

TEST_F(Prompts, WhatIsNoListOfPrompts) {
  EXPECT_EQ(refusal(R"({"prompt": "a"})"),
            "holds an object instead of a list of {\"prompt\": ...}");
  EXPECT_EQ(refusal("\"text\""), "holds \"text\" instead of a list of {\"prompt\": ...}");
  EXPECT_EQ(refusal("7"), "holds 7 instead of a list of {\"prompt\": ...}");
  EXPECT_EQ(refusal("[]"), "the list of prompts is empty");
  EXPECT_EQ(refusal(R"(["a"])"), "entry 1: \"a\" instead of an object like {\"prompt\": \"...\"}");
  EXPECT_EQ(refusal(R"([{"prompt": "a"}, [1, 2]])"),
            "entry 2: a list of 2 instead of an object like {\"prompt\": \"...\"}");
}

TEST_F(Prompts, WhatIsNoEntry) {
  EXPECT_EQ(refusal(R"([{"prompt": "a"}, {"context": "b"}])"), "entry 2: has no \"prompt\"");
  EXPECT_EQ(refusal(R"([{"prompt": 7}])"), "entry 1: \"prompt\" is 7, not a text");
  EXPECT_EQ(refusal(R"([{"prompt": null}])"), "entry 1: \"prompt\" is null, not a text");
  EXPECT_EQ(refusal(R"([{"prompt": ["a"]}])"), "entry 1: \"prompt\" is a list of 1, not a text");
  EXPECT_EQ(refusal(R"([{"prompt": ""}])"),
            "entry 1: \"prompt\" is empty and there is no \"context\"");
  EXPECT_EQ(refusal(R"([{"prompt": "a", "context": {}}])"),
            "entry 1: \"context\" is an object, not a text");
  for (const char* bad : {"0", "-5", "1.5", "2.0", "true", "\"12\"", "1e30"}) {
    EXPECT_THAT(
        refusal(fmt::format(R"([{{"prompt": "a", "max_length": {}}}])", bad)),
        testing::AllOf(StartsWith("entry 1: \"max_length\" is "),
                       testing::EndsWith(", not a whole number of characters of 1 or more")))
        << bad;
  }
  EXPECT_EQ(refusal(R"([{"prompt": "a", "max_length": -5}])"),
            "entry 1: \"max_length\" is -5, not a whole number of characters of 1 or more");
  EXPECT_EQ(refusal(R"([{"prompt": "a", "max_length": 18446744073709551615}])"),
            "entry 1: \"max_length\" is 18446744073709551615, more than 9223372036854775807 "
            "characters");
  EXPECT_EQ(refusal(R"([{"prompt": "a", "repeat_to": 16777217}])"),
            "entry 1: \"repeat_to\" is 16777217, more than 16777216 characters");
}

TEST_F(Prompts, WhatIsNoJson) {
  EXPECT_THAT(refusal(""), StartsWith("not JSON: line 1, column 1: "));
  EXPECT_THAT(refusal("[\n {\"prompt\": \"a\"},\n {\"prompt\" \"b\"}\n]"),
              StartsWith("not JSON: line 3, column "));
  EXPECT_THAT(refusal("[{'prompt': 'a'}]"), StartsWith("not JSON: line 1, column 3: "));
  EXPECT_THAT(refusal(R"([{"prompt": "\ud800"}])"), StartsWith("not JSON: line 1, column "));
  EXPECT_THAT(refusal(R"([{"prompt": "a", "max_length": 1e999}])"), StartsWith("not JSON: "));
  EXPECT_EQ(refusal("[\n{\"prompt\": \"a\xFF\"}]"), "line 2: byte 0xFF is not UTF-8");
  EXPECT_EQ(refusal("\xFF\xFE[\0"), "line 1: byte 0xFF is not UTF-8");
  EXPECT_THAT(refusal(std::string(1000000, '[')), StartsWith("not JSON: line 1, column "));
}

TEST_F(Prompts, FilesThatCannotBeRead) {
  const auto missing = read_prompt_file((folder_ / "none.json").string());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().text(),
            (folder_ / "none.json").string() + ": cannot be opened: No such file or directory");
  const auto directory = read_prompt_file(folder_.string());
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().text(),
            folder_.string() + ": is a directory, not a JSON file of prompts");
}

TEST_F(Prompts, UsersAndBatches) {
  // The original's rule: batch i gives user j the prompt (i + j) mod N.
  EXPECT_EQ(entry_of_user(0, 0, 32), 0U);
  EXPECT_EQ(entry_of_user(31, 0, 32), 31U);
  EXPECT_EQ(entry_of_user(31, 1, 32), 0U);
  EXPECT_EQ(entry_of_user(0, 3, 32), 3U);
  EXPECT_EQ(entry_of_user(5, 0, 1), 0U);  // one prompt for everybody
  EXPECT_EQ(entry_of_user(4, 2, 4), 2U);  // the list again
  for (std::size_t entries = 1; entries < 12; ++entries) {
    for (std::size_t users = 1; users < 6; ++users) {
      for (std::size_t repeats = 1; repeats < 4; ++repeats) {
        const std::size_t needed = entries_needed(users, repeats, entries);
        std::size_t most = 0;
        for (std::size_t user = 0; user < users; ++user) {
          for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
            most = std::max(most, entry_of_user(user, repeat, entries));
            // The entries that are not looked at need not be loaded.
            EXPECT_EQ(entry_of_user(user, repeat, needed), entry_of_user(user, repeat, entries));
          }
        }
        EXPECT_EQ(needed, most + 1) << entries << " " << users << " " << repeats;
      }
    }
  }
}

TEST_F(Prompts, ContextAndPromptInOneText) {
  EXPECT_EQ(joined_prompt("c", "p", true), "```c```\n\np");
  EXPECT_EQ(joined_prompt("c", "p", false), "c\n\np");
  EXPECT_EQ(joined_prompt("", "p", true), "p");
  EXPECT_EQ(joined_prompt("{}", "{0}", true), "```{}```\n\n{0}");
}

TEST_F(Prompts, ContextsAreRepeatedAndCut) {
  PromptEntry entry;
  const std::string text = "a\xC3\xA9\xF0\x9F\xA6\x99";  // 1, 2 and 4 bytes
  EXPECT_EQ(shaped_context(text, entry), text);
  entry.max_length = 2;
  EXPECT_EQ(shaped_context(text, entry), "a\xC3\xA9");
  entry.max_length = 3;
  EXPECT_EQ(shaped_context(text, entry), text);
  entry.max_length = std::int64_t{1} << 62;
  EXPECT_EQ(shaped_context(text, entry), text);
  entry.repeat_to = 9;
  entry.max_length.reset();
  EXPECT_EQ(shaped_context(text, entry), text + "\n\n" + text + "\n");
  entry.repeat_to = 8;
  EXPECT_EQ(shaped_context(text, entry), text + "\n\n" + text);
  entry.repeat_to = 2;  // less than there is: nothing to repeat, and cutting is max_length's
  EXPECT_EQ(shaped_context(text, entry), text);
  entry.repeat_to = 100;
  entry.max_length = 4;
  EXPECT_EQ(shaped_context(text, entry), text + "\n");
}

TEST_F(Prompts, ContextsFromFilesLieBesideThePrompts) {
  std::ofstream(folder_ / "book.txt") << "0123456789";
  const auto loaded = texts(R"([{"prompt": "Why?", "context": "book.txt", "max_length": 4},
                                {"prompt": "Hello"},
                                {"prompt": "And?", "context": "a text of its own"}])");
  ASSERT_TRUE(loaded) << loaded.error().text();
  EXPECT_THAT(*loaded, testing::ElementsAre("```0123```\n\nWhy?", "Hello",
                                            "```a text of its own```\n\nAnd?"));
  // An empty context is never silently none.
  std::ofstream(folder_ / "empty.txt");
  EXPECT_EQ(texts(R"([{"prompt": "a"}, {"prompt": "b", "context": "empty.txt"}])").error().text(),
            path_ + ": entry 2: empty.txt: the context is empty");
  EXPECT_THAT(texts(R"([{"prompt": "a", "context": "gone.txt"}])").error().text(),
              StartsWith(path_ + ": entry 1: gone.txt: no such file"));
}

TEST_F(Prompts, EntriesThatNobodyGetsAreNotFetched) {
  const auto entries = read(R"([{"prompt": "a"}, {"prompt": "b", "context": "gone.txt"}])");
  ASSERT_TRUE(entries);
  EXPECT_EQ(load_prompts(path_, *entries, 1, true, options_).value().size(), 1U);
  EXPECT_FALSE(load_prompts(path_, *entries, 2, true, options_));
}

// Case C50: the files of the field cases, with the port of a server of their own.
class PromptsC50 : public Prompts {
 protected:
  std::string input(const std::string& name) const {
    std::ifstream in(TG_SOURCE_DIR "/tests/golden/cases/prompts/c50_" + name + ".json",
                     std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    EXPECT_FALSE(text.empty()) << name;
    for (std::size_t at; (at = text.find("PORT")) != std::string::npos;) {
      text.replace(at, 4, std::to_string(server_.port()));
    }
    return text;
  }
  // The error of a file whose only context cannot be had, after "FILE: entry 1: URL: ".
  std::string failure(const std::string& name, const std::string& url) const {
    const auto loaded = texts(input(name));
    if (loaded) return "was loaded";
    const std::string start = path_ + ": entry 1: " + url + ": ";
    EXPECT_THAT(loaded.error().text(), StartsWith(start));
    EXPECT_FALSE(fs::exists(options_.cache_directory));  // only whole downloads are kept
    return loaded.error().text().substr(start.size());
  }

  ContextServer server_;
};

TEST_F(PromptsC50, ContextsInFrontOfPrompts) {
  std::string start;
  for (int i = 0; i < 2048; ++i) start += static_cast<char>('0' + i % 10);
  const auto chat = texts(input("seed_example"));
  ASSERT_TRUE(chat) << chat.error().text();
  EXPECT_THAT(*chat, testing::ElementsAre("```" + start + "```\n\nWhat is the capital of France?",
                                          "Explain the theory of relativity."));
  const auto base = texts(input("seed_example"), /*instruct=*/false);
  ASSERT_TRUE(base) << base.error().text();
  EXPECT_EQ((*base)[0], start + "\n\nWhat is the capital of France?");

  const auto llamas = texts(input("clip_utf8"), /*instruct=*/false);
  ASSERT_TRUE(llamas) << llamas.error().text();
  EXPECT_EQ((*llamas)[0], "\xF0\x9F\xA6\x99\xF0\x9F\xA6\x99\xF0\x9F\xA6\x99\n\nSummarise.");

  const auto whole = texts(input("max_length_huge"), /*instruct=*/false);
  ASSERT_TRUE(whole) << whole.error().text();
  EXPECT_EQ((*whole)[0].size(), 4000U + 12U);

  // Four files, two URLs, and each was asked for once.
  options_.cache_directory.clear();
  const std::string hits = fetch_context(server_.url("/hits"), options_).value();
  EXPECT_THAT(hits, HasSubstr("\"/context.txt\": 1"));
  EXPECT_THAT(hits, HasSubstr("\"/emoji.txt\": 1"));
}

TEST_F(PromptsC50, ByteOrderMarkAndCrLf) {
  const std::string text = input("bom_crlf");
  ASSERT_THAT(text, StartsWith("\xEF\xBB\xBF"));
  ASSERT_THAT(text, HasSubstr("\r\n"));
  EXPECT_THAT(texts(text).value(), testing::ElementsAre("Say hello."));
}

TEST_F(PromptsC50, LengthsThatAreNone) {
  const std::string tail = ", not a whole number of characters of 1 or more";
  EXPECT_EQ(refusal(input("max_length_zero")), "entry 1: \"max_length\" is 0" + tail);
  EXPECT_EQ(refusal(input("max_length_negative")), "entry 1: \"max_length\" is -5" + tail);
  EXPECT_EQ(refusal(input("max_length_string")), "entry 1: \"max_length\" is \"12\"" + tail);
}

TEST_F(PromptsC50, ContextsThatCannotBeHad) {
  EXPECT_EQ(failure("context_404", server_.url("/missing.txt")), "the server answers 404");
  EXPECT_THAT(failure("context_refused", "http://127.0.0.1:1/never.txt"),
              HasSubstr("Failed to connect to 127.0.0.1 port 1"));
  EXPECT_EQ(failure("context_endless", server_.url("/endless")), "more than 16777216 bytes");
  EXPECT_EQ(failure("context_redirect_loop", server_.url("/loop")), "more than 5 redirects");
  EXPECT_EQ(failure("context_file_scheme", "file:///PATH/secret.txt"),
            "scheme 'file' is not allowed, only http and https");
  EXPECT_EQ(ContextOptions{}.timeout_s, 30.0);
  options_.timeout_s = 0.3;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(failure("context_slow", server_.url("/slow")), StartsWith("not complete after 0."));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_F(PromptsC50, ARedirectToALinkLocalAddress) {
  const std::string url = server_.url("/to-meta");
  EXPECT_EQ(texts(R"([{"prompt": "a", "context": ")" + url + "\"}]").error().text(),
            path_ + ": entry 1: " + url +
                ": http://169.254.169.254/ is a link-local address, which is not allowed");
}

}  // namespace
}  // namespace tg
