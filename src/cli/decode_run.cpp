#include "cli/decode_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/memory.h"
#include "cli/print.h"
#include "cli/prompts.h"

namespace tg {
namespace {

// Users' numbers in front, as the original logs them; ids where there is no tokenizer.
std::string output_text(const OpenedModel& model, std::span<const TokenId> ids) {
  constexpr std::size_t kShownIds = 64;
  if (model.tokenizer != nullptr) return model.tokenizer->decode(ids, /*skip_special=*/true);
  const std::size_t shown = std::min(kShownIds, ids.size());
  return fmt::format("ids {}{}", fmt::join(ids.first(shown), ","),
                     shown < ids.size() ? fmt::format(",... ({} in all)", ids.size()) : "");
}

void print_outputs(const OpenedModel& model, const std::vector<std::vector<TokenId>>& outputs) {
  for (std::size_t user = 0; user < outputs.size(); ++user) {
    print_out("[User {}] {}\n", user, output_text(model, outputs[user]));
  }
}

// The iteration of the first look at the memory: all buffers have been used by then, with and
// without forced tokens.
std::int64_t first_look(std::int64_t longest_prompt) { return longest_prompt + 100; }

std::string traffic_text(const Mesh& mesh, std::int64_t steps) {
  const Traffic& traffic = mesh.traffic();
  const auto n = static_cast<double>(steps);
  return fmt::format("Mesh {}: {:.0f} collectives per iteration, {} over links{}\n",
                     text(mesh.shape()), static_cast<double>(traffic.collectives) / n,
                     bytes_text(static_cast<std::int64_t>(static_cast<double>(traffic.bytes) / n)),
                     mesh.transport() == nullptr ? "" : " of this rank's devices");
}

}  // namespace

Result<bool> DecodeRun::run_batch(const std::vector<DemoPrompt>& prompts, std::int64_t batch) {
  std::vector<DecodeUser> users = users_of(prompts, batch);
  std::size_t longest = 0;
  for (const DecodeUser& user : users) longest = std::max(longest, user.prompt.size());
  print_out("\n==REPEAT BATCH {}\nLongest prompt: {} tokens, # of users: {}\n", batch, longest,
            users.size());
  // Positions before the first are read though nobody wrote them; pages that were never touched
  // would all be one page of zeros, which costs less to read than memory does.
  if (plan_.start_pos > 0) loaded_.runner().touch_kv();
  DecodeReport report;
  report.users = o_.batch_size;
  report.target = plan_.target;
  report.load_s = loaded_.load_s();
  std::vector<double> seconds;  // of all, for the output file
  OpTimes times;
  MemoryGrowth memory;
  DecodeLoopOptions options{plan_.iterations, plan_.start_pos, plan_.stress, {}};
  options.warmed_up = [&] {
    if (plan_.time_operations) loaded_.runner().set_op_times(&times);
  };
  const auto show = [&](const DecodeIteration& iteration) {
    (iteration.forced ? report.prefill : report.decode).add(iteration.seconds);
    if (!o_.output.empty()) seconds.push_back(iteration.seconds);
    watch(memory, static_cast<std::int64_t>(longest), iteration.index);
    if (!is_shown(iteration.index)) return;
    print_out("{}", iteration_text(iteration, report.decode.count() - 1));
    if (o_.print_outputs != 0) print_sampled(iteration);
    std::fflush(stdout);
  };
  Result<DecodeOutcome> outcome = run_decode_loop(loaded_.runner(), users, options, show);
  loaded_.runner().set_op_times(nullptr);
  if (!outcome) return tl::unexpected<Error>(std::move(outcome).error());
  steps_ += plan_.iterations + 1;
  report.first_step_s = outcome->first_step_s;
  report.hash = outcome->hash;
  print_outputs(model_, outcome->outputs);
  print_out("{}{}", report_text(report), traffic_text(loaded_.runner().mesh(), steps_));
  if (plan_.time_operations) print_out("{}", op_times_text(times, plan_.iterations));
  if (memory.last_iteration > memory.first_iteration) {
    print_out("{}", growth_text(memory));
  } else if (plan_.stress) {
    print_out("Memory: not compared, which needs more than {} iterations\n",
              first_look(static_cast<std::int64_t>(longest)) + 1);
  }
  std::fflush(stdout);
  keep_answers(users, prompts, batch, *outcome, seconds);
  return check(report, memory);
}

std::vector<DecodeUser> DecodeRun::users_of(const std::vector<DemoPrompt>& prompts,
                                            std::int64_t batch) const {
  const std::int64_t domains = loaded_.runner().kv_domains();
  std::vector<PageTable> tables =
      shuffled_page_tables(context_.capacity, domains, o_.batch_size,
                           std::max<std::int64_t>(1, plan_.positions()), o_.seed.value_or(42));
  std::vector<DecodeUser> users;
  for (std::int64_t u = 0; u < o_.batch_size; ++u) {
    const auto user = static_cast<std::size_t>(u);
    const std::size_t entry = entry_of_user(user, static_cast<std::size_t>(batch), prompts.size());
    users.push_back({prompts[entry].ids, plan_.sampling[user], std::move(tables[user]),
                     domain_of_user(u, o_.batch_size, domains)});
  }
  return users;
}

void DecodeRun::watch(MemoryGrowth& memory, std::int64_t longest_prompt,
                      std::int64_t iteration) const {
  constexpr std::int64_t kEvery = 500;
  const std::int64_t first = first_look(longest_prompt);
  if (iteration < first ||
      (iteration != first && iteration % kEvery != 0 && iteration + 1 != plan_.iterations)) {
    return;
  }
  memory.last = private_memory();
  memory.last_iteration = iteration;
  if (iteration == first) {
    memory.first = memory.last;
    memory.first_iteration = iteration;
  }
  memory.most = std::max(memory.most, memory.last);
}

void DecodeRun::print_sampled(const DecodeIteration& iteration) const {
  for (std::size_t user = 0; user < iteration.tokens.size(); ++user) {
    if (iteration.tokens[user] < 0) continue;
    print_out("[User {}] {}\n", user, output_text(model_, iteration.tokens.subspan(user, 1)));
  }
}

void DecodeRun::keep_answers(const std::vector<DecodeUser>& users,
                             const std::vector<DemoPrompt>& prompts, std::int64_t batch,
                             const DecodeOutcome& outcome, const std::vector<double>& seconds) {
  if (o_.output.empty()) return;
  std::vector<UserAnswer>& answers = answers_.emplace_back();
  for (std::size_t u = 0; u < users.size(); ++u) {
    UserAnswer& answer = answers.emplace_back();
    answer.prompt = prompts[entry_of_user(u, static_cast<std::size_t>(batch), prompts.size())].text;
    answer.prompt_ids = users[u].prompt;
    answer.output_ids = outcome.outputs[u];
    if (model_.tokenizer != nullptr) {
      answer.text = model_.tokenizer->decode(answer.output_ids, /*skip_special=*/true);
    }
    answer.finish_reason = "length";
    answer.sampling = users[u].sampling;
    double time = 0.0;
    for (std::size_t i = 0; i < seconds.size(); ++i) {
      time += seconds[i];
      if (i + 1 >= users[u].prompt.size()) answer.token_times_s.push_back(time);
    }
    if (!answer.token_times_s.empty()) answer.ttft_s = answer.token_times_s.front();
  }
}

bool DecodeRun::check(const DecodeReport& report, const MemoryGrowth& memory) const {
  bool good = true;
  if (report.target && report.decode.count() == 0) {
    print_error("llama-tg: error: no decode iteration to compare with --target-tsu\n");
    good = false;
  } else if (report.target && check_tsu(report.decode.first(), *report.target).failed) {
    print_error(
        "llama-tg: error: Throughput is out of targets {:.2f}..{:.2f} tok/s/user in more "
        "than a tenth of the first decode iterations\n",
        report.target->low, report.target->high);
    good = false;
  }
  if (plan_.stress && memory.growth() > kMostGrowth) {
    print_error("llama-tg: error: the stress run's memory grew by {}, more than {}\n",
                bytes_text(memory.growth()), bytes_text(kMostGrowth));
    good = false;
  }
  return good;
}

}  // namespace tg
