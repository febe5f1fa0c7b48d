// What: the pickle of a torch state dict (name -> tensor) in protocol 2, in the words that
//   torch.save uses, so that torch.load reads it, weights_only included. The counterpart is
//   unpickler.h.
// Who owns: plain values. Thread: any.
#pragma once

#include <span>
#include <string>

#include "checkpoint/unpickler.h"

namespace tg {

// Every field of the tensors is written as it is; dtype must be F32, F16 or BF16, and storage_bytes
// a multiple of its size.
std::string pickle_tensors(std::span<const PickledTensor> tensors);

}  // namespace tg
