// What: the header of one .safetensors file: 8 bytes of length, then JSON that gives each tensor's
//   dtype, shape and place, then the tensors' bytes without gaps or overlaps.
//   Format: the safetensors README, section "Format".
// Who owns: plain values that refer to the caller's bytes. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/stored_tensor.h"

namespace tg {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // the file's word: "BF16", "F8_E4M3", ...; one that the format knows
  std::vector<std::int64_t> shape;
  std::size_t offset = 0;  // bytes from the start of the file
  std::size_t bytes = 0;
};

// Reads and checks the header of the whole file `file`; entries come in order of their place.
// kBadInput (without the file's name) says which tensor is wrong, or what the file looks like.
Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> file);

// The entry as a tensor of floats; kUnsupported names tensor and dtype when it is not F32, F16 or
// BF16.
Result<StoredTensor> as_float_tensor(const SafetensorsEntry& entry);

}  // namespace tg
