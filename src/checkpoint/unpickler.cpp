#include "checkpoint/unpickler.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/file_kind.h"
#include "checkpoint/pickle_opcodes.h"

namespace tg {
namespace {

// A 405B model has some 1,200 tensors and 10 values for each; this leaves twenty times as much and
// keeps a hostile pickle below 150 MB of memory.
constexpr std::size_t kMostValues = std::size_t{1} << 18;
constexpr std::size_t kMostDimensions = 8;
constexpr std::size_t kLongestGlobal = 200;  // characters of a module or a name
constexpr std::size_t kLongestKey = 200;     // characters of a storage's key; torch writes numbers

enum class Callable : std::uint8_t {
  kRebuildTensorV2,
  kRebuildTensorV3,
  kRebuildParameter,
  kOrderedDict,
  kStorageType,  // a typed storage, or the untyped one (no dtype)
  kDType,
};

struct AllowedGlobal {
  std::string_view module;
  std::string_view name;
  Callable callable;
  std::optional<DType> dtype;
};

constexpr std::array kAllowedGlobals = {
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v2", Callable::kRebuildTensorV2, {}},
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v3", Callable::kRebuildTensorV3, {}},
    AllowedGlobal{"torch._utils", "_rebuild_parameter", Callable::kRebuildParameter, {}},
    AllowedGlobal{"collections", "OrderedDict", Callable::kOrderedDict, {}},
    AllowedGlobal{"torch", "BFloat16Storage", Callable::kStorageType, DType::kBf16},
    AllowedGlobal{"torch", "HalfStorage", Callable::kStorageType, DType::kF16},
    AllowedGlobal{"torch", "FloatStorage", Callable::kStorageType, DType::kF32},
    AllowedGlobal{"torch", "UntypedStorage", Callable::kStorageType, {}},
    AllowedGlobal{"torch.storage", "UntypedStorage", Callable::kStorageType, {}},
    AllowedGlobal{"torch", "bfloat16", Callable::kDType, DType::kBf16},
    AllowedGlobal{"torch", "float16", Callable::kDType, DType::kF16},
    AllowedGlobal{"torch", "float32", Callable::kDType, DType::kF32},
};

using ValueId = std::uint32_t;

// A value is referred to by its index, so a pickle that uses one value many times (or inside
// itself) costs nothing and nothing has to be freed recursively.
struct Value {
  enum class Kind : std::uint8_t {
    kPlain,    // None, a bool or a float: allowed, never looked at
    kInteger,  // integer
    kString,   // text, inside the pickle
    kTuple,    // items
    kList,     // items
    kDict,     // items: key, value, key, value, ...
    kGlobal,   // integer: index in kAllowedGlobals
    kStorage,  // text: key; integer: bytes; dtype unless untyped
    kTensor,   // integer: index in tensors_
  };
  Kind kind = Kind::kPlain;
  std::optional<DType> dtype = {};
  std::int64_t integer = 0;
  std::string_view text = {};
  std::vector<ValueId> items = {};
};

std::string_view kind_name(Value::Kind kind) {
  switch (kind) {
    case Value::Kind::kPlain:
      return "None, a bool or a float";
    case Value::Kind::kInteger:
      return "an integer";
    case Value::Kind::kString:
      return "a string";
    case Value::Kind::kTuple:
      return "a tuple";
    case Value::Kind::kList:
      return "a list";
    case Value::Kind::kDict:
      return "a dict";
    case Value::Kind::kGlobal:
      return "a type";
    case Value::Kind::kStorage:
      return "a storage";
    case Value::Kind::kTensor:
      return "a tensor";
  }
  return "?";
}

class Unpickler {
 public:
  explicit Unpickler(std::span<const std::byte> pickle) : pickle_(pickle) {}

  Result<std::vector<PickledTensor>> run() {
    while (true) {
      opcode_at_ = at_;
      TG_ASSIGN(const std::uint64_t opcode, take_number(1));
      if (opcode == kStop) return finish();
      TG_RETURN_IF_ERROR(step(static_cast<std::uint8_t>(opcode)));
      if (values_.size() > kMostValues) {
        return error(ErrorCode::kBadInput, "pickle byte {}: more than {} values", opcode_at_,
                     kMostValues);
      }
    }
  }

