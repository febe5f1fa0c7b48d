// llama-tg perplexity: how well a model, in the formats asked for, predicts a text.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "model/score_text.h"

namespace tg {
namespace {

constexpr std::int64_t kDefaultWindow = 2048;

struct PerplexityOptions {
  ModelOptions model;
  std::string file;
  bool ids = false;
  std::optional<std::int64_t> window;
};

Result<std::vector<TokenId>> read_ids(const PerplexityOptions& o, const OpenedModel& model) {
  TG_ASSIGN(const MappedFile file, MappedFile::open(o.file));
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (!o.ids) {
    auto ids = encode_prompt(model, text, /*instruct=*/false);
    if (!ids) return at_place(std::move(ids).error(), o.file);
    return ids;
  }
  text.erase(text.find_last_not_of(" \r\n") + 1);
  auto ids = parse_id_list(text);
  if (!ids) return at_place(std::move(ids).error(), o.file);
  const std::int64_t vocab = model.source->config().vocab;
  for (const TokenId id : *ids) {
    if (id < vocab) continue;
    return error(ErrorCode::kBadArgument, "{}: id {}: the vocabulary has 0..{}", o.file, id,
                 vocab - 1);
  }
  return ids;
}

Result<int> run(const PerplexityOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("perplexity"));
  TG_ASSIGN(const RunSettings settings, run_settings(o.model));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  if (!o.ids) TG_RETURN_IF_ERROR(model.needs_tokenizer());
  TG_ASSIGN(const std::vector<TokenId> ids, read_ids(o, model));
  if (ids.size() < 2) {
    return error(ErrorCode::kBadArgument, "{}: {} tokens; a score needs 2", o.file, ids.size());
  }
  const ModelConfig& config = model.source->config();
  if (o.window && *o.window > config.max_context) {
    return error(ErrorCode::kBadArgument, "--window {}: the model's context is {} tokens",
                 *o.window, config.max_context);
  }
  ContextAsk ask;
  ask.max_seq_len = std::min(o.window.value_or(std::min(kDefaultWindow, config.max_context)),
                             static_cast<std::int64_t>(ids.size()));
  TG_ASSIGN(const ContextPlan plan, plan_context(config, ask));
  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load_runner(model, settings, plan));
  TG_ASSIGN(const TextScore score, score_text(loaded->runner(), ids, *ask.max_seq_len));
  const nlohmann::ordered_json json = {{"model", model.path},
                                       {"kernels", settings.kernels->name},
                                       {"compute_dtype", o.model.compute_dtype},
                                       {"kv_dtype", name(settings.kv_format, settings.dtype)},
                                       {"tokens", ids.size()},
                                       {"window", *ask.max_seq_len},
                                       {"scored", score.scored},
                                       {"mean_negative_log", score.mean()},
                                       {"perplexity", score.perplexity()}};
  print_out("{}\n", json.dump());
  return 0;
}

}  // namespace

void add_perplexity_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<PerplexityOptions>();
  CLI::App* app = program.add_subcommand(
      "perplexity", "how well a model predicts a text, to compare formats; one line of JSON");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  app->add_option("FILE", o->file, "the text")->required();
  app->add_flag("--ids", o->ids, "FILE has token ids: 1,2,3");
  add_whole_number(
      *app, "--window",
      "tokens that are seen together, the first of which is given; default: 2048, or the "
      "model's context if that is shorter",
      2, kMostCount, o->window);
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
