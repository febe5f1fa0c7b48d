#include "checkpoint/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "checkpoint/file_kind.h"

namespace tg {
namespace {

static_assert(std::endian::native == std::endian::little, "stored numbers are read as they lie");

// The format's own limits; longer ones do not come from a sane writer.
constexpr std::uint64_t kMaxKeyBytes = 65535;
constexpr std::uint64_t kMaxTensorNameBytes = 64;
constexpr std::uint32_t kMaxDimensions = 4;
// No known key nests arrays at all; 8 keeps the recursion of a hostile file off the stack's end.
constexpr int kMaxArrayDepth = 8;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
// The least that one entry can take in the file: what bounds a count before anything is allocated.
constexpr std::uint64_t kLeastMetadataBytes = 8 + 1 + 4 + 1;  // key length, key, type, value
constexpr std::uint64_t kLeastTensorBytes =
    8 + 1 + 4 + 8 + 4 + 8;  // name, dimensions, type, offset

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Bytes of one element of a fixed-size type; 0 for strings, arrays and unknown types.
std::uint64_t fixed_size(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

std::optional<std::int64_t> load_integer(GgufType type, const std::byte* p) {
  switch (type) {
    case GgufType::kUint8:
      return load<std::uint8_t>(p);
    case GgufType::kInt8:
      return load<std::int8_t>(p);
    case GgufType::kUint16:
      return load<std::uint16_t>(p);
    case GgufType::kInt16:
      return load<std::int16_t>(p);
    case GgufType::kUint32:
      return load<std::uint32_t>(p);
    case GgufType::kInt32:
      return load<std::int32_t>(p);
    case GgufType::kInt64:
      return load<std::int64_t>(p);
    case GgufType::kUint64: {
      const auto value = load<std::uint64_t>(p);
      if (!std::in_range<std::int64_t>(value)) return std::nullopt;
      return static_cast<std::int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

struct StoredType {
  std::uint32_t code;
  std::string_view name;
  std::optional<DType> dtype;
};

// Type codes of tensors. Those without a DType are known by name only, for the message.
constexpr std::array kStoredTypes = {
    StoredType{0, "F32", DType::kF32},        StoredType{1, "F16", DType::kF16},
    StoredType{2, "Q4_0", DType::kQ4_0},      StoredType{3, "Q4_1", DType::kQ4_1},
    StoredType{4, "Q4_2", std::nullopt},      StoredType{5, "Q4_3", std::nullopt},
    StoredType{6, "Q5_0", DType::kQ5_0},      StoredType{7, "Q5_1", DType::kQ5_1},
    StoredType{8, "Q8_0", DType::kQ8_0},      StoredType{9, "Q8_1", std::nullopt},
    StoredType{10, "Q2_K", std::nullopt},     StoredType{11, "Q3_K", std::nullopt},
    StoredType{12, "Q4_K", DType::kQ4K},      StoredType{13, "Q5_K", DType::kQ5K},
    StoredType{14, "Q6_K", DType::kQ6K},      StoredType{15, "Q8_K", std::nullopt},
    StoredType{16, "IQ2_XXS", std::nullopt},  StoredType{17, "IQ2_XS", std::nullopt},
    StoredType{18, "IQ3_XXS", std::nullopt},  StoredType{19, "IQ1_S", std::nullopt},
    StoredType{20, "IQ4_NL", std::nullopt},   StoredType{21, "IQ3_S", std::nullopt},
    StoredType{22, "IQ2_S", std::nullopt},    StoredType{23, "IQ4_XS", std::nullopt},
    StoredType{24, "I8", std::nullopt},       StoredType{25, "I16", std::nullopt},
    StoredType{26, "I32", std::nullopt},      StoredType{27, "I64", std::nullopt},
    StoredType{28, "F64", std::nullopt},      StoredType{29, "IQ1_M", std::nullopt},
    StoredType{30, "BF16", DType::kBf16},     StoredType{31, "Q4_0_4_4", std::nullopt},
    StoredType{32, "Q4_0_4_8", std::nullopt}, StoredType{33, "Q4_0_8_8", std::nullopt},
    StoredType{34, "TQ1_0", std::nullopt},    StoredType{35, "TQ2_0", std::nullopt},
    StoredType{39, "MXFP4", std::nullopt},    StoredType{40, "NVFP4", std::nullopt},
};

const StoredType* find_stored_type(std::uint32_t code) {
  for (const StoredType& t : kStoredTypes) {
    if (t.code == code) return &t;
  }
  return nullptr;
}

// Walks the header from front to back. `what` in a message is what was being read.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }

  Result<std::span<const std::byte>> take(std::uint64_t count, std::string_view what) {
    if (count > left()) {
      return error(
          ErrorCode::kBadInput,
          "cut off or damaged: {} at byte {} takes {} bytes but the file ends after {} more", what,
          position_, count, left());
    }
    const auto part =
        bytes_.subspan(static_cast<std::size_t>(position_), static_cast<std::size_t>(count));
    position_ += count;
    return part;
  }

  template <typename T>
  Result<T> number(std::string_view what) {
    TG_ASSIGN(const auto part, take(sizeof(T), what));
    return load<T>(part.data());
  }

  Result<std::string_view> text(std::uint64_t limit, std::string_view what) {
    const std::uint64_t start = position_;
    TG_ASSIGN(const auto length, number<std::uint64_t>(what));
    if (length > limit) {
      return error(ErrorCode::kBadInput, "damaged: {} at byte {} is {} bytes long, the limit is {}",
                   what, start, length, limit);
    }
    TG_ASSIGN(const auto part, take(length, what));
    return std::string_view(reinterpret_cast<const char*>(part.data()), part.size());
  }

  std::span<const std::byte> since(std::uint64_t start) const {
    return bytes_.subspan(static_cast<std::size_t>(start),
                          static_cast<std::size_t>(position_ - start));
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
};

Result<GgufType> read_type(Cursor& cursor, std::string_view what) {
  TG_ASSIGN(const auto code, cursor.number<std::uint32_t>(what));
  if (code > static_cast<std::uint32_t>(GgufType::kFloat64)) {
    return error(ErrorCode::kBadInput, "damaged: {} has value type {}, known are 0 to 12", what,
                 code);
  }
  return static_cast<GgufType>(code);
}

// Steps over `count` elements, checking that each is there.
Status skip_elements(Cursor& cursor, GgufType element, std::uint64_t count, int depth,
                     std::string_view what) {
  if (const std::uint64_t size = fixed_size(element); size != 0) {
    if (count > cursor.left() / size) {
      return error(ErrorCode::kBadInput,
                   "cut off or damaged: {} holds {} values of {} bytes but the file ends after {} "
                   "more bytes",
                   what, count, size, cursor.left());
    }
    TG_RETURN_IF_ERROR(cursor.take(count * size, what));
    return {};
  }
  // Strings and arrays take 8 bytes at least, so a false count ends at the end of the file.
  for (std::uint64_t i = 0; i < count; ++i) {
    if (element == GgufType::kString) {
      TG_RETURN_IF_ERROR(cursor.text(std::numeric_limits<std::uint64_t>::max(), what));
      continue;
    }
    if (depth >= kMaxArrayDepth) {
      return error(ErrorCode::kBadInput, "damaged: {} nests arrays deeper than {}", what,
                   kMaxArrayDepth);
    }
    TG_ASSIGN(const GgufType inner, read_type(cursor, what));
    TG_ASSIGN(const auto inner_count, cursor.number<std::uint64_t>(what));
    TG_RETURN_IF_ERROR(skip_elements(cursor, inner, inner_count, depth + 1, what));
  }
  return {};
}

Result<GgufValue> read_value(Cursor& cursor, std::string_view key) {
  const std::string what = fmt::format("key '{}'", printable(key));
  TG_ASSIGN(const GgufType type, read_type(cursor, what));
  GgufType element = type;
  std::uint64_t count = 1;
  if (type == GgufType::kArray) {
    TG_ASSIGN(element, read_type(cursor, what));
    TG_ASSIGN(count, cursor.number<std::uint64_t>(what));
  }
  const std::uint64_t start = cursor.position();
  TG_RETURN_IF_ERROR(skip_elements(cursor, element, count, 1, what));
  return GgufValue(type, element, count, cursor.since(start));
}

// One directory entry, with its offset still counted from the start of the data.
Result<GgufTensor> read_tensor(Cursor& cursor, std::uint64_t index) {
  GgufTensor tensor;
  TG_ASSIGN(tensor.name,
            cursor.text(kMaxTensorNameBytes, fmt::format("the name of tensor {}", index)));
  const std::string what = fmt::format("tensor '{}'", printable(tensor.name));
  TG_ASSIGN(const auto dimensions, cursor.number<std::uint32_t>(what));
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    return error(ErrorCode::kBadInput, "damaged: {} has {} dimensions, 1 to {} are possible", what,
                 dimensions, kMaxDimensions);
  }
  std::uint64_t values = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    TG_ASSIGN(const auto n, cursor.number<std::uint64_t>(what));
    // The product of all dimensions stays below 2^59, so bytes (at most 4 a value) do too below
    // 2^63.
    if (n == 0 || n > (std::uint64_t{1} << 59) / values) {
      return error(ErrorCode::kBadInput, "damaged: {} has dimension {} = {}", what, i, n);
    }
    values *= n;
    tensor.dimensions.push_back(static_cast<std::int64_t>(n));
  }
  TG_ASSIGN(tensor.stored_type, cursor.number<std::uint32_t>(what));
  TG_ASSIGN(tensor.offset, cursor.number<std::uint64_t>(what));

  const StoredType* stored = find_stored_type(tensor.stored_type);
  if (stored != nullptr && stored->dtype) {
    tensor.dtype = stored->dtype;
    const BlockSize block = block_size(*stored->dtype);
    if (tensor.dimensions[0] % block.values != 0) {
      return error(ErrorCode::kBadInput,
                   "damaged: {} is {} with rows of {} values, not a multiple of {}", what,
                   stored->name, tensor.dimensions[0], block.values);
    }
    tensor.bytes =
        values / static_cast<std::uint64_t>(block.values) * static_cast<std::uint64_t>(block.bytes);
  }
  return tensor;
}

// Says what a file that does not start with the magic is, as far as its first bytes tell.
tl::unexpected<Error> not_gguf(std::span<const std::byte> bytes) {
  const std::string_view head = as_text(bytes.first(std::min<std::size_t>(bytes.size(), 4)));
  for (const std::string_view old : {"lmgg", "fmgg", "tjgg", "algg"}) {
    if (head == old) {
      return error(ErrorCode::kUnsupported, "a GGML file from before GGUF; convert it to GGUF");
    }
  }
  return error(ErrorCode::kBadInput, "not a GGUF file: {}", looks_like(bytes));
}

Status check_version(std::uint32_t version) {
  if (version == 2 || version == 3) return {};
  // A big-endian file has the same magic, and its version 3 reads as 0x03000000.
  if ((version & 0xffffU) == 0 && version != 0) {
    return error(
        ErrorCode::kUnsupported,
        "a big-endian GGUF file (version field {:#010x}); only little-endian ones are read",
        version);
  }
  return error(ErrorCode::kUnsupported, "GGUF version {}; versions 2 and 3 are read", version);
}

}  // namespace

std::string_view name(GgufType type) {
  constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  const auto code = static_cast<std::size_t>(type);
  return code < kNames.size() ? kNames[code] : "?";
}

std::optional<std::int64_t> GgufValue::integer() const {
  if (data_.empty()) return std::nullopt;
  return load_integer(type_, data_.data());
}

std::optional<double> GgufValue::number() const {
  if (data_.empty()) return std::nullopt;
  if (type_ == GgufType::kFloat32) return static_cast<double>(load<float>(data_.data()));
  if (type_ == GgufType::kFloat64) return load<double>(data_.data());
  if (const auto value = integer()) return static_cast<double>(*value);
  return std::nullopt;
}

std::optional<bool> GgufValue::boolean() const {
  if (type_ != GgufType::kBool || data_.empty()) return std::nullopt;
  const auto value = load<std::uint8_t>(data_.data());
  if (value > 1) return std::nullopt;  // the format calls any other byte invalid
  return value == 1;
}

std::optional<std::string_view> GgufValue::text() const {
  if (type_ != GgufType::kString) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(data_.data()) + 8, data_.size() - 8);
}

std::optional<std::vector<std::string_view>> GgufValue::texts() const {
  if (!is_array() || element_ != GgufType::kString) return std::nullopt;
  std::vector<std::string_view> out;
  out.reserve(static_cast<std::size_t>(count_));
  const std::byte* p = data_.data();
  for (std::uint64_t i = 0; i < count_; ++i) {
    const auto length = static_cast<std::size_t>(load<std::uint64_t>(p));
    out.emplace_back(reinterpret_cast<const char*>(p) + 8, length);
    p += 8 + length;
  }
  return out;
}

std::optional<std::vector<std::int64_t>> GgufValue::integers() const {
  if (!is_array()) return std::nullopt;
  const std::uint64_t size = fixed_size(element_);
  std::vector<std::int64_t> out;
  if (size == 0) return std::nullopt;
  out.reserve(static_cast<std::size_t>(count_));
  for (std::uint64_t i = 0; i < count_; ++i) {
    const auto value = load_integer(element_, data_.data() + i * size);
    if (!value) return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

std::uint32_t gguf_type_code(DType dtype) {
  const auto* const found = std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                                         [&](const StoredType& t) { return t.dtype == dtype; });
  TG_CHECK(found != kStoredTypes.end());
  return found->code;
}

std::string GgufTensor::type_name() const {
  const StoredType* stored = find_stored_type(stored_type);
  return stored != nullptr ? std::string(stored->name) : fmt::format("type {}", stored_type);
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes) {
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) return not_gguf(bytes);
  GgufFile file;
  file.bytes_ = bytes;
  Cursor cursor(bytes);
  TG_RETURN_IF_ERROR(cursor.take(4, "the magic"));
  TG_ASSIGN(file.version_, cursor.number<std::uint32_t>("the version"));
  TG_RETURN_IF_ERROR(check_version(file.version_));
  TG_ASSIGN(const auto tensor_count, cursor.number<std::uint64_t>("the tensor count"));
  TG_ASSIGN(const auto metadata_count, cursor.number<std::uint64_t>("the metadata count"));
  if (metadata_count > cursor.left() / kLeastMetadataBytes ||
      tensor_count > cursor.left() / kLeastTensorBytes) {
    return error(
        ErrorCode::kBadInput,
        "cut off or damaged: says {} metadata entries and {} tensors but has only {} bytes more",
        metadata_count, tensor_count, cursor.left());
  }

  for (std::uint64_t i = 0; i < metadata_count; ++i) {
    TG_ASSIGN(const std::string_view key,
              cursor.text(kMaxKeyBytes, fmt::format("metadata key {}", i)));
    TG_ASSIGN(const GgufValue value, read_value(cursor, key));
    if (!file.metadata_.emplace(key, value).second) {
      return error(ErrorCode::kBadInput, "damaged: key '{}' appears twice", printable(key));
    }
  }

  std::uint64_t alignment = kDefaultAlignment;
  if (const GgufValue* value = file.find("general.alignment")) {
    const auto stored = value->integer();
    if (!stored || *stored < 1 || *stored > static_cast<std::int64_t>(kMaxAlignment) ||
        !std::has_single_bit(static_cast<std::uint64_t>(*stored))) {
      return error(
          ErrorCode::kBadInput, "damaged: general.alignment is {}, not a power of two up to {}",
          stored ? fmt::format("{}", *stored) : std::string(name(value->type())), kMaxAlignment);
    }
    alignment = static_cast<std::uint64_t>(*stored);
  }

  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    TG_ASSIGN(GgufTensor tensor, read_tensor(cursor, i));
    if (!file.tensor_index_.emplace(tensor.name, file.tensors_.size()).second) {
      return error(ErrorCode::kBadInput, "damaged: tensor '{}' appears twice",
                   printable(tensor.name));
    }
    file.tensors_.push_back(std::move(tensor));
  }

