// llama-tg serve as a program: over the wire, from the first line it prints to its end by a signal.
#include "cli/serve_program.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <memory>
#include <sstream>
#include <thread>

#include "cli/http_servers.h"
#include "cli/program.h"
#include "cli/serve_plan.h"
#include "server/http_client.h"
#include "text/utf8.h"

namespace tg::test {
namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

// One server for all tests that leave it as it was.
const Server& shared_server() {
  static const Server server({"--max-users", "8", "--page-params",
                              R"({"page_block_size": 32, "page_max_num_blocks": 256})"});
  return server;
}

Json case_body(const std::string& name) {
  Json body = Json::parse(read_whole(golden("cases/requests/" + name)));
  body.erase("model");
  return body;
}

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";

// The joined text of a stream; its form is checked on the way.
std::string text_of_stream(const ClientResponse& reply) {
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(contains(reply.head, "text/event-stream")) << reply.head;
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n")) << reply.body;
  std::istringstream lines(reply.body);
  std::string text;
  int reasons = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line == "data: [DONE]") continue;
    EXPECT_TRUE(line.starts_with("data: ")) << line;
    const Json event = Json::parse(line.substr(6));
    const Json& choice = event.at("choices").at(0);
    reasons += choice.at("finish_reason").is_null() ? 0 : 1;
    text += choice.contains("text") ? choice["text"].get<std::string>()
                                    : choice.at("delta").value("content", "");
  }
  EXPECT_EQ(reasons, 1);
  return text;
}
std::string text_of_whole(const ClientResponse& reply) {
  EXPECT_EQ(reply.status, 200) << reply.body;
  const Json choice = json_of(reply).at("choices").at(0);
  return choice.contains("text") ? choice["text"] : choice.at("message").at("content");
}

// Value of a gauge or counter without looking at its labels.
double metric(const Server& server, const std::string& name) {
  std::istringstream lines(server.get("/metrics").body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name) && (line[name.size()] == '{' || line[name.size()] == ' ')) {
      return std::stod(line.substr(line.rfind(' ') + 1));
    }
  }
  ADD_FAILURE() << "no metric " << name;
  return -1.0;
}
bool becomes_idle(const Server& server) {
  return becomes_true(
      [&] {
        return metric(server, "vllm:num_requests_running") == 0.0 &&
               metric(server, "vllm:num_requests_waiting") == 0.0;
      },
      2.0);
}

TEST(Serve, SaysWhoItIs) {
  const Server& server = shared_server();
  EXPECT_EQ(server.get("/health").status, 200);
  const Json model = json_of(server.get("/v1/models")).at("data").at(0);
  EXPECT_EQ(model.at("id"), "hf") << "the folder's name";
  EXPECT_EQ(model.at("max_model_len"), 131072);
  EXPECT_FALSE(json_of(server.get("/version")).at("version").get<std::string>().empty());
  const ClientResponse unknown = server.get("/nothing");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(json_of(unknown).at("error").at("type"), "invalid_request_error");
}

TEST(Serve, CaseC28StreamsEqualWholeAnswers) {
  const Server& server = shared_server();
  std::vector<std::pair<std::string, Json>> requests;
  for (int i = 0; i < 8; ++i) {
    Json completion = case_body("c28_completion_stream.json");
    completion["prompt"] = "Hello " + std::to_string(i);
    Json chat = case_body("c28_chat_stream.json");
    chat["messages"][0]["content"] =
        chat["messages"][0]["content"].get<std::string>() + std::to_string(i);
    requests.emplace_back(kCompletions, completion);
    requests.emplace_back(kChat, chat);
  }
  std::vector<HttpClient> clients;
  for (const auto& [path, body] : requests) clients.push_back(server.send(path, body.dump()));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    auto [path, body] = requests[i];
    body.erase("stream");
    EXPECT_EQ(text_of_stream(response_of(clients[i])), text_of_whole(server.post(path, body)));
  }
}

