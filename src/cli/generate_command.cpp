// llama-tg generate: one prompt, its continuation streamed to stdout.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/answer_file.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "cli/performance.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "cli/run_requests.h"
#include "cli/sampling_options.h"
#include "cli/speculation_options.h"

namespace tg {
namespace {

struct GenerateOptions {
  ModelOptions model;
  SamplingOptions sampling;
  SpeculativeOptions speculative;
  std::optional<std::string> prompt;
  std::string prompt_ids;
  int instruct = 0;
  int stop_at_eos = 1;
  std::int64_t max_generated_tokens = 128;
  std::optional<std::int64_t> max_seq_len;
  std::optional<std::int64_t> logprobs;
  std::string output;
};

Result<std::vector<TokenId>> prompt_ids(const GenerateOptions& o, const OpenedModel& model) {
  if (!o.prompt_ids.empty()) {
    Result<std::vector<TokenId>> ids = parse_id_list(o.prompt_ids);
    if (!ids) return at_place(std::move(ids).error(), "--prompt-ids");
    return ids;
  }
  return encode_prompt(model, *o.prompt, o.instruct != 0);
}

Result<int> run(GenerateOptions& o) {
  if (o.prompt.has_value() == !o.prompt_ids.empty()) {
    return error(ErrorCode::kBadArgument, "give either --prompt or --prompt-ids");
  }
  TG_ASSIGN(RunSettings settings, run_settings(o.model));
  TG_RETURN_IF_ERROR(join_ranks(o.model, settings));
  if (settings.leads()) TG_RETURN_IF_ERROR(check_writable(o.output));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  const ModelConfig& config = model.source->config();
  TG_ASSIGN(const Speculation speculation,
            open_speculation(o.speculative, o.model, settings, model));

  UserRequest request;
  request.prompt = o.prompt.value_or("");
  TG_ASSIGN(request.prompt_ids, prompt_ids(o, model));
  request.sampling = with_seed(o.sampling);
  if (o.logprobs) request.sampling.top_logprobs = static_cast<std::int32_t>(*o.logprobs);
  TG_RETURN_IF_ERROR(validate(request.sampling, config.vocab));

  const std::int64_t needed =
      static_cast<std::int64_t>(request.prompt_ids.size()) + o.max_generated_tokens;
  ContextAsk ask;
  ask.domains = settings.mesh.shape.cols;
  ask.max_seq_len = o.max_seq_len.value_or(std::min(needed, config.max_context));
  TG_ASSIGN(const ContextPlan plan, plan_context(config, ask));
  Request check;
  check.prompt_ids = request.prompt_ids;
  check.max_new_tokens = o.max_generated_tokens;
  check.sampling = request.sampling;
  TG_RETURN_IF_ERROR(check_request(
      check, {config.vocab, plan.max_seq_len, plan.capacity.block, plan.capacity.blocks}));

  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load(model, settings, plan, 1, speculation));
  if (!loaded->leads()) return loaded->serve();
  RunRequestsOptions run_options;
  run_options.max_new_tokens = o.max_generated_tokens;
  run_options.stop_ids = model.stop_ids;
  run_options.ignore_eos = o.stop_at_eos == 0;
  run_options.on_text = [](std::size_t, const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  TG_ASSIGN(const std::vector<UserAnswer> answers,
            run_requests(loaded->engine(), model.tokenizer.get(), {&request, 1}, run_options));
  const UserAnswer& answer = answers[0];
  print_out("\n");
  std::fflush(stdout);  // before the summary on stderr
  if (!answer.error.empty()) return error(ErrorCode::kInternal, "{}", answer.error);

  if (!o.output.empty()) {
    RunSummary summary = summarize("generate", model, *loaded, o.model, settings, plan, 1);
    summary.max_generated_tokens = o.max_generated_tokens;
    summary.instruct = o.instruct != 0;
    summary.speculative = speculation.kind;
    summary.stop_at_eos = o.stop_at_eos != 0;
    summary.load_s = loaded->load_s();
    summary.run_s = answer.token_times_s.empty() ? 0.0 : answer.token_times_s.back();
    TG_RETURN_IF_ERROR(write_answer_file(o.output, answer_json(summary, {&answers, 1})));
  }
  const Performance p = measure(answers);
  print_error(
      "{} prompt tokens, {} generated ({}); first token after {:.0f} ms, then {:.2f} tok/s; "
      "loading took {:.1f} s; seed {}\n",
      p.prompt_tokens, p.output_tokens, answer.finish_reason, 1e3 * p.ttft.mean,
      p.decode_tokens_per_s, loaded->load_s(), request.sampling.seed);
  if (p.speculation.proposed > 0) print_error("{}\n", speculation_text(p.speculation));
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<GenerateOptions>();
  CLI::App* app = program.add_subcommand("generate", "continue one prompt, streaming to stdout");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  add_sampling_options(*app, o->sampling);
  add_speculative_options(*app, o->speculative);
  app->add_option("--prompt", o->prompt,
                  "the text to continue; empty: BOS alone, if the model has one");
  app->add_option("--prompt-ids", o->prompt_ids, "token ids in place of text: 1,2,3");
  add_switch(*app, "--instruct",
             "1: the prompt is a user's message in the chat form; 0: text as it is", o->instruct);
  add_switch(*app, "--stop-at-eos", "0: go on after the end-of-answer token", o->stop_at_eos);
  add_whole_number(*app, "--max-generated-tokens,--max_generated_tokens", "at most so many", 0,
                   kMostCount, o->max_generated_tokens);
  add_whole_number(*app, "--max-seq-len,--max_seq_len",
                   "most tokens of prompt and answer; default: what this run needs", 1, kMostCount,
                   o->max_seq_len);
  add_whole_number(*app, "--logprobs",
                   "with --output: log-probability of each token and of the best N", 0, 100,
                   o->logprobs);
  app->add_option("--output", o->output, "write ids, text and times to this JSON file");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
