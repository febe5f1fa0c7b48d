// llama-tg repack: a checkpoint as files of some layers each, or in Hugging Face's form.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoint/open_original.h"
#include "checkpoint/repack.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/print.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/stop_signals.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kDefaultChunk = 10;

struct RepackOptions {
  std::string in;
  std::string out;
  std::optional<std::int64_t> chunk;       // in third place
  std::optional<std::int64_t> chunk_size;  // --chunk-size
  std::optional<std::int64_t> layers;
  std::optional<std::int64_t> hidden_size;
  std::string to = "repacked";
  bool verify = false;
  bool force = false;
};

RepackHooks repack_hooks(ProgressBar& bar) {
  return {.stopped = [] { return StopSignals::received() != 0; },
          .progress = [&bar](std::int64_t done, std::int64_t total) { bar.show(done, total); }};
}

Result<std::int64_t> chunk_of(const RepackOptions& o) {
  if (o.chunk && o.chunk_size && *o.chunk != *o.chunk_size) {
    return error(ErrorCode::kBadArgument, "the chunk size is given twice, as {} and as {}",
                 *o.chunk, *o.chunk_size);
  }
  return o.chunk.value_or(o.chunk_size.value_or(kDefaultChunk));
}

Status check_told(const char* option, const std::optional<std::int64_t>& told, std::int64_t is,
                  std::string_view what) {
  if (!told || *told == is) return {};
  return error(ErrorCode::kBadArgument, "{}: {} is given, the checkpoint's {} is {}", option, *told,
               what, is);
}

Result<std::unique_ptr<TensorSource>> open_source(const RepackOptions& o, RepackForm form) {
  std::error_code ignored;
  const OpenOptions options{.verify = o.verify};
  if (!fs::equivalent(o.in, o.out, ignored)) return open_checkpoint(o.in, options);
  if (form == RepackForm::kSafetensors) {
    return at_place(Error{ErrorCode::kBadArgument,
                          "--to safetensors needs another directory than the source's, or readers "
                          "would find two checkpoints in one",
                          {}},
                    o.out);
  }
  Result<std::unique_ptr<TensorSource>> original = open_original(o.in, options);
  if (!original && original.error().code == ErrorCode::kNotFound && open_checkpoint(o.in)) {
    return at_place(Error{ErrorCode::kBadArgument,
                          "is in the repacked form already, with no other to read beside it; give "
                          "another directory to repack into",
                          {}},
                    o.out);
  }
  return original;
}

// With what the tokenizer knows of begin and stop ids, where the weights' files do not say.
ModelConfig described_config(const RepackOptions& o, const ModelConfig& config) {
  ModelConfig described = config;
  if (config.bos_id && !config.stop_ids.empty()) return described;
  const auto tokenizer = open_tokenizer(o.in);
  if (!tokenizer) return described;
  if (!described.bos_id) described.bos_id = (*tokenizer)->bos_id();
  if (described.stop_ids.empty()) described.stop_ids = (*tokenizer)->default_stop_ids();
  return described;
}

Result<int> repack(const RepackOptions& o, const RepackJob& job) {
  const auto begin = std::chrono::steady_clock::now();
  RepackWork work;
  {
    ProgressBar bar("Comparing");
    TG_ASSIGN(work, find_work(job, repack_hooks(bar)));
  }
  TG_RETURN_IF_ERROR(check_space(job, work));
  {
    ProgressBar bar("Repacking");
    TG_RETURN_IF_ERROR(write_work(job, work, repack_hooks(bar)));
  }
  std::string verified;
  if (o.verify) {
    ProgressBar bar("Verifying");
    TG_ASSIGN(const VerifyCounts counts, verify_repacked(job, repack_hooks(bar)));
    verified =
        fmt::format("; verified: {} tensors, {} values equal", counts.tensors, counts.values);
  }
  std::size_t tensors = 0;
  for (const PlannedFile& file : job.plan.files) tensors += file.tensors.size();
  print_out(
      "{}: {} tensors of {} layers, {:.1f} MiB in {} files; {} written, {} were there; {:.1f} s{}"
      "\n",
      o.out, tensors, job.source.config().layers, static_cast<double>(job.plan.bytes()) / 0x1p20,
      job.plan.files.size(), work.files.size(), work.kept,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), verified);
  return 0;
}

Result<int> run(const RepackOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("repack"));
  TG_ASSIGN(const std::int64_t chunk, chunk_of(o));
  const RepackForm form = o.to == "safetensors" ? RepackForm::kSafetensors : RepackForm::kRepacked;
  std::error_code ignored;
  if (fs::exists(o.out, ignored) && !fs::is_directory(o.out, ignored)) {
    return at_place(Error{ErrorCode::kBadArgument, "is no directory", {}}, o.out);
  }
  TG_ASSIGN(const std::unique_ptr<TensorSource> source, open_source(o, form));
  const ModelConfig& config = source->config();
  TG_RETURN_IF_ERROR(check_told("--num-layers", o.layers, config.layers, "number of layers"));
  TG_RETURN_IF_ERROR(check_told("--hidden-size", o.hidden_size, config.dim, "hidden size"));
  TG_ASSIGN(const RepackPlan plan, plan_repack(config, source->tensors(), form, chunk));
  Result<Companions> companions = plan_companions(
      o.in, form == RepackForm::kSafetensors ? described_config(o, config) : config, plan);
  if (!companions) return at_place(std::move(companions).error(), o.in);

  const RepackJob job{*source, plan, *companions, o.out, o.force};
  const StopSignals signals;
  Result<int> status = repack(o, job);
  const int number = StopSignals::received();
  if (!status && number != 0) {
    print_error(
        "llama-tg: repack to {} ended by signal {}: {}; no partial file is left, and the same "
        "command goes on from here\n",
        o.out, number, status.error().message);
    return 128 + number;  // as a shell says it
  }
  if (status) {
    for (const std::string& sentence : companions->missing) spdlog::warn("{}", sentence);
  }
  return status;
}

}  // namespace

void add_repack_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<RepackOptions>();
  CLI::App* app = program.add_subcommand(
      "repack", "write a checkpoint anew: some layers per file, or in Hugging Face's form");
  app->add_option("in", o->in, "any checkpoint that this program reads")->required();
  app->add_option("out", o->out, "directory; made if need be, may be the source's")->required();
  add_whole_number(*app, "chunk", "layers per file; default: 10", 1, kMostCount, o->chunk);
  add_whole_number(*app, "--chunk-size,--chunk_size", "the same as an option", 1, kMostCount,
                   o->chunk_size);
  add_whole_number(*app, "-n,--num-layers,--num_layers",
                   "refuse a checkpoint of another number of layers", 1, kMostCount, o->layers);
  add_whole_number(*app, "--hidden-size,--hidden_size", "refuse one of another hidden size", 1,
                   kMostCount, o->hidden_size);
  app->add_option("--to", o->to,
                  "repacked: layers_A-B.pth, Meta's names; safetensors: Hugging Face's form")
      ->check(CLI::IsMember({"repacked", "safetensors"}))
      ->capture_default_str();
  app->add_flag("--verify", o->verify, "afterwards compare every value with the source's");
  app->add_flag("--force", o->force, "write files anew that are there with other content");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