 private:
  Status step(std::uint8_t opcode) {
    switch (opcode) {
      case kProto:
        return protocol();
      case kFrame:
        return take_number(8).map([](std::uint64_t) {});
      case kMark:
        marks_.push_back(stack_.size());
        return {};
      case kNone:
      case kNewTrue:
      case kNewFalse:
        push({});
        return {};
      case kBinFloat:
        push({});
        return take_number(8).map([](std::uint64_t) {});
      case kBinInt:
        return integer(4, true);
      case kBinInt1:
        return integer(1, false);
      case kBinInt2:
        return integer(2, false);
      case kLong1:
        return long_integer();
      case kBinUnicode:
        return string(4);
      case kShortBinUnicode:
        return string(1);
      case kBinUnicode8:
        return string(8);
      case kEmptyTuple:
        push({.kind = Value::Kind::kTuple});
        return {};
      case kTuple1:
        return tuple(1);
      case kTuple2:
        return tuple(2);
      case kTuple3:
        return tuple(3);
      case kTuple:
        return tuple_from_mark();
      case kEmptyList:
        push({.kind = Value::Kind::kList});
        return {};
      case kEmptyDict:
        push({.kind = Value::Kind::kDict});
        return {};
      case kAppend:
        return extend(1, Value::Kind::kList);
      case kSetItem:
        return extend(2, Value::Kind::kDict);
      case kAppends:
        return extend_from_mark(Value::Kind::kList);
      case kSetItems:
        return extend_from_mark(Value::Kind::kDict);
      case kGlobal:
        return global();
      case kStackGlobal:
        return stack_global();
      case kReduce:
        return reduce();
      case kBuild:
        return build();
      case kBinPersId:
        return persistent_id();
      case kBinPut:
        return memo_put(1);
      case kLongBinPut:
        return memo_put(4);
      case kMemoize:
        return memo_store(memo_.size());
      case kBinGet:
        return memo_get(1);
      case kLongBinGet:
        return memo_get(4);
      default:
        return error(ErrorCode::kUnsupported,
                     "pickle byte {}: opcode 0x{:02x} ({}) is not allowed in a checkpoint",
                     opcode_at_, opcode, refused_opcode_name(opcode));
    }
  }

  // --- the bytes

  tl::unexpected<Error> bad(std::string_view what) const {
    return error(ErrorCode::kBadInput, "pickle byte {}: {}", opcode_at_, what);
  }

  Result<std::span<const std::byte>> take(std::uint64_t length) {
    if (length > pickle_.size() - at_) {
      return error(ErrorCode::kBadInput,
                   "pickle byte {}: {} bytes are wanted but only {} are left of {}", opcode_at_,
                   length, pickle_.size() - at_, pickle_.size());
    }
    const auto bytes = pickle_.subspan(at_, static_cast<std::size_t>(length));
    at_ += bytes.size();
    return bytes;
  }

  // Unsigned, little-endian, of up to 8 bytes.
  Result<std::uint64_t> take_number(std::size_t width) {
    TG_ASSIGN(const std::span<const std::byte> bytes, take(width));
    std::uint64_t value = 0;
    for (std::size_t i = width; i-- > 0;) {
      value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
    }
    return value;
  }

  Result<std::string_view> take_line() {
    const std::string_view rest = as_text(pickle_.subspan(at_));
    const std::size_t length = rest.substr(0, kLongestGlobal + 1).find('\n');
    if (length == std::string_view::npos) return bad("a global's name does not end");
    at_ += length + 1;
    return rest.substr(0, length);
  }

  // --- the stack

  void push(Value value) {
    stack_.push_back(static_cast<ValueId>(values_.size()));
    values_.push_back(std::move(value));
  }

  // What lies above the last mark may be taken; what is below it belongs to an open tuple or list.
  std::size_t takeable() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  Result<ValueId> pop() {
    if (takeable() == 0) return bad("the stack is empty");
    const ValueId top = stack_.back();
    stack_.pop_back();
    return top;
  }

  Result<std::vector<ValueId>> pop_many(std::size_t count) {
    if (takeable() < count) return bad("the stack is too short");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<ValueId> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }

  Result<std::vector<ValueId>> pop_to_mark() {
    if (marks_.empty()) return bad("there is no mark");
    TG_ASSIGN(std::vector<ValueId> items, pop_many(takeable()));
    marks_.pop_back();
    return items;
  }

  // --- one function per kind of opcode

