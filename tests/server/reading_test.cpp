// What bodies are understood and refused, without a model: bytes, depth, fields and ranges; and the
// small parts that answers are made with.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "server/api_error.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/json_request.h"
#include "server/json_text.h"
#include "server/stop_texts.h"
#include "server/tool_calls.h"
#include "text/utf8.h"

namespace tg {
namespace {

using Json = nlohmann::json;

Result<CompletionRequest> read_completion(const std::string& body) {
  TG_ASSIGN(const RequestJson json, parse_request_json(body));
  return read_completion_request(json, SamplingParams());
}
Result<ChatRequest> read_chat(const std::string& body) {
  TG_ASSIGN(const RequestJson json, parse_request_json(body));
  return read_chat_request(json, SamplingParams());
}
// A completion with these fields beside the prompt.
Result<CompletionRequest> with_fields(const std::string& fields) {
  return read_completion(R"({"prompt":"Hi",)" + fields + "}");
}

TEST(JsonText, EscapesWhatJsonMustAndReplacesWhatIsNoText) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xC3\xA9\xE2\x80\xA8\xF0\x9F\x98\xB8";
  EXPECT_EQ(Json::parse(json_string(all)).get<std::string>(), all);
  EXPECT_EQ(json_string(all).find('\n'), std::string::npos);
  EXPECT_EQ(json_string("a\xFF\xE2\x98z\xE2\x98"), "\"a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD\"");
  std::string numbers;
  append_json_number(numbers, -0.1F, -9999.0F);
  numbers += ' ';
  append_json_number(numbers, -INFINITY, -9999.0F);
  numbers += ' ';
  append_json_number(numbers, NAN, -9999.0F);
  EXPECT_EQ(numbers, "-0.1 -9999 -9999");
}

TEST(RequestJson, RefusesWithThePlaceAndWithoutTheBytes) {
  const auto deep = [](int levels) {
    return std::string("{\"a\":") + std::string(static_cast<std::size_t>(levels), '[') +
           std::string(static_cast<std::size_t>(levels), ']') + "}";
  };
  EXPECT_TRUE(parse_request_json(deep(kMostJsonDepth - 1)).has_value());
  EXPECT_NE(parse_request_json(deep(kMostJsonDepth)).error().message.find("64 levels"),
            std::string::npos);
  EXPECT_FALSE(parse_request_json(std::string(1 << 20, '[')).has_value());
  EXPECT_TRUE(parse_request_json("\xEF\xBB\xBF {\"a\":1}\r\n").has_value());
  EXPECT_EQ(parse_request_json("{\"a\":1,}").error().message,
            "the body is not JSON: it fails at byte 8 of 8");
  EXPECT_EQ(parse_request_json("{\"a\":\"x\xFFy\"}").error().message,
            "the body is not UTF-8 at byte 7");
  EXPECT_EQ(parse_request_json("[1,2]").error().message,
            "the body is a list of 2, not a JSON object");
  // Keys keep their order: a template shows it.
  EXPECT_EQ(parse_request_json(R"({"b":1,"a":{"z":2,"y":3}})")->dump(),
            R"({"b":1,"a":{"z":2,"y":3}})");
}

TEST(RequestJson, AMillionKeysAreReadInLinearTime) {
  std::string body = "{";
  for (int i = 0; i < 1000000; ++i) {
    if (i > 0) body += ',';
    body += '"' + std::to_string(i) + "\":1";
  }
  body += "}";
  const auto begin = std::chrono::steady_clock::now();
  const auto read = parse_request_json(body);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->size(), 1000000U);
  // A fraction of a second; looking keys up among those before would take an hour.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(CompletionRequest, ReadsEveryField) {
  const auto read = with_fields(
      R"("model":"m","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"seed":-3,"n":4,
         "presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.1,"max_tokens":7,
         "min_tokens":2,"ignore_eos":true,"stop":["a","b","c","d","e"],"stop_token_ids":[5],
         "include_stop_str_in_output":true,"skip_special_tokens":false,"priority":-2,
         "logit_bias":{"17":-100,"5":1.5},"logprobs":3,"echo":true,"best_of":4,"suffix":"",
         "stream":true,"stream_options":{"include_usage":true},"user":"u","unknown":{"x":[1]})");
  ASSERT_TRUE(read.has_value()) << read.error().text();
  const AnswerRequest& a = read->answer;
  EXPECT_EQ(a.model, "m");
  EXPECT_EQ(a.sampling.temperature, 0.5);
  EXPECT_EQ(a.sampling.top_p, 0.9);
  EXPECT_EQ(a.sampling.top_k, 40);
  EXPECT_EQ(a.sampling.min_p, 0.05);
  EXPECT_EQ(a.seed, static_cast<std::uint64_t>(-3));
  EXPECT_EQ(a.choices, 4);
  EXPECT_EQ(a.sampling.presence_penalty, 1.0);
  EXPECT_EQ(a.sampling.frequency_penalty, -1.0);
  EXPECT_EQ(a.sampling.repetition_penalty, 1.1);
  EXPECT_EQ(a.max_tokens, 7);
  EXPECT_EQ(a.min_tokens, 2);
  EXPECT_TRUE(a.ignore_eos && a.keeps_stop_text && !a.skip_special);
  EXPECT_EQ(a.stop.size(), 5U);
  EXPECT_EQ(a.stop_token_ids, std::vector<TokenId>{5});
  EXPECT_EQ(a.priority, -2);
  EXPECT_EQ(a.sampling.logit_bias, (std::vector<std::pair<TokenId, float>>{{17, -100}, {5, 1.5}}));
  EXPECT_EQ(a.sampling.top_logprobs, 3);
  EXPECT_TRUE(read->echo && a.stream && a.include_usage);
  EXPECT_EQ(with_fields(R"("logprobs":true)")->answer.sampling.top_logprobs, 0);
  EXPECT_EQ(with_fields(R"("max_tokens":null)")->answer.max_tokens, std::nullopt);
}

