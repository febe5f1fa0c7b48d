// What: opens what a repack into the same directory reads: not its own output, finished or not.
// Who owns: the caller of open_original. Thread: any.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// As open_checkpoint(), as if there were no layers_A-B.pth in the directory.
Result<std::unique_ptr<TensorSource>> open_original(const std::string& path,
                                                    const OpenOptions& options = {});

}  // namespace tg
