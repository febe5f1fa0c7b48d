#include "cli/opened_model.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <utility>

#include "checkpoint/gguf_source.h"
#include "checkpoint/rope_override.h"
#include "cli/memory.h"
#include "cli/rank_agreement.h"
#include "cli/weights_cache_option.h"
#include "text/chat_template.h"
#include "text/shielded_text.h"
#include "text/utf8.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_directory(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// The first .gguf file of a directory (all parts of a split model carry its tokenizer's place in
// the first), or empty.
std::string gguf_in(const std::string& directory) {
  std::string first;
  std::error_code failed;
  for (fs::directory_iterator it(directory, failed), end; !failed && it != end;
       it.increment(failed)) {
    const std::string path = it->path().string();
    if (it->path().extension() == ".gguf" && (first.empty() || path < first)) first = path;
  }
  return first;
}

GgufVocabulary vocabulary_of(GgufTokenizerData data) {
  GgufVocabulary v;
  v.model = std::move(data.model);
  v.pre = std::move(data.pre);
  v.tokens = std::move(data.tokens);
  v.types = std::move(data.types);
  v.merges = std::move(data.merges);
  v.bos = data.bos;
  v.add_bos = data.add_bos;
  return v;
}

// A tokenizer, what else is known about chats from where it came, and that place.
struct TextParts {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string place;
  std::string chat_template;
  std::string chat_template_place;
  std::string bos_text;
  std::string eos_text;
};

Result<TextParts> open_gguf_text(const std::string& path) {
  TextParts parts;
  TG_ASSIGN(GgufTokenizerData data, read_gguf_tokenizer(path));
  parts.place = path;
  parts.chat_template = data.chat_template;
  parts.chat_template_place = path + " (tokenizer.chat_template)";
  const std::optional<std::int32_t> eos = data.eos;
  auto tokenizer = make_gguf_tokenizer(vocabulary_of(std::move(data)));
  if (!tokenizer) return at_place(std::move(tokenizer).error(), path);
  parts.tokenizer = *tokenizer;
  if (eos) parts.eos_text = parts.tokenizer->token_bytes(*eos);
  return parts;
}

// By its first bytes: such files come without ".gguf" too (caches name them by hash).
bool is_gguf_file(const std::string& path) {
  char magic[4] = {};
  std::ifstream in(path, std::ios::binary);
  return in.read(magic, sizeof(magic)) && std::string_view(magic, sizeof(magic)) == "GGUF";
}

// kNotFound when there is no tokenizer at the path. `format` is the weights' (ModelConfig::format)
// where they are known: beside GGUF files another form's tokenizer does not count.
Result<TextParts> open_text(const std::string& path, const std::string& format) {
  if (is_file(path) && is_gguf_file(path)) return open_gguf_text(path);
  TextParts parts;
  if (is_file(path)) {
    parts.place = path;
    TG_ASSIGN(parts.tokenizer,
              path.ends_with(".json") ? load_tokenizer_json(path) : load_tiktoken(path));
    return parts;
  }
  if (is_directory(path)) {
    if (format == "gguf") return open_gguf_text(gguf_in(path));
    for (const char* name : {"/tokenizer.json", "/tokenizer.model", "/original/tokenizer.model"}) {
      parts.place = path + name;
      if (!is_file(parts.place)) continue;
      TG_ASSIGN(parts.tokenizer, parts.place.ends_with(".json") ? load_tokenizer_json(parts.place)
                                                                : load_tiktoken(parts.place));
      TG_ASSIGN(HuggingFaceChat chat, read_hf_chat_template(path, /*for_tools=*/false));
      parts.chat_template = std::move(chat.chat_template);
      parts.chat_template_place = std::move(chat.place);
      parts.bos_text = std::move(chat.bos_token);
      parts.eos_text = std::move(chat.eos_token);
      return parts;
    }
    if (const std::string file = gguf_in(path); !file.empty()) return open_gguf_text(file);
  }
  return at_place(Error{ErrorCode::kNotFound,
                        "no tokenizer: neither tokenizer.json nor tokenizer.model is there",
                        {}},
                  path);
}

