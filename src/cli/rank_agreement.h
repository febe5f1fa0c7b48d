// What: that all ranks of a job run the same thing: their settings as lines of text, compared with
//   rank 0's before anything is loaded. Options are the same for all, but variables, CPUs and files
//   are each host's own, and ranks that differ would wait for each other for ever or add up
//   nonsense.
// Who owns: nothing. Thread: the main thread.
#pragma once

#include <string>

#include "base/result.h"
#include "checkpoint/tensor_source.h"
#include "cli/context_plan.h"
#include "cli/model_options.h"
#include "mesh/transport.h"

namespace tg {

// One "name value" a line: mesh, collectives, number formats, kernels, pages, the model's shape and
// a hash of a part of its weights. Errors are the source's.
Result<std::string> settings_text(const RunSettings& settings, const ContextPlan& plan,
                                  const TensorSource& source);

// kBadArgument naming the first line in which a rank differs.
Status compare_settings(const std::string& of_rank_0, const std::string& mine);

// Every rank calls it; rank 0 never differs.
Status agree_on_settings(Transport& transport, const std::string& mine);

// Comes back when every rank is here: none may load while another still looks how much is free.
void wait_for_all(Transport& transport);

}  // namespace tg
