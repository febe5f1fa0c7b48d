// What: the options that every command with a model has, and what they mean on this machine.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/mesh_options.h"
#include "cli/thread_options.h"
#include "kernels/kernel_table.h"
#include "mesh/transport.h"
#include "model/weight_formats.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct ModelOptions {
  std::string model;  // empty: $LLAMA_DIR, then $HF_MODEL
  std::string kernels = "auto";
  std::string compute_dtype = "bf16";
  std::string kv_dtype;       // "bf16", "int8", "bfp8"; empty: the compute dtype
  std::string weights_dtype;  // "stored", "bf16", "int8", "int4"; empty: by optimizations
  std::string optimizations;  // "performance", "accuracy"; empty: as stored
  std::string weights_cache;  // a folder, "auto" or "off"; empty: $LLAMA_TG_CACHE, else off
  std::string chat_template;  // name of a built-in or a file; empty: the checkpoint's own
  std::string rope_scaling;   // "none", "linear:4", "llama3:8"; empty: the checkpoint's own
  bool verify = false;
  ThreadOptions threads;
  MeshOptions mesh;
  std::shared_ptr<Transport> transport = {};  // set by join_ranks()
};

// What is needed to name a checkpoint, and what is needed to run it.
void add_checkpoint_options(CLI::App& app, ModelOptions& options);
void add_run_options(CLI::App& app, ModelOptions& options);

// --model or the environment; kBadArgument when neither names anything that exists.
Result<std::string> model_path(const ModelOptions& options);

struct RunSettings {
  const KernelTable* kernels = nullptr;
  ComputeDType dtype = ComputeDType::kBf16;
  KvFormat kv_format = KvFormat::kCompute;
  WeightsWish weights = WeightsWish::kStored;
  bool int8_if_needed = false;  // where memory does not allow bf16
  std::string weights_cache;    // folder; empty: none
  int threads = 1;
  std::vector<int> cpus;  // that the threads stay on; empty: anywhere
  int local_ranks = 1;    // ranks of the job on this host
  MeshSettings mesh;
  std::shared_ptr<Transport> transport;  // nullptr: no other ranks

  int ranks() const { return transport == nullptr ? 1 : transport->ranks(); }
  bool leads() const { return transport == nullptr || transport->rank() == 0; }
};

// Refuses unknown kernels and number formats that do not go together; more threads than CPUs are
// cut to the CPUs with one warning.
Result<RunSettings> run_settings(const ModelOptions& options);

}  // namespace tg
