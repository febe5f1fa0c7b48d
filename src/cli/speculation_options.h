// What: the options of speculative decoding and what they ask for: which proposer, how many tokens
//   of a user in a step, in steps of how many rows; and the draft model, opened and compared with
//   the model that it drafts for.
// Who owns: the command. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/opened_model.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct SpeculativeOptions {
  std::string kind = "none";
  std::string draft_model = {};
  std::optional<std::int64_t> tokens = {};  // none: by kind
  std::int64_t rows = SpeculationOptions{}.max_rows;
};

void add_speculative_options(CLI::App& app, SpeculativeOptions& options);

// Reads no weights yet. kBadArgument: a draft model without --speculative draft or the reverse.
// kUnsupported: a draft with MPI ranks. kBadInput: the draft's vocabulary is another one.
Result<Speculation> open_speculation(const SpeculativeOptions& options, const ModelOptions& model,
                                     const RunSettings& settings, const OpenedModel& opened);

// kBadInput with the numbers when the ids of one do not mean the same in the other. Tokenizers are
// compared where both have one, else only how many ids there are.
Status check_same_vocabulary(const OpenedModel& model, const OpenedModel& draft);

}  // namespace tg
