// /v1/completions on the tiny model: cases of the field (tests/golden/cases), prompts in every
// form, streams equal to whole answers, log-probabilities, stop strings, ends.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "server/api_calls.h"
#include "text/utf8.h"

namespace tg::test {
namespace {

// Offsets count characters.
std::string characters(const std::string& text, std::size_t from, std::size_t count) {
  std::size_t at = 0;
  const auto skip = [&](std::size_t n) {
    for (; n > 0 && at < text.size(); --n)
      at += utf8_step(std::string_view(text).substr(at)).length;
  };
  skip(from);
  const std::size_t begin = at;
  skip(count);
  return text.substr(begin, at - begin);
}
std::size_t length_in_characters(const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    at += utf8_step(std::string_view(text).substr(at)).length;
  }
  return count;
}

TEST(Completions, CasesC22AndC24HaveTheirStatusAndUsage) {
  TestApi server;
  server.load();
  for (const char* file : {"c22_max_tokens.jsonl", "c24_empty_prompt.jsonl"}) {
    for (const Json& c : read_cases(file)) {
      const Answer answer = server.post(c.at("path"), c.at("body"));
      SCOPED_TRACE(c.at("name"));
      EXPECT_EQ(answer.status, c.at("expect"));
      if (c.at("expect") == 400) {
        expect_error(answer, 400);
        if (c.at("name") == "huge") {
          EXPECT_NE(answer.error().find("the context of 131072"), std::string::npos)
              << answer.error();
        }
        continue;
      }
      if (c.contains("usage")) {
        EXPECT_EQ(answer.usage("completion_tokens"), c["usage"]["completion_tokens"]);
      }
      if (c.contains("text")) {
        EXPECT_EQ(answer.text(), c["text"]);
      }
      if (c.contains("prompt_tokens") && !c["prompt_tokens"].is_null()) {
        EXPECT_EQ(answer.usage("prompt_tokens"), c["prompt_tokens"]);
      }
    }
  }
}

TEST(Completions, CaseC05ABeginOfTextComesOnce) {
  TestApi server;
  server.load();
  const std::int64_t text =
      server.post(kCompletions, read_case("c05_text.json")).usage("prompt_tokens");
  EXPECT_EQ(server.post(kCompletions, read_case("c05_text_with_bos.json")).usage("prompt_tokens"),
            text);
  EXPECT_EQ(server.post(kCompletions, read_case("c05_ids_with_bos.json")).usage("prompt_tokens"),
            2);
  EXPECT_EQ(server.post(kCompletions, read_case("c05_ids_without_bos.json")).usage("prompt_tokens"),
            1);
}

TEST(Completions, CaseC08TinyTemperaturesAreGreedy) {
  TestApi server;
  server.load();
  const Json neighbour = read_case("c10_seeded.json");
  const std::string alone = server.post(kCompletions, neighbour).text();
  std::string greedy;
  for (const Json& c : read_cases("c08_temperature.jsonl")) {
    SCOPED_TRACE(c.at("name"));
    const auto beside = server.send(kCompletions, neighbour);
    const Answer answer = server.post(kCompletions, with(c.at("body"), {{"logprobs", 5}}));
    EXPECT_EQ(read_answer(*beside).text(), alone);
    ASSERT_EQ(answer.status, c.at("expect")) << answer.body.dump();
    if (answer.status == 400) {
      expect_error(answer, 400, "temperature");
      continue;
    }
    const Json& logprobs = answer.body["choices"][0]["logprobs"];
    for (const Json& logprob : logprobs.at("token_logprobs")) {
      EXPECT_TRUE(logprob.is_number() && logprob <= 0.0) << logprobs;
    }
    const double t = c.at("body").at("temperature");
    if (t == 0.0) greedy = answer.text();
    // The tiny model's logits are close to each other, so 0.001 may already choose another token.
    if (t <= 1e-4) {
      EXPECT_EQ(answer.text(), greedy);
    }
  }
  EXPECT_FALSE(greedy.empty());
}

TEST(Completions, CaseC10ASeedDecidesAndNeighboursDoNot) {
  TestApi server;
  server.load();
  const Json seeded = read_case("c10_seeded.json");
  const std::string alone = server.post(kCompletions, seeded).text();
  EXPECT_EQ(server.post(kCompletions, seeded).text(), alone);
  EXPECT_EQ(server.post(kCompletions, streamed(seeded)).text(), alone);

  std::vector<Json> neighbours(7, read_case("c10_unseeded_neighbour.json"));
  neighbours.insert(neighbours.begin() + 3, seeded);
  const std::vector<Answer> among_others = server.post_all(kCompletions, neighbours);
  EXPECT_EQ(among_others[3].text(), alone);
  EXPECT_NE(among_others[0].text(), among_others[1].text()) << "no seed: a fresh one each";

  std::vector<Json> copies = {seeded};
  for (int seed = 1; seed <= 7; ++seed) copies.push_back(with(seeded, {{"seed", seed}}));
  EXPECT_EQ(server.post_all(kCompletions, copies)[0].text(), alone);
  EXPECT_NE(server.post(kCompletions, with(seeded, {{"seed", 43}})).text(), alone);
  const Json zero = read_case("c10_seed_zero.json");
  EXPECT_EQ(server.post(kCompletions, zero).text(), server.post(kCompletions, zero).text());
  // The choices of one request count the seed up.
  const Answer four = server.post(kCompletions, with(seeded, {{"n", 4}, {"seed", 40}}));
  EXPECT_EQ(four.text(2), alone);
  EXPECT_NE(four.text(0), four.text(1));
}

// Lists of one length; each token's text where its offset says, or an explanation why not.
void expect_offsets_match(const Json& logprobs, const std::string& text) {
  const std::size_t count = logprobs.at("tokens").size();
  EXPECT_EQ(logprobs.at("token_logprobs").size(), count);
  EXPECT_EQ(logprobs.at("top_logprobs").size(), count);
  ASSERT_EQ(logprobs.at("text_offset").size(), count);
  std::size_t before = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t offset = logprobs["text_offset"][i];
    EXPECT_GE(offset, before);
    before = offset;
    const std::string token = logprobs["tokens"][i];
    if (token.starts_with("bytes:") || token.starts_with("<|")) continue;
    EXPECT_EQ(characters(text, offset, length_in_characters(token)), token) << i;
  }
  EXPECT_LE(before, length_in_characters(text));
}

