// What: the header of a GGUF file (versions 2 and 3, little-endian): its metadata (key -> value)
//   and its tensor directory, as views into the bytes of the file; nothing large is copied. Every
//   count, size and offset is checked against the bytes that are there, so a parsed file can be
//   read without further checks. What the values mean (is it a Llama?) is gguf_source.h's business.
// Who owns: a plain value; the bytes belong to the caller and must outlive it. Thread: const from
// any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace tg {

// Type codes of metadata values, as stored.
enum class GgufType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

std::string_view name(GgufType type);

// One metadata value: a view of its stored bytes. The readers return nothing when the value is of
// another kind (a number that does not fit counts as another kind); integers of every stored width
// are read alike.
class GgufValue {
 public:
  GgufValue() = default;
  // A scalar or string has count 1 and element == type. A string's data starts at its length.
  GgufValue(GgufType type, GgufType element, std::uint64_t count, std::span<const std::byte> data)
      : type_(type), element_(element), count_(count), data_(data) {}

  GgufType type() const { return type_; }
  bool is_array() const { return type_ == GgufType::kArray; }
  // Elements of an array, 1 for anything else.
  std::uint64_t count() const { return count_; }

  std::optional<std::int64_t> integer() const;
  std::optional<double> number() const;  // a float or an integer
  std::optional<bool> boolean() const;
  std::optional<std::string_view> text() const;
  // Arrays only. Arrays inside arrays have no reader: no key that we use has them.
  std::optional<std::vector<std::string_view>> texts() const;
  std::optional<std::vector<std::int64_t>> integers() const;

 private:
  GgufType type_ = GgufType::kUint8;
  GgufType element_ = GgufType::kUint8;
  std::uint64_t count_ = 0;
  std::span<const std::byte> data_;
};

struct GgufTensor {
  std::string_view name;
  std::uint32_t stored_type = 0;
  std::optional<DType> dtype;  // nothing: a type we cannot read; bytes is then unknown (0)
  std::vector<std::int64_t> dimensions;  // as stored, innermost (columns) first; each >= 1
  std::uint64_t offset = 0;              // from the start of the file
  std::uint64_t bytes = 0;

  // "Q4_K", "IQ2_XS", "type 99": for messages.
  std::string type_name() const;
};

// The code that a tensor of this type is stored under.
std::uint32_t gguf_type_code(DType dtype);

class GgufFile {
 public:
  // Reads the header of a whole file. Errors (kBadInput, or kUnsupported for a version, byte order
  // or older format that this program does not read): one sentence with the byte position and
  // numbers.
  static Result<GgufFile> parse(std::span<const std::byte> bytes);

  std::uint32_t version() const { return version_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::span<const GgufTensor> tensors() const { return tensors_; }
  std::size_t metadata_count() const { return metadata_.size(); }

  // nullptr when absent.
  const GgufValue* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  // The value of a key, nothing when the key is absent, kBadInput with the key and the stored type
  // when it is of another kind.
  Result<std::optional<std::int64_t>> integer(std::string_view key) const;
  Result<std::optional<double>> number(std::string_view key) const;
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<std::string_view>> text(std::string_view key) const;

 private:
  std::uint32_t version_ = 0;
  std::span<const std::byte> bytes_;
  std::unordered_map<std::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;
};

}  // namespace tg
