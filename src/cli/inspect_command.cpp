// llama-tg inspect: what a checkpoint is, its tensors, and what a run of it needs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/memory.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "cli/weights_cache_option.h"
#include "cli/weights_options.h"
#include "engine/page_pool.h"
#include "model/kv_cache.h"
#include "model/step_cost.h"

namespace tg {
namespace {

struct InspectOptions {
  ModelOptions model;
  WeightsOptions weights;
  bool tensors = false;
  bool verify_cache = false;
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
  print_out("path              {}\nformat            {}\n", model.path, c.format);
  if (!c.name.empty()) print_out("name              {}\n", c.name);
  print_out("parameters        {}\n", c.parameters());
  print_out("layers            {}\nhidden size       {}\nfeed-forward size {}\n", c.layers, c.dim,
            c.ffn_dim);
  print_out("heads             {} query, {} key/value, of {}\n", c.heads, c.kv_heads, c.head_dim);
  print_out("vocabulary        {}{}\n", c.vocab, c.tied_embeddings ? " (tied embeddings)" : "");
  print_out("context           {}\nrope              {}\nnorm epsilon      {}\n", c.max_context,
            rope_text(c), c.norm_eps);
  std::map<std::string_view, std::pair<std::int64_t, std::int64_t>> types;  // tensors, values
  for (const TensorInfo& t : model.source->tensors()) {
    auto& [count, values] = types[name(t.dtype)];
    ++count;
    values += t.rows() * t.columns();
  }
  for (const auto& [type, sums] : types) {
    print_out("tensors in {:6} {} with {} values\n", type, sums.first, sums.second);
  }
  print_out("tokenizer         {}\n", model.tokenizer_place);
  print_out("chat template     {}\n", model.chat_template_name);
  print_out("stop ids          {}\n", fmt::join(model.stop_ids, " "));
}

// What each device holds, and what a decode step sends between them.
void print_mesh(const ModelConfig& config, const ShardPlan& shards, const RunSettings& settings,
                const MemoryNeed& need, std::int64_t users) {
  const MeshShape& mesh = shards.mesh();
  if (mesh.devices() == 1) return;
  const CollectivePlan& plan = settings.mesh.collectives;
  const std::int64_t least = need.weights / mesh.devices();
  print_out(
      "\nmesh {}: {} devices, each with {} query and {} key/value heads, {} hidden and {} "
      "feed-forward values, {} ids, {} of weights, {} of KV cache\n",
      text(mesh), mesh.devices(), shards.heads(), shards.kv_heads(), shards.dim(), shards.ffn_dim(),
      shards.vocab_stride(), bytes_text(least), bytes_text(need.kv_cache / mesh.devices()));
  print_out(
      "a greedy decode step of {} rows, estimated for {} link{} of 12.5 GB/s to each neighbour and "
      "1 us a hop:\n{:9} {:14} {:4} {:4} {:>5} {:>7} {:>5} {:>12} {:>10}\n",
      users, plan.links, plan.links == 1 ? "" : "s", "use", "collective", "over", "way", "times",
      "devices", "hops", "on links", "ms");
  std::int64_t bytes = 0;
  double seconds = 0.0;
  for (const CollectiveCost& c : step_collectives(config, shards, plan, settings.dtype, users)) {
    const bool line = plan.algorithm(c.work, c.use) == HopAlgorithm::kLine;
    print_out("{:9} {:14} {:4} {:4} {:5} {:7} {:5} {:>12} {:10.3f}\n", name(c.use),
              c.work == HopWork::kReduceScatter ? "reduce-scatter" : "all-gather", name(c.axis),
              line ? "line" : "ring", c.times, mesh.length(c.axis), c.one.hops,
              bytes_text(c.bytes()), 1e3 * c.seconds());
    bytes += c.bytes();
    seconds += c.seconds();
  }
  print_out("{:54} {:>12} {:10.3f}\n", "all, one after the other", bytes_text(bytes),
            1e3 * seconds);
}

// The file that a run with these options would map; empty: no folder was given.
Result<std::string> cache_state(const InspectOptions& o, const OpenedModel& model,
                                const ShardPlan& shards, const RunSettings& settings) {
  if (settings.weights_cache.empty()) {
    if (!o.verify_cache) return std::string();
    return error(ErrorCode::kBadArgument,
                 "--verify-cache: in which folder? Give --weights-cache as the run does");
  }
  const MeshShape& mesh = shards.mesh();
  const DeviceBlock all = {0, mesh.rows, 0, mesh.cols};
  ThreadTeam team(settings.threads);
  return weights_cache_state(
      settings.weights_cache, model.path,
      {*model.source, shards, all, settings.weights,
       weight_order(*settings.kernels, settings.dtype), settings.kernels->name},
      team, o.verify_cache);
}

Result<int> run(const InspectOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("inspect"));
  TG_ASSIGN(const RunSettings settings, run_settings(o.model));
  TG_ASSIGN(const WeightsWanted wanted, weights_wanted(o.weights, o.model));
  TG_ASSIGN(const OpenedModel model, open_weights(wanted, o.model));
  const ModelConfig& config = model.source->config();
  ContextAsk ask;
  ask.domains = settings.mesh.shape.cols;
  ask.users = o.users;
  ask.max_seq_len = o.max_seq_len;
  if (!o.page_params.empty()) {
    const Result<PageParams> pages = parse_page_params(o.page_params);
    if (!pages) return at_place(pages.error(), "--page-params");
    ask.block = pages->block_size;
    ask.blocks = pages->max_num_blocks;
  }
  TG_ASSIGN(const ContextPlan plan, plan_context(config, ask));