TEST(Completions, CaseC12LogProbabilitiesAreFiniteAndInPlace) {
  TestApi server;
  server.load();
  const Answer top_k = server.post(kCompletions, read_case("c12_top_k_1_logprobs.json"));
  const Json& l = top_k.body.at("choices")[0].at("logprobs");
  EXPECT_EQ(l.at("tokens").size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    double sum = 0.0;
    for (const auto& [token, logprob] : l["top_logprobs"][i].items()) {
      EXPECT_TRUE(logprob.is_number());
      sum += std::exp(logprob.get<double>());
    }
    EXPECT_LE(sum, 1.0001);
    EXPECT_GE(l["top_logprobs"][i].size(), 5U);
    EXPECT_EQ(l["top_logprobs"][i].at(l["tokens"][i].get<std::string>()), l["token_logprobs"][i]);
  }
  expect_offsets_match(l, top_k.text());

  const Answer echo = server.post(kCompletions, read_case("c12_echo_logprobs.json"));
  const Json& e = echo.body.at("choices")[0].at("logprobs");
  const std::int64_t prompt = echo.usage("prompt_tokens");
  ASSERT_EQ(e.at("tokens").size(), static_cast<std::size_t>(prompt + 1));
  EXPECT_TRUE(echo.text().starts_with("correct horse battery staple"));
  EXPECT_TRUE(e["token_logprobs"][0].is_null() && e["top_logprobs"][0].is_null());
  for (std::size_t i = 1; i < e["token_logprobs"].size(); ++i) {
    EXPECT_LE(e["token_logprobs"][i].get<double>(), 0.0);
  }
  EXPECT_EQ(e["tokens"][0], "<|begin_of_text|>");
  EXPECT_EQ(e["text_offset"][1], 0) << "the BOS that nobody wrote has no text";
  expect_offsets_match(e, echo.text());

  // Ruled out by the mask, so minus infinity: a finite floor.
  const Answer forced =
      server.post(kCompletions,
                  {{"prompt", "Hi"}, {"max_tokens", 1}, {"logprobs", 5}, {"guided_choice", {"a"}}});
  ASSERT_EQ(forced.status, 200) << forced.body.dump();
  EXPECT_EQ(forced.body["choices"][0]["logprobs"]["top_logprobs"][0].size(), 5U);
  for (const auto& [token, logprob] :
       forced.body["choices"][0]["logprobs"]["top_logprobs"][0].items()) {
    EXPECT_TRUE(logprob == 0.0 || logprob == -9999.0) << token << logprob;
  }
}

