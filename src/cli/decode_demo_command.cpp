// llama-tg decode-demo: many users decode at once, prompts forced token by token, with the numbers
// of every iteration; endurance runs; and runs without a checkpoint.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "cli/answer_file.h"
#include "cli/commands.h"
#include "cli/decode_run.h"
#include "cli/number_option.h"
#include "cli/ranks.h"

namespace tg {
namespace {

constexpr int kCheckFailed = 1;

Result<int> run(DecodeDemoOptions& o) {
  const auto begin = std::chrono::steady_clock::now();
  TG_ASSIGN(RunSettings settings, run_settings(o.model));
  TG_RETURN_IF_ERROR(join_ranks(o.model, settings));
  TG_ASSIGN(const DecodeCase demo_case, find_decode_case(o.demo_case));
  TG_ASSIGN(const DecodePlan plan, make_decode_plan(o, demo_case));
  TG_ASSIGN(const OpenedModel model, open_weights(plan.weights, o.model));
  const ModelConfig& config = model.source->config();
  for (const SamplingParams& params : plan.sampling) {
    TG_RETURN_IF_ERROR(validate(params, config.vocab));
  }
  std::vector<DemoPrompt> prompts;
  if (settings.leads()) {
    TG_RETURN_IF_ERROR(check_writable(o.output));
    TG_ASSIGN(prompts, read_decode_prompts(o, plan, model));
  }
  TG_ASSIGN(const ContextPlan context, plan_decode_pages(o, plan, config, settings.mesh.shape));

  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load_runner(model, settings, context));
  if (!loaded->leads()) return loaded->serve();
  DecodeRun demo(o, plan, model, context, *loaded);
  bool good = true;
  for (std::int64_t batch = 0; batch < o.repeat_batches; ++batch) {
    TG_ASSIGN(const bool held, demo.run_batch(prompts, batch));
    good = good && held;
  }
  if (!o.output.empty()) {
    RunSummary summary =
        summarize("decode-demo", model, *loaded, o.model, settings, context, o.batch_size);
    summary.max_generated_tokens = plan.iterations;
    summary.instruct = o.instruct != 0;
    summary.load_s = loaded->load_s();
    summary.run_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    TG_RETURN_IF_ERROR(write_answer_file(o.output, answer_json(summary, demo.answers())));
  }
  return good ? 0 : kCheckFailed;
}

}  // namespace

void add_decode_demo_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<DecodeDemoOptions>();
  CLI::App* app = program.add_subcommand(
      "decode-demo", "decode only: forced prompts, numbers of every iteration, endurance runs");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  add_weights_options(*app, o->weights);
  app->add_option("--case", o->demo_case, "a named set of all that follows; options override it")
      ->capture_default_str();
  app->add_option("--input-prompts,--input_prompts", o->input_prompts,
                  R"(JSON file: [{"prompt": ...}, ...], one for all users or one for each)");
  app->add_option("--prompt-ids", o->prompt_ids, "token ids for every user in place of the file")
      ->excludes("--input-prompts");
  add_switch(*app, "--instruct", "1: prompts are messages in the chat form; 0: text as it is",
             o->instruct);
  add_whole_number(*app, "--repeat-batches,--repeat_batches",
                   "batches one after the other, prompts rotated by one user each time", 1,
                   kMostCount, o->repeat_batches);
  add_whole_number(*app, "--max-seq-len,--max_seq_len", "most positions of a user", 1, kMostCount,
                   o->max_seq_len);
  add_whole_number(*app, "--batch-size,--batch_size", "users at once", 1, 256, o->batch_size);
  add_whole_number(*app, "--max-generated-tokens,--max_generated_tokens",
                   "iterations, those that force the prompt included", 1, kMostCount,
                   o->max_generated_tokens);
  add_switch(*app, "--paged-attention,--paged_attention",
             "0: one page per user, as long as the run", o->paged_attention);
  app->add_option("--page-params,--page_params", o->page_params,
                  R"(JSON: {"page_block_size": 16|32|64, "page_max_num_blocks": N per column})");
  app->add_option("--sampling-params,--sampling_params", o->sampling_params,
                  R"(JSON: {"temperature": 0.7, "top_p": 0.9, "top_k": 32, "seed": [1, 2, ...]})");
  add_whole_number(*app, "--stress-test,--stress_test",
                   "1: the position stays at --start-pos, so that a run may last for ever", 0, 1,
                   "the case's", [o](std::int64_t n) { o->stress_test = static_cast<int>(n); });
  add_whole_number(*app, "--start-pos,--start_pos",
                   "first position; those before it count as cached and are not filled", 0,
                   kMostCount, o->start_pos);
  app->add_option("--target-tsu,--target_tsu", o->target_tsu,
                  "LOW:HIGH tok/s/user; status 1 when more than a tenth of the first 200 decode "
                  "iterations is outside");
  add_seed(*app, "of pages and, in place of the sampling parameters', of users; default: 42",
           o->seed);
  add_switch(*app, "--print-outputs,--print_outputs",
             "1: also what every user sampled in an iteration", o->print_outputs);
  add_whole_number(*app, "--time-operations", "1: what each kind of operation takes", 0, 1,
                   "the case's", [o](std::int64_t n) { o->time_operations = static_cast<int>(n); });
  app->add_option("--output", o->output, "write ids, texts, times and totals to this JSON file");
  std::string cases = "Cases:\n";
  for (const DecodeCase& c : decode_cases()) cases += fmt::format("  {:20} {}\n", c.name, c.what);
  app->footer(cases);
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
