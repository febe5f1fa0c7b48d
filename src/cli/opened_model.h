// What: a checkpoint as a command meets it before loading: its tensors' directory, its tokenizer,
//   chat template and stop ids. And the same loaded, with runner and engine.
// Who owns: the command. Thread: the main thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "checkpoint/tensor_source.h"
#include "cli/answer.h"
#include "cli/context_plan.h"
#include "cli/model_options.h"
#include "engine/draft_proposer.h"
#include "engine/engine.h"
#include "engine/ngram_proposer.h"
#include "model/llama_runner.h"
#include "text/tokenizer.h"

namespace tg {

class ChatTemplate;  // not the header: it takes seconds to compile

struct OpenedModel {
  std::string path;
  std::unique_ptr<TensorSource> source;
  std::shared_ptr<const Tokenizer> tokenizer;  // nullptr when the checkpoint has none
  std::string tokenizer_place;  // the file it came from, or what was looked for in vain
  std::shared_ptr<const ChatTemplate> chat_template;  // nullptr: nothing fits
  std::string chat_template_name;                     // what it is, or why there is none
  std::string bos_text;
  std::string eos_text;
  // What ends an answer: the checkpoint's own list, else what the tokenizer's names say.
  std::vector<TokenId> stop_ids;

  // kNotFound with what was looked for.
  Status needs_tokenizer() const;
};

// Only the tokenizer of a checkpoint, or of a tokenizer file itself.
Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const std::string& path);

// Puts --rope-scaling in place of the checkpoint's own.
Status scale_rope(const ModelOptions& options, OpenedModel& model);

// Reads no weights yet.
Result<OpenedModel> open_model(const ModelOptions& options);

// One turn of a conversation.
struct ChatTurn {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// Ids of a conversation in the chat form, with the assistant's turn to come. Special tokens in a
// turn's content stay text.
Result<std::vector<TokenId>> encode_chat(const OpenedModel& model,
                                         const std::vector<ChatTurn>& turns);

// Ids of one user's text: as a chat of one turn (instruct), or as it is with the BOS that the model
// wants.
Result<std::vector<TokenId>> encode_prompt(const OpenedModel& model, const std::string& text,
                                           bool instruct);

// How tokens are guessed (speculation_options.h makes it of options).
struct Speculation {
  std::string kind = "none";  // "ngram", "draft"
  std::int64_t tokens = 0;    // see SpeculationOptions
  std::int64_t rows = 0;
  std::shared_ptr<const OpenedModel> draft = {};  // of "draft" only
};

class LoadedModel {
 public:
  // Checks that the memory of this host is enough for all its ranks and the draft model, then reads
  // the weights with a progress bar.
  static Result<std::unique_ptr<LoadedModel>> load(const OpenedModel& model,
                                                   const RunSettings& settings,
                                                   const ContextPlan& plan, std::int64_t users,
                                                   const Speculation& speculation = {});
  // The same with more to say about the engine; its proposer is set here.
  static Result<std::unique_ptr<LoadedModel>> load(const OpenedModel& model,
                                                   const RunSettings& settings,
                                                   const ContextPlan& plan, EngineOptions engine,
                                                   const Speculation& speculation);
  // The same without an engine: for who drives the runner himself.
  static Result<std::unique_ptr<LoadedModel>> load_runner(const OpenedModel& model,
                                                          const RunSettings& settings,
                                                          const ContextPlan& plan);
  ~LoadedModel();

  // False on the ranks that only run what rank 0's engine says: they serve() and are done then.
  bool leads() const { return transport_ == nullptr || transport_->rank() == 0; }
  Result<int> serve();

  // Of the leading rank.
  Engine& engine() { return *engine_; }
  LlamaRunner& runner() { return *runner_; }
  const LlamaRunner& runner() const { return *runner_; }
  double load_s() const { return load_s_; }

 private:
  explicit LoadedModel(const RunSettings& settings)
      : transport_(settings.transport), team_(settings.threads, -1, settings.cpus) {}
  Status load_draft(const OpenedModel& draft, const RunSettings& settings, const ContextPlan& plan);
  Status start_engine(EngineOptions engine_options, const Speculation& speculation);

  std::shared_ptr<Transport> transport_;
  ThreadTeam team_;
  std::unique_ptr<LlamaRunner> runner_;
  std::unique_ptr<LlamaRunner> draft_runner_;
  std::unique_ptr<Proposer> proposer_;
  std::unique_ptr<Engine> engine_;
  double load_s_ = 0.0;
};

// The settings of a run, for the answer file.
RunSummary summarize(const std::string& command, const OpenedModel& model,
                     const LoadedModel& loaded, const ModelOptions& options,
                     const RunSettings& settings, const ContextPlan& plan, std::int64_t users);

}  // namespace tg