  Status protocol() {
    TG_ASSIGN(const std::uint64_t version, take_number(1));
    if (version < 2 || version > 5) {
      return error(ErrorCode::kUnsupported, "pickle protocol {} (2 to 5 are read)", version);
    }
    return {};
  }

  Status integer(std::size_t width, bool is_signed) {
    TG_ASSIGN(const std::uint64_t raw, take_number(width));
    const std::int64_t value = is_signed
                                   ? static_cast<std::int32_t>(static_cast<std::uint32_t>(raw))
                                   : static_cast<std::int64_t>(raw);
    push({.kind = Value::Kind::kInteger, .integer = value});
    return {};
  }

  // Two's complement of any length; longer than 8 bytes is no size that a file can have.
  Status long_integer() {
    TG_ASSIGN(const std::uint64_t width, take_number(1));
    if (width > 8) return bad("an integer of more than 64 bits");
    TG_ASSIGN(std::uint64_t raw, take_number(static_cast<std::size_t>(width)));
    if (width > 0 && width < 8 && ((raw >> (8 * width - 1)) & 1U) != 0) {
      raw |= ~std::uint64_t{0} << (8 * width);
    }
    push({.kind = Value::Kind::kInteger, .integer = static_cast<std::int64_t>(raw)});
    return {};
  }

  Status string(std::size_t width) {
    TG_ASSIGN(const std::uint64_t length, take_number(width));
    TG_ASSIGN(const std::span<const std::byte> bytes, take(length));
    push({.kind = Value::Kind::kString, .text = as_text(bytes)});
    return {};
  }

  Status tuple(std::size_t count) {
    TG_ASSIGN(std::vector<ValueId> items, pop_many(count));
    push({.kind = Value::Kind::kTuple, .items = std::move(items)});
    return {};
  }

  Status tuple_from_mark() {
    TG_ASSIGN(std::vector<ValueId> items, pop_to_mark());
    push({.kind = Value::Kind::kTuple, .items = std::move(items)});
    return {};
  }

  Status extend(std::size_t count, Value::Kind kind) {
    TG_ASSIGN(const std::vector<ValueId> items, pop_many(count));
    return extend_top(items, kind);
  }

  Status extend_from_mark(Value::Kind kind) {
    TG_ASSIGN(const std::vector<ValueId> items, pop_to_mark());
    if (kind == Value::Kind::kDict && items.size() % 2 != 0) return bad("a key without a value");
    return extend_top(items, kind);
  }

  Status extend_top(const std::vector<ValueId>& items, Value::Kind kind) {
    if (takeable() == 0) return bad("the stack is empty");
    Value& target = values_[stack_.back()];
    if (target.kind != kind) {
      return error(ErrorCode::kBadInput, "pickle byte {}: {} is extended as {}", opcode_at_,
                   kind_name(target.kind), kind_name(kind));
    }
    target.items.insert(target.items.end(), items.begin(), items.end());
    return {};
  }

  Status global() {
    TG_ASSIGN(const std::string_view module, take_line());
    TG_ASSIGN(const std::string_view name, take_line());
    return push_global(module, name);
  }

  Status stack_global() {
    TG_ASSIGN(const ValueId name, pop());
    TG_ASSIGN(const ValueId module, pop());
    if (values_[name].kind != Value::Kind::kString ||
        values_[module].kind != Value::Kind::kString) {
      return bad("a global's name is not a string");
    }
    return push_global(values_[module].text, values_[name].text);
  }

  Status push_global(std::string_view module, std::string_view name) {
    for (std::size_t i = 0; i < kAllowedGlobals.size(); ++i) {
      if (kAllowedGlobals[i].module == module && kAllowedGlobals[i].name == name) {
        push({.kind = Value::Kind::kGlobal, .integer = static_cast<std::int64_t>(i)});
        return {};
      }
    }
    return error(ErrorCode::kUnsupported,
                 "pickle byte {}: global \"{}.{}\" is not on the list of what a checkpoint may use",
                 opcode_at_, printable(module), printable(name));
  }

  Status memo_put(std::size_t width) {
    TG_ASSIGN(const std::uint64_t index, take_number(width));
    return memo_store(index);
  }

  Status memo_store(std::uint64_t index) {
    if (takeable() == 0) return bad("the stack is empty");
    memo_[index] = stack_.back();
    return {};
  }