TEST(Serve, CaseC10SeedsHoldAmongNeighbours) {
  const Server& server = shared_server();
  const Json seeded = case_body("c10_seeded.json");
  const std::string alone = text_of_whole(server.post(kCompletions, seeded));
  std::vector<HttpClient> neighbours;
  for (int i = 0; i < 7; ++i) {
    neighbours.push_back(
        server.send(kCompletions, case_body("c10_unseeded_neighbour.json").dump()));
  }
  EXPECT_EQ(text_of_whole(server.post(kCompletions, seeded)), alone);
  for (HttpClient& neighbour : neighbours) EXPECT_EQ(response_of(neighbour).status, 200);
}

TEST(Serve, CaseC13StopStringsOnBothEndpoints) {
  const Server& server = shared_server();
  Json completion = case_body("c13_baseline.json");
  Json chat = {{"messages", {{{"role", "user"}, {"content", "Hi"}}}},
               {"max_tokens", 40},
               {"temperature", 0},
               {"ignore_eos", true}};
  for (auto& [path, body] :
       {std::pair<const char*, Json&>{kCompletions, completion}, {kChat, chat}}) {
    const std::string text = text_of_whole(server.post(path, body));
    std::vector<std::string> stops;
    for (std::size_t at = 4; at + 4 < text.size(); at += 9) {
      const std::string stop = text.substr(at, 4);
      if (valid_utf8_prefix(stop) == stop.size()) stops.push_back(stop);
    }
    ASSERT_FALSE(stops.empty()) << text;
    for (const std::string& stop : stops) {
      Json stopped = body;
      stopped["stop"] = {stop};
      const std::string until = text.substr(0, text.find(stop));
      EXPECT_EQ(text_of_whole(server.post(path, stopped)), until);
      stopped["stream"] = true;
      EXPECT_EQ(text_of_stream(server.post(path, stopped)), until);
    }
  }
}

