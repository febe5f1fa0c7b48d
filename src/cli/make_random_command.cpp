// llama-tg make-random: a checkpoint with random weights, for measuring without a download.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/thread_team.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "checkpoint/repack.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/print.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/stop_signals.h"
#include "cli/weights_options.h"
#include "text/byte_alphabet.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLayersPerFile = 10;  // of safetensors

struct MakeRandomOptions {
  std::string out;
  std::string arch;
  std::optional<std::int64_t> layers;
  std::int64_t seed = 0;
  std::string format = "gguf";
  std::string weights_dtype = "bf16";
  std::string vocabulary = "none";
  std::optional<std::int64_t> threads;
  bool force = false;
};

DType matrices_of(const MakeRandomOptions& o) {
  if (o.weights_dtype == "f32") return DType::kF32;
  if (o.weights_dtype == "q8_0") return DType::kQ8_0;
  if (o.weights_dtype == "q4_k") return DType::kQ4K;
  if (o.weights_dtype == "q6_k") return DType::kQ6K;
  return o.weights_dtype == "q4_0" ? DType::kQ4_0 : DType::kBf16;
}

Result<std::unique_ptr<TensorSource>> random_model(const MakeRandomOptions& o) {
  auto config = known_shape(o.arch);
  if (!config) return at_place(std::move(config).error(), "--arch");
  config->layers = o.layers.value_or(config->layers);
  config->name =
      fmt::format("{} with {} layers, random weights of seed {}", o.arch, config->layers, o.seed);
  return open_random(std::move(*config), static_cast<std::uint64_t>(o.seed));
}

// Every byte is a token of its own, so that all text can be said; one merge, because readers want
// some; and names for the rest, as special tokens, so that none is ever part of a text.
GgufTokenizerData byte_vocabulary(std::int64_t vocab) {
  GgufTokenizerData data;
  data.model = "gpt2";
  data.pre = "llama-bpe";
  for (int b = 0; b < 256; ++b) {
    data.tokens.push_back(
        spelling_of_bytes(std::string(1, static_cast<char>(static_cast<unsigned char>(b)))));
  }
  data.tokens.emplace_back("th");
  data.merges = {"t h"};
  data.types.assign(data.tokens.size(), static_cast<std::int32_t>(GgufTokenType::kNormal));
  while (static_cast<std::int64_t>(data.tokens.size()) < vocab) {
    data.tokens.push_back(fmt::format("<|{}|>", data.tokens.size()));
    data.types.push_back(static_cast<std::int32_t>(GgufTokenType::kControl));
  }
  return data;
}

RepackHooks hooks_with(ProgressBar& bar) {
  return {.stopped = [] { return StopSignals::received() != 0; },
          .progress = [&bar](std::int64_t done, std::int64_t total) { bar.show(done, total); }};
}

Result<std::uint64_t> make_gguf(const MakeRandomOptions& o, const TensorSource& source) {
  std::error_code ignored;
  if (fs::exists(o.out, ignored) && (!o.force || !fs::is_regular_file(o.out, ignored))) {
    return at_place(
        Error{ErrorCode::kBadArgument,
              fs::is_regular_file(o.out, ignored) ? "is there already; --force writes it anew"
                                                  : "is no file; --format gguf writes one",
              {}},
        o.out);
  }
  std::optional<GgufTokenizerData> vocabulary;
  if (o.vocabulary == "bytes") vocabulary = byte_vocabulary(source.config().vocab);
  TG_ASSIGN(const GgufPlan plan,
            plan_gguf(source, matrices_of(o), vocabulary ? &*vocabulary : nullptr));
  ThreadTeam team(static_cast<int>(o.threads.value_or(available_cpus())));
  ProgressBar bar("Writing");
  TG_RETURN_IF_ERROR(write_gguf(source, plan, team, o.out, hooks_with(bar)));
  return plan.bytes;
}

// As repack does, which also leaves files alone that are there and right.
Result<std::uint64_t> make_safetensors(const MakeRandomOptions& o, const TensorSource& source) {
  if (matrices_of(o) != DType::kBf16) {
    return error(ErrorCode::kBadArgument,
                 "--weights-dtype {} is a format of GGUF; safetensors have bf16", o.weights_dtype);
  }
  TG_ASSIGN(const RepackPlan plan, plan_repack(source.config(), source.tensors(),
                                               RepackForm::kSafetensors, kLayersPerFile));
  TG_ASSIGN(const Companions companions, plan_companions("", source.config(), plan));
  const RepackJob job{source, plan, companions, o.out, o.force};
  ProgressBar bar("Writing");
  TG_ASSIGN(const RepackWork work, find_work(job, hooks_with(bar)));
  TG_RETURN_IF_ERROR(check_space(job, work));
  TG_RETURN_IF_ERROR(write_work(job, work, hooks_with(bar)));
  return plan.bytes();
}

Result<int> run(const MakeRandomOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("make-random"));
  const auto begin = std::chrono::steady_clock::now();
  TG_ASSIGN(const std::unique_ptr<TensorSource> source, random_model(o));
  const StopSignals signals;
  const auto bytes = o.format == "gguf" ? make_gguf(o, *source) : make_safetensors(o, *source);
  if (const int number = StopSignals::received(); !bytes && number != 0) {
    print_error("llama-tg: {} ended by signal {}: {}; no partial file is left\n", o.out, number,
                bytes.error().message);
    return 128 + number;  // as a shell says it
  }
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  print_out("{}: {}, {}, {:.1f} MiB; {:.1f} s\n", o.out, source->config().name,
            o.format == "gguf" ? name(matrices_of(o)) : "BF16",
            static_cast<double>(*bytes) / 0x1p20,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return 0;
}

}  // namespace

void add_make_random_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<MakeRandomOptions>();
  CLI::App* app = program.add_subcommand(
      "make-random", "write a checkpoint with random weights, of any size, for measuring");
  app->add_option("out", o->out, "gguf: the file; safetensors: the directory")->required();
  app->add_option("--arch", o->arch, "shape: " + known_shape_names())->required();
  add_whole_number(*app, "--layers", "number of layers; default: the shape's", 1, kMostLayers,
                   o->layers);
  add_whole_number(*app, "--seed", "what the weights are made from", 0, kMostCount, o->seed);
  app->add_option("--format", o->format,
                  "one file, or Hugging Face's directory without a tokenizer")
      ->check(CLI::IsMember({"gguf", "safetensors"}))
      ->capture_default_str();
  app->add_option("--weights-dtype", o->weights_dtype,
                  "format of all matrices, embedding and head among them; norms are f32 in gguf")
      ->check(CLI::IsMember({"f32", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"}))
      ->capture_default_str();
  app->add_option("--vocabulary", o->vocabulary,
                  "of gguf. none: ids in and out only; bytes: a token per byte and names for the "
                  "rest, for programs that open nothing without a tokenizer")
      ->check(CLI::IsMember({"none", "bytes"}))
      ->capture_default_str();
  add_whole_number(*app, "--threads", "threads; default: one per CPU of this process", 1, 4096,
                   o->threads);
  app->add_flag("--force", o->force, "write anew what is there with other content");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