// The template and its name; that nothing fits is no error until a chat is asked for.
Status choose_template(const ModelOptions& options, const TextParts& parts, OpenedModel& model) {
  ChatTemplateSources sources;
  sources.requested = options.chat_template;
  sources.from_checkpoint = parts.chat_template;
  sources.checkpoint_place = parts.chat_template_place;
  sources.has_token = [&parts](std::string_view text) {
    return parts.tokenizer != nullptr && parts.tokenizer->find_special(text).has_value();
  };
  Result<ChatTemplate> chosen = choose_chat_template(sources);
  if (chosen) {
    model.chat_template_name = chosen->name();
    model.chat_template = std::make_shared<const ChatTemplate>(std::move(*chosen));
    return {};
  }
  if (!options.chat_template.empty()) {
    return at_place(std::move(chosen).error(), "--chat-template");
  }
  model.chat_template_name = fmt::format("none ({})", chosen.error().text());
  return {};
}

}  // namespace

Status OpenedModel::needs_tokenizer() const {
  if (tokenizer != nullptr) return {};
  return error(ErrorCode::kNotFound, "{}; --prompt-ids needs none", tokenizer_place);
}

Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const std::string& path) {
  TG_ASSIGN(TextParts parts, open_text(path, ""));
  return parts.tokenizer;
}

Status scale_rope(const ModelOptions& options, OpenedModel& model) {
  if (options.rope_scaling.empty()) return {};
  const auto scaling = parse_rope_scaling(options.rope_scaling);
  if (!scaling) return at_place(scaling.error(), "--rope-scaling");
  auto scaled = with_rope_scaling(std::move(model.source), *scaling);
  if (!scaled) return at_place(std::move(scaled).error(), "--rope-scaling");
  model.source = std::move(*scaled);
  return {};
}

Result<OpenedModel> open_model(const ModelOptions& options) {
  OpenedModel model;
  TG_ASSIGN(model.path, model_path(options));
  TG_ASSIGN(model.source, open_checkpoint(model.path, {.verify = options.verify}));
  TG_RETURN_IF_ERROR(scale_rope(options, model));
  const ModelConfig& config = model.source->config();

  Result<TextParts> parts = open_text(model.path, config.format);
  if (!parts && parts.error().code != ErrorCode::kNotFound) {
    return tl::unexpected<Error>(std::move(parts).error());
  }
  if (!parts) {
    model.tokenizer_place = parts.error().text();
    parts = TextParts{};
  } else {
    model.tokenizer_place = parts->place;
  }
  model.tokenizer = parts->tokenizer;
  if (model.tokenizer != nullptr && model.tokenizer->vocab_size() > config.vocab) {
    return error(ErrorCode::kBadInput,
                 "{} has {} tokens, the model of {} only {}: they do not belong together",
                 model.tokenizer_place, model.tokenizer->vocab_size(), model.path, config.vocab);
  }
  model.bos_text = parts->bos_text;
  model.eos_text = parts->eos_text;
  if (model.tokenizer != nullptr && model.bos_text.empty() && model.tokenizer->bos_id()) {
    model.bos_text = model.tokenizer->token_bytes(*model.tokenizer->bos_id());
  }
  TG_RETURN_IF_ERROR(choose_template(options, *parts, model));
  model.stop_ids = config.stop_ids;
  if (model.stop_ids.empty() && model.tokenizer != nullptr) {
    model.stop_ids = model.tokenizer->default_stop_ids();
  }
  return model;
}

Result<std::vector<TokenId>> encode_chat(const OpenedModel& model,
                                         const std::vector<ChatTurn>& turns) {
  TG_RETURN_IF_ERROR(model.needs_tokenizer());
  if (model.chat_template == nullptr) {
    return error(ErrorCode::kNotFound,
                 "no chat template: {}; give --chat-template, or use text as it is",
                 model.chat_template_name);
  }
  ChatInput input;
  for (const ChatTurn& turn : turns) {
    input.messages.push_back(
        {{"role", turn.role}, {"content", shield_special(*model.tokenizer, turn.content)}});
  }
  input.bos_token = model.bos_text;
  input.eos_token = model.eos_text;
  TG_ASSIGN(const std::string text, model.chat_template->render(input));
  return encode_shielded(*model.tokenizer, text);
}

Result<std::vector<TokenId>> encode_prompt(const OpenedModel& model, const std::string& text,
                                           bool instruct) {
  if (instruct) return encode_chat(model, {{"user", text}});
  TG_RETURN_IF_ERROR(model.needs_tokenizer());
  if (const std::size_t valid = valid_utf8_prefix(text); valid < text.size()) {
    return error(ErrorCode::kBadInput, "the prompt is not UTF-8 at byte {}", valid);
  }
  return model.tokenizer->encode_prompt(text, SpecialTokens::kAsText);
}

