// Case C48: bench-serve against a server that knows its own timing; and the command as a user meets
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "cli/load_client.h"
#include "cli/load_statistics.h"
#include "http_servers.h"
#include "program.h"

namespace tg {
namespace {

using nlohmann::json;
using test::contains;
using test::expect_refusal;
using test::Outcome;
using test::ProgramFolder;
using testing::HasSubstr;

constexpr std::size_t kRequests = 5;  // of each script

double median_of(std::vector<double> values) { return latency_of(std::move(values), {})->median; }

class BenchServe : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<ScriptServer>("fake_sse_server.py"); }
  static void TearDownTestSuite() { server_.reset(); }

  static std::string base() { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  static LoadServer load_server() {
    LoadServer server;
    server.base_url = base();
    return server;
  }
  static json page(const std::string& path) {
    return json::parse(ask_server(load_server(), path).value().body);
  }

  ProgramFolder folder_{"bench_serve"};
  // The program, with the scripted server's address.
  Outcome run(const std::string& arguments, const std::string& prefix = {}) {
    return folder_.run("bench-serve --base-url " + base() + " " + arguments, {}, prefix);
  }

 private:
  static inline std::unique_ptr<ScriptServer> server_;
};

// All scripts at once, five requests each. The times are compared with those at which the server
// really sent, so that a busy machine, which delays it, does not fail the test.
TEST_F(BenchServe, ReportsTheTruthOfEveryScript) {
  const json truth = page("/truth");
  std::vector<std::string> names;
  for (const auto& [name, value] : truth.items()) {
    if (name != "asked") names.push_back(name);
  }
  ASSERT_GE(names.size(), 17U);
  for (const std::string endpoint : {"/v1/completions", "/v1/chat/completions"}) {
    const json before = page("/measured");
    LoadServer server = load_server();
    server.endpoint = endpoint;
    server.most_silent_s = 1;
    // Once is enough for those that have to be waited for.
    if (contains(endpoint, "chat")) {
      std::erase_if(names, [](const auto& n) { return n == "silent" || n == "lingers"; });
    }
    // A few milliseconds apart: the Python server takes them one after another.
    std::vector<double> starts;
    for (std::size_t i = 0; i < kRequests * names.size(); ++i) {
      starts.push_back(0.004 * static_cast<double>(i));
    }
    LoadJob job;
    job.starts_s = starts;
    job.request = [&](std::size_t i) {
      RequestPlan plan;
      plan.model = names[i % names.size()];
      plan.chat = contains(endpoint, "chat");
      plan.form = plan.chat ? PromptForm::kWords : PromptForm::kIds;
      plan.input_len = 16;
      return make_load_request(plan, i);
    };
    const auto run = run_load(server, job);
    ASSERT_TRUE(run) << run.error().text();
    EXPECT_GT(run->most_concurrent, 40);
    const json measured = page("/measured");
    for (std::size_t n = 0; n < names.size(); ++n) {
      const std::string& name = names[n];
      SCOPED_TRACE(name + " " + endpoint);
      const json& expected = truth[name];
      std::vector<double> ttft;
      std::vector<double> e2el;
      std::vector<double> tpot;
      for (std::size_t i = n; i < run->answers.size(); i += names.size()) {
        const LoadAnswer& a = run->answers[i];
        ASSERT_EQ(a.completed(), expected["ok"]) << a.failure;
        EXPECT_EQ(a.failure == "not a byte for 1 s", name == "silent") << a.failure;
        if (!a.completed()) continue;
        EXPECT_EQ(a.output_tokens, expected["tokens"]);
        EXPECT_EQ(a.has_usage, name != "no_usage");
        EXPECT_EQ(a.prompt_tokens, a.has_usage ? 4 : 16);
        EXPECT_EQ(a.tpot_s().has_value(), !expected["tpot_ms"].is_null());
        ttft.push_back(1e3 * a.ttft_s());
        e2el.push_back(1e3 * a.e2el_s());
        if (a.tpot_s()) tpot.push_back(1e3 * *a.tpot_s());
      }
      if (!expected["ok"]) continue;
      ASSERT_EQ(ttft.size(), kRequests);
      std::vector<double> sent_first;
      std::vector<double> sent_last;
      for (std::size_t i = before[name].size(); i < measured[name].size(); ++i) {
        sent_first.push_back(measured[name][i].front());
        sent_last.push_back(measured[name][i].back());
      }
      ASSERT_EQ(sent_first.size(), kRequests);
      EXPECT_NEAR(median_of(ttft), median_of(sent_first), 15.0);
      EXPECT_NEAR(median_of(e2el), median_of(sent_last), 15.0);
      if (tpot.empty()) continue;
      const double tokens = expected["tokens"].get<double>() - 1.0;
      EXPECT_NEAR(median_of(tpot), (median_of(sent_last) - median_of(sent_first)) / tokens, 5.0);
    }
  }
}

TEST_F(BenchServe, FileAndTable) {
  const Outcome outcome =
      run("--model asked --endpoint /v1/chat/completions --num-prompts 6 --max-concurrency 3 "
          "--input-len 20 --output-len 10 --ignore-eos --goodput ttft:5000 tpot:5000 e2el:0.5 "
          "--percentiles 50,99.9 --api-key secret --warmup 1 --output out.json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part : {"6 completed, 0 failed", "up to 3 at once", "goodput 0.00",
                           "time to first token", "p99.9", "24 in, 60 out"}) {
    EXPECT_TRUE(contains(outcome.out, part)) << part << " is not in\n" << outcome.out;
  }
  const json out = folder_.json("out.json");
  EXPECT_EQ(out["completed"], 6);
  EXPECT_EQ(out["failed"], 0);
  EXPECT_EQ(out["total_input_tokens"], 24);
  EXPECT_EQ(out["total_output_tokens"], 60);
  EXPECT_EQ(out["max_concurrent_requests"], 3);
  EXPECT_EQ(out["request_goodput"], 0.0);
  EXPECT_EQ(out["request_rate"], "inf");
  EXPECT_EQ(out["model_id"], "asked");
  EXPECT_NEAR(out["output_throughput"].get<double>() * out["duration"].get<double>(), 60.0, 1e-6);
  EXPECT_GT(out["duration"].get<double>(), 0.075);  // two turns of 38 ms
  EXPECT_GE(out["median_ttft_ms"].get<double>(), 19.0);
  EXPECT_GE(out["p99.9_e2el_ms"].get<double>(), out["p50_e2el_ms"].get<double>());
  for (const char* list : {"input_lens", "output_lens", "ttfts", "itls", "tpots", "e2els",
                           "start_times", "generated_texts", "errors"}) {
    EXPECT_EQ(out[list].size(), 6U) << list;
  }
  EXPECT_EQ(out["itls"][0].size(), 9U);
  const json last = page("/last");
  EXPECT_EQ(last["path"], "/v1/chat/completions");
  EXPECT_EQ(last["authorization"], "Bearer secret");
  EXPECT_EQ(last["body"]["ignore_eos"], true);
  EXPECT_EQ(last["body"]["max_tokens"], 10);
}

