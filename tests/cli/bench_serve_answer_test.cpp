// bench-serve's reading of a stream: events out of bytes, an answer's times out of events.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/load_answer.h"
#include "cli/load_events.h"

namespace tg {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> events_of(std::string_view stream, std::size_t piece) {
  EventReader reader;
  std::vector<std::string> events;
  for (; !stream.empty(); stream.remove_prefix(std::min(piece, stream.size()))) {
    EXPECT_TRUE(reader.push(stream.substr(0, piece), events));
  }
  return events;
}

TEST(BenchServeEvents, AnySplitGivesTheSameEvents) {
  constexpr std::string_view kStream =
      "\xEF\xBB\xBF"
      "data: one\n\n"
      ": a comment\r\nevent: message\r\nid: 5\r\ndata:two\r\n\r\n"
      "data:  three has a space\r\r"
      "data: first\ndata:second\ndata\ndata:\n\n"
      "retry: 10\n\n\n"         // no data: no event
      "database: not ours\n\n"  // another field that only begins so
      "data: \xC3\xA9\xF0\x9F\xA6\x99\n\ndata:[DONE]\n\n"
      "data: cut off";
  for (std::size_t piece = 1; piece <= kStream.size(); ++piece) {
    EXPECT_THAT(events_of(kStream, piece),
                ElementsAre("one", "two", " three has a space", "first\nsecond\n\n",
                            "\xC3\xA9\xF0\x9F\xA6\x99", "[DONE]"))
        << "in pieces of " << piece;
  }
}

TEST(BenchServeEvents, TheRestIsWhatTheEndCutOff) {
  for (const std::string stream : {"data: [DONE]", "data: [DONE]\n", "data: [DONE]\r"}) {
    EventReader reader;
    std::vector<std::string> events;
    ASSERT_TRUE(reader.push(stream, events));
    EXPECT_TRUE(events.empty());
    EXPECT_EQ(reader.rest(), "[DONE]") << stream;
  }
  EventReader reader;
  std::vector<std::string> events;
  ASSERT_TRUE(reader.push("data: x\n\n: bye", events));
  EXPECT_EQ(reader.rest(), std::nullopt);
}

TEST(BenchServeEvents, AnEndlessLineIsRefused) {
  EventReader reader;
  std::vector<std::string> events;
  const std::string part(EventReader::kMostBytes / 4, 'x');
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(reader.push(part, events));
  const Status status = reader.push("x", events);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr(std::to_string(EventReader::kMostBytes)));
}

TEST(BenchServeEvents, TextOfChunks) {
  const auto text = [](const char* data) { return read_answer_chunk(data).value().text; };
  EXPECT_EQ(text(R"({"choices":[{"text":" a","index":0}]})"), " a");
  EXPECT_EQ(text(R"({"choices":[{"text":null}]})"), "");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})"), "");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})"), "");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"content":"b"}}]})"), "b");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]})"), "hm");
  EXPECT_EQ(text(R"({"choices":[{"delta":{"reasoning":"hm"}}]})"), "hm");
  EXPECT_EQ(text(R"({"choices":[],"usage":null})"), "");
  EXPECT_EQ(text(R"({"choices":"none"})"), "");
  EXPECT_TRUE(read_answer_chunk("[DONE]").value().done);
  const auto usage =
      read_answer_chunk(R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}})");
  EXPECT_EQ(usage->prompt_tokens, 7);
  EXPECT_EQ(usage->completion_tokens, 3);
  for (const char* wrong : {"", "{", "[]", "7", "{\"choices\":\xFF}"}) {
    EXPECT_FALSE(read_answer_chunk(wrong)) << wrong;
  }
}

TEST(BenchServeEvents, MessagesOfErrors) {
  EXPECT_EQ(error_message_of(R"({"error":{"message":"no such model","code":404}})"),
            "no such model");
  EXPECT_EQ(error_message_of(R"({"error":"no"})"), "no");
  EXPECT_EQ(error_message_of(R"({"object":"error","message":"too long"})"), "too long");
  EXPECT_EQ(error_message_of(R"({"detail":"Not Found"})"), "Not Found");
  EXPECT_THAT(error_message_of(R"({"detail":[{"msg":"bad"}]})"), HasSubstr("bad"));
  EXPECT_EQ(error_message_of(R"({"message":")" + std::string(400, 'x') + "\"}"),
            std::string(300, 'x') + "...");
  EXPECT_EQ(error_message_of("<html>\n"), "\"<html>?\"");
  EXPECT_EQ(error_message_of(""), "an empty body");
}

