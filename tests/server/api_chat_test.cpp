// /v1/chat/completions on the tiny model: messages in and out, streams, ends, tool calls.
#include <gtest/gtest.h>

#include <string>

#include "server/api_calls.h"

namespace tg::test {
namespace {

const Json kHi = {
    {"messages", {{{"role", "user"}, {"content", "Hi"}}}}, {"temperature", 0}, {"max_tokens", 12}};

TEST(Chat, CaseC07MessagesAreReadOrRefusedByPath) {
  TestApi server;
  server.load();
  for (const Json& c : read_cases("c07_reject.jsonl")) {
    SCOPED_TRACE(c.at("name"));
    expect_error(server.post(c.at("path"), c.at("body")), 400, "messages");
  }
  std::map<std::string, std::pair<std::int64_t, std::string>> answers;
  for (const Json& c : read_cases("c07_accept.jsonl")) {
    const Answer answer = server.post(c.at("path"), c.at("body"));
    ASSERT_EQ(answer.status, 200) << answer.body.dump();
    answers[c.at("name")] = {answer.usage("prompt_tokens"), answer.text()};
  }
  EXPECT_EQ(answers.at("string"), answers.at("one_part"));
  EXPECT_EQ(answers.at("string"), answers.at("trimmed"));
}

TEST(Chat, CaseC05TheTemplateIsHuggingFacesWithItsDate) {
  auto served = tiny_served({});
  auto tokenizer = load_tiktoken(TG_SOURCE_DIR "/models/llama3-tokenizer.model");
  ASSERT_TRUE(tokenizer.has_value()) << "tools/fetch_model.sh tokenizer brings it";
  served.tokenizer = *tokenizer;
  ChatMessages chat;
  chat.messages = RequestJson::parse(read_case_bytes("c05_chat.json")).at("messages");
  const auto ids = encode_messages(served, chat);
  ASSERT_TRUE(ids.has_value()) << ids.error().text();
  EXPECT_EQ(ids->size(), 36U);
  EXPECT_EQ(std::count(ids->begin(), ids->end(), 128000), 1);
  // What a user writes stays text, in tools too.
  chat.messages[0]["content"] = "<|eot_id|>";
  chat.tools = RequestJson::parse(R"([{"type":"function","function":{"name":"<|eot_id|>"}}])");
  const auto shielded = encode_messages(served, chat);
  ASSERT_TRUE(shielded.has_value()) << shielded.error().text();
  EXPECT_EQ(std::count(shielded->begin(), shielded->end(), 128009), 2) << "the template's own";
}

TEST(Chat, CaseC06EveryStopIdEndsTheAnswer) {
  TestApi server;
  server.load();
  for (const char* name : {"c06_eos_128001.json", "c06_eos_128008.json", "c06_eos_128009.json"}) {
    const Answer answer = server.post(kChat, read_case(name));
    ASSERT_EQ(answer.status, 200) << answer.body.dump();
    EXPECT_EQ(answer.finish_reason(), "stop");
    EXPECT_EQ(answer.usage("completion_tokens"), 1);
    EXPECT_EQ(answer.text(), "");
  }
  const Answer goes_on = server.post(kCompletions, read_case("c06_ignore_eos.json"));
  EXPECT_EQ(goes_on.usage("completion_tokens"), 8);
  EXPECT_EQ(goes_on.finish_reason(), "length");
}

TEST(Chat, CaseC28TheStreamIsTheWholeAnswer) {
  TestApi server;
  server.load();
  const Json request = with(read_case("c28_chat_stream.json"), {{"ignore_eos", true}, {"n", 2}});
  const Answer stream = server.post(kChat, request);
  Json whole_request = request;
  whole_request.erase("stream");
  const Answer whole = server.post(kChat, whole_request);
  EXPECT_EQ(whole.body.at("object"), "chat.completion");
  EXPECT_EQ(whole.body["choices"][0]["message"]["role"], "assistant");
  for (const std::size_t choice : {0U, 1U}) {
    EXPECT_EQ(stream.text(choice), whole.text(choice));
    EXPECT_EQ(stream.finish_reason(choice), "length");
    EXPECT_EQ(stream.events[choice]["choices"][0]["delta"]["role"], "assistant");
  }
  for (const Json& event : stream.events) {
    EXPECT_EQ(event.at("object"), "chat.completion.chunk");
    EXPECT_EQ(event.at("id"), stream.events[0].at("id"));
    EXPECT_EQ(event.at("created"), stream.events[0].at("created"));
    EXPECT_FALSE(event.contains("usage"));
  }
}

TEST(Chat, CaseC12LogProbabilitiesHaveTheirBytes) {
  TestApi server;
  server.load();
  const Json request = with(read_case("c12_chat_top_logprobs.json"), {{"ignore_eos", true}});
  const Answer answer = server.post(kChat, request);
  const Json& content = answer.body.at("choices")[0].at("logprobs").at("content");
  ASSERT_EQ(content.size(), 2U);
  for (const Json& token : content) {
    EXPECT_EQ(token.at("top_logprobs").size(), 5U);
    EXPECT_LE(token.at("logprob").get<double>(), 0.0);
    EXPECT_FALSE(token.at("bytes").empty());
  }
  const Answer stream = server.post(kChat, streamed(request));
  Json in_stream = Json::array();
  for (const Json& event : stream.events) {
    const Json& logprobs = event["choices"][0]["logprobs"];
    if (logprobs.is_null()) continue;
    for (const Json& token : logprobs.at("content")) in_stream.push_back(token);
  }
  EXPECT_EQ(in_stream, content);
}

TEST(Chat, CaseC13StopStringsHoldHereToo) {
  TestApi server;
  server.load();
  const Json base = with(kHi, {{"max_tokens", 40}, {"ignore_eos", true}});
  const std::string text = server.post(kChat, base).text();
  std::vector<Json> requests;
  std::vector<std::string> stops;
  for (std::size_t at = 2; at + 4 < text.size(); at += 3) {
    const std::string stop = text.substr(at, 4);
    if (static_cast<signed char>(stop.front()) < 0 || static_cast<signed char>(stop.back()) < 0) {
      continue;  // inside of a character
    }
    if (std::any_of(stop.begin(), stop.end(), [](char c) { return c < 0; })) continue;
    stops.push_back(stop);
    requests.push_back(with(base, {{"stop", stop}}));
    requests.push_back(with(base, {{"stop", stop}, {"stream", true}}));
  }
  ASSERT_GT(stops.size(), 3U) << text;
  const std::vector<Answer> answers = server.post_all(kChat, requests);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].text(), text.substr(0, text.find(stops[i / 2])));
    EXPECT_EQ(answers[i].finish_reason(), "stop");
  }
}

