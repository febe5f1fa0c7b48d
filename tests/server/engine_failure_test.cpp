// An engine that fails under a server, seen by clients over sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "server/api_calls.h"
#include "server/http_client.h"
#include "server/http_server.h"

namespace tg::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// The tiny model, until it is told to fail; so slow that no answer is complete before.
class FailingRunner : public ModelRunner {
 public:
  explicit FailingRunner(ModelRunner& model) : model_(model) {}
  std::int64_t vocab() const override { return model_.vocab(); }
  std::int64_t max_context() const override { return model_.max_context(); }
  KvCapacity kv_capacity() const override { return model_.kv_capacity(); }
  std::int32_t kv_domains() const override { return model_.kv_domains(); }
  Result<StepResult> step(const StepBatch& batch) override {
    if (fails) return error(ErrorCode::kInternal, "the chip is on fire");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return model_.step(batch);
  }
  std::atomic<bool> fails = false;

 private:
  ModelRunner& model_;
};

TEST(EngineFailure, EndsEveryAnswerWithAnErrorAndHealthSaysSo) {
  ModelSetting setting;
  setting.positions = 8192;
  // Two that wait for each other take seconds on a machine that has much to do.
  setting.threads = 1;
  TestModel model(tiny("hf"), setting);
  FailingRunner runner(model.runner());
  auto engine = Engine::create(runner, {.max_users = 4});
  ASSERT_TRUE(engine.has_value()) << engine.error().text();
  EngineThread thread(**engine, {});
  Metrics metrics("tiny");
  ApiOptions options;
  options.metrics = &metrics;
  Api api(tiny_served({}), std::move(options));
  api.serve_with(thread, (*engine)->max_tokens_per_request());
  const auto server = start_http({}, [&](HttpRequest request, const auto& exchange) {
    api.handle(std::move(request), exchange);
  });
  // Before the API goes away, whatever is asserted below.
  const std::unique_ptr<EngineThread, void (*)(EngineThread*)> stops(
      &thread, [](EngineThread* t) { t->stop(0.0); });
  const auto get = [&](const std::string& path) {
    HttpClient client(server->port());
    EXPECT_TRUE(client.get(path));
    return client.response();
  };
  EXPECT_EQ(get("/health").status, 200);
  const Json plain = {
      {"prompt", "Hi"}, {"max_tokens", 8000}, {"ignore_eos", true}, {"temperature", 0}};
  std::vector<HttpClient> streams;
  std::vector<HttpClient> plains;
  for (int i = 0; i < 6; ++i) {  // more than run at once
    streams.emplace_back(server->port());
    ASSERT_TRUE(streams.back().post(kCompletions, with(plain, {{"stream", true}}).dump()));
    if (i % 2 == 0) continue;
    plains.emplace_back(server->port());
    ASSERT_TRUE(plains.back().post(kCompletions, plain.dump()));
  }
  ASSERT_TRUE(streams[0].wait_for("data: ", 60.0));
  ASSERT_TRUE(becomes_true([&] {
    const EngineSnapshot now = thread.snapshot();
    return now.running + now.waiting == 9;
  })) << thread.snapshot().running
      << ' ' << thread.snapshot().waiting;
  runner.fails = true;
  for (HttpClient& stream : streams) {
    const ClientResponse answer = stream.response();
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.complete);
    EXPECT_THAT(answer.body, HasSubstr(R"(data: {"error":)"));
    EXPECT_THAT(answer.body, HasSubstr("the chip is on fire"));
    EXPECT_THAT(answer.body, EndsWith("data: [DONE]\n\n"));
  }
  for (HttpClient& client : plains) {
    const ClientResponse answer = client.response();
    EXPECT_GE(answer.status, 500);
    EXPECT_THAT(answer.body, HasSubstr("the chip is on fire"));
  }
  ASSERT_TRUE(becomes_true([&] { return thread.snapshot().failed; }));
  const ClientResponse health = get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(Json::parse(health.body).at("error").at("code"), "engine_failed");
  EXPECT_THAT(health.body, HasSubstr("the chip is on fire"));
  HttpClient late(server->port());
  ASSERT_TRUE(late.post(kCompletions, plain.dump()));
  EXPECT_EQ(late.response().status, 503);
  // What needs no engine goes on.
  EXPECT_EQ(get("/v1/models").status, 200);
  EXPECT_THAT(get("/metrics").body, HasSubstr("vllm:num_requests_running{model_name=\"tiny\"} 0"));
  const EngineSnapshot end = thread.snapshot();
  EXPECT_EQ(end.running + end.waiting, 0);
  EXPECT_EQ(end.free_pages, end.total_pages);
}

}  // namespace
}  // namespace tg::test
