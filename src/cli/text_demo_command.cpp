// llama-tg text-demo: a JSON file of prompts for several users at once, their answers, and the
// numbers.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>

#include "cli/answer_file.h"
#include "cli/commands.h"
#include "cli/demo_cases.h"
#include "cli/demo_prompts.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "cli/performance.h"
#include "cli/print.h"
#include "cli/prompts.h"
#include "cli/ranks.h"
#include "cli/run_requests.h"
#include "cli/speculation_options.h"

namespace tg {
namespace {

struct TextDemoOptions {
  ModelOptions model;
  SpeculativeOptions speculative;
  std::string demo_case = "batch-1";
  std::optional<std::string> input_prompts;
  std::string prompt_ids;
  int instruct = 1;
  std::optional<std::int64_t> repeat_batches;
  std::optional<std::int64_t> max_seq_len;
  std::optional<std::int64_t> batch_size;
  std::optional<std::int64_t> max_generated_tokens;
  int paged_attention = 1;
  std::string page_params;
  std::string sampling_params;
  int stop_at_eos = 0;
  std::optional<std::uint64_t> seed;
  bool print_iterations = false;
  std::string output;
};

// A case with the options that override it.
struct DemoPlan {
  std::int64_t users = 1;
  std::int64_t repeat_batches = 1;
  std::int64_t max_generated_tokens = 128;
  PageParams pages;
  std::vector<SamplingParams> sampling;  // [users]
};

Result<DemoPlan> make_plan(const TextDemoOptions& o, const DemoCase& demo_case) {
  DemoPlan plan;
  plan.users = o.batch_size.value_or(demo_case.batch_size);
  plan.repeat_batches = o.repeat_batches.value_or(demo_case.repeat_batches);
  plan.max_generated_tokens = o.max_generated_tokens.value_or(demo_case.max_generated_tokens);
  plan.pages = demo_case.page_params;
  if (!o.page_params.empty()) {
    Result<PageParams> pages = parse_page_params(o.page_params);
    if (!pages) return at_place(std::move(pages).error(), "--page-params");
    plan.pages = *pages;
  }
  TG_ASSIGN(plan.sampling,
            sampling_for_users(o.sampling_params, demo_case.sampling, plan.users, o.seed));
  return plan;
}

// The text and ids of the entries that the run looks at, or of the one given list of ids.
Result<std::vector<UserRequest>> read_entries(const TextDemoOptions& o, const DemoCase& demo_case,
                                              const DemoPlan& plan, const OpenedModel& model) {
  DemoPromptsAsk ask;
  ask.file = o.input_prompts;
  ask.ids = o.prompt_ids;
  ask.default_file = demo_case.prompts;
  ask.users = plan.users;
  ask.repeats = plan.repeat_batches;
  ask.instruct = o.instruct != 0;
  TG_ASSIGN(std::vector<DemoPrompt> prompts, demo_prompts(model, ask));
  std::vector<UserRequest> entries;
  entries.reserve(prompts.size());
  for (DemoPrompt& p : prompts) entries.push_back({std::move(p.text), std::move(p.ids), {}});
  return entries;
}

// The users of one repeat.
std::vector<UserRequest> users_of_batch(const DemoPlan& plan,
                                        const std::vector<UserRequest>& entries,
                                        std::int64_t batch) {
  std::vector<UserRequest> users;
  for (std::int64_t user = 0; user < plan.users; ++user) {
    users.push_back(entries[entry_of_user(static_cast<std::size_t>(user),
                                          static_cast<std::size_t>(batch), entries.size())]);
    users.back().sampling = plan.sampling[static_cast<std::size_t>(user)];
  }
  return users;
}

// Every request of every repeat must fit alone; said before the weights are read.
Status check_requests(const DemoPlan& plan, const std::vector<UserRequest>& entries,
                      const ModelConfig& config, const ContextPlan& context) {
  // After as many batches as there are entries the same come again.
  const auto different = std::min(plan.repeat_batches, static_cast<std::int64_t>(entries.size()));
  for (std::int64_t batch = 0; batch < different; ++batch) {
    const std::vector<UserRequest> users = users_of_batch(plan, entries, batch);
    for (std::size_t user = 0; user < users.size(); ++user) {
      Request request;
      request.prompt_ids = users[user].prompt_ids;
      request.max_new_tokens = plan.max_generated_tokens;
      request.sampling = users[user].sampling;
      Status fits = check_request(request, {config.vocab, context.max_seq_len,
                                            context.capacity.block, context.capacity.blocks});
      if (!fits) return at_place(std::move(fits).error(), fmt::format("user {}", user));
    }
  }
  return {};
}

// Long texts from both ends, as nobody reads the middle. No character is cut.
std::string shortened(const std::string& text) {
  constexpr std::size_t kEnd = 100;
  if (text.size() <= 2 * kEnd) return text;
  const auto inside_character = [&text](std::size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  std::size_t head = kEnd;
  std::size_t tail = text.size() - kEnd;
  while (inside_character(head)) --head;
  while (inside_character(tail)) ++tail;
  return text.substr(0, head) + "\n<long prompt not printed in full>\n" + text.substr(tail);
}

void print_answers(const std::vector<UserAnswer>& answers, std::int64_t batch) {
  print_out("\n==REPEAT BATCH {}\n", batch);
  for (std::size_t user = 0; user < answers.size(); ++user) {
    const UserAnswer& a = answers[user];
    print_out("==USER {} - PROMPT\n{}\n==USER {} - OUTPUT\n{}\n\n", user,
              a.prompt.empty() ? fmt::format("ids {}", fmt::join(a.prompt_ids, ","))
                               : shortened(a.prompt),
              user, a.text.empty() ? fmt::format("ids {}", fmt::join(a.output_ids, ",")) : a.text);
  }
}

void print_iteration(const StepReport& step, std::int64_t iteration) {
  const double seconds = step.total_s;
  const double rate = static_cast<double>(step.sampled_tokens) / seconds;
  print_out("Decode Iteration {}: Time: {:.2f} ms, tok/s/user: {:.2f}, Throughput: {:.2f} tok/s\n",
            iteration, 1e3 * seconds, rate / static_cast<double>(step.decode_rows), rate);
}

Result<std::vector<UserAnswer>> run_batch(const TextDemoOptions& o, const DemoPlan& plan,
                                          const OpenedModel& model, Engine& engine,
                                          const std::vector<UserRequest>& users) {
  RunRequestsOptions options;
  options.max_new_tokens = plan.max_generated_tokens;
  options.stop_ids = model.stop_ids;
  options.ignore_eos = o.stop_at_eos == 0;
  std::vector<std::size_t> lengths;
  lengths.reserve(users.size());
  for (const UserRequest& user : users) lengths.push_back(user.prompt_ids.size());
  print_out("Encoded prompt lengths: {}\n# of users: {}\n", fmt::join(lengths, ", "), users.size());
  std::fflush(stdout);

  std::int64_t iteration = 0;
  bool prefilling = true;
  options.on_step = [&](const StepReport& step) {
    if (prefilling && engine.waiting() == 0 && step.prefill_rows == 0) {
      prefilling = false;
      print_out("Finished prefill for all users up to {} tokens.\n",
                *std::max_element(lengths.begin(), lengths.end()));
    }
    if (!o.print_iterations) return;
    if (step.prefill_rows > 0) {
      print_out("Prefilling: {} prompt tokens in {:.2f} ms, {} users decode beside it\n",
                step.prefill_rows, 1e3 * step.total_s, step.decode_rows);
    } else if (step.decode_rows > 0) {
      print_iteration(step, ++iteration);
    }
  };
  return run_requests(engine, model.tokenizer.get(), users, options);
}

Result<int> run(TextDemoOptions& o) {
  TG_ASSIGN(RunSettings settings, run_settings(o.model));
  TG_RETURN_IF_ERROR(join_ranks(o.model, settings));
  TG_ASSIGN(const DemoCase demo_case, find_demo_case(o.demo_case));
  TG_ASSIGN(const DemoPlan plan, make_plan(o, demo_case));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  const ModelConfig& config = model.source->config();
  TG_ASSIGN(const Speculation speculation,
            open_speculation(o.speculative, o.model, settings, model));

  std::vector<UserRequest> entries;
  if (settings.leads()) {
    TG_RETURN_IF_ERROR(check_writable(o.output));
    TG_ASSIGN(entries, read_entries(o, demo_case, plan, model));
  }
  ContextAsk ask;
  ask.domains = settings.mesh.shape.cols;
  ask.users = plan.users;
  ask.max_seq_len = o.max_seq_len;
  ask.default_max_seq_len = demo_case.max_seq_len;
  ask.paged = o.paged_attention != 0;
  ask.block = plan.pages.block_size;
  ask.blocks = plan.pages.max_num_blocks;
  TG_ASSIGN(const ContextPlan context, plan_context(config, ask));
  if (settings.leads()) TG_RETURN_IF_ERROR(check_requests(plan, entries, config, context));

  EngineOptions engine;
  engine.max_users = plan.users;
  engine.prefix_cache = false;  // each repeat computes its prompts: their time is what it tells
  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load(model, settings, context, std::move(engine), speculation));
  if (!loaded->leads()) return loaded->serve();
  if (o.stop_at_eos == 0) {
    spdlog::info("--stop-at-eos is off: answers go on after their end and will repeat themselves");
  }

  std::vector<std::vector<UserAnswer>> batches;
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t batch = 0; batch < plan.repeat_batches; ++batch) {
    TG_ASSIGN(std::vector<UserAnswer> answers,
              run_batch(o, plan, model, loaded->engine(), users_of_batch(plan, entries, batch)));
    for (std::size_t user = 0; user < answers.size(); ++user) {
      if (answers[user].error.empty()) continue;
      return error(ErrorCode::kInternal, "user {}: {}", user, answers[user].error);
    }
    print_answers(answers, batch);
    print_out("{}", performance_text(measure(answers), loaded->load_s()));
    std::fflush(stdout);
    batches.push_back(std::move(answers));
  }
  if (o.output.empty()) return 0;
  RunSummary summary =
      summarize("text-demo", model, *loaded, o.model, settings, context, plan.users);
  summary.max_generated_tokens = plan.max_generated_tokens;
  summary.instruct = o.instruct != 0;
  summary.speculative = speculation.kind;
  summary.stop_at_eos = o.stop_at_eos != 0;
  summary.load_s = loaded->load_s();
  summary.run_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  TG_RETURN_IF_ERROR(write_answer_file(o.output, answer_json(summary, batches)));
  return 0;
}

}  // namespace