// JSON has one kind of number, and some clients have too.
TEST(CompletionRequest, WholeNumbersMayBeSpelledWithAPoint) {
  const auto read = read_completion(
      R"({"prompt":[1.0,2e0],"max_tokens":16.0,"seed":1e18,"top_k":-1.0,"n":2.00,"logprobs":5.0,
          "stop_token_ids":[7.0]})");
  ASSERT_TRUE(read.has_value()) << read.error().text();
  EXPECT_EQ(std::get<1>(read->prompts[0]), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(read->answer.max_tokens, 16);
  EXPECT_EQ(read->answer.seed, 1000000000000000000U);
  EXPECT_EQ(read->answer.sampling.top_k, -1);
  EXPECT_EQ(read->answer.choices, 2);
  EXPECT_EQ(read->answer.sampling.top_logprobs, 5);
  EXPECT_EQ(read->answer.stop_token_ids, std::vector<TokenId>{7});
  for (const double none : {0x1p63, -0x1p63, 1e300, -1e19, 0.5, 1e-300}) {
    EXPECT_EQ(whole_number(RequestJson(none)), std::nullopt) << none;
  }
}

TEST(CompletionRequest, RefusesByField) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {R"("temperature":2.5)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("min_p":-0.1)", "min_p"},
      {R"("presence_penalty":3)", "presence_penalty"},
      {R"("frequency_penalty":-3)", "frequency_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("seed":1.5)", "seed"},
      {R"("n":0)", "n"},
      {R"("n":129)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":36893488147419103232)", "max_tokens"},
      {R"("min_tokens":9,"max_tokens":8)", "min_tokens"},
      {R"("stop":"")", "stop"},
      {R"("stop":["a",""])", "stop"},
      {R"("stop":[1])", "stop"},
      {R"("stop_token_ids":["a"])", "stop_token_ids"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logprobs":21)", "logprobs"},
      {R"("echo":"yes")", "echo"},
      {R"("best_of":2)", "best_of"},
      {R"("suffix":"end")", "suffix"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("model":5)", "model"},
      {R"("guided_grammar":"root ::= x")", "guided_grammar"},
      {R"("structured_outputs":{"grammar":"root ::= x"})", "structured_outputs.grammar"},
      {R"("guided_regex":"a","guided_choice":["b"])", "guided_choice"},
      {R"("guided_choice":[])", "guided_choice"},
      {R"("guided_regex":"a","ignore_eos":true)", "ignore_eos"},
      {R"("guided_regex":"a","min_tokens":2)", "min_tokens"},
      {R"("response_format":{"type":"xml"})", "response_format"},
      {R"("response_format":{"type":"json_schema"})", "response_format"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":1,"schema":{}}})",
       "response_format.json_schema.name"},
  };
  for (const auto& [fields, param] : wrong) {
    const auto read = with_fields(fields);
    ASSERT_FALSE(read.has_value()) << fields;
    EXPECT_EQ(api_error(read.error()).status, 400) << fields;
    EXPECT_EQ(read.error().place, param) << fields << ": " << read.error().message;
  }
  EXPECT_EQ(read_completion("{}").error().place, "prompt");
}