// What lm-evaluation-harness sends and reads, also where the answer's first token is an end token.
TEST(Completions, PromptScoresAreThoseOfTheModelAndOneEntryLonger) {
  TestApi server;
  server.load();
  const Json request = {{"prompt", {{768, 60, 61, 62}, {768, 70, 71}}},
                        {"max_tokens", 1},
                        {"echo", true},
                        {"logprobs", 1},
                        {"temperature", 0},
                        {"seed", 1234}};
  const Answer both = server.post(kCompletions, request);
  ASSERT_EQ(both.status, 200) << both.body.dump();
  EXPECT_EQ(both.usage("prompt_tokens"), 7);
  EXPECT_EQ(both.usage("completion_tokens"), 2);
  for (const std::size_t choice : {0U, 1U}) {
    const Json& l = both.body["choices"][choice]["logprobs"];
    ASSERT_EQ(l["tokens"].size(), choice == 0 ? 5U : 4U);
    // The same number as the model gives when the token is sampled.
    std::vector<int> prefix =
        choice == 0 ? std::vector<int>{768, 60, 61} : std::vector<int>{768, 70};
    const int next = choice == 0 ? 62 : 71;
    const Answer sampled = server.post(kCompletions, {{"prompt", prefix},
                                                      {"max_tokens", 1},
                                                      {"temperature", 0},
                                                      {"logprobs", 20},
                                                      {"logit_bias", Json::object()}});
    const Json& top = sampled.body["choices"][0]["logprobs"]["top_logprobs"][0];
    const std::string text = l["tokens"][prefix.size()];
    if (top.contains(text)) {
      EXPECT_NEAR(l["token_logprobs"][prefix.size()].get<double>(), top[text].get<double>(), 1e-5);
    } else {
      double least = 0.0;
      for (const auto& entry : top) least = std::min(least, entry.get<double>());
      EXPECT_LE(l["token_logprobs"][prefix.size()].get<double>(), least) << next;
    }
  }
  Json ends = request;
  ends["logit_bias"] = {{"769", 100}};
  const Answer ended = server.post(kCompletions, ends);
  EXPECT_EQ(ended.body["choices"][0]["logprobs"]["tokens"].size(), 5U);
  EXPECT_EQ(ended.body["choices"][0]["logprobs"]["tokens"][4], "<|end_of_text|>");
  EXPECT_EQ(ended.finish_reason(), "stop");
  // Without an answer at all.
  Json scores = request;
  scores["max_tokens"] = 0;
  const Answer only = server.post(kCompletions, scores);
  EXPECT_EQ(only.body["choices"][0]["logprobs"]["tokens"].size(), 4U);
  EXPECT_EQ(only.usage("completion_tokens"), 0);
}