std::string text_event(const std::string& text) {
  return R"(data: {"choices":[{"text":")" + text + "\"}]}\n\n";
}
const std::string kRole = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const std::string kUsage =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":5}}\n\n";
const std::string kDone = "data: [DONE]\n\n";

// Sent at 1 s, one push a second from 2 s on, the end at 100 s.
LoadAnswer answer_of(const std::vector<std::string>& pushes, long status = 200,
                     const std::string& broken = {}) {
  AnswerReader reader(1.0, 9);
  double at = 2.0;
  for (const std::string& bytes : pushes) {
    if (!reader.push(at, bytes)) break;
    at += 1.0;
  }
  return reader.finish(100.0, status, broken);
}

TEST(BenchServeAnswer, TimesAreThoseOfText) {
  const LoadAnswer a = answer_of({kRole, text_event("a"), text_event(""), text_event("b"),
                                  text_event("c") + text_event("d"), kUsage, kDone});
  EXPECT_EQ(a.failure, "");
  EXPECT_TRUE(a.completed());
  EXPECT_EQ(a.text, "abcd");
  EXPECT_DOUBLE_EQ(a.ttft_s(), 2.0);  // not the role chunk
  EXPECT_THAT(a.gaps_s, ElementsAre(2.0, 1.0, 0.0));
  EXPECT_DOUBLE_EQ(a.e2el_s(), 5.0);  // neither usage nor [DONE]
  EXPECT_DOUBLE_EQ(a.end_s, 8.0);
  EXPECT_EQ(a.output_tokens, 5);  // as the usage says, not 4 chunks
  EXPECT_DOUBLE_EQ(a.tpot_s().value(), 3.0 / 4.0);
  EXPECT_EQ(a.prompt_tokens, 4);
}

TEST(BenchServeAnswer, OneTokenHasNoTimePerToken) {
  const LoadAnswer a = answer_of({text_event("a"), kDone});
  EXPECT_TRUE(a.completed());
  EXPECT_FALSE(a.has_usage);
  EXPECT_EQ(a.output_tokens, 1);
  EXPECT_EQ(a.prompt_tokens, 9);
  EXPECT_EQ(a.tpot_s(), std::nullopt);
  EXPECT_DOUBLE_EQ(a.e2el_s(), a.ttft_s());
}

TEST(BenchServeAnswer, WhatEndsBadlyHasFailed) {
  const auto failure = [](const std::vector<std::string>& pushes, long status = 200,
                          const std::string& broken = {}) {
    const LoadAnswer a = answer_of(pushes, status, broken);
    EXPECT_EQ(a.completed(), a.failure.empty());
    return a.failure;
  };
  EXPECT_EQ(failure({kUsage, kDone}), "an answer without text");
  EXPECT_THAT(failure({text_event("a"), text_event("b")}), HasSubstr("without [DONE]"));
  EXPECT_EQ(failure({text_event("a")}, 200, "reset"), "reset");
  EXPECT_EQ(failure({R"({"error":{"message":"full"}})"}, 503), "HTTP 503: full");
  EXPECT_EQ(failure({}, 0, "refused"), "refused");
  EXPECT_THAT(failure({R"({"choices":[{"text":"whole"}]})"}), HasSubstr("no event stream"));
  EXPECT_THAT(failure({text_event("a"), "data: {\"error\":{\"message\":\"lost\"}}\n\n", kDone}),
              HasSubstr("lost"));
  EXPECT_THAT(failure({text_event("a"), "data: {\n\n", kDone}), HasSubstr("no JSON object"));
  // The word is what counts, not how the connection ends behind it.
  EXPECT_EQ(failure({text_event("a"), kDone}, 200, "reset"), "");
  EXPECT_EQ(failure({text_event("a"), "data: [DONE]"}), "");
}

TEST(BenchServeAnswer, InterruptedIsNeitherFailedNorCompleted) {
  AnswerReader reader(1.0, 9);
  ASSERT_TRUE(reader.push(2.0, text_event("a")));
  const LoadAnswer a = reader.interrupt(3.0);
  EXPECT_FALSE(a.completed());
  EXPECT_EQ(a.failure, "");
  EXPECT_DOUBLE_EQ(a.end_s, 3.0);
}

}  // namespace
}  // namespace tg