RunSummary summarize(const std::string& command, const OpenedModel& model,
                     const LoadedModel& loaded, const ModelOptions& options,
                     const RunSettings& settings, const ContextPlan& plan, std::int64_t users) {
  RunSummary s;
  s.command = command;
  s.model = model.path;
  s.kernels = settings.kernels->name;
  s.compute_dtype = options.compute_dtype;
  s.kv_dtype = name(settings.kv_format, settings.dtype);
  s.weights = loaded.runner().weight_formats().text();
  s.threads = settings.threads;
  s.mesh = text(settings.mesh.shape);
  s.ranks = settings.ranks();
  s.users = users;
  s.max_seq_len = plan.max_seq_len;
  s.page_block_size = plan.capacity.block;
  s.page_max_num_blocks = plan.capacity.blocks;
  return s;
}

namespace {

// The draft runs on one device, whatever the mesh: its pool holds what all columns' pools hold.
KvCapacity draft_capacity(const RunSettings& settings, const ContextPlan& plan) {
  KvCapacity capacity = plan.capacity;
  capacity.blocks *= settings.mesh.shape.cols;
  return capacity;
}

// Before either is read.
Status check_memory_of_both(const OpenedModel& model, const OpenedModel& draft,
                            const RunSettings& settings, const ContextPlan& plan) {
  const auto need_of = [&settings](const OpenedModel& m, MeshShape shape,
                                   const KvCapacity& capacity) -> Result<std::int64_t> {
    TG_ASSIGN(const ShardPlan shards, ShardPlan::make(m.source->config(), shape));
    return memory_need(m.source->config(), shards, {0, shape.rows, 0, shape.cols},
                       weight_formats(*m.source, settings.weights, shards,
                                      weight_order(*settings.kernels, settings.dtype)),
                       settings.dtype, settings.kv_format, capacity, settings.threads)
        .total();
  };
  TG_ASSIGN(const std::int64_t ours, need_of(model, settings.mesh.shape, plan.capacity));
  auto theirs = need_of(draft, {}, draft_capacity(settings, plan));
  if (!theirs) return at_place(std::move(theirs).error(), draft.path);
  const std::int64_t available = available_memory();
  if (available == 0 || ours + *theirs <= available) return {};
  return error(ErrorCode::kOutOfCapacity,
               "the model needs {} and its draft model {}: together {}; available are {}",
               bytes_text(ours), bytes_text(*theirs), bytes_text(ours + *theirs),
               bytes_text(available));
}

}  // namespace

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const OpenedModel& model,
                                                       const RunSettings& settings,
                                                       const ContextPlan& plan, std::int64_t users,
                                                       const Speculation& speculation) {
  EngineOptions engine;
  engine.max_users = users;
  return load(model, settings, plan, std::move(engine), speculation);
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const OpenedModel& model,
                                                       const RunSettings& settings,
                                                       const ContextPlan& plan,
                                                       EngineOptions engine,
                                                       const Speculation& speculation) {
  const auto begin = std::chrono::steady_clock::now();
  if (speculation.draft != nullptr) {
    TG_RETURN_IF_ERROR(check_memory_of_both(model, *speculation.draft, settings, plan));
  }
  TG_ASSIGN(std::unique_ptr<LoadedModel> loaded, load_runner(model, settings, plan));
  if (!settings.leads()) return loaded;
  if (speculation.draft != nullptr) {
    TG_RETURN_IF_ERROR(loaded->load_draft(*speculation.draft, settings, plan));
  }
  TG_RETURN_IF_ERROR(loaded->start_engine(std::move(engine), speculation));
  loaded->load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return loaded;
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::load_runner(const OpenedModel& model,
                                                              const RunSettings& settings,
                                                              const ContextPlan& plan) {
  const auto begin = std::chrono::steady_clock::now();
  const ModelConfig& config = model.source->config();
  TG_ASSIGN(const ShardPlan shards, ShardPlan::make(config, settings.mesh.shape));
  TG_ASSIGN(const RankGrid grid, share_mesh(settings.mesh.shape, settings.ranks()));
  const DeviceBlock block =
      grid.block(settings.transport == nullptr ? 0 : settings.transport->rank());
  const WeightOrder order = weight_order(*settings.kernels, settings.dtype);
  const auto check = [&](WeightsWish wish) {
    const MemoryNeed need =
        memory_need(config, shards, block, weight_formats(*model.source, wish, shards, order),
                    settings.dtype, settings.kv_format, plan.capacity, settings.threads);
    return check_memory(need, plan.capacity, settings.mesh.shape.cols, settings.local_ranks,
                        available_memory());
  };
  WeightsWish weights_wish = settings.weights;
  if (const Status fits = check(weights_wish); !fits) {
    if (!settings.int8_if_needed || !check(WeightsWish::kInt8)) return tl::unexpected(fits.error());
    spdlog::warn("--optimizations accuracy: weights are held in int8, since {}",
                 fits.error().message);
    weights_wish = WeightsWish::kInt8;
  }
  if (settings.transport != nullptr) {
    RunSettings chosen = settings;
    chosen.weights = weights_wish;
    TG_ASSIGN(const std::string mine, settings_text(chosen, plan, *model.source));
    TG_RETURN_IF_ERROR(agree_on_settings(*settings.transport, mine));
    wait_for_all(*settings.transport);
  }

  std::unique_ptr<LoadedModel> loaded(new LoadedModel(settings));
  TG_ASSIGN(LlamaWeights weights, load_or_map_weights(settings.weights_cache, model.path,
                                                      {*model.source, shards, block, weights_wish,
                                                       order, settings.kernels->name},
                                                      loaded->team_, "Loading weights"));
  RunnerOptions options;
  options.kernels = settings.kernels;
  options.dtype = settings.dtype;
  options.kv_format = settings.kv_format;
  options.capacity = plan.capacity;
  options.max_context = plan.max_seq_len;
  options.collectives = settings.mesh.collectives;
  options.transport = settings.transport.get();
  TG_ASSIGN(loaded->runner_, LlamaRunner::create(std::move(weights), loaded->team_, options));
  loaded->load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return loaded;
}

Status LoadedModel::load_draft(const OpenedModel& draft, const RunSettings& settings,
                               const ContextPlan& plan) {
  const ModelConfig& config = draft.source->config();
  TG_ASSIGN(const ShardPlan shards, ShardPlan::make(config, MeshShape{}));
  const WeightOrder order = weight_order(*settings.kernels, settings.dtype);
  TG_ASSIGN(LlamaWeights weights,
            load_or_map_weights(
                settings.weights_cache, draft.path,
                {*draft.source, shards, {}, settings.weights, order, settings.kernels->name}, team_,
                "Loading the draft model"));
  RunnerOptions options;
  options.kernels = settings.kernels;
  options.dtype = settings.dtype;
  options.kv_format = settings.kv_format;
  options.capacity = draft_capacity(settings, plan);
  options.max_context = std::min(plan.max_seq_len, config.max_context);
  TG_ASSIGN(draft_runner_, LlamaRunner::create(std::move(weights), team_, options));
  return {};
}

Status LoadedModel::start_engine(EngineOptions engine_options, const Speculation& speculation) {
  // The first touch of every buffer is slow and belongs to loading, not to the first user's answer.
  // Mapped weights were brought in already, and there a step would be half of what a start takes.
  const TokenId token = 0;
  const PageId page = 0;
  StepSequence warm_up;
  warm_up.tokens = {&token, 1};
  warm_up.pages = {&page, 1};
  if (!runner_->has_mapped_weights()) TG_RETURN_IF_ERROR(runner_->step({{&warm_up, 1}}));
  if (draft_runner_ != nullptr) {
    if (!draft_runner_->has_mapped_weights()) {
      TG_RETURN_IF_ERROR(draft_runner_->step({{&warm_up, 1}}));
    }
    proposer_ = std::make_unique<DraftProposer>(*draft_runner_);
  } else if (speculation.kind == "ngram") {
    proposer_ = std::make_unique<NgramProposer>();
  }

  engine_options.speculation = {proposer_.get(), speculation.tokens, speculation.rows};
  TG_ASSIGN(engine_, Engine::create(*runner_, std::move(engine_options)));
  return {};
}

LoadedModel::~LoadedModel() {
  // In the middle of a step (memory ran out) the others are not where they could hear of an end in
  // good order; the transport then ends the job.
  if (std::uncaught_exceptions() > 0) return;
  if (leads() && runner_ != nullptr) runner_->stop();
}

Result<int> LoadedModel::serve() {
  TG_RETURN_IF_ERROR(runner_->serve());
  return 0;
}

}  // namespace tg
