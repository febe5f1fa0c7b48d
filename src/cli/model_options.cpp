#include "cli/model_options.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cli/number_option.h"
#include "cli/ranks.h"
#include "cli/weights_cache_option.h"

namespace tg {

void add_checkpoint_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--model", options.model,
                 "checkpoint: a directory (Meta, repacked or Hugging Face form) or a .gguf file; "
                 "default: $LLAMA_DIR, then $HF_MODEL");
  app.add_flag("--verify", options.verify, "check the CRC-32 of every .pth record (reads it all)");
}

void add_run_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--kernels", options.kernels,
                 "instruction set: auto, amx, avx512bf16, avx512, avx2 or reference")
      ->capture_default_str();
  app.add_option("--compute-dtype", options.compute_dtype,
                 "what activations, KV cache and products are held in; sums are f32 in both")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  app.add_option("--kv-dtype", options.kv_dtype,
                 "what keys and values are kept in; int8 and bfp8 take 8.5 bits a value; default: "
                 "the compute dtype")
      ->check(CLI::IsMember({"bf16", "int8", "bfp8"}));
  app.add_option(
         "--weights-dtype", options.weights_dtype,
         "what weights are held in; stored (default): Q8_0 and Q4_0 of a GGUF as they are, "
         "with --kernels amx Q4_K and Q6_K too, else bf16. int8 and int4 multiply inputs "
         "rounded to 8 bits, but not with --kernels amx. bfp8 and bfp4 are Tenstorrent's block "
         "float, held as bf16 without --kernels amx")
      ->check(CLI::IsMember({"stored", "bf16", "int8", "int4", "bfp8", "bfp4"}));
  app.add_option("--optimizations", options.optimizations,
                 "performance: w1 and w3 in int4, the rest in int8; accuracy: bf16, or int8 where "
                 "memory does not allow it")
      ->check(CLI::IsMember({"performance", "accuracy"}));
  app.add_option("--weights-cache", options.weights_cache,
                 "keep packed weights in this folder, about as large as the weights in memory, so "
                 "that the next start maps them; auto: in $XDG_CACHE_HOME/llama-tg; off. Default: "
                 "$LLAMA_TG_CACHE, else off");
  add_thread_options(app, options.threads);
  add_mesh_options(app, options.mesh);
  app.add_option("--chat-template", options.chat_template,
                 "llama3, llama3-meta, chatml or a Jinja file; default: the checkpoint's own");
  app.add_option("--rope-scaling", options.rope_scaling,
                 "for contexts longer than the checkpoint's: linear:FACTOR, llama3:FACTOR or none; "
                 "the context becomes FACTOR times what the model was trained for. Default: the "
                 "checkpoint's own");
}

Result<std::string> model_path(const ModelOptions& options) {
  std::string path = options.model;
  std::string origin = "--model";
  for (const char* variable : {"LLAMA_DIR", "HF_MODEL"}) {
    if (!path.empty()) break;
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') {
      path = value;
      origin = std::string("$") + variable;
    }
  }
  if (path.empty()) {
    return error(ErrorCode::kBadArgument,
                 "no model: give --model DIR|FILE, or set LLAMA_DIR or HF_MODEL (`make model` "
                 "fetches a small one)");
  }
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return error(ErrorCode::kNotFound,
                 "{} {}: no such file or directory (checkpoints are local; nothing is downloaded)",
                 origin, path);
  }
  return path;
}

namespace {

// Integer weights multiply integer inputs, so there is no f32 computing with them.
Status choose_weights(const ModelOptions& options, RunSettings& settings) {
  const std::string& dtype = options.weights_dtype;
  const std::string& optimizations = options.optimizations;
  if (!dtype.empty() && !optimizations.empty()) {
    return error(ErrorCode::kBadArgument, "--weights-dtype {} and --optimizations {}: which?",
                 dtype, optimizations);
  }
  if (dtype == "bf16") settings.weights = WeightsWish::kBf16;
  if (dtype == "int8") settings.weights = WeightsWish::kInt8;
  if (dtype == "int4") settings.weights = WeightsWish::kInt4;
  if (dtype == "bfp8") settings.weights = WeightsWish::kBfp8;
  if (dtype == "bfp4") settings.weights = WeightsWish::kBfp4;
  if (optimizations == "performance") settings.weights = WeightsWish::kPerformance;
  if (optimizations == "accuracy") {
    settings.weights = WeightsWish::kBf16;
    settings.int8_if_needed = settings.dtype == ComputeDType::kBf16;
  }
  if (settings.dtype == ComputeDType::kBf16) return {};
  if (settings.weights == WeightsWish::kStored) settings.weights = WeightsWish::kBf16;
  // Block float is a rounding there, held as bf16.
  for (const WeightsWish wish : {WeightsWish::kBf16, WeightsWish::kBfp8, WeightsWish::kBfp4}) {
    if (settings.weights == wish) return {};
  }
  return error(
      ErrorCode::kBadArgument,
      "--compute-dtype f32 with {} {}: integer weights multiply inputs of 8 bits; f32 needs "
      "--weights-dtype bf16, bfp8 or bfp4",
      dtype.empty() ? "--optimizations" : "--weights-dtype", dtype.empty() ? optimizations : dtype);
}

// A cache of codes stands for values of bf16.
Status choose_kv_format(const ModelOptions& options, RunSettings& settings) {
  if (options.kv_dtype == "int8") settings.kv_format = KvFormat::kInt8;
  if (options.kv_dtype == "bfp8") settings.kv_format = KvFormat::kBfp8;
  if (settings.dtype == ComputeDType::kBf16 || options.kv_dtype.empty()) return {};
  return error(ErrorCode::kBadArgument,
               "--compute-dtype f32 with --kv-dtype {}: f32 computing keeps keys and values in f32",
               options.kv_dtype);
}

}  // namespace

Result<RunSettings> run_settings(const ModelOptions& options) {
  RunSettings settings;
  auto kernels = choose_kernels(options.kernels);
  if (!kernels) return at_place(std::move(kernels).error(), "--kernels");
  settings.kernels = *kernels;
  settings.dtype = options.compute_dtype == "f32" ? ComputeDType::kF32 : ComputeDType::kBf16;
  TG_RETURN_IF_ERROR(choose_weights(options, settings));
  TG_RETURN_IF_ERROR(choose_kv_format(options, settings));
  TG_ASSIGN(settings.weights_cache, weights_cache_folder(options.weights_cache, [](const char* n) {
              return std::getenv(n);
            }));
  TG_ASSIGN(settings.mesh,
            mesh_settings(options.mesh, [](const char* n) { return std::getenv(n); }));
  const LaunchedAs launched = launched_as([](const char* n) { return std::getenv(n); });
  settings.local_ranks = std::max(1, launched.local_ranks);
  TG_ASSIGN(const ThreadSettings threads, thread_settings(options.threads, cpu_place(launched)));
  settings.threads = threads.threads;
  settings.cpus = threads.cpus;
  return settings;
}

}  // namespace tg