  Status memo_get(std::size_t width) {
    TG_ASSIGN(const std::uint64_t index, take_number(width));
    const auto found = memo_.find(index);
    if (found == memo_.end()) {
      return error(ErrorCode::kBadInput, "pickle byte {}: memo {} was never set", opcode_at_,
                   index);
    }
    stack_.push_back(found->second);
    return {};
  }

  // --- torch's part

  const AllowedGlobal* as_global(ValueId id) const {
    if (values_[id].kind != Value::Kind::kGlobal) return nullptr;
    return &kAllowedGlobals[static_cast<std::size_t>(values_[id].integer)];
  }

  // ("storage", type, key, device, elements): the only persistent id that torch.save writes.
  Status persistent_id() {
    TG_ASSIGN(const ValueId id, pop());
    const Value& tuple = values_[id];
    if (tuple.kind != Value::Kind::kTuple || tuple.items.size() != 5) {
      return bad("a persistent id is not a tuple of 5");
    }
    const Value& tag = values_[tuple.items[0]];
    const AllowedGlobal* type = as_global(tuple.items[1]);
    const Value& key = values_[tuple.items[2]];
    const Value& elements = values_[tuple.items[4]];
    if (tag.kind != Value::Kind::kString || tag.text != "storage" || type == nullptr ||
        type->callable != Callable::kStorageType || key.kind != Value::Kind::kString ||
        key.text.size() > kLongestKey || elements.kind != Value::Kind::kInteger) {
      return bad("a persistent id is not (\"storage\", type, key, device, elements)");
    }
    const std::int64_t width = type->dtype ? block_size(*type->dtype).bytes : 1;
    std::int64_t bytes = 0;
    if (elements.integer < 0 || __builtin_mul_overflow(elements.integer, width, &bytes)) {
      return error(ErrorCode::kBadInput, "pickle byte {}: a storage of {} elements", opcode_at_,
                   elements.integer);
    }
    push({.kind = Value::Kind::kStorage, .dtype = type->dtype, .integer = bytes, .text = key.text});
    return {};
  }

  Status reduce() {
    TG_ASSIGN(const ValueId arguments_id, pop());
    TG_ASSIGN(const ValueId callable_id, pop());
    const AllowedGlobal* callable = as_global(callable_id);
    if (callable == nullptr || values_[arguments_id].kind != Value::Kind::kTuple) {
      return error(ErrorCode::kBadInput, "pickle byte {}: {} is called with {}", opcode_at_,
                   kind_name(values_[callable_id].kind), kind_name(values_[arguments_id].kind));
    }
    const std::vector<ValueId>& arguments = values_[arguments_id].items;
    switch (callable->callable) {
      case Callable::kOrderedDict:
        if (!arguments.empty()) return bad("an OrderedDict made from arguments");
        push({.kind = Value::Kind::kDict});
        return {};
      case Callable::kRebuildTensorV2:
        // (storage, offset, size, stride, requires_grad, hooks[, metadata])
        if (arguments.size() != 6 && arguments.size() != 7) break;
        return rebuild_tensor(arguments, std::nullopt);
      case Callable::kRebuildTensorV3: {
        // as V2, with the dtype in front of the metadata
        if (arguments.size() != 7 && arguments.size() != 8) break;
        const AllowedGlobal* dtype = as_global(arguments[6]);
        if (dtype == nullptr || dtype->callable != Callable::kDType) {
          return bad("a tensor's dtype is not a dtype");
        }
        return rebuild_tensor(arguments, dtype->dtype);
      }
      case Callable::kRebuildParameter:
        // (tensor, requires_grad, hooks): the tensor itself is all that matters here.
        if (arguments.size() != 3 || values_[arguments[0]].kind != Value::Kind::kTensor) break;
        stack_.push_back(arguments[0]);
        return {};
      case Callable::kStorageType:
      case Callable::kDType:
        break;
    }
    return error(ErrorCode::kBadInput, "pickle byte {}: {}.{} called with {} arguments", opcode_at_,
                 callable->module, callable->name, arguments.size());
  }

  // An OrderedDict carries the state dict's version numbers as attributes: taken and forgotten.
  Status build() {
    TG_ASSIGN([[maybe_unused]] const ValueId state, pop());
    if (takeable() == 0) return bad("the stack is empty");
    if (values_[stack_.back()].kind != Value::Kind::kDict) {
      return error(ErrorCode::kUnsupported, "pickle byte {}: BUILD of {} is not allowed",
                   opcode_at_, kind_name(values_[stack_.back()].kind));
    }
    return {};
  }

