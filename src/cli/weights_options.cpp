#include "cli/weights_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "checkpoint/first_layers.h"
#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "cli/number_option.h"

namespace tg {
namespace {

Result<OpenedModel> open_random_model(const WeightsWanted& wanted, const ModelOptions& options) {
  OpenedModel model;
  ModelConfig config;
  if (options.model.empty()) {
    auto shape = known_shape(wanted.arch);
    if (!shape) return at_place(std::move(shape).error(), "--arch");
    config = std::move(*shape);
    model.path = "random " + config.name;
    model.tokenizer_place = "random weights have no tokenizer (--model DIR lends one)";
    model.chat_template_name = "none (random weights)";
    model.stop_ids = config.stop_ids;
  } else {
    TG_ASSIGN(model, open_model(options));
    config = model.source->config();
    config.format = "random";
    model.path = "random weights in the shape of " + model.path;
  }
  config.layers = wanted.layers.value_or(config.layers);
  TG_ASSIGN(model.source, open_random(std::move(config), wanted.seed));
  if (options.model.empty()) TG_RETURN_IF_ERROR(scale_rope(options, model));
  return model;
}

}  // namespace

void add_weights_options(CLI::App& app, WeightsOptions& options) {
  app.add_option("--weights", options.weights,
                 "instruct: those of --model; random: made from a seed, no checkpoint needed")
      ->check(CLI::IsMember({"instruct", "random"}));
  app.add_option("--arch", options.arch, "shape of random weights: " + known_shape_names());
  add_whole_number(app, "--layers", "only the first N layers (random: any number)", 1, kMostLayers,
                   options.layers);
  add_whole_number(app, "--weights-seed", "of random weights", 0, kMostCount, "0",
                   [&options](std::int64_t n) { options.seed = static_cast<std::uint64_t>(n); });
}

Result<WeightsWanted> weights_wanted(const WeightsOptions& options, const ModelOptions& model,
                                     bool case_random, std::optional<std::int64_t> case_layers) {
  WeightsWanted wanted;
  wanted.random = options.weights ? *options.weights == "random" : case_random;
  if (!wanted.random && !options.arch.empty()) {
    return error(ErrorCode::kBadArgument, "--arch {} without --weights random", options.arch);
  }
  if (!options.arch.empty() && !model.model.empty()) {
    return error(ErrorCode::kBadArgument, "--arch {} and --model {}: the shape of which?",
                 options.arch, model.model);
  }
  wanted.arch = options.arch.empty() ? kDefaultArch : options.arch;
  wanted.layers = options.layers ? options.layers : case_layers;
  wanted.layers_exactly = options.layers.has_value();
  wanted.seed = options.seed;
  return wanted;
}

Result<OpenedModel> open_weights(const WeightsWanted& wanted, const ModelOptions& options) {
  if (wanted.random) return open_random_model(wanted, options);
  TG_ASSIGN(OpenedModel model, open_model(options));
  if (!wanted.layers) return model;
  const std::int64_t layers = wanted.layers_exactly
                                  ? *wanted.layers
                                  : std::min(*wanted.layers, model.source->config().layers);
  auto source = first_layers(std::move(model.source), layers);
  if (!source) return at_place(std::move(source).error(), "--layers");
  model.source = std::move(*source);
  return model;
}

}  // namespace tg