  const MeshShape& mesh = settings.mesh.shape;
  TG_ASSIGN(const ShardPlan shards, ShardPlan::make(config, mesh));
  TG_ASSIGN(const std::string cache, cache_state(o, model, shards, settings));

  print_model(model);
  const MemoryNeed need =
      memory_need(config, shards, {0, mesh.rows, 0, mesh.cols},
                  weight_formats(*model.source, settings.weights, shards,
                                 weight_order(*settings.kernels, settings.dtype)),
                  settings.dtype, settings.kv_format, plan.capacity, settings.threads);
  const std::int64_t per_user = pages_for(plan.max_seq_len, plan.capacity.block);
  print_out("\nfor {} users of {} tokens in {}:\n", o.users, plan.max_seq_len,
            o.model.compute_dtype);
  print_out("weights           {} in {}\n", bytes_text(need.weights), need.weights_in);
  print_out("KV cache          {} in {} = {} pages x {} positions x {} bytes{}\n",
            bytes_text(need.kv_cache), name(settings.kv_format, settings.dtype),
            plan.capacity.blocks, plan.capacity.block, need.kv_position,
            mesh.cols == 1 ? "" : fmt::format(" on each of {} columns", mesh.cols));
  print_out("pages             {} per user of that length, {} for all, {} in the pool\n", per_user,
            per_user * o.users, plan.capacity.blocks);
  print_out("activations       {}\n", bytes_text(need.activations));
  print_out("total             {}; available now {}\n", bytes_text(need.total()),
            bytes_text(available_memory()));
  print_out("kernels           {} with {} threads{}\n", settings.kernels->name, settings.threads,
            settings.cpus.empty() ? "" : " on CPUs " + cpus_text(settings.cpus));
  if (!cache.empty()) print_out("weights cache     {}\n", cache);
  print_mesh(config, shards, settings, need, o.users);
  if (!o.tensors) return 0;
  print_out("\n");
  for (const TensorInfo& t : model.source->tensors()) {
    print_out("{:6} [{}] {}\n", name(t.dtype), fmt::join(t.shape, ", "), t.name);
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
  add_weights_options(*app, o->weights);
  app->add_flag("--verify-cache", o->verify_cache,
                "compare every byte of the file that --weights-cache has for this with its "
                "checksums (a start looks at its header only)");
  app->add_flag("--tensors", o->tensors, "list every tensor");
  add_whole_number(*app, "--users,--batch-size", "users at once", 1, 256, o->users);
  add_whole_number(*app, "--max-seq-len", "tokens per user; default: the model's context", 1,
                   kMostCount, o->max_seq_len);
  app->add_option("--page-params", o->page_params,
                  R"(JSON: {"page_block_size": 64, "page_max_num_blocks": 2048})");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