  // Tensor data starts at the next multiple of the alignment; offsets count from there.
  const std::uint64_t data_start = (cursor.position() + alignment - 1) / alignment * alignment;
  const std::uint64_t data_bytes = bytes.size() > data_start ? bytes.size() - data_start : 0;
  for (GgufTensor& tensor : file.tensors_) {
    if (tensor.offset % alignment != 0) {
      return error(ErrorCode::kBadInput, "damaged: tensor '{}' has offset {}, not a multiple of {}",
                   printable(tensor.name), tensor.offset, alignment);
    }
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
      return error(
          ErrorCode::kBadInput,
          "cut off: tensor '{}' takes {} bytes from byte {} + {} but the file has {} bytes",
          printable(tensor.name), tensor.bytes, data_start, tensor.offset, bytes.size());
    }
    tensor.offset += data_start;
  }
  return file;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view tensor_name) const {
  const auto it = tensor_index_.find(tensor_name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

namespace {

template <typename T>
Result<std::optional<T>> typed(const GgufValue* value, std::optional<T> (GgufValue::*read)() const,
                               std::string_view key, std::string_view wanted) {
  if (value == nullptr) return std::optional<T>();
  std::optional<T> result = (value->*read)();
  if (!result) {
    return error(ErrorCode::kBadInput, "key '{}' is not {} but {}{}", key, wanted,
                 name(value->type()),
                 value->is_array() ? fmt::format(" of {}", value->count()) : "");
  }
  return result;
}

}  // namespace

Result<std::optional<std::int64_t>> GgufFile::integer(std::string_view key) const {
  return typed(find(key), &GgufValue::integer, key, "an integer");
}

Result<std::optional<double>> GgufFile::number(std::string_view key) const {
  return typed(find(key), &GgufValue::number, key, "a number");
}

Result<std::optional<bool>> GgufFile::boolean(std::string_view key) const {
  return typed(find(key), &GgufValue::boolean, key, "true or false");
}

Result<std::optional<std::string_view>> GgufFile::text(std::string_view key) const {
  return typed(find(key), &GgufValue::text, key, "a string");
}

}  // namespace tg
