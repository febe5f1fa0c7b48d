// The part of Api that makes answers: from a read request to tasks for the engine.
#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "server/answer_group.h"
#include "server/api.h"
#include "server/chat_response.h"
#include "server/completion_request.h"
#include "server/completion_response.h"

namespace tg {
namespace {

std::uint64_t random_seed() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32) | entropy();
}

std::int64_t now_in_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

struct Api::Prompt {
  std::vector<TokenId> ids;
  bool echo = false;
  bool from_text = false;
  bool hides_first = false;  // the first id is a BOS that the text does not have
};

AnswerHead Api::head_of(const AnswerRequest& request, std::string id) const {
  AnswerHead head;
  head.id = std::move(id);
  head.created = now_in_seconds();
  head.model = model_.id;
  head.tokenizer = model_.tokenizer;
  head.logprobs = request.sampling.top_logprobs >= 0;
  head.include_usage = request.include_usage;
  return head;
}

Status Api::complete(const RequestJson& body, const std::string& id,
                     const std::shared_ptr<HttpExchange>& exchange) {
  TG_ASSIGN(CompletionRequest read, read_completion_request(body, options_.sampling));
  const Tokenizer& tokenizer = *model_.tokenizer;
  std::vector<Prompt> prompts;
  for (CompletionRequest::Prompt& given : read.prompts) {
    Prompt prompt;
    prompt.echo = read.echo;
    if (auto* ids = std::get_if<std::vector<TokenId>>(&given)) {
      prompt.ids = std::move(*ids);
    } else {
      const std::string& text = std::get<std::string>(given);
      prompt.from_text = true;
      prompt.ids = tokenizer.encode_prompt(text, SpecialTokens::kParse);
      // An empty text is BOS alone, also for models whose prompts have none.
      if (prompt.ids.empty() && tokenizer.bos_id()) prompt.ids.push_back(*tokenizer.bos_id());
      prompt.hides_first = !prompt.ids.empty() && tokenizer.bos_id() == prompt.ids.front() &&
                           !text.starts_with(tokenizer.token_bytes(prompt.ids.front()));
    }
    prompts.push_back(std::move(prompt));
  }
  auto format = std::make_unique<CompletionFormat>(head_of(read.answer, "cmpl-" + id));
  AnswerRequest& answer = read.answer;
  if (!answer.max_tokens) {
    std::size_t longest = 0;
    for (const Prompt& prompt : prompts) longest = std::max(longest, prompt.ids.size());
    const std::int64_t room = max_tokens_ - static_cast<std::int64_t>(longest);
    answer.max_tokens = std::clamp<std::int64_t>(room, 1, kDefaultCompletionTokens);
    answer.max_tokens = std::max(*answer.max_tokens, answer.min_tokens);
  }
  return start(answer, prompts, "prompt", std::move(format), exchange);
}

Status Api::chat(const RequestJson& body, const std::string& id,
                 const std::shared_ptr<HttpExchange>& exchange) {
  TG_ASSIGN(const ChatRequest read, read_chat_request(body, options_.sampling));
  Prompt prompt;
  TG_ASSIGN(prompt.ids, encode_messages(model_, read.chat));
  std::vector<std::string> tools;
  for (const RequestJson& tool : read.chat.tools) tools.push_back(tool_name(tool));
  auto format = std::make_unique<ChatFormat>(head_of(read.answer, "chatcmpl-" + id),
                                             std::move(tools), !read.parallel_tool_calls);
  std::vector<Prompt> prompts;
  prompts.push_back(std::move(prompt));
  return start(read.answer, prompts, "messages", std::move(format), exchange);
}

Status Api::start(const AnswerRequest& request, const std::vector<Prompt>& prompts,
                  const char* prompt_field, std::unique_ptr<AnswerFormat> format,
                  const std::shared_ptr<HttpExchange>& exchange) {
  const auto answers = static_cast<std::int64_t>(prompts.size()) * request.choices;
  if (answers > options_.most_answers) {
    return field_error(prompt_field, "{} prompts times n {} are {} answers; {} are the most",
                       prompts.size(), request.choices, answers, options_.most_answers);
  }
  TG_ASSIGN(const std::shared_ptr<const Grammar> grammar, forms_.grammar(request.form));
  std::vector<AnswerTask> tasks;
  for (const Prompt& prompt : prompts) {
    const std::optional<std::uint64_t> asked = request.seed ? request.seed : options_.seed;
    const std::uint64_t seed = asked ? *asked : random_seed();
    for (std::int64_t i = 0; i < request.choices; ++i) {
      AnswerTask task;
      Request& engine_request = task.request;
      engine_request.prompt_ids = prompt.ids;
      engine_request.max_new_tokens = request.max_tokens;
      engine_request.sampling = request.sampling;
      engine_request.sampling.seed = seed + static_cast<std::uint64_t>(i);
      engine_request.stop_ids = model_.stop_ids;
      engine_request.stop_ids.insert(engine_request.stop_ids.end(), request.stop_token_ids.begin(),
                                     request.stop_token_ids.end());
      engine_request.ignore_eos = request.ignore_eos;
      engine_request.min_new_tokens = request.min_tokens;
      engine_request.priority = request.priority;
      task.stream.tokenizer = model_.tokenizer;
      task.stream.choice = static_cast<std::int64_t>(tasks.size());
      task.stream.stop = request.stop;
      task.stream.keeps_stop_text = request.keeps_stop_text;
      task.stream.min_tokens = request.min_tokens;
      task.stream.skip_special = request.skip_special;
      task.stream.logprobs = request.sampling.top_logprobs >= 0;
      task.stream.mask = forms_.mask(grammar);
      task.stream.counts_prompt = i == 0;
      task.stream.metrics = options_.metrics;
      if (prompt.echo) {
        task.stream.echo_ids = prompt.ids;
        task.stream.echo_special = prompt.from_text;
        task.stream.echo_hides_first = prompt.hides_first;
        engine_request.score_prompt = task.stream.logprobs;
        engine_request.prompt_top_n = std::max(0, request.sampling.top_logprobs);
      }
      tasks.push_back(std::move(task));
    }
  }
  AnswerGroupOptions options;
  options.stream = request.stream;
  options.prompt_field = prompt_field;
  options.unavailable = [this] { return unavailable(); };
  options.aside = [this](std::function<void()> work) { return work_.post(std::move(work)); };
  const auto group = std::make_shared<AnswerGroup>(exchange, std::move(format), std::move(options));
  group->start(*engine_.load(), std::move(tasks));
  return {};
}

}  // namespace tg
