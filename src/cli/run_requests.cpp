#include "cli/run_requests.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <optional>
#include <utility>

#include "text/stream_decoder.h"

namespace tg {
namespace {

class TextSink : public TokenSink {
 public:
  TextSink(const Tokenizer* tokenizer, const UserRequest& request,
           std::function<void(const std::string&)> on_text)
      : on_text_(std::move(on_text)) {
    answer.prompt = request.prompt;
    answer.prompt_ids = request.prompt_ids;
    answer.sampling = request.sampling;
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/true);
  }

  bool on_token(const TokenEvent& event) override {
    if (answer.sampling.top_logprobs >= 0) answer.logprobs.push_back(event.sampled);
    if (!event.is_stop_id) {
      answer.output_ids.push_back(event.sampled.token);
      if (decoder_) add(decoder_->push(event.sampled.token));
    }
    return true;
  }

  void on_finish(const FinishEvent& event) override {
    if (decoder_) add(decoder_->flush());
    answer.finish_reason = name(event.reason);
    answer.error = event.reason == FinishReason::kError ? event.error.text() : std::string();
    answer.ttft_s = event.timing.ttft_s();
    answer.speculation = event.speculation;
    for (const double time : event.timing.token_times_s) {
      answer.token_times_s.push_back(time - event.timing.submitted_s);
    }
  }

  UserAnswer answer;

 private:
  void add(const std::string& text) {
    if (text.empty()) return;
    answer.text += text;
    if (on_text_) on_text_(text);
  }

  std::function<void(const std::string&)> on_text_;
  std::optional<StreamDecoder> decoder_;
};

}  // namespace

Result<std::vector<UserAnswer>> run_requests(Engine& engine, const Tokenizer* tokenizer,
                                             std::span<const UserRequest> requests,
                                             const RunRequestsOptions& options) {
  std::vector<std::unique_ptr<TextSink>> sinks;
  std::vector<RequestId> ids;
  ids.reserve(requests.size());
  for (std::size_t u = 0; u < requests.size(); ++u) {
    std::function<void(const std::string&)> on_text;
    if (options.on_text) {
      on_text = [&options, u](const std::string& text) { options.on_text(u, text); };
    }
    sinks.push_back(std::make_unique<TextSink>(tokenizer, requests[u], std::move(on_text)));
    Request request;
    request.prompt_ids = requests[u].prompt_ids;
    request.max_new_tokens = options.max_new_tokens;
    request.sampling = requests[u].sampling;
    request.stop_ids = options.stop_ids;
    request.ignore_eos = options.ignore_eos;
    Result<RequestId> id = engine.submit(std::move(request), sinks.back().get());
    if (!id) {
      for (const RequestId earlier : ids) engine.cancel(earlier);
      engine.run_until_idle();
      return at_place(std::move(id).error(), fmt::format("user {}", u));
    }
    ids.push_back(*id);
  }
  bool cancelled = false;
  while (engine.step()) {
    if (options.on_step) options.on_step(engine.last_step());
    if (options.interrupted != nullptr && options.interrupted->load() && !cancelled) {
      cancelled = true;
      for (const RequestId id : ids) engine.cancel(id);
    }
  }
  if (const Error& why = engine.stats().proposer_error; !why.message.empty()) {
    spdlog::warn("nothing is guessed any more, as the draft model failed: {}", why.text());
  }
  std::vector<UserAnswer> answers;
  answers.reserve(sinks.size());
  for (const auto& sink : sinks) answers.push_back(std::move(sink->answer));
  return answers;
}

}  // namespace tg