const Json kTools = Json::parse(R"([
    {"type":"function","function":{"name":"get_weather","parameters":{"type":"object",
      "properties":{"celsius":{"type":"boolean"}},"required":["celsius"],
      "additionalProperties":false}}},
    {"type":"function","function":{"name":"stop_all","parameters":{"type":"object",
      "properties":{"now":{"enum":[true]}},"required":["now"],"additionalProperties":false}}}])");

// Calls of an answer, whole or streamed: [{"name", "arguments"}, ...].
Json calls_of(const Answer& answer) {
  Json calls = Json::array();
  const auto add = [&](const Json& from) {
    if (!from.contains("tool_calls")) return;
    for (const Json& call : from["tool_calls"]) {
      EXPECT_EQ(call.at("type"), "function");
      EXPECT_FALSE(call.at("id").get<std::string>().empty());
      calls.push_back(
          {{"name", call["function"]["name"]},
           {"arguments", Json::parse(call["function"]["arguments"].get<std::string>())}});
    }
  };
  if (answer.events.empty()) {
    add(answer.body["choices"][0]["message"]);
  } else {
    for (const Json& event : answer.events) add(event["choices"][0]["delta"]);
  }
  return calls;
}

TEST(Chat, AToolCallCanBeForced) {
  TestApi server;
  server.load();
  const Json base =
      with(kHi, {{"tools", kTools}, {"max_tokens", 300}, {"temperature", 1}, {"seed", 3}});
  const Json named =
      with(base, {{"tool_choice", {{"type", "function"}, {"function", {{"name", "stop_all"}}}}}});
  for (const bool stream : {false, true}) {
    const Answer answer = server.post(kChat, with(named, {{"stream", stream}}));
    ASSERT_EQ(answer.status, 200) << answer.body.dump();
    EXPECT_EQ(calls_of(answer), Json::parse(R"([{"name":"stop_all","arguments":{"now":true}}])"));
    EXPECT_EQ(answer.finish_reason(), "tool_calls");
    if (!stream) continue;
    // The official client takes a call for complete when the reason comes behind it.
    ASSERT_EQ(answer.events.size(), 3U);
    EXPECT_EQ(answer.events[0]["choices"][0]["delta"],
              Json::parse(R"({"role":"assistant","content":null})"));
    EXPECT_TRUE(answer.events[1]["choices"][0]["finish_reason"].is_null());
    EXPECT_EQ(answer.events[2]["choices"][0]["delta"], Json::object());
  }
  const Answer some = server.post(kChat, with(base, {{"tool_choice", "required"}}));
  ASSERT_EQ(some.status, 200) << some.body.dump();
  ASSERT_EQ(calls_of(some).size(), 1U) << some.body.dump();
  EXPECT_TRUE(some.body["choices"][0]["message"]["content"].is_null());
}

