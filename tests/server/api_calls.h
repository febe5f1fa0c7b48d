// What: the API without sockets: requests go to Api::handle() as an HTTP server would give them,
//   answers come from a real engine on the tiny model. Case files of the field are read with their
//   ids turned into the tiny vocabulary's.
// Who owns: the test. Thread: the test's.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_thread.h"
#include "model/test_model.h"
#include "server/api.h"
#include "text/chat_template.h"

namespace tg::test {

using Json = nlohmann::json;

// The client's side of one request.
class FakeExchange : public HttpExchange {
 public:
  void respond(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done_) << "answered twice";
    head = std::move(response);
    done_ = true;
    changed_.notify_all();
  }
  void start_stream(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done_ || streamed) << "answered twice";
    streamed = true;
    if (!response.body.empty()) pieces.push_back(std::move(response.body));
    head = std::move(response);
    changed_.notify_all();
  }
  bool write(std::string piece) override {
    const std::lock_guard lock(mutex_);
    EXPECT_TRUE(streamed);
    if (gone_) return false;
    pieces.push_back(std::move(piece));
    changed_.notify_all();
    return true;
  }
  void finish() override {
    const std::lock_guard lock(mutex_);
    EXPECT_TRUE(streamed);
    done_ = true;
    changed_.notify_all();
  }
  void on_gone(std::function<void()> callback) override {
    {
      const std::lock_guard lock(mutex_);
      on_gone_ = callback;
      if (!gone_) return;
    }
    callback();
  }

  void hang_up() {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      if (done_ || gone_) return;
      gone_ = true;
      callback = on_gone_;
    }
    if (callback) callback();
  }
  void wait_for_end() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [this] { return done_; }));
  }
  void wait_for_pieces(std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60),
                                  [&] { return done_ || pieces.size() >= count; }));
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }

  // For the test's thread once all has ended.
  HttpResponse head;
  bool streamed = false;
  std::vector<std::string> pieces;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> on_gone_;
  bool done_ = false;
  bool gone_ = false;
};

// What came back, read.
struct Answer {
  int status = 0;
  Json body;                 // of a whole answer
  std::vector<Json> events;  // of a stream, without [DONE]

  std::string text(std::size_t choice = 0) const {
    if (events.empty()) {
      const Json& c = body.at("choices").at(choice);
      return c.contains("text") ? c["text"].get<std::string>()
                                : c.at("message").at("content").get<std::string>();
    }
    std::string joined;
    for (const Json& event : events) {
      for (const Json& c : event.at("choices")) {
        if (c.at("index").get<std::size_t>() != choice) continue;
        if (c.contains("text")) joined += c["text"].get<std::string>();
        const Json content = c.contains("delta") ? c["delta"].value("content", Json()) : Json();
        if (content.is_string()) joined += content.get<std::string>();
      }
    }
    return joined;
  }
  std::string finish_reason(std::size_t choice = 0) const {
    if (events.empty()) return body.at("choices").at(choice).at("finish_reason");
    std::vector<std::string> reasons;
    for (const Json& event : events) {
      for (const Json& c : event.at("choices")) {
        if (c.at("index").get<std::size_t>() == choice && !c.at("finish_reason").is_null()) {
          reasons.push_back(c["finish_reason"]);
        }
      }
    }
    EXPECT_EQ(reasons.size(), 1U) << "one chunk of a choice has the reason";
    return reasons.empty() ? "" : reasons.front();
  }
  std::int64_t usage(const char* field) const { return body.at("usage").at(field); }
  std::string error() const { return body.at("error").at("message"); }
  // "" for null.
  std::string param() const {
    const Json& param = body.at("error").at("param");
    return param.is_null() ? "" : param.get<std::string>();
  }
};

// Server-sent events, each `data: ` and one line of JSON, the last one [DONE].
inline std::vector<Json> read_events(const std::string& stream) {
  std::vector<Json> events;
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    EXPECT_NE(end, std::string::npos) << "an event that does not end";
    if (end == std::string::npos) break;
    lines.push_back(stream.substr(at, end - at));
    at = end + 2;
  }
  EXPECT_TRUE(!lines.empty() && lines.back() == "data: [DONE]");
  if (!lines.empty()) lines.pop_back();
  for (const std::string& line : lines) {
    EXPECT_TRUE(line.starts_with("data: ") && line.find('\n') == std::string::npos) << line;
    events.push_back(Json::parse(line.substr(6), nullptr, /*allow_exceptions=*/false));
    EXPECT_FALSE(events.back().is_discarded()) << line;
  }
  return events;
}

