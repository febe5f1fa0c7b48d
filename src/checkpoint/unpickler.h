// What: reads the pickle of a torch state dict (name -> tensor) without running anything: a stack
//   machine for the opcodes that torch.save emits (protocols 2 to 5) and an allow list of globals.
//   Whatever else a pickle can ask for (calling functions, making objects) is an error.
//   Format: Python's pickletools module documents every opcode.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace tg {

// One tensor of the dict, as the pickle describes it. Numbers are checked for sign and overflow
// (the product of shape, and everything in bytes, fits 63 bits) but not against the storage record.
struct PickledTensor {
  std::string name;
  DType dtype = DType::kBf16;         // F32, F16 or BF16
  std::vector<std::int64_t> shape;    // up to 8 dimensions
  std::vector<std::int64_t> strides;  // in elements, as many as dimensions
  std::string storage_key;            // the record "PREFIX/data/KEY" holds the storage
  std::int64_t storage_bytes = 0;     // what the pickle says that record holds
  std::int64_t offset = 0;            // of the first element in its storage, in elements
};

// Reads the pickle of a state dict. Time and memory are linear in its size; nothing recurses.
// Errors: kUnsupported names an opcode or global that is not on the list, with its byte offset;
// kBadInput for a pickle that is damaged, or is not a dict of tensors.
Result<std::vector<PickledTensor>> unpickle_tensors(std::span<const std::byte> pickle);

}  // namespace tg
