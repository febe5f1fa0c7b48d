// What: the tensors of one file that torch.save wrote (since 2020: a zip archive that holds
//   PREFIX/data.pkl, the pickled dict, and PREFIX/data/KEY, one record per storage).
// Who owns: plain values that refer to the caller's bytes. Thread: any.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "checkpoint/stored_tensor.h"

namespace tg {

// Reads the whole file `file`. PREFIX is taken from the archive; a "byteorder" record may say
// "little" or "big" (no record: little). With `verify` every record's CRC-32 is compared.
// Errors (without the file's name): kBadInput for damage, kUnsupported for tensors that are not
// contiguous and for what the unpickler refuses.
Result<std::vector<StoredTensor>> parse_pth(std::span<const std::byte> file, bool verify);

}  // namespace tg
