#include "checkpoint/safetensors_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "checkpoint/file_kind.h"

namespace tg {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthWord = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;  // the limit that the format's library sets

struct KnownDType {
  std::string_view name;
  std::int64_t bits;
};

// Every dtype of the format, so that a file with a foreign one is refused for that and not for its
// arithmetic.
constexpr std::array kDTypes = {
    KnownDType{"BOOL", 8},    KnownDType{"F4", 4},          KnownDType{"F6_E2M3", 6},
    KnownDType{"F6_E3M2", 6}, KnownDType{"U8", 8},          KnownDType{"I8", 8},
    KnownDType{"F8_E5M2", 8}, KnownDType{"F8_E4M3", 8},     KnownDType{"F8_E8M0", 8},
    KnownDType{"I16", 16},    KnownDType{"F8_E5M2FNUZ", 8}, KnownDType{"F8_E4M3FNUZ", 8},
    KnownDType{"U16", 16},    KnownDType{"F16", 16},        KnownDType{"BF16", 16},
    KnownDType{"I32", 32},    KnownDType{"U32", 32},        KnownDType{"F32", 32},
    KnownDType{"C64", 64},    KnownDType{"F64", 64},        KnownDType{"I64", 64},
    KnownDType{"U64", 64},
};

// A natural number of the header; no library call that throws is made.
std::optional<std::int64_t> natural(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const std::uint64_t n = value.get<std::uint64_t>();
  if (n > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<std::int64_t>(n);
}

Result<std::vector<std::int64_t>> naturals(const Json& object, const char* key) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array()) {
    return error(ErrorCode::kBadInput, "no list \"{}\"", key);
  }
  std::vector<std::int64_t> out;
  for (const Json& item : *list) {
    const std::optional<std::int64_t> n = natural(item);
    if (!n) return error(ErrorCode::kBadInput, "\"{}\" holds something else than sizes", key);
    out.push_back(*n);
  }
  return out;
}

// `data_bytes` is how much lies behind the header, at byte `data_start` of the file.
Result<SafetensorsEntry> read_entry(const std::string& name, const Json& object,
                                    std::size_t data_start, std::size_t data_bytes) {
  if (!object.is_object()) return error(ErrorCode::kBadInput, "its entry is not a JSON object");
  SafetensorsEntry entry;
  entry.name = name;
  const auto dtype = object.find("dtype");
  if (dtype == object.end() || !dtype->is_string()) {
    return error(ErrorCode::kBadInput, "no \"dtype\"");
  }
  entry.dtype = dtype->get_ref<const std::string&>();
  const auto* const known = std::find_if(
      kDTypes.begin(), kDTypes.end(), [&](const KnownDType& d) { return d.name == entry.dtype; });
  if (known == kDTypes.end()) {
    return error(ErrorCode::kBadInput, "dtype \"{}\" is not known", printable(entry.dtype));
  }
  TG_ASSIGN(entry.shape, naturals(object, "shape"));
  TG_ASSIGN(const std::vector<std::int64_t> range, naturals(object, "data_offsets"));
  if (range.size() != 2) {
    return error(ErrorCode::kBadInput, "\"data_offsets\" has {} numbers, not 2", range.size());
  }
  const std::int64_t begin = range[0];
  const std::int64_t end = range[1];
  if (begin > end || static_cast<std::uint64_t>(end) > data_bytes) {
    return error(ErrorCode::kBadInput, "bytes {} to {} do not lie in the file's {} bytes of data",
                 begin, end, data_bytes);
  }
  std::int64_t bits = known->bits;
  for (const std::int64_t n : entry.shape) {
    if (__builtin_mul_overflow(bits, n, &bits)) {
      return error(ErrorCode::kBadInput, "shape {} needs more than 2^63 bits",
                   shape_text(entry.shape));
    }
  }
  if (bits % 8 != 0 || bits / 8 != end - begin) {
    return error(ErrorCode::kBadInput, "shape {} of {} needs {} bytes, data_offsets span {}",
                 shape_text(entry.shape), entry.dtype, (bits + 7) / 8, end - begin);
  }
  entry.offset = data_start + static_cast<std::size_t>(begin);
  entry.bytes = static_cast<std::size_t>(end - begin);
  return entry;
}

