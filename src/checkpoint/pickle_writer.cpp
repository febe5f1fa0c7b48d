#include "checkpoint/pickle_writer.h"

#include <cstdint>
#include <string_view>
#include <utility>

#include "checkpoint/pickle_opcodes.h"

namespace tg {
namespace {

constexpr std::string_view kRebuildTensor = "torch._utils\n_rebuild_tensor_v2\n";
constexpr std::string_view kOrderedDict = "collections\nOrderedDict\n";

std::string_view storage_global(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "torch\nFloatStorage\n";
    case DType::kF16:
      return "torch\nHalfStorage\n";
    default:
      TG_CHECK(dtype == DType::kBf16);
      return "torch\nBFloat16Storage\n";
  }
}

class Pickler {
 public:
  void opcode(PickleOpcode code) { out_ += static_cast<char>(code); }

  void number(std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i) out_ += static_cast<char>((value >> (8 * i)) & 0xff);
  }

  void text(std::string_view text) {
    opcode(kBinUnicode);
    number(text.size(), 4);
    out_ += text;
  }

  void integer(std::int64_t value) {
    const bool is_short = value >= INT32_MIN && value <= INT32_MAX;
    opcode(is_short ? kBinInt : kLong1);
    if (!is_short) number(8, 1);
    number(static_cast<std::uint64_t>(value), is_short ? 4 : 8);
  }

  void integers(std::span<const std::int64_t> values) {
    opcode(kMark);
    for (const std::int64_t value : values) integer(value);
    opcode(kTuple);
  }

  void global(std::string_view module_and_name) {
    opcode(kGlobal);
    out_ += module_and_name;
  }

  // _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks), where the
  // storage is the persistent id ("storage", type, key, device, elements).
  void tensor(const PickledTensor& t) {
    global(kRebuildTensor);
    opcode(kMark);
    opcode(kMark);
    text("storage");
    global(storage_global(t.dtype));
    text(t.storage_key);
    text("cpu");
    integer(t.storage_bytes / block_size(t.dtype).bytes);
    opcode(kTuple);
    opcode(kBinPersId);
    integer(t.offset);
    integers(t.shape);
    integers(t.strides);
    opcode(kNewFalse);
    global(kOrderedDict);
    opcode(kEmptyTuple);
    opcode(kReduce);
    opcode(kTuple);
    opcode(kReduce);
  }

  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

}  // namespace

std::string pickle_tensors(std::span<const PickledTensor> tensors) {
  Pickler pickler;
  pickler.opcode(kProto);
  pickler.number(2, 1);
  pickler.opcode(kEmptyDict);
  pickler.opcode(kMark);
  for (const PickledTensor& tensor : tensors) {
    pickler.text(tensor.name);
    pickler.tensor(tensor);
  }
  pickler.opcode(kSetItems);
  pickler.opcode(kStop);
  return pickler.take();
}

}  // namespace tg
