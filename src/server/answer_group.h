// What: the answers of one HTTP request, one per prompt and choice: hands them to the engine,
//   gathers what comes and writes it to the client, whole or as a stream. Ends all of them when the
//   client goes away or one of them fails.
// Who owns: its AnswerStreams, which the engine holds until their end.
// Thread: any; one lock per request.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine_thread.h"
#include "server/answer_format.h"
#include "server/answer_stream.h"
#include "server/api_error.h"
#include "server/http_server.h"

namespace tg {

// One answer to come.
struct AnswerTask {
  Request request;
  AnswerStreamOptions stream;
};

struct AnswerGroupOptions {
  bool stream = false;
  std::string prompt_field;  // what a refusal for length is about: "prompt", "messages"
  // Why the engine takes nothing any more; none: it is only full.
  std::function<std::optional<ApiError>()> unavailable;
  // Runs long work elsewhere; false: not now.
  std::function<bool(std::function<void()>)> aside;
};

class AnswerGroup : public AnswerReceiver, public std::enable_shared_from_this<AnswerGroup> {
 public:
  AnswerGroup(std::shared_ptr<HttpExchange> exchange, std::unique_ptr<AnswerFormat> format,
              AnswerGroupOptions options);

  // Hands all to the engine. A refusal of one is the answer to all.
  void start(EngineThread& engine, std::vector<AnswerTask> tasks);

  void on_piece(std::int64_t choice, AnswerPiece piece) override;
  void on_end(std::int64_t choice, AnswerPiece piece, const AnswerEnd& end) override;

 private:
  struct Gathered {
    WholeAnswer answer;
    bool counts_prompt = true;
  };
  Status submit(std::vector<AnswerTask>& tasks);
  void client_is_gone();
  // With the lock held.
  void close();
  void fail(const ApiError& error);
  void answer_whole();

  const std::shared_ptr<HttpExchange> exchange_;
  const std::unique_ptr<AnswerFormat> format_;
  const AnswerGroupOptions options_;

  std::mutex mutex_;
  EngineThread* engine_ = nullptr;
  std::vector<RequestTicket> tickets_;
  std::vector<Gathered> gathered_;  // by choice
  std::size_t ended_ = 0;
  Usage usage_;
  bool closed_ = false;  // answered, failed, or nobody is there
};

}  // namespace tg
