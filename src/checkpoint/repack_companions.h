// What: the small files of a repacked checkpoint: config, tokenizer, index. Which there are and
//   where their bytes come from.
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "checkpoint/repack_plan.h"

namespace tg {

struct SmallFile {
  std::string name;
  std::string text;     // its bytes, unless
  std::string copy_of;  // a file to copy is named
};

struct Companions {
  std::vector<SmallFile> before;     // to be written before the large files
  std::vector<SmallFile> after;      // and after them: what makes a reader look for them
  std::vector<std::string> missing;  // sentences: what the target should have and IN lacks
};

// `in` is the path of a checkpoint with this config (its format says how it is stored; begin and
// stop ids may have been added to it). kUnsupported when the target's config has no word for
// something.
Result<Companions> plan_companions(const std::string& in, const ModelConfig& config,
                                   const RepackPlan& plan);

}  // namespace tg
