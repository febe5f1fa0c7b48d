// llama-tg chat: a conversation in the terminal. Ctrl-C stops an answer, Ctrl-D ends.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/performance.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "cli/run_requests.h"
#include "cli/sampling_options.h"
#include "cli/speculation_options.h"

namespace tg {
namespace {

struct ChatOptions {
  ModelOptions model;
  SamplingOptions sampling;
  SpeculativeOptions speculative;
  std::string system;
  std::int64_t max_generated_tokens = 512;
  std::int64_t max_seq_len = 8192;
};

// The signal handler's only way to speak; lock-free, so a handler may write it.
std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void on_interrupt(int) { interrupted.store(true); }

// Ctrl-C is ours while this lives. Without SA_RESTART, so that a read at the prompt comes back.
class InterruptHandler {
 public:
  InterruptHandler() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptHandler() { sigaction(SIGINT, &before_, nullptr); }
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

 private:
  struct sigaction before_ = {};
};

// Lines of stdin, read unbuffered so that an interrupted read loses nothing.
class LineReader {
 public:
  enum class Outcome { kLine, kInterrupted, kEnd };

  Outcome read(std::string& line) {
    for (;;) {
      if (const std::size_t end = held_.find('\n'); end != std::string::npos) {
        line = held_.substr(0, end);
        held_.erase(0, end + 1);
        if (line.ends_with('\r')) line.pop_back();  // a file from elsewhere
        return Outcome::kLine;
      }
      char bytes[4096];
      const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof(bytes));
      if (count < 0 && errno == EINTR) {
        held_.clear();
        return Outcome::kInterrupted;
      }
      if (count <= 0) {
        line = std::move(held_);
        held_.clear();
        return line.empty() ? Outcome::kEnd : Outcome::kLine;
      }
      held_.append(bytes, static_cast<std::size_t>(count));
    }
  }

 private:
  std::string held_;
};

void print_now(const std::string& text) {
  print_text(stdout, text);
  std::fflush(stdout);
}

// One question and its answer, added to `turns`. A question that does not fit is said and dropped.
Status answer(const ChatOptions& o, const OpenedModel& model, Engine& engine,
              const std::string& question, std::vector<ChatTurn>& turns) {
  turns.push_back({"user", question});
  UserRequest request;
  Result<std::vector<TokenId>> ids = encode_chat(model, turns);
  if (!ids) {  // bytes that are no text, or a template that refuses this turn
    turns.pop_back();
    print_error("{}; the line is dropped\n", ids.error().text());
    return {};
  }
  request.prompt_ids = std::move(*ids);
  request.prompt = question;
  request.sampling = with_seed(o.sampling);
  const std::int64_t room =
      engine.max_tokens_per_request() - static_cast<std::int64_t>(request.prompt_ids.size());
  if (room < 1) {
    turns.pop_back();
    print_error("The conversation has {} tokens; {} are the most. /reset starts anew.\n",
                request.prompt_ids.size(), engine.max_tokens_per_request());
    return {};
  }
  RunRequestsOptions options;
  options.max_new_tokens = std::min(o.max_generated_tokens, room);
  options.stop_ids = model.stop_ids;
  options.interrupted = &interrupted;
  options.on_text = [](std::size_t, const std::string& text) { print_now(text); };
  interrupted.store(false);
  TG_ASSIGN(const std::vector<UserAnswer> answers,
            run_requests(engine, model.tokenizer.get(), {&request, 1}, options));
  const UserAnswer& a = answers[0];
  if (!a.error.empty()) return error(ErrorCode::kInternal, "{}", a.error);
  print_now(a.finish_reason == "cancelled" ? " [stopped]\n" : "\n");
  turns.push_back({"assistant", a.text});
  if (::isatty(STDERR_FILENO) == 1) {
    const Performance p = measure(answers);
    const std::string guesses = speculation_text(p.speculation);
    print_error("\x1b[2m[{} + {} tokens, first after {:.0f} ms, {:.1f} tok/s{}{}]\x1b[0m\n",
                p.prompt_tokens, p.output_tokens, 1e3 * p.ttft.mean, p.decode_tokens_per_s,
                guesses.empty() ? "" : "; ", guesses);
  }
  return {};
}

Result<int> run(ChatOptions& o) {
  TG_ASSIGN(RunSettings settings, run_settings(o.model));
  TG_RETURN_IF_ERROR(join_ranks(o.model, settings));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  const ModelConfig& config = model.source->config();
  TG_RETURN_IF_ERROR(validate(o.sampling.params, config.vocab));
  TG_ASSIGN(const Speculation speculation,
            open_speculation(o.speculative, o.model, settings, model));
  std::vector<ChatTurn> start;
  if (!o.system.empty()) start.push_back({"system", o.system});
  // Whether this model can chat at all, before it is loaded.
  std::vector<ChatTurn> trial = start;
  trial.push_back({"user", "Hello"});
  TG_RETURN_IF_ERROR(encode_chat(model, trial));
  ContextAsk ask;
  ask.domains = settings.mesh.shape.cols;
  ask.max_seq_len = std::min(o.max_seq_len, config.max_context);
  TG_ASSIGN(const ContextPlan plan, plan_context(config, ask));
  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load(model, settings, plan, 1, speculation));
  if (!loaded->leads()) return loaded->serve();

  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal) {
    print_error("{} is loaded. Ctrl-C stops an answer, Ctrl-D ends, /reset starts anew.\n",
                config.name.empty() ? model.path : config.name);
  }
  const InterruptHandler handler;
  LineReader reader;
  std::vector<ChatTurn> turns = start;
  for (std::string line;;) {
    if (terminal) print_now("> ");
    const LineReader::Outcome outcome = reader.read(line);
    if (outcome == LineReader::Outcome::kEnd) break;
    if (outcome == LineReader::Outcome::kInterrupted) {
      print_now("\n");
      continue;
    }
    if (line.empty()) continue;
    if (line == "/reset") {
      turns = start;
      continue;
    }
    TG_RETURN_IF_ERROR(answer(o, model, loaded->engine(), line, turns));
  }
  if (terminal) print_now("\n");
  return 0;
}

}  // namespace

void add_chat_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<ChatOptions>();
  CLI::App* app = program.add_subcommand(
      "chat", "a conversation in the terminal; Ctrl-C stops an answer, Ctrl-D ends");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  o->sampling.params.temperature = 0.7;
  o->sampling.params.top_p = 0.9;
  add_sampling_options(*app, o->sampling);
  add_speculative_options(*app, o->speculative);
  app->add_option("--system", o->system, "the system message; default: the template's own");
  add_whole_number(*app, "--max-generated-tokens,--max_generated_tokens", "per answer", 1,
                   kMostCount, o->max_generated_tokens);
  add_whole_number(*app, "--max-seq-len,--max_seq_len", "most tokens of the whole conversation", 1,
                   kMostCount, o->max_seq_len);
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