TEST(CompletionRequest, ReadsEveryKindOfPrompt) {
  EXPECT_EQ(read_completion(R"({"prompt":["a","b"]})")->prompts.size(), 2U);
  EXPECT_EQ(std::get<1>(read_completion(R"({"prompt":[1,2,3]})")->prompts[0]),
            (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(read_completion(R"({"prompt":[[1],[2,3]]})")->prompts.size(), 2U);
  for (const char* prompt : {"[]", "[[]]", "7", "null", "{}", R"(["a",1])", R"([1,"a"])", "[1.5]",
                             "[-1]", "[99999999999]", "[[1],2]", "[true]"}) {
    const auto read = read_completion(std::string(R"({"prompt":)") + prompt + "}");
    ASSERT_FALSE(read.has_value()) << prompt;
    EXPECT_EQ(read.error().place, "prompt") << prompt;
  }
}

TEST(AnswerForms, AreReadUnderAllTheirNames) {
  const auto form = [](const std::string& fields) { return with_fields(fields)->answer.form; };
  EXPECT_EQ(form(R"("response_format":{"type":"text"})").kind, AnswerForm::Kind::kAny);
  EXPECT_EQ(form(R"("response_format":{"type":"json_object"})").kind,
            AnswerForm::Kind::kJsonObject);
  const AnswerForm schema = form(
      R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"b":1,"a":2}}})");
  EXPECT_EQ(schema.kind, AnswerForm::Kind::kJsonSchema);
  EXPECT_EQ(schema.source, R"({"b":1,"a":2})");
  EXPECT_EQ(form(R"("guided_json":"{\"type\":\"string\"}")").source, R"({"type":"string"})");
  EXPECT_EQ(form(R"("guided_regex":"a+")").source, "a+");
  EXPECT_EQ(form(R"("structured_outputs":{"choice":["x","y"]})").choices.size(), 2U);
}

TEST(ChatRequest, MakesMessagesForTemplates) {
  const auto read = read_chat(R"({"messages":[
      {"role":"developer","content":"Be brief"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"Ann"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
        "function":{"name":"f","arguments":"{\"x\": 1}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"2"}],
      "logprobs":true,"top_logprobs":2,"max_completion_tokens":9,"max_tokens":5})");
  ASSERT_TRUE(read.has_value()) << read.error().text();
  EXPECT_EQ(read->chat.messages.dump(),
            R"([{"role":"system","content":"Be brief"},)"
            R"({"role":"user","content":"a\nb","name":"Ann"},)"
            R"({"role":"assistant","tool_calls":[{"type":"function","function":)"
            R"({"name":"f","arguments":{"x":1}},"id":"c1"}],"content":null},)"
            R"({"role":"tool","content":"2","tool_call_id":"c1"}])");
  EXPECT_EQ(read->answer.sampling.top_logprobs, 2);
  EXPECT_EQ(read->answer.max_tokens, 9);
}

TEST(ChatRequest, RefusesByPath) {
  const auto place_of = [](const std::string& fields) {
    const auto read = read_chat("{" + fields + "}");
    return read ? std::string("taken") : read.error().place;
  };
  const std::string user = R"("messages":[{"role":"user","content":"x"}],)";
  EXPECT_EQ(place_of(R"("messages":[{"role":"user","content":"x"},{"role":"user"}])"),
            "messages[1].content");
  EXPECT_EQ(place_of(R"("messages":[{"role":"user","content":[{"type":"image_url"}]}])"),
            "messages[0].content[0]");
  EXPECT_EQ(place_of(R"("messages":[{"role":"wizard","content":"x"}])"), "messages[0].role");
  EXPECT_EQ(place_of(R"("messages":[{"role":"assistant","content":"","tool_calls":[{"function":
                       {"name":"f","arguments":"{"}}]}])"),
            "messages[0].tool_calls[0].function.arguments");
  EXPECT_EQ(place_of(user + R"("top_logprobs":2)"), "top_logprobs");
  EXPECT_EQ(place_of(user + R"("tools":[{"type":"function"}])"), "tools[0]");
  EXPECT_EQ(place_of(user + R"("tool_choice":"required")"), "tool_choice");
  const std::string tool = R"("tools":[{"type":"function","function":{"name":"f"}}],)";
  EXPECT_EQ(place_of(user + tool + R"("tool_choice":{"type":"function","function":{"name":"g"}})"),
            "tool_choice");
  EXPECT_EQ(place_of(user + tool + R"("tool_choice":"required","guided_regex":"a")"),
            "tool_choice");
  EXPECT_EQ(place_of(user + tool + R"("tool_choice":"auto")"), "taken");
  EXPECT_EQ(place_of(user + tool + R"("tool_choice":{"function":{"name":"f"}})"), "taken");
  // Functions are the only kind, wherever one is named.
  EXPECT_EQ(place_of(user + R"("tools":[{"type":"custom","function":{"name":"f"}}])"),
            "tools[0].type");
  EXPECT_EQ(place_of(user + R"("tools":[{"function":{"name":"f","description":1}}])"),
            "tools[0].function.description");
  EXPECT_EQ(place_of(user + tool + R"("tool_choice":{"type":1,"function":{"name":"f"}})"),
            "tool_choice.type");
  EXPECT_EQ(place_of(R"("messages":[{"role":"assistant","tool_calls":[{"type":"custom",
                       "function":{"name":"f"}}]}])"),
            "messages[0].tool_calls[0].type");
  EXPECT_EQ(place_of(R"("messages":[{"role":"assistant","tool_calls":[{"id":7,
                       "function":{"name":"f"}}]}])"),
            "messages[0].tool_calls[0].id");
  EXPECT_EQ(place_of(user + R"("continue_final_message":true)"), "continue_final_message");
}