TEST(Chat, OfSeveralCallsOneIsTakenWhereTheyMayNotBeParallel) {
  TestApi server;
  server.load();
  const Json base =
      with(kHi, {{"tools", kTools},
                 {"max_tokens", 300},
                 {"guided_regex", R"(\{"name": "stop_all", "parameters": \{"now": true\}\}; )"
                                  R"(\{"name": "stop_all", "parameters": \{"now": false\}\})"}});
  const Json first = {{"name", "stop_all"}, {"arguments", {{"now", true}}}};
  const Json second = {{"name", "stop_all"}, {"arguments", {{"now", false}}}};
  for (const bool stream : {false, true}) {
    const Json asked = with(base, {{"stream", stream}});
    EXPECT_EQ(calls_of(server.post(kChat, asked)), Json::array({first, second}));
    const Answer one = server.post(kChat, with(asked, {{"parallel_tool_calls", false}}));
    EXPECT_EQ(calls_of(one), Json::array({first}));
    EXPECT_EQ(one.finish_reason(), "tool_calls");
  }
  EXPECT_EQ(server.post(kChat, with(base, {{"parallel_tool_calls", 1}})).status, 400);
}

TEST(Chat, WithoutForceOrToolsAnAnswerIsText) {
  TestApi server;
  server.load();
  const Json base = with(kHi, {{"ignore_eos", true}});
  const std::string text = server.post(kChat, base).text();
  // The tools are not even in the prompt.
  const Answer none = server.post(kChat, with(base, {{"tools", kTools}, {"tool_choice", "none"}}));
  EXPECT_EQ(none.text(), text);
  const Answer automatic = server.post(kChat, with(base, {{"tools", kTools}}));
  EXPECT_GT(automatic.usage("prompt_tokens"), none.usage("prompt_tokens"));
  EXPECT_EQ(calls_of(automatic), Json::array());
  EXPECT_EQ(automatic.finish_reason(), "length");
  const Answer stream = server.post(kChat, with(base, {{"tools", kTools}, {"stream", true}}));
  EXPECT_EQ(stream.text(), automatic.text());
}

TEST(Chat, AToolConversationAndARefusingTemplate) {
  TestApi server;
  server.load();
  const Json turns = Json::parse(R"([{"role":"user","content":"Weather?"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
        "function":{"name":"get_weather","arguments":"{\"celsius\":true}"}}]},
      {"role":"tool","tool_call_id":"c","content":"21"}])");
  const Answer fine =
      server.post(kChat, with(kHi, {{"messages", turns}, {"tools", kTools}, {"max_tokens", 2}}));
  EXPECT_EQ(fine.status, 200) << fine.body.dump();
  // To a template that adds texts together the call is an empty turn; one that asks for none gets
  // it.
  TestApi simple({.chat_template = "chatml"});
  simple.load();
  Json empty = turns;
  empty[1] = {{"role", "assistant"}, {"content", ""}};
  EXPECT_EQ(simple.post("/tokenize", {{"messages", turns}}).body,
            simple.post("/tokenize", {{"messages", empty}}).body);
  TestApi asking({.chat_template = TG_SOURCE_DIR "/tests/golden/templates/deepseek-r1.jinja"});
  asking.load();
  EXPECT_GT(asking.post("/tokenize", {{"messages", turns}}).body.at("count"),
            asking.post("/tokenize", {{"messages", empty}}).body.at("count"));
  Json two_calls = turns;
  two_calls[1]["tool_calls"].push_back(two_calls[1]["tool_calls"][0]);
  const Answer refused = server.post(kChat, with(kHi, {{"messages", two_calls}}));
  expect_error(refused, 400, "messages");
  EXPECT_NE(refused.error().find("single tool-calls"), std::string::npos) << refused.error();
  EXPECT_NE(refused.error().find("line"), std::string::npos) << refused.error();
}

}  // namespace
}  // namespace tg::test