TEST(Serve, CaseC26BrokenBodies) {
  const Server& server = shared_server();
  for (const auto& file : std::filesystem::directory_iterator(golden("cases/requests/bad"))) {
    const std::string name = file.path().filename().string();
    std::string bytes = read_whole(file.path().string());
    if (const std::size_t at = bytes.find("MODEL"); at != std::string::npos)
      bytes.replace(at, 5, "hf");
    for (const char* path : {kCompletions, kChat}) {
      if (name.starts_with('a') && path == kChat) continue;
      HttpClient client = server.send(path, bytes);
      const ClientResponse reply = response_of(client);
      EXPECT_EQ(reply.status, name.starts_with('a') && !name.starts_with("a5") ? 200 : 400) << name;
      EXPECT_EQ(valid_utf8_prefix(reply.body), reply.body.size()) << name;
    }
  }
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(Serve, CaseC30ClientsThatHangUp) {
  const Server& server = shared_server();
  ASSERT_TRUE(becomes_idle(server));
  const double pages_before = metric(server, "vllm:kv_cache_usage_perc");
  const std::string long_stream = case_body("c30_long_stream.json").dump();
  HttpClient stream = server.send(kCompletions, long_stream);
  wait_for_events(stream, 3);
  stream.close();
  EXPECT_TRUE(becomes_idle(server));
  HttpClient plain = server.send(kCompletions, case_body("c30_long_plain.json").dump());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  plain.close();
  EXPECT_TRUE(becomes_idle(server));
  const Json long_prompt = {{"prompt", std::vector<int>(4000, 70)}, {"max_tokens", 100}};
  server.send(kCompletions, long_prompt.dump()).close();
  for (int i = 0; i < 40; ++i) server.send(kCompletions, long_stream).close();
  EXPECT_TRUE(becomes_idle(server));
  EXPECT_EQ(metric(server, "vllm:kv_cache_usage_perc"), pages_before);
  EXPECT_EQ(server.post(kCompletions, case_body("c15_small.json")).status, 200);
}

TEST(Serve, ASignalLetsAnswersEnd) {
  const ProgramFolder folder("serve");
  {
    Server server(
        {"--grace-s", "20", "--access-log", folder.file("access.log"), "--served-model-name", "m"});
    EXPECT_EQ(json_of(server.get("/v1/models")).at("data").at(0).at("id"), "m");
    Json request = {
        {"prompt", "Hi"}, {"max_tokens", 300}, {"ignore_eos", true}, {"temperature", 0}};
    const std::string whole = text_of_whole(server.post(kCompletions, request));
    request["stream"] = true;
    HttpClient client = server.send(kCompletions, request.dump());
    wait_for_events(client, 2);
    server.signal(SIGTERM);
    EXPECT_EQ(text_of_stream(response_of(client)), whole) << "what was begun is finished";
    EXPECT_EQ(server.wait(), 0);
  }
  std::istringstream lines(read_whole(folder.file("access.log")));
  std::vector<int> statuses;
  for (std::string line; std::getline(lines, line);)
    statuses.push_back(Json::parse(line).at("status"));
  EXPECT_EQ(statuses, (std::vector<int>{200, 200, 200}));
}

// Of many streams some are being written to when the engine ends, in most phases of a step.
TEST(Serve, ASecondSignalIsToldToEveryStream) {
  const Json endless = {
      {"prompt", "Hi"}, {"max_tokens", 100000}, {"ignore_eos", true}, {"stream", true}};
  for (const int pause_ms : {0, 60, 90, 105, 118}) {
    Server server({"--grace-s", "60"});
    std::vector<HttpClient> clients;
    for (int i = 0; i < 24; ++i) clients.push_back(server.send(kCompletions, endless.dump()));
    for (HttpClient& client : clients) wait_for_events(client, 2);
    server.signal(SIGTERM);
    EXPECT_TRUE(becomes_true([&] { return server.get("/health").status == 503; })) << "asked now";
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    const auto begin = steady_clock::now();
    server.signal(SIGTERM);
    for (HttpClient& client : clients) {
      const ClientResponse cut = response_of(client);
      EXPECT_TRUE(contains(cut.body, "shutting_down")) << cut.body;
    }
    EXPECT_EQ(server.wait(), 0);
    EXPECT_LT(seconds_since(begin), 20.0) << "of a grace of 60 s";
  }
}

TEST(ServePlan, PagesAreForCommonUseAndForOneLongSequenceIfTheyFit) {
  const std::int64_t plenty = 1 << 30;
  EXPECT_EQ(pages_to_share(32, 2048, 64, plenty), 32 * 32);
  EXPECT_EQ(pages_to_share(32, 512, 64, plenty), 32 * 8) << "users cannot fill more";
  EXPECT_EQ(pages_to_share(32, 131072, 64, plenty), 2048) << "one long sequence";
  EXPECT_EQ(pages_to_share(32, 131072, 64, 100), 100) << "the memory's limit";
  EXPECT_EQ(pages_to_share(1, 100, 64, 0), 1);
}

TEST(Serve, RefusesBeforeItLoads) {
  const ProgramFolder folder("serve_refused");
  const std::string serve = "serve --model '" + golden("tiny/hf") + "' ";
  const Listener taken = listen_on_loopback();
  expect_refusal(folder.run(serve + "--port " + std::to_string(taken.port)),
                 {std::to_string(taken.port)});
  ::close(taken.socket);
  expect_refusal(folder.run(serve + "--host 192.0.2.1"), {"192.0.2.1", "assign"});
  expect_refusal(folder.run(serve + "--host ''"), {"host", "empty"});
  expect_refusal(folder.run(serve + "--api-key right --api-key ''"), {"--api-key", "empty"});
  expect_refusal(folder.run(serve + "--tls-cert x.pem"), {"--tls-key"});
  folder.write("bad.pem", "no PEM");
  expect_refusal(folder.run(serve + "--port 0 --tls-cert none.pem --tls-key bad.pem"),
                 {"none.pem"});
  expect_refusal(folder.run(serve + "--port 0 --tls-cert bad.pem --tls-key bad.pem"),
                 {"TLS certificate bad.pem"});
  expect_refusal(folder.run(serve + "--max-seq-len 200000"), {"200000", "131072"});
  expect_refusal(folder.run(serve + "--max-users 64 --max-batched-tokens 32"), {"64", "32"});
  expect_refusal(folder.run(serve + "--port 0 --access-log /no/such/folder/log"),
                 {"/no/such/folder"});
  expect_refusal(folder.run(serve + "--port 0 --temperature 3"), {"temperature 3"});
}

}  // namespace
}  // namespace tg::test
