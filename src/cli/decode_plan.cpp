#include "cli/decode_plan.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace tg {
namespace {

// Refused with the sum, as the original's assertion; that a page table ends is never found out by
// reading past it.
Status check_pages(const DecodePlan& plan, std::int64_t users, const ContextAsk& ask) {
  const std::int64_t per_domain = (users + ask.domains - 1) / ask.domains;
  const std::int64_t needed = per_domain * ((plan.positions() + ask.block - 1) / ask.block);
  if (!ask.paged || !ask.blocks || needed <= *ask.blocks) return {};
  const std::int64_t pages_of_user = *ask.blocks / per_domain;
  return error(
      ErrorCode::kOutOfCapacity,
      "{} users of {} positions ({}{}) need {} x {} = {} pages of {}{}; there are {}, so each user "
      "has {} pages, {} positions (--page-params)",
      users, plan.positions(), plan.start_pos > 0 ? fmt::format("start {} + ", plan.start_pos) : "",
      plan.positions() - plan.start_pos, per_domain, needed / per_domain, needed, ask.block,
      ask.domains > 1 ? " on a column" : "", *ask.blocks, pages_of_user, pages_of_user * ask.block);
}

// "<BOS>This is a test" in Llama 3's tokens, or in those of the model that lends its tokenizer.
Result<DemoPrompt> test_prompt(const OpenedModel& model) {
  const std::int64_t vocab = model.source->config().vocab;
  DemoPrompt prompt;
  if (model.tokenizer != nullptr) {
    prompt.text = "This is a test";
    TG_ASSIGN(prompt.ids, encode_prompt(model, prompt.text, false));
    return prompt;
  }
  for (const std::int64_t id : {128000, 2028, 374, 264, 1296}) {
    prompt.ids.push_back(static_cast<TokenId>(id % vocab));
  }
  return prompt;
}

}  // namespace

Result<DecodePlan> make_decode_plan(const DecodeDemoOptions& o, const DecodeCase& c) {
  DecodePlan plan;
  plan.iterations = o.max_generated_tokens.value_or(c.max_generated_tokens);
  plan.start_pos = o.start_pos.value_or(c.start_pos);
  plan.stress = o.stress_test ? *o.stress_test != 0 : c.stress_test;
  plan.time_operations = o.time_operations ? *o.time_operations != 0 : c.time_operations;
  if (!o.page_params.empty()) {
    Result<PageParams> pages = parse_page_params(o.page_params, plan.pages);
    if (!pages) return at_place(std::move(pages).error(), "--page-params");
    plan.pages = *pages;
  }
  TG_ASSIGN(plan.sampling, sampling_for_users(o.sampling_params, c.sampling, o.batch_size, o.seed));
  if (!o.target_tsu.empty()) {
    TG_ASSIGN(plan.target, parse_tsu_target(o.target_tsu));
    if (plan.stress) {
      spdlog::warn("--target-tsu is not looked at in a stress run");
      plan.target.reset();
    }
  }
  for (SamplingParams& params : plan.sampling) {
    if (params.top_logprobs < 0) continue;
    if (&params == plan.sampling.data()) spdlog::warn("log_probs are not kept by decode-demo");
    params.top_logprobs = -1;
  }
  if (plan.stress && !o.output.empty()) {
    return error(ErrorCode::kBadArgument,
                 "--output {}: a stress run keeps only the last ids of each user", o.output);
  }
  TG_ASSIGN(plan.weights, weights_wanted(o.weights, o.model, c.random_weights, c.layers));
  return plan;
}

Result<ContextPlan> plan_decode_pages(const DecodeDemoOptions& o, const DecodePlan& plan,
                                      const ModelConfig& config, const MeshShape& mesh) {
  const std::int64_t most = std::min(o.max_seq_len.value_or(kDecodeMaxSeqLen), config.max_context);
  if (plan.positions() > most) {
    return error(ErrorCode::kOutOfCapacity, "--start-pos {} + {} iterations = {} > {}, the {}",
                 plan.start_pos, plan.positions() - plan.start_pos, plan.positions(), most,
                 most == config.max_context ? "model's context" : "--max-seq-len");
  }
  ContextAsk ask;
  ask.users = o.batch_size;
  ask.domains = mesh.cols;
  // The pages that the run can use; more would only be memory.
  ask.max_seq_len = std::max<std::int64_t>(1, plan.positions());
  ask.paged = o.paged_attention != 0;
  ask.block = plan.pages.block_size;
  if (plan.pages.max_num_blocks > 0) ask.blocks = plan.pages.max_num_blocks;
  TG_RETURN_IF_ERROR(check_pages(plan, o.batch_size, ask));
  return plan_context(config, ask);
}

Result<std::vector<DemoPrompt>> read_decode_prompts(const DecodeDemoOptions& o,
                                                    const DecodePlan& plan,
                                                    const OpenedModel& model) {
  if (plan.weights.random && !o.input_prompts && o.prompt_ids.empty()) {
    TG_ASSIGN(DemoPrompt prompt, test_prompt(model));
    return std::vector<DemoPrompt>{std::move(prompt)};
  }
  DemoPromptsAsk ask;
  ask.file = o.input_prompts;
  ask.ids = o.prompt_ids;
  ask.default_file = kDecodePrompts;
  ask.users = o.batch_size;
  ask.repeats = o.repeat_batches;
  ask.instruct = o.instruct != 0;
  ask.one_or_each = true;
  TG_ASSIGN(std::vector<DemoPrompt> prompts, demo_prompts(model, ask));
  const std::int64_t vocab = model.source->config().vocab;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].ids.empty()) {
      return error(ErrorCode::kBadInput, "prompt {} has no tokens", i + 1);
    }
    for (const TokenId id : prompts[i].ids) {
      if (id < vocab) continue;
      return error(ErrorCode::kBadArgument, "--prompt-ids: {} is outside the vocabulary of {}", id,
                   vocab);
    }
  }
  return prompts;
}

}  // namespace tg
