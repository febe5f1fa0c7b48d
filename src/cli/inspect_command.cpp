// llama-tg inspect: what a checkpoint is, its tensors, and what a run of it needs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/memory.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "engine/page_pool.h"
#include "model/kv_cache.h"

namespace tg {
namespace {

struct InspectOptions {
  ModelOptions model;
  bool tensors = false;
  std::int64_t users = 32;
  std::optional<std::int64_t> max_seq_len;
  std::string page_params;
};

std::string rope_text(const ModelConfig& c) {
  const RopeScaling& s = c.rope_scaling;
  std::string text = fmt::format("theta {}", c.rope_theta);
  if (!s.divisors.empty()) {
    text += fmt::format(", {} divisors from the file", s.divisors.size());
  } else if (s.kind == RopeScaling::Kind::kLlama3) {
    text +=
        fmt::format(", llama3 scaling: factor {}, low {}, high {}, original context {}", s.factor,
                    s.low_frequency_factor, s.high_frequency_factor, s.original_context);
  } else if (s.kind == RopeScaling::Kind::kLinear) {
    text += fmt::format(", linear scaling: factor {}", s.factor);
  }
  return text;
}

void print_model(const OpenedModel& model) {
  const ModelConfig& c = model.source->config();
  fmt::print("path              {}\nformat            {}\n", model.path, c.format);
  if (!c.name.empty()) fmt::print("name              {}\n", c.name);
  fmt::print("parameters        {}\n", c.parameters());
  fmt::print("layers            {}\nhidden size       {}\nfeed-forward size {}\n", c.layers, c.dim,
             c.ffn_dim);
  fmt::print("heads             {} query, {} key/value, of {}\n", c.heads, c.kv_heads, c.head_dim);
  fmt::print("vocabulary        {}{}\n", c.vocab, c.tied_embeddings ? " (tied embeddings)" : "");
  fmt::print("context           {}\nrope              {}\nnorm epsilon      {}\n", c.max_context,
             rope_text(c), c.norm_eps);
  std::map<std::string_view, std::pair<std::int64_t, std::int64_t>> types;  // tensors, values
  for (const TensorInfo& t : model.source->tensors()) {
    auto& [count, values] = types[name(t.dtype)];
    ++count;
    values += t.rows() * t.columns();
  }
  for (const auto& [type, sums] : types) {
    fmt::print("tensors in {:6} {} with {} values\n", type, sums.first, sums.second);
  }
  fmt::print("tokenizer         {}\n", model.tokenizer_place);
  fmt::print("chat template     {}\n", model.chat_template_name);
  fmt::print("stop ids          {}\n", fmt::join(model.stop_ids, " "));
}

Result<int> run(const InspectOptions& o) {
  TG_ASSIGN(const RunSettings settings, run_settings(o.model));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  const ModelConfig& config = model.source->config();
  ContextAsk ask;
  ask.users = o.users;
  ask.max_seq_len = o.max_seq_len;
  if (!o.page_params.empty()) {
    TG_ASSIGN(const PageParams pages, parse_page_params(o.page_params));
    ask.block = pages.block_size;
    ask.blocks = pages.max_num_blocks;
  }
  TG_ASSIGN(const ContextPlan plan, plan_context(config, ask));

  print_model(model);
  const MemoryNeed need = memory_need(config, settings.dtype, plan.capacity, settings.threads);
  const std::int64_t per_user = pages_for(plan.max_seq_len, plan.capacity.block);
  fmt::print("\nfor {} users of {} tokens in {}:\n", o.users, plan.max_seq_len,
             o.model.compute_dtype);
  fmt::print("weights           {}\n", bytes_text(need.weights));
  fmt::print("KV cache          {} = {} pages x {} positions x {} bytes\n",
             bytes_text(need.kv_cache), plan.capacity.blocks, plan.capacity.block,
             kv_bytes_per_position(config, settings.dtype));
  fmt::print("pages             {} per user of that length, {} for all, {} in the pool\n", per_user,
             per_user * o.users, plan.capacity.blocks);
  fmt::print("activations       {}\n", bytes_text(need.activations));
  fmt::print("total             {}; available now {}\n", bytes_text(need.total()),
             bytes_text(available_memory()));
  fmt::print("kernels           {} with {} threads\n", settings.kernels->name, settings.threads);
  if (!o.tensors) return 0;
  fmt::print("\n");
  for (const TensorInfo& t : model.source->tensors()) {
    fmt::print("{:6} [{}] {}\n", name(t.dtype), fmt::join(t.shape, ", "), t.name);
  }
  return 0;
}

}  // namespace

void add_inspect_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<InspectOptions>();
  CLI::App* app = program.add_subcommand(
      "inspect", "what a checkpoint is, its tensors, and the memory and pages that a run needs");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  app->add_flag("--tensors", o->tensors, "list every tensor");
  app->add_option("--users,--batch-size", o->users, "users at once")->capture_default_str();
  app->add_option("--max-seq-len", o->max_seq_len, "tokens per user; default: the model's context");
  app->add_option("--page-params", o->page_params,
                  R"(JSON: {"page_block_size": 64, "page_max_num_blocks": 2048})");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