  Result<std::vector<std::int64_t>> sizes(ValueId id) const {
    const Value& tuple = values_[id];
    if (tuple.kind != Value::Kind::kTuple || tuple.items.size() > kMostDimensions) {
      return bad("a tensor's size or stride is not a tuple of up to 8");
    }
    std::vector<std::int64_t> out;
    for (const ValueId item : tuple.items) {
      if (values_[item].kind != Value::Kind::kInteger || values_[item].integer < 0) {
        return bad("a tensor's size or stride is not a natural number");
      }
      out.push_back(values_[item].integer);
    }
    return out;
  }

  Status rebuild_tensor(const std::vector<ValueId>& arguments, std::optional<DType> dtype) {
    const Value& storage = values_[arguments[0]];
    const Value& offset = values_[arguments[1]];
    if (storage.kind != Value::Kind::kStorage || offset.kind != Value::Kind::kInteger ||
        offset.integer < 0) {
      return bad("a tensor without a storage and an offset");
    }
    if (!dtype) dtype = storage.dtype;
    if (!dtype) return bad("a tensor over an untyped storage without a dtype");
    PickledTensor tensor{.name = {},
                         .dtype = *dtype,
                         .shape = {},
                         .strides = {},
                         .storage_key = std::string(storage.text),
                         .storage_bytes = storage.integer,
                         .offset = offset.integer};
    TG_ASSIGN(tensor.shape, sizes(arguments[2]));
    TG_ASSIGN(tensor.strides, sizes(arguments[3]));
    if (tensor.shape.size() != tensor.strides.size()) {
      return error(ErrorCode::kBadInput, "pickle byte {}: a tensor with {} sizes and {} strides",
                   opcode_at_, tensor.shape.size(), tensor.strides.size());
    }
    std::int64_t last_byte = block_size(*dtype).bytes;
    bool too_large = false;
    for (const std::int64_t n : tensor.shape) {
      too_large = too_large || __builtin_mul_overflow(last_byte, n, &last_byte);
    }
    std::int64_t first_byte = 0;
    too_large = too_large ||
                __builtin_mul_overflow(tensor.offset, block_size(*dtype).bytes, &first_byte) ||
                __builtin_add_overflow(last_byte, first_byte, &last_byte);
    if (too_large) return bad("a tensor of more than 2^63 bytes");
    push({.kind = Value::Kind::kTensor, .integer = static_cast<std::int64_t>(tensors_.size())});
    tensors_.push_back(std::move(tensor));
    return {};
  }

  Result<std::vector<PickledTensor>> finish() {
    TG_ASSIGN(const ValueId top, pop());
    const Value& dict = values_[top];
    if (dict.kind != Value::Kind::kDict) {
      return error(ErrorCode::kBadInput, "the pickle holds {}, not a dict of tensors",
                   kind_name(dict.kind));
    }
    std::vector<PickledTensor> out;
    std::unordered_set<std::string_view> seen;
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const Value& key = values_[dict.items[i]];
      const Value& value = values_[dict.items[i + 1]];
      if (key.kind != Value::Kind::kString) {
        return error(ErrorCode::kBadInput, "a key of the dict of tensors is {}",
                     kind_name(key.kind));
      }
      if (value.kind != Value::Kind::kTensor) {
        return error(ErrorCode::kBadInput, "\"{}\" is {}, not a tensor", printable(key.text),
                     kind_name(value.kind));
      }
      if (!seen.insert(key.text).second) {
        return error(ErrorCode::kBadInput, "tensor \"{}\" appears twice", printable(key.text));
      }
      out.push_back(tensors_[static_cast<std::size_t>(value.integer)]);
      out.back().name = key.text;
    }
    return out;
  }

  std::span<const std::byte> pickle_;
  std::size_t at_ = 0;
  std::size_t opcode_at_ = 0;
  std::vector<Value> values_;
  std::vector<ValueId> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, ValueId> memo_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace

Result<std::vector<PickledTensor>> unpickle_tensors(std::span<const std::byte> pickle) {
  return Unpickler(pickle).run();
}

}  // namespace tg