TEST(Completions, CaseC03AStreamIsWholeCharactersAndEqualsTheWholeAnswer) {
  TestApi server;
  server.load();
  // 0xE2 0x98 0x83 is a character; each byte is a token of the tiny vocabulary.
  const std::shared_ptr<const Tokenizer> tokenizer = tiny_served({}).tokenizer;
  std::vector<TokenId> byte_ids;
  for (const char* byte : {"\xE2", "\x98", "\x83"}) {
    for (TokenId id = 0; id < 256; ++id) {
      if (tokenizer->token_bytes(id) == byte) byte_ids.push_back(id);
    }
  }
  ASSERT_EQ(byte_ids.size(), 3U);
  const auto request = [&](std::vector<TokenId> prompt, std::int64_t max_tokens, TokenId forced) {
    return Json{{"prompt", prompt},   {"max_tokens", max_tokens},
                {"temperature", 0},   {"echo", true},
                {"ignore_eos", true}, {"logit_bias", {{std::to_string(forced), 100}}}};
  };
  // The prompt's half character becomes whole with the answer's token.
  const Json half = request({768, byte_ids[0], byte_ids[1]}, 1, byte_ids[2]);
  EXPECT_EQ(server.post(kCompletions, half).text(), "\xE2\x98\x83");
  EXPECT_EQ(server.post(kCompletions, streamed(half)).text(), "\xE2\x98\x83");
  // Bytes that never become one.
  const Json broken = request({768, byte_ids[0]}, 3, byte_ids[0]);
  const std::string whole = server.post(kCompletions, broken).text();
  EXPECT_EQ(whole, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(server.post(kCompletions, streamed(broken)).text(), whole);
}

TEST(Completions, CaseC28StreamsAreWellFormedAndDoNotMix) {
  TestApi server;
  server.load();
  Json request = read_case("c28_completion_stream.json");
  request["stream_options"] = {{"include_usage", true}};
  Json whole_request = request;
  whole_request.erase("stream");
  whole_request.erase("stream_options");
  std::vector<Json> eight;
  std::vector<Json> eight_whole;
  for (int i = 0; i < 8; ++i) {
    for (Json* body : {&request, &whole_request}) (*body)["prompt"] = "Hello " + std::to_string(i);
    eight.push_back(request);
    eight_whole.push_back(whole_request);
  }
  const std::vector<Answer> answers = server.post_all(kCompletions, eight);
  for (std::size_t i = 0; i < eight.size(); ++i) {
    const Answer whole = server.post(kCompletions, eight_whole[i]);
    EXPECT_EQ(answers[i].text(), whole.text());
    EXPECT_EQ(answers[i].finish_reason(), "length");
    const std::vector<Json>& events = answers[i].events;
    for (const Json& event : events) {
      EXPECT_EQ(event.at("id"), events[0].at("id"));
      EXPECT_EQ(event.at("created"), events[0].at("created"));
      EXPECT_EQ(event.at("object"), "text_completion");
      EXPECT_EQ(event.at("model"), "tiny");
      EXPECT_EQ(event.at("usage").is_null(), &event != &events.back());
    }
    EXPECT_TRUE(events.back().at("choices").empty());
    EXPECT_EQ(events.back().at("usage").at("completion_tokens"), whole.usage("completion_tokens"));
    EXPECT_EQ(events.back().at("usage").at("prompt_tokens"), whole.usage("prompt_tokens"));
  }
}

TEST(Completions, TokensOfAStreamComeAsTheyAreMade) {
  TestApi server;
  server.load();
  const auto exchange = server.send(
      kCompletions,
      {{"prompt", "Hello"}, {"max_tokens", 4000}, {"stream", true}, {"ignore_eos", true}});
  exchange->wait_for_pieces(1);
  EXPECT_FALSE(exchange->done()) << "the first event after the last token";
  exchange->hang_up();
  EXPECT_TRUE(server.becomes_idle());
}

TEST(Completions, CaseC13StopStringsAcrossTokenBorders) {
  TestApi server;
  server.load();
  Json baseline = read_case("c13_baseline.json");
  baseline["logprobs"] = 0;
  const Answer whole = server.post(kCompletions, baseline);
  const std::string text = whole.text();
  const Json offsets = whole.body["choices"][0]["logprobs"]["text_offset"];
  const std::size_t length = length_in_characters(text);
  std::vector<Json> requests;
  std::vector<std::string> stops;
  for (const std::size_t border : offsets) {
    if (border < 2 || border + 3 > length) continue;
    stops.push_back(characters(text, border - 2, 5));
    requests.push_back(with(baseline, {{"stop", {stops.back()}}}));
    requests.push_back(streamed(requests.back()));
  }
  ASSERT_GT(stops.size(), 10U);
  const std::vector<Answer> answers = server.post_all(kCompletions, requests);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const std::string& stop = stops[i / 2];
    EXPECT_EQ(answers[i].text(), text.substr(0, text.find(stop))) << stop;
    EXPECT_EQ(answers[i].finish_reason(), "stop");
  }
  // Held back to the end, and then shown.
  const Json never = with(baseline, {{"stop", characters(text, length - 3, 3) + "#"}});
  EXPECT_EQ(server.post(kCompletions, never).text(), text);
  EXPECT_EQ(server.post(kCompletions, streamed(never)).text(), text);
  EXPECT_EQ(server.post(kCompletions, never).finish_reason(), "length");
  // More than four, with the found one kept, and none before min_tokens.
  const std::string stop = stops[0];
  const Json kept = with(
      baseline, {{"stop", {"%1", "%2", "%3", "%4", stop}}, {"include_stop_str_in_output", true}});
  EXPECT_EQ(server.post(kCompletions, kept).text(), text.substr(0, text.find(stop) + stop.size()));
  EXPECT_EQ(server.post(kCompletions, with(baseline, {{"stop", stop}, {"min_tokens", 40}})).text(),
            text);
  // The cut takes the tokens of the stop string along.
  const Answer cut = server.post(kCompletions, with(baseline, {{"stop", stop}}));
  expect_offsets_match(cut.body["choices"][0]["logprobs"], text);
  const Json& left = cut.body["choices"][0]["logprobs"]["text_offset"];
  if (!left.empty()) {
    EXPECT_LT(left.back().get<std::size_t>(), length_in_characters(cut.text()));
  }
}