TEST_F(BenchServe, TheServersFirstModelIsTheDefault) {
  // Poisson arrivals; a proxy that is not there would fail everything if it were asked.
  const Outcome outcome = run("--num-prompts 2 --request-rate 100 --output out.json",
                              "env http_proxy=http://127.0.0.1:1 all_proxy=http://127.0.0.1:1");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(folder_.json("out.json")["model_id"], "plain");
}

TEST_F(BenchServe, WhenNothingCompletesTheReasonIsTheError) {
  const Outcome outcome = run("--model fail --num-prompts 3 --output out.json");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_TRUE(contains(outcome.err, "none of 3 requests completed: HTTP 500: scripted failure"))
      << outcome.err;
  EXPECT_TRUE(contains(outcome.out, "0 completed, 3 failed")) << outcome.out;
  EXPECT_TRUE(folder_.json("out.json")["mean_ttft_ms"].is_null());
  expect_refusal(run("--model fail --warmup 2"), {"none of 2 warm-up requests", "HTTP 500"});
}

TEST_F(BenchServe, CtrlCPrintsWhatThereIs) {
  const Outcome outcome =
      run("--model one --num-prompts 100000 --max-concurrency 4 --output o.json",
          "timeout --signal INT --preserve-status 0.9");
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "ended by signal 2")) << outcome.err;
  const json out = folder_.json("o.json");
  EXPECT_GE(out["completed"].get<int>(), 4);
  EXPECT_EQ(out["failed"], 0);
  EXPECT_TRUE(contains(outcome.out, "time to first token")) << outcome.out;
}

TEST_F(BenchServe, Refusals) {
  const Listener nobody = listen_on_loopback();
  ::close(nobody.socket);
  const std::string url = "http://127.0.0.1:" + std::to_string(nobody.port);
  expect_refusal(folder_.run("bench-serve --base-url " + url), {url, "no server answers"});
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"--num-prompts 0", "1..1000000"},     {"--request-rate 0", "--request-rate"},
      {"--burstiness 0", "--burstiness"},    {"--percentiles 101", "0..100"},
      {"--goodput itl:5", "ttft:MS"},        {"--endpoint /v1/embeddings", "/v1/embeddings"},
      {"--id-range 9:1", "FIRST:LAST"},      {"--prompts none.json", "none.json"},
      {"--extra-body []", "JSON object"},    {"--output nowhere/o.json", "nowhere"},
      {"--base-url localhost", "localhost"},
  };
  for (const auto& [arguments, part] : cases) {
    expect_refusal(folder_.run("bench-serve " + std::string(arguments)), {part});
  }
  expect_refusal(run("--num-prompts 300", "prlimit --nofile=200:200"),
                 {"300 connections", "200 open files", "--max-concurrency"});
  folder_.write("texts.json", R"(["a"])");
  expect_refusal(folder_.run("bench-serve --prompts texts.json --prefix-len 3"),
                 {"--prefix-len", "--prompts"});
}

}  // namespace
}  // namespace tg
