#include "cli/model_options.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>

#include "base/thread_team.h"
#include "cli/number_option.h"

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
  add_whole_number(app, "--threads", "threads; default: one per CPU of this process", 1, 4096, "",
                   [&options](std::int64_t n) { options.threads = static_cast<int>(n); });
  app.add_option("--chat-template", options.chat_template,
                 "llama3, llama3-meta, chatml or a Jinja file; default: the checkpoint's own");
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

Result<RunSettings> run_settings(const ModelOptions& options) {
  RunSettings settings;
  auto kernels = choose_kernels(options.kernels);
  if (!kernels) return at_place(std::move(kernels).error(), "--kernels");
  settings.kernels = *kernels;
  settings.dtype = options.compute_dtype == "f32" ? ComputeDType::kF32 : ComputeDType::kBf16;
  const int cpus = available_cpus();
  settings.threads = options.threads.value_or(cpus);
  if (settings.threads > cpus) {
    spdlog::warn("--threads {}: this process may use {} CPU{}, so {} is taken", settings.threads,
                 cpus, cpus == 1 ? "" : "s", cpus);
    settings.threads = cpus;
  }
  return settings;
}

}  // namespace tg