TEST(Completions, BatchesOfPromptsAndChoicesAreNumberedAndCounted) {
  TestApi server;
  server.load();
  const Json request = {{"prompt", {"one", "two", "three"}},
                        {"n", 2},
                        {"max_tokens", 3},
                        {"temperature", 0},
                        {"ignore_eos", true}};
  const Answer answer = server.post(kCompletions, request);
  ASSERT_EQ(answer.body.at("choices").size(), 6U);
  std::int64_t prompt_tokens = 0;
  for (std::size_t prompt = 0; prompt < 3; ++prompt) {
    const Answer alone =
        server.post(kCompletions, with(request, {{"prompt", request["prompt"][prompt]}, {"n", 1}}));
    prompt_tokens += alone.usage("prompt_tokens");
    for (std::size_t choice = 2 * prompt; choice < 2 * prompt + 2; ++choice) {
      EXPECT_EQ(answer.body["choices"][choice]["index"], choice);
      EXPECT_EQ(answer.text(choice), alone.text());
    }
  }
  EXPECT_EQ(answer.usage("prompt_tokens"), prompt_tokens);
  EXPECT_EQ(answer.usage("completion_tokens"), 18);
  EXPECT_EQ(answer.usage("total_tokens"), prompt_tokens + 18);
  const Answer stream = server.post(kCompletions, streamed(request));
  for (std::size_t choice = 0; choice < 6; ++choice) {
    EXPECT_EQ(stream.text(choice), answer.text(choice));
    EXPECT_EQ(stream.finish_reason(choice), "length");
  }
}

