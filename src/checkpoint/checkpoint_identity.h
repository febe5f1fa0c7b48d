// What: a text that tells a checkpoint from every other, and from itself before it was changed,
//   without reading it: per file name, size, time of the last change in nanoseconds, and a CRC-32
//   of its header and of blocks spread over it. Neither directory, device nor inode are in it: a
//   volume that is mounted elsewhere, a container or the next boot gives the same files other ones.
// Who owns: plain values. Thread: any.
#pragma once

#include <span>
#include <string>

#include "base/result.h"

namespace tg {

// One line per file. kIo / kNotFound with the path.
Result<std::string> checkpoint_identity(std::span<const std::string> files);

}  // namespace tg
