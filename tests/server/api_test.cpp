// The API around the answers: paths, methods, keys, states, broken bodies, models and tokens.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <utility>

#include "engine/fake_runner.h"
#include "server/api_calls.h"
#include "text/utf8.h"

namespace tg::test {
namespace {

TEST(Api, CaseC26BrokenBodiesAreRefusedAndNothingBreaks) {
  TestApi server;
  server.load();
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(case_path("bad"))) {
    const std::string name = file.path().filename().string();
    std::string bytes = read_case_bytes("bad/" + name);
    if (const std::size_t at = bytes.find("MODEL"); at != std::string::npos) {
      bytes.replace(at, 5, "tiny");
    }
    SCOPED_TRACE(name);
    ++count;
    if (name.starts_with('a')) {
      const Answer answer = read_answer(*server.send(kCompletions, bytes));
      EXPECT_TRUE(answer.status == 200 || (name.starts_with("a5") && answer.status == 400));
      continue;
    }
    for (const char* path : {kCompletions, kChat}) {
      const auto exchange = server.send(path, bytes);
      expect_error(read_answer(*exchange), 400);
      EXPECT_EQ(valid_utf8_prefix(exchange->head.body), exchange->head.body.size());
    }
    EXPECT_EQ(server.get("/health").status, 200);
  }
  EXPECT_EQ(count, 22);
  const Answer unknown = server.post(kCompletions, read_case("c26_unknown_model.json"));
  expect_error(unknown, 404, "model");
  EXPECT_EQ(unknown.param(), "model");
  EXPECT_EQ(server.post(kCompletions, read_case("c26_no_model.json")).status, 200);
}

TEST(Api, PathsAndMethodsThatDoNotExist) {
  TestApi server;
  server.load();
  expect_error(server.get("/v1/engines"), 404);
  expect_error(server.post("/v1/embeddings", Json::object()), 404);
  expect_error(server.get("/v1/model"), 404);
  const auto wrong = server.send(kCompletions, std::string(), {}, "GET");
  expect_error(read_answer(*wrong), 405);
  EXPECT_EQ(wrong->head.headers, (HttpHeaders{{"Allow", "POST"}}));
  expect_error(read_answer(*server.send("/health", std::string(), {}, "POST")), 405);
  expect_error(read_answer(*server.send("/v1/models", std::string(), {}, "DELETE")), 405);
}

TEST(Api, KeysAreAskedForWhereTheModelIs) {
  TestApi server({.keys = {"secret", "other"}});
  server.load();
  const std::string body = R"({"prompt":"Hi","max_tokens":1})";
  const auto status = [&](const HttpHeaders& headers) {
    return read_answer(*server.send(kCompletions, body, headers)).status;
  };
  EXPECT_EQ(status({{"authorization", "Bearer secret"}}), 200);
  EXPECT_EQ(status({{"authorization", "bearer other"}}), 200);
  for (const char* wrong :
       {"", "Bearer ", "Bearer secre", "Bearer secrets", "secret", "Basic secret"}) {
    EXPECT_EQ(status({{"authorization", wrong}}), 401) << wrong;
  }
  EXPECT_EQ(status({}), 401);
  expect_error(server.get("/v1/models"), 401);
  expect_error(read_answer(*server.send("/tokenize", std::string("{}"))), 401);
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/version").body.at("version"), "1.2.3");
  // Without keys an empty one is as good as none: LangChain sends it.
  TestApi open;
  open.load();
  EXPECT_EQ(read_answer(*open.send(kCompletions, body, {{"authorization", "Bearer "}})).status,
            200);
}

TEST(Api, CaseC32HealthFollowsTheServersLife) {
  TestApi server;
  expect_error(server.get("/health"), 503);
  expect_error(server.post(kCompletions, {{"prompt", "Hi"}}), 503);
  EXPECT_EQ(server.get("/v1/models").status, 200);
  server.load();
  EXPECT_EQ(server.get("/health").status, 200);
  const auto running =
      server.send(kCompletions,
                  {{"prompt", "Hi"}, {"max_tokens", 4000}, {"ignore_eos", true}, {"stream", true}});
  const auto plain =
      server.send(kCompletions, {{"prompt", "Hi"}, {"max_tokens", 4000}, {"ignore_eos", true}});
  running->wait_for_pieces(3);
  server.api().drain();
  expect_error(server.get("/health"), 503);
  expect_error(server.post(kCompletions, {{"prompt", "Hi"}}), 503);
  // What the end cuts off is told so.
  server.thread().stop(0.0);
  const Answer cut = read_answer(*running);
  ASSERT_FALSE(cut.events.empty());
  EXPECT_EQ(cut.events.back().at("error").at("code"), "shutting_down");
  expect_error(read_answer(*plain), 503);
}

// The engine's thread is inside of a step, as with the longest prompt, for as long as it likes.
TEST(Api, CaseC32HealthAnswersDuringAStep) {
  FakeRunner runner({.vocab = 1024});
  std::promise<void> entered;
  std::promise<void> opened;
  runner.in_step = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    entered.set_value();
    opened.get_future().wait();
  };
  TestApi server;
  server.load_on(runner);
  const auto prompt = server.send(kCompletions, {{"prompt", "Hi"}, {"max_tokens", 2}});
  entered.get_future().wait();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/mesh").status, 200);
  EXPECT_EQ(server.metric("vllm:num_requests_waiting") + server.metric("vllm:num_requests_running"),
            1.0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  EXPECT_FALSE(prompt->done());
  opened.set_value();
  EXPECT_EQ(read_answer(*prompt).status, 200);
}

TEST(Api, CaseC32AFailedEngineIsToldToEverybody) {
  FakeRunner runner({.vocab = 1024});
  runner.fail_at_step = 4;
  runner.failures = 1000;
  TestApi server;
  server.load_on(runner);
  const Json slow = {{"prompt", "Hi"}, {"max_tokens", 100}, {"ignore_eos", true}};
  // As many failures in a row end the engine; each ends the answers of its step.
  std::vector<Answer> ended;
  for (int i = 0; i < 10 && server.get("/health").status == 200; ++i) {
    ended.push_back(server.post(kCompletions, streamed(slow)));
  }
  ASSERT_FALSE(ended.empty());
  ASSERT_FALSE(ended[0].events.empty());
  EXPECT_EQ(ended[0].events.back().at("error").at("type"), "server_error");
  expect_error(server.get("/health"), 503);
  EXPECT_EQ(server.get("/health").body["error"]["code"], "engine_failed");
  for (const Json& body : {slow, streamed(slow)}) {
    const Answer refused = server.post(kCompletions, body);
    expect_error(refused, 503);
    EXPECT_EQ(refused.body["error"]["code"], "engine_failed");
  }
  EXPECT_EQ(server.get("/v1/models").status, 200);
}

TEST(Api, CaseC34CountersGrowByTheSumsOfUsage) {
  TestApi server;
  server.load();
  double prompt_tokens = 0.0;
  double completion_tokens = 0.0;
  for (int i = 0; i < 10; ++i) {
    Json request = {{"prompt", std::string(static_cast<std::size_t>(i + 1), 'x')},
                    {"max_tokens", i + 1},
                    {"ignore_eos", true},
                    {"n", i % 2 + 1}};
    const Answer answer = server.post(kCompletions, request);
    prompt_tokens += static_cast<double>(answer.usage("prompt_tokens"));
    completion_tokens += static_cast<double>(answer.usage("completion_tokens"));
  }
  const auto aborted =
      server.send(kCompletions,
                  {{"prompt", "Hi"}, {"max_tokens", 4000}, {"ignore_eos", true}, {"stream", true}});
  aborted->wait_for_pieces(2);
  aborted->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  expect_error(server.post(kCompletions, {{"prompt", "Hi"}, {"max_tokens", 0}}), 400);
  EXPECT_EQ(server.metric("vllm:prompt_tokens_total"), prompt_tokens);
  EXPECT_EQ(server.metric("vllm:generation_tokens_total"), completion_tokens);
  EXPECT_EQ(server.metric("vllm:num_requests_running"), 0.0);
  EXPECT_EQ(server.metric("vllm:num_requests_waiting"), 0.0);
  EXPECT_EQ(server.metric("vllm:kv_cache_usage_perc"), 0.0);
  EXPECT_EQ(server.metric("vllm:time_to_first_token_seconds_count"), 15.0);
  EXPECT_EQ(server.metric("vllm:request_success_total{finished_reason=\"length\""), 15.0);
  EXPECT_EQ(server.metric("vllm:request_success_total{finished_reason=\"abort\""), 1.0);
}

TEST(Api, ModelsAndTokens) {
  TestApi server;
  server.load();
  const Json card = server.get("/v1/models").body.at("data").at(0);
  EXPECT_EQ(card.at("id"), "tiny");
  EXPECT_EQ(card.at("root"), "/models/tiny");
  EXPECT_EQ(card.at("created"), 1700000000);
  EXPECT_EQ(card.at("max_model_len"), 131072);
  EXPECT_EQ(server.get("/v1/models/tiny").body, card);
  expect_error(server.get("/v1/models/other"), 404, "model");

  const Json tokens =
      server.post("/tokenize", {{"prompt", "Hello there"}, {"return_token_strs", true}}).body;
  EXPECT_EQ(tokens.at("count"), tokens.at("tokens").size());
  EXPECT_EQ(tokens["tokens"][0], 768);
  EXPECT_EQ(tokens["token_strs"][0], "<|begin_of_text|>");
  const Json bare =
      server.post("/tokenize", {{"prompt", "Hello there"}, {"add_special_tokens", false}}).body;
  EXPECT_EQ(bare.at("count").get<int>() + 1, tokens["count"].get<int>());
  EXPECT_TRUE(bare.at("token_strs").is_null());
  EXPECT_EQ(server.post("/detokenize", {{"tokens", bare["tokens"]}}).body.at("prompt"),
            "Hello there");
  EXPECT_EQ(server.post("/detokenize", {{"tokens", Json::array()}}).body.at("prompt"), "");
  expect_error(server.post("/detokenize", {{"tokens", {5000}}}), 400, "tokens");
  expect_error(server.post("/tokenize", Json::object()), 400, "prompt");
  const Json messages = {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
  Json asked = messages;
  asked["max_tokens"] = 1;
  EXPECT_EQ(server.post("/tokenize", messages).body.at("count"),
            server.post(kChat, asked).usage("prompt_tokens"));
  const Json info = server.get("/tokenizer_info").body;
  EXPECT_EQ(info.at("bos_token"), "<|begin_of_text|>");
  EXPECT_EQ(info.at("eos_token"), "<|eot_id|>");
  EXPECT_EQ(info.at("chat_template"), *find_builtin_template("llama3"));
  // What is not there is null: lm-evaluation-harness would look an empty token up.
  ServedModel served = tiny_served({});
  served.bos_text.clear();
  served.chat_template = nullptr;
  Api api(served, {});
  const auto exchange = std::make_shared<FakeExchange>();
  HttpRequest request;
  request.method = "GET";
  request.path = "/tokenizer_info";
  api.handle(std::move(request), exchange);
  const Json nulls = read_answer(*exchange).body;
  EXPECT_TRUE(nulls.at("bos_token").is_null() && nulls.at("chat_template").is_null()) << nulls;
}

}  // namespace
}  // namespace tg::test