inline Answer read_answer(FakeExchange& exchange) {
  exchange.wait_for_end();
  Answer answer;
  answer.status = exchange.head.status;
  if (!exchange.streamed) {
    answer.body = Json::parse(exchange.head.body, nullptr, /*allow_exceptions=*/false);
    EXPECT_FALSE(answer.body.is_discarded()) << exchange.head.body;
    return answer;
  }
  EXPECT_TRUE(exchange.head.content_type.starts_with("text/event-stream"));
  std::string stream;
  for (const std::string& piece : exchange.pieces) stream += piece;
  answer.events = read_events(stream);
  return answer;
}

// Ids of the Llama 3 vocabulary in the tiny one: special tokens stay what they are.
inline std::int64_t tiny_id(std::int64_t id) { return id >= 128000 ? id - 128000 + 768 : id % 512; }

inline Json for_tiny(Json body) {
  if (body.contains("model") && body["model"] == "MODEL") body["model"] = "tiny";
  if (body.contains("prompt") && body["prompt"].is_array() && !body["prompt"].empty()) {
    for (Json& id : body["prompt"]) {
      if (id.is_number()) id = tiny_id(id.get<std::int64_t>());
    }
  }
  if (body.contains("logit_bias")) {
    Json bias = Json::object();
    for (const auto& [id, value] : body["logit_bias"].items()) {
      bias[std::to_string(tiny_id(std::stoll(id)))] = value;
    }
    body["logit_bias"] = bias;
  }
  return body;
}

