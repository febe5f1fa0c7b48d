// What: carries a repack plan out: what of it is there already, whether the rest fits the disk,
//   writing it, and comparing the result with the source. Every file appears whole or not at all,
//   and what is there and right is never touched, so a repack may be stopped and run again.
// Who owns: plain values; source, plan and companions are the caller's. Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/repack_companions.h"
#include "checkpoint/repack_plan.h"
#include "checkpoint/tensor_source.h"

namespace tg {

struct RepackHooks {
  // Asked between blocks of about a MiB; true ends the work with an error.
  std::function<bool()> stopped = [] { return false; };
  // Bytes of tensors.
  std::function<void(std::int64_t done, std::int64_t total)> progress = [](auto, auto) {};
};

struct RepackJob {
  const TensorSource& source;
  const RepackPlan& plan;
  const Companions& companions;
  std::string out;     // directory
  bool force = false;  // files of the plan's names that are not what is planned are written anew
};

// What has to be written.
struct RepackWork {
  std::vector<std::size_t> files;  // indices into plan.files
  std::vector<SmallFile> before;
  std::vector<SmallFile> after;
  std::uint64_t bytes = 0;  // of all of these
  std::size_t kept = 0;     // large files that are there, compared value by value
};

// Looks at what OUT holds (nothing when it does not exist). Refused by name: checkpoint files that
// are not in the plan and would be read with or instead of it; without `force` also files of the
// plan's names with other content, the first differing value named.
Result<RepackWork> find_work(const RepackJob& job, const RepackHooks& hooks);

// kOutOfCapacity with both numbers when the file system of OUT has less free than the work needs.
Status check_space(const RepackJob& job, const RepackWork& work);

// Makes OUT if need be and writes the work in the plan's order; what was written before an error
// stays when it is a whole file.
Status write_work(const RepackJob& job, const RepackWork& work, const RepackHooks& hooks);

struct VerifyCounts {
  std::int64_t tensors = 0;
  std::int64_t values = 0;
};

// Opens OUT as a reader would, CRC-32 included, and compares config and every value with the
// source's (rounded to bf16 where the plan does); kBadInput names tensor, row and column of the
// first difference.
Result<VerifyCounts> verify_repacked(const RepackJob& job, const RepackHooks& hooks);

}  // namespace tg
