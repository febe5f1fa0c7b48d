// What: the options that every command with a model has, and what they mean on this machine.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "kernels/kernel_table.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct ModelOptions {
  std::string model;  // empty: $LLAMA_DIR, then $HF_MODEL
  std::string kernels = "auto";
  std::string compute_dtype = "bf16";
  std::optional<int> threads;  // none: one per CPU that this process may use
  std::string chat_template;   // name of a built-in or a file; empty: the checkpoint's own
  bool verify = false;
};

// What is needed to name a checkpoint, and what is needed to run it.
void add_checkpoint_options(CLI::App& app, ModelOptions& options);
void add_run_options(CLI::App& app, ModelOptions& options);

// --model or the environment; kBadArgument when neither names anything that exists.
Result<std::string> model_path(const ModelOptions& options);

struct RunSettings {
  const KernelTable* kernels = nullptr;
  ComputeDType dtype = ComputeDType::kBf16;
  int threads = 1;
};

// Refuses unknown kernels; more threads than CPUs are cut to the CPUs
// with one warning.
Result<RunSettings> run_settings(const ModelOptions& options);

}  // namespace tg