inline std::string case_path(const std::string& name) {
  return std::string(TG_SOURCE_DIR) + "/tests/golden/cases/requests/" + name;
}
inline std::string read_case_bytes(const std::string& name) {
  std::ifstream in(case_path(name), std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}
inline Json read_case(const std::string& name) {
  return for_tiny(Json::parse(read_case_bytes(name)));
}
// Of a .jsonl file: objects with "name", "path", "body", ...
inline std::vector<Json> read_cases(const std::string& name) {
  std::ifstream in(case_path(name));
  std::vector<Json> cases;
  for (std::string line; std::getline(in, line);) {
    cases.push_back(Json::parse(line));
    cases.back()["body"] = for_tiny(cases.back()["body"]);
  }
  EXPECT_FALSE(cases.empty()) << name;
  return cases;
}

struct ApiSetting {
  std::int64_t positions = 4096;  // that the pages hold
  std::int64_t block = 64;
  std::int64_t max_context = 131072;
  EngineOptions engine = {.max_users = 8};
  std::int64_t max_waiting = 256;
  std::string chat_template = "llama3";
  std::vector<std::string> keys = {};
};

inline ServedModel tiny_served(const ApiSetting& setting) {
  ServedModel served;
  served.id = "tiny";
  served.root = "/models/tiny";
  served.created = 1700000000;
  served.max_context = setting.max_context;
  auto tokenizer = load_tokenizer_json(tiny("hf/tokenizer.json"));
  TG_CHECK(tokenizer);
  served.tokenizer = *tokenizer;
  auto chat_template = load_chat_template(setting.chat_template);
  TG_CHECK(chat_template);
  served.chat_template = std::make_shared<const ChatTemplate>(std::move(*chat_template));
  served.chat_template_name = setting.chat_template;
  served.bos_text = "<|begin_of_text|>";
  served.eos_text = "<|eot_id|>";
  served.stop_ids = {769, 776, 777};
  return served;
}

// The model, an engine on its thread and the API over them.
class TestApi {
 public:
  explicit TestApi(const ApiSetting& setting = {}) : setting_(setting), model_(model_for(setting)) {
    ApiOptions options;
    options.keys = setting.keys;
    options.sampling.temperature = 1.0;
    options.version = "1.2.3";
    options.metrics = &metrics_;
    api_ = std::make_unique<Api>(tiny_served(setting), std::move(options));
  }
  ~TestApi() {
    if (thread_ != nullptr) thread_->stop(0.0);
    api_.reset();
  }

  // What the command does when the weights are there.
  TestApi& load() { return load_on(model_->runner()); }
  TestApi& load_on(ModelRunner& runner) {
    auto engine = Engine::create(runner, setting_.engine);
    EXPECT_TRUE(engine.has_value()) << engine.error().text();
    engine_ = std::move(*engine);
    const std::int64_t most = engine_->max_tokens_per_request();
    thread_ = std::make_unique<EngineThread>(
        *engine_, EngineThreadOptions{.max_waiting = setting_.max_waiting});
    api_->serve_with(*thread_, most);
    return *this;
  }

  Api& api() { return *api_; }
  EngineThread& thread() { return *thread_; }

  std::shared_ptr<FakeExchange> send(const std::string& path, const std::string& body,
                                     const HttpHeaders& headers = {},
                                     const std::string& method = "POST") {
    auto exchange = std::make_shared<FakeExchange>();
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.headers = headers;
    request.id = std::to_string(++requests_);
    api_->handle(std::move(request), exchange);
    return exchange;
  }
  std::shared_ptr<FakeExchange> send(const std::string& path, const Json& body) {
    return send(path, body.dump());
  }
  Answer post(const std::string& path, const Json& body) {
    return read_answer(*send(path, body.dump()));
  }
  Answer get(const std::string& path, const HttpHeaders& headers = {}) {
    return read_answer(*send(path, std::string(), headers, "GET"));
  }
  // Of the line of /metrics that begins so.
  double metric(const std::string& line_start) {
    const auto exchange = send("/metrics", std::string(), {}, "GET");
    exchange->wait_for_end();
    std::istringstream lines(exchange->head.body);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(line_start)) return std::stod(line.substr(line.rfind(' ') + 1));
    }
    ADD_FAILURE() << line_start << " is not in\n" << exchange->head.body;
    return -1.0;
  }
  // In order, sent before any answer is awaited.
  std::vector<Answer> post_all(const std::string& path, const std::vector<Json>& bodies) {
    std::vector<std::shared_ptr<FakeExchange>> exchanges;
    for (const Json& body : bodies) exchanges.push_back(send(path, body.dump()));
    std::vector<Answer> answers;
    for (const auto& exchange : exchanges) answers.push_back(read_answer(*exchange));
    return answers;
  }

  // Whether within 2 seconds nobody is in the engine and all pages are back.
  bool becomes_idle() {
    for (int i = 0; i < 400; ++i) {
      const EngineSnapshot now = thread_->snapshot();
      if (now.running == 0 && now.waiting == 0 && now.free_pages == now.total_pages) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

 private:
  // Loaded once for each size of the page pool: it takes a tenth of a second.
  static std::shared_ptr<TestModel> model_for(const ApiSetting& setting) {
    static std::map<std::string, std::shared_ptr<TestModel>> models;
    auto& model = models[std::to_string(setting.positions) + "/" + std::to_string(setting.block)];
    if (model == nullptr) {
      ModelSetting model_setting;
      model_setting.positions = setting.positions;
      model_setting.block = setting.block;
      model = std::make_shared<TestModel>(tiny("hf"), model_setting);
    }
    return model;
  }

  ApiSetting setting_;
  Metrics metrics_{"tiny"};
  std::shared_ptr<TestModel> model_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<EngineThread> thread_;
  std::unique_ptr<Api> api_;
  std::int64_t requests_ = 0;
};

inline constexpr const char* kCompletions = "/v1/completions";
inline constexpr const char* kChat = "/v1/chat/completions";

// The body with other or further fields.
inline Json with(Json body, const Json& fields) {
  body.update(fields);
  return body;
}
inline Json streamed(const Json& body) { return with(body, {{"stream", true}}); }

// A refusal in OpenAI's form.
inline void expect_error(const Answer& answer, int status, const std::string& param = {}) {
  EXPECT_EQ(answer.status, status) << answer.body.dump();
  ASSERT_TRUE(answer.body.is_object() && answer.body.contains("error")) << answer.body.dump();
  const Json& error = answer.body["error"];
  EXPECT_FALSE(error.at("message").get<std::string>().empty());
  EXPECT_EQ(error.at("type"), status < 500 ? "invalid_request_error" : "server_error");
  EXPECT_TRUE(error.at("code").is_null() || error["code"].is_string());
  EXPECT_TRUE(error.contains("param"));
  if (!param.empty()) {
    EXPECT_TRUE(answer.param().starts_with(param)) << answer.body.dump();
  }
}

}  // namespace tg::test
