#include "cli/speculation_options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <utility>

#include "cli/number_option.h"

namespace tg {
namespace {

// A look-up is free, so it may be wide; a draft model pays a step of its own for each token.
constexpr std::int64_t kNgramTokens = 8;
constexpr std::int64_t kDraftTokens = 4;
constexpr std::int64_t kMostTokens = 64;

}  // namespace

void add_speculative_options(CLI::App& app, SpeculativeOptions& options) {
  app.add_option("--speculative", options.kind,
                 "guess tokens and check several in one step; the answer stays the same. ngram: "
                 "from what stood in prompt and answer before; draft: from --draft-model")
      ->check(CLI::IsMember({"none", "ngram", "draft"}))
      ->capture_default_str();
  app.add_option("--draft-model", options.draft_model,
                 "a smaller checkpoint with the same vocabulary");
  add_whole_number(app, "--speculative-tokens",
                   "most guessed tokens of a user in a step; default: 8 for ngram, 4 for draft", 1,
                   kMostTokens, options.tokens);
  add_whole_number(app, "--speculative-rows", "steps get no guesses beyond so many rows", 2, 512,
                   options.rows);
}

Result<Speculation> open_speculation(const SpeculativeOptions& options, const ModelOptions& model,
                                     const RunSettings& settings, const OpenedModel& opened) {
  const bool drafts = options.kind == "draft";
  if (drafts == options.draft_model.empty()) {
    return error(ErrorCode::kBadArgument, "--speculative draft and --draft-model go together");
  }
  Speculation speculation;
  speculation.kind = options.kind;
  speculation.rows = options.rows;
  speculation.tokens = options.tokens.value_or(drafts ? kDraftTokens : kNgramTokens);
  if (!drafts) return speculation;
  if (settings.ranks() > 1) {
    return error(ErrorCode::kUnsupported,
                 "--speculative draft with {} MPI ranks: a draft model runs in one process "
                 "(--mesh without mpirun, or --speculative ngram)",
                 settings.ranks());
  }
  std::error_code ignored;
  if (!std::filesystem::exists(options.draft_model, ignored)) {
    return error(ErrorCode::kNotFound, "--draft-model {}: no such file or directory",
                 options.draft_model);
  }
  ModelOptions draft_options = model;
  draft_options.model = options.draft_model;
  draft_options.rope_scaling.clear();
  auto draft = open_model(draft_options);
  if (!draft) return at_place(std::move(draft).error(), "--draft-model");
  if (Status same = check_same_vocabulary(opened, *draft); !same) {
    return at_place(std::move(same).error(), "--draft-model");
  }
  speculation.draft = std::make_shared<const OpenedModel>(std::move(*draft));
  return speculation;
}

Status check_same_vocabulary(const OpenedModel& model, const OpenedModel& draft) {
  const std::int64_t vocab = model.source->config().vocab;
  const std::int64_t of_draft = draft.source->config().vocab;
  if (vocab != of_draft) {
    return error(ErrorCode::kBadInput, "{} has a vocabulary of {} ids, {} one of {}", draft.path,
                 of_draft, model.path, vocab);
  }
  if (model.tokenizer == nullptr || draft.tokenizer == nullptr) return {};
  for (TokenId id = 0; id < vocab; ++id) {
    const std::string_view ours = model.tokenizer->token_bytes(id);
    const std::string_view theirs = draft.tokenizer->token_bytes(id);
    if (ours == theirs) continue;
    return error(ErrorCode::kBadInput, "token {} is '{}' in {} and '{}' in {}", id, theirs,
                 draft.path, ours, model.path);
  }
  return {};
}

}  // namespace tg