void add_text_demo_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<TextDemoOptions>();
  CLI::App* app = program.add_subcommand(
      "text-demo", "a JSON file of prompts for several users at once, with performance numbers");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  app->add_option("--case", o->demo_case, "a named set of all that follows; options override it")
      ->capture_default_str();
  app->add_option("--input-prompts,--input_prompts", o->input_prompts,
                  R"(JSON file: [{"prompt": ..., "context": URL|file|text, "max_length": ...}])");
  app->add_option("--prompt-ids", o->prompt_ids, "token ids for every user in place of the file")
      ->excludes("--input-prompts");
  add_switch(*app, "--instruct", "1: prompts are messages in the chat form; 0: text as it is",
             o->instruct);
  add_whole_number(*app, "--repeat-batches,--repeat_batches",
                   "batches one after the other, prompts rotated by one user each time", 1,
                   kMostCount, o->repeat_batches);
  add_whole_number(*app, "--max-seq-len,--max_seq_len",
                   "most tokens of prompt and answer of a user", 1, kMostCount, o->max_seq_len);
  add_whole_number(*app, "--batch-size,--batch_size", "users at once", 1, 256, o->batch_size);
  add_whole_number(*app, "--max-generated-tokens,--max_generated_tokens", "per user", 0, kMostCount,
                   o->max_generated_tokens);
  add_switch(*app, "--paged-attention,--paged_attention",
             "0: one page per user, as long as --max-seq-len", o->paged_attention);
  app->add_option("--page-params,--page_params", o->page_params,
                  R"(JSON: {"page_block_size": 16|32|64, "page_max_num_blocks": N})");
  app->add_option("--sampling-params,--sampling_params", o->sampling_params,
                  R"(JSON: {"temperature": 0.7, "top_p": 0.9, "top_k": 32, "seed": [1, 2, ...]}, )"
                  "one value for all users or a list; also min_p, presence_penalty, "
                  "frequency_penalty, repetition_penalty, log_probs");
  add_switch(*app, "--stop-at-eos,--stop_at_eos", "1: a user ends with his answer", o->stop_at_eos);
  add_seed(*app, "in place of the sampling parameters' seeds; default: theirs, or 0", o->seed);
  add_speculative_options(*app, o->speculative);
  app->add_flag("--print-iterations", o->print_iterations, "one line per step");
  app->add_option("--output", o->output, "write ids, texts, times and totals to this JSON file");
  std::string cases = "Cases:\n";
  for (const DemoCase& c : demo_cases()) {
    cases += fmt::format("  {:31} {}\n", c.name, c.later.empty() ? c.what : c.later);
  }
  app->footer(cases);
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