TEST(ToolCalls, AreReadFromWholeAnswersOnly) {
  const std::vector<std::string> names = {"f", "g"};
  const auto calls = parse_tool_calls(
      " {\"name\": \"f\", \"parameters\": {\"s\": \"a}\\\"{\"}} ; "
      "{\"name\":\"g\",\"arguments\":{}}\n",
      names);
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0].name, "f");
  EXPECT_EQ(Json::parse(calls[0].arguments).at("s"), "a}\"{");
  EXPECT_EQ(calls[1].arguments, "{}");
  for (const char* text :
       {"", "Hello", "{", R"({"name":"f"})", R"({"name":"h","parameters":{}})",
        R"({"name":"f","parameters":1})", R"({"name":"f","parameters":{}} and more)",
        R"({"name":"f","parameters":{})", "[{}]"}) {
    EXPECT_TRUE(parse_tool_calls(text, names).empty()) << text;
  }
  EXPECT_TRUE(may_be_tool_call(" \n") && may_be_tool_call("\n{"));
  EXPECT_FALSE(may_be_tool_call(" x{"));
}

TEST(ToolCalls, TheForcingSchemaTakesReferencesAlong) {
  const auto tools = parse_inner_json(R"([{"function":{"name":"f"}},{"function":{"name":"g",
      "parameters":{"type":"object","properties":{"a":{"$ref":"#/$defs/A"},"me":{"$ref":"#"}},
      "$defs":{"A":{"type":"string"}}}}}])");
  ASSERT_TRUE(tools.has_value());
  const Json both = Json::parse(tool_call_schema(*tools, ""));
  EXPECT_EQ(both.at("anyOf").size(), 2U);
  const Json one = Json::parse(tool_call_schema(*tools, "g"));
  ASSERT_EQ(one.at("anyOf").size(), 1U);
  EXPECT_EQ(one["anyOf"][0]["properties"]["name"]["const"], "g");
  EXPECT_EQ(one["anyOf"][0]["properties"]["parameters"]["$ref"], "#/$defs/tool_0");
  const Json& parameters = one["$defs"]["tool_0"];
  EXPECT_EQ(parameters["properties"]["a"]["$ref"], "#/$defs/tool_0/$defs/A");
  EXPECT_EQ(parameters["properties"]["me"]["$ref"], "#/$defs/tool_0");
}

// Against a search in the whole text, for random texts over few letters, cut at random places.
TEST(StopTexts, ShowAllInFrontOfTheFirstStopAndNothingElse) {
  std::mt19937 random(7);
  const auto letters = [&](std::size_t most) {
    std::string text;
    for (std::size_t n = random() % most + 1; n > 0; --n)
      text += static_cast<char>('a' + random() % 3);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (std::size_t n = random() % 3 + 1; n > 0; --n) stops.push_back(letters(5));
    const std::string text = letters(24);
    const bool keeps = random() % 2 == 0;
    // The stop that ends first; of several that end there the longest.
    std::size_t begin = std::string::npos;
    std::size_t end = std::string::npos;
    for (const std::string& stop : stops) {
      const std::size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const std::size_t its_end = at + stop.size();
      if (its_end < end || (its_end == end && at < begin))
        std::tie(begin, end) = std::pair(at, its_end);
    }
    const std::string right = text.substr(0, keeps ? end : begin);

    StopTexts watched(stops, keeps);
    std::string shown;
    bool goes_on = true;
    for (std::size_t at = 0; at < text.size() && goes_on;) {
      const std::size_t length = random() % 4 + 1;
      goes_on = watched.push(text.substr(at, length), shown);
      EXPECT_TRUE(right.starts_with(shown)) << "too much was shown";
      at += length;
    }
    EXPECT_EQ(goes_on, begin == std::string::npos);
    if (goes_on) watched.flush(shown);
    EXPECT_EQ(shown, right) << text;
    stopped += goes_on ? 0 : 1;
  }
  EXPECT_GT(stopped, 1000);
}

}  // namespace
}  // namespace tg