// The tensors must tile the data: a byte that two own, or none, means that the header is wrong.
Status check_tiling(std::span<const SafetensorsEntry> entries, std::size_t data_start,
                    std::size_t file_size) {
  std::size_t at = data_start;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != at) {
      return error(ErrorCode::kBadInput,
                   "tensor \"{}\" starts at byte {} but the one before ends at {} ({})",
                   printable(entry.name), entry.offset, at,
                   entry.offset < at ? "they overlap" : "bytes that no tensor owns");
    }
    at += entry.bytes;
  }
  if (at != file_size) {
    return error(ErrorCode::kBadInput, "the tensors end at byte {} of a file of {} bytes", at,
                 file_size);
  }
  return {};
}

Result<Json> parse_header(std::string_view text) {
  if (!text.starts_with('{')) {
    return error(ErrorCode::kBadInput, "the header is not a JSON object: it starts with \"{}\"",
                 printable(text.substr(0, 16)));
  }
  // The JSON library keeps the last of two equal keys without a word, so look at keys as they come.
  std::unordered_set<std::string> names;
  std::string repeated;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(value.get_ref<const std::string&>()).second) {
      repeated = value.get_ref<const std::string&>();
    }
    return true;
  };
  Json header = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (header.is_discarded() || !header.is_object()) {
    return error(ErrorCode::kBadInput, "the header of {} bytes is not a JSON object", text.size());
  }
  if (!repeated.empty()) {
    return error(ErrorCode::kBadInput, "tensor \"{}\" appears twice", printable(repeated));
  }
  return header;
}

}  // namespace

Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> file) {
  if (file.size() < kLengthWord) {
    return error(ErrorCode::kBadInput, "not a safetensors file: {}", looks_like(file));
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthWord; i-- > 0;) {
    length = (length << 8) | std::to_integer<std::uint64_t>(file[i]);
  }
  const std::size_t rest = file.size() - kLengthWord;
  // Without a '{' behind the length word this is another kind of file, which the message names.
  if ((rest == 0 || file[kLengthWord] != std::byte{'{'}) && length > rest) {
    return error(ErrorCode::kBadInput, "not a safetensors file: {}", looks_like(file));
  }
  if (length > rest || length > kLongestHeader) {
    return error(ErrorCode::kBadInput,
                 "a header of {} bytes in a file of {} (at most {} are read): cut off or damaged",
                 length, file.size(), kLongestHeader);
  }
  const std::string_view text =
      as_text(file.subspan(kLengthWord, static_cast<std::size_t>(length)));
  TG_ASSIGN(const Json header, parse_header(text));
  const std::size_t data_start = kLengthWord + text.size();
  const std::size_t data_bytes = file.size() - data_start;

  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, object] : header.items()) {
    if (name == "__metadata__") {
      if (!object.is_object()) {
        return error(ErrorCode::kBadInput, "\"__metadata__\" is not a JSON object");
      }
      continue;
    }
    Result<SafetensorsEntry> entry = read_entry(name, object, data_start, data_bytes);
    if (!entry) {
      return at_place(std::move(entry).error(), fmt::format("tensor \"{}\"", printable(name)));
    }
    entries.push_back(*std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.offset + a.bytes) < std::pair(b.offset, b.offset + b.bytes);
  });
  TG_RETURN_IF_ERROR(check_tiling(entries, data_start, file.size()));
  return entries;
}

Result<StoredTensor> as_float_tensor(const SafetensorsEntry& entry) {
  StoredTensor tensor{
      .name = entry.name, .shape = entry.shape, .offset = entry.offset, .bytes = entry.bytes};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    if (name(dtype) != entry.dtype) continue;
    tensor.dtype = dtype;
    return tensor;
  }
  return error(ErrorCode::kUnsupported,
               "tensor \"{}\" has dtype {}; weights must be F32, F16 or BF16",
               printable(entry.name), entry.dtype);
}

}  // namespace tg