TEST(Completions, CaseC15WhatNeverFitsIsRefusedAndOthersAnswer) {
  TestApi server({.positions = 512, .block = 32, .max_context = 2048});
  server.load();
  const Answer never = server.post(kCompletions, read_case("c15_never_fits.json"));
  expect_error(never, 400, "prompt");
  EXPECT_NE(never.error().find("600"), std::string::npos) << never.error();
  EXPECT_NE(never.error().find("512"), std::string::npos) << never.error();
  EXPECT_EQ(never.body["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(server.post(kCompletions, read_case("c15_small.json")).status, 200);
  expect_error(server.post(kCompletions, read_case("c15_outgrows.json")), 400, "prompt");
}

TEST(Completions, CaseC19ThePrefixCacheShowsInTheUsageOnly) {
  TestApi server;
  server.load();
  const Json request = read_case("c19_repeat.json");
  const Answer first = server.post(kCompletions, request);
  const Answer again = server.post(kCompletions, request);
  EXPECT_EQ(again.text(), first.text());
  EXPECT_EQ(again.usage("prompt_tokens"), first.usage("prompt_tokens"));
  EXPECT_EQ(first.body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_GE(again.body["usage"]["prompt_tokens_details"]["cached_tokens"], 64);
}

TEST(Completions, CaseC30AClientThatGoesAwayLeavesNothingBehind) {
  TestApi server;
  server.load();
  const auto stream = server.send(kCompletions, read_case("c30_long_stream.json"));
  stream->wait_for_pieces(3);
  stream->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  const auto plain = server.send(kCompletions, read_case("c30_long_plain.json"));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  plain->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  // While the prompt is computed, and while more wait than there are users.
  std::vector<std::shared_ptr<FakeExchange>> waiting;
  for (int i = 0; i < 12; ++i) {
    waiting.push_back(server.send(
        kCompletions,
        {{"prompt", std::vector<int>(300, 60 + i)}, {"max_tokens", 200}, {"ignore_eos", true}}));
  }
  for (const auto& exchange : waiting) exchange->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  // At once, before the engine has heard of it.
  for (int i = 0; i < 40; ++i)
    server.send(kCompletions, read_case("c30_long_stream.json"))->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  EXPECT_EQ(server.post(kCompletions, read_case("c15_small.json")).status, 200);
}

TEST(Completions, AFullQueueIsRefusedWithTheTimeToComeBack) {
  TestApi server({.engine = {.max_users = 1}, .max_waiting = 2});
  server.load();
  std::vector<std::shared_ptr<FakeExchange>> sent;
  const Json slow = {{"prompt", "Hi"}, {"max_tokens", 2000}, {"ignore_eos", true}};
  for (int i = 0; i < 8; ++i) sent.push_back(server.send(kCompletions, slow));
  const auto last = server.send(kCompletions, slow);
  expect_error(read_answer(*last), 429);
  EXPECT_TRUE(std::any_of(last->head.headers.begin(), last->head.headers.end(),
                          [](const auto& h) { return h.first == "Retry-After"; }));
  // A batch of which a part finds no place is refused as a whole.
  expect_error(server.post(kCompletions, with(slow, {{"n", 4}})), 429);
  for (const auto& exchange : sent) exchange->hang_up();
  EXPECT_TRUE(server.becomes_idle());
}

TEST(Completions, AnswersOfAForm) {
  TestApi server;
  server.load();
  const Json base = {{"prompt", "Say it"}, {"max_tokens", 200}, {"temperature", 1}, {"seed", 5}};
  const Answer choice =
      server.post(kCompletions, with(base, {{"guided_choice", {"red", "green"}}}));
  ASSERT_EQ(choice.status, 200) << choice.body.dump();
  EXPECT_TRUE(choice.text() == "red" || choice.text() == "green") << choice.text();
  EXPECT_EQ(choice.finish_reason(), "stop");
  const Answer number = server.post(kCompletions, with(base, {{"guided_regex", "[0-9]{3}-x"}}));
  ASSERT_EQ(number.text().size(), 5U) << number.text();
  EXPECT_EQ(number.text().substr(3), "-x");
  const Json schema = {{"type", "object"},
                       {"properties", {{"ok", {{"type", "boolean"}}}, {"n", {{"enum", {1, 2}}}}}},
                       {"required", {"ok", "n"}},
                       {"additionalProperties", false}};
  const Json format = {{"type", "json_schema"},
                       {"json_schema", {{"name", "x"}, {"schema", schema}}}};
  const Answer object = server.post(kCompletions, with(base, {{"response_format", format}}));
  ASSERT_EQ(object.status, 200) << object.body.dump();
  if (object.finish_reason() == "stop") {
    const Json read = Json::parse(object.text());
    EXPECT_TRUE(read.at("ok").is_boolean());
    EXPECT_TRUE(read.at("n") == 1 || read.at("n") == 2);
  }
  expect_error(server.post(kCompletions, with(base, {{"guided_regex", "(["}})), 400,
               "guided_regex");
}

}  // namespace
}  // namespace tg::test
