#include "checkpoint/pth_file.h"

#include <string>
#include <string_view>
#include <utility>

#include "checkpoint/file_kind.h"
#include "checkpoint/unpickler.h"
#include "checkpoint/zip_directory.h"

namespace tg {
namespace {

constexpr std::string_view kPickleName = "data.pkl";

// "consolidated.00/" of "consolidated.00/data.pkl": whatever the archive's one pickle lies in.
Result<std::string> find_prefix(const ZipDirectory& zip) {
  const ZipEntry* found = nullptr;
  for (const ZipEntry& entry : zip.entries()) {
    const std::string_view name = entry.name;
    if (name != kPickleName && !name.ends_with("/data.pkl")) continue;
    if (found != nullptr) {
      return error(ErrorCode::kBadInput, "two records named data.pkl: \"{}\" and \"{}\"",
                   printable(found->name), printable(name));
    }
    found = &entry;
  }
  if (found == nullptr) {
    return error(ErrorCode::kBadInput,
                 "a zip archive of {} records without data.pkl: not written by torch.save",
                 zip.entries().size());
  }
  return found->name.substr(0, found->name.size() - kPickleName.size());
}

Result<bool> is_big_endian(std::span<const std::byte> file, const ZipDirectory& zip,
                           const std::string& prefix) {
  const ZipEntry* entry = zip.find(prefix + "byteorder");
  if (entry == nullptr) return false;
  const std::string_view text = as_text(file.subspan(entry->offset, entry->size));
  if (text == "little") return false;
  if (text == "big") return true;
  return error(ErrorCode::kUnsupported, "byteorder record says \"{}\"", printable(text));
}

// Row-major without gaps; a dimension of one element may have any stride.
bool is_contiguous(const PickledTensor& tensor) {
  std::int64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// Places a tensor in the file: checks it against its storage, and the storage against its record.
Result<StoredTensor> place(const PickledTensor& tensor, const ZipDirectory& zip,
                           const std::string& prefix, bool big_endian) {
  const ZipEntry* record = zip.find(prefix + "data/" + tensor.storage_key);
  if (record == nullptr) {
    return error(ErrorCode::kBadInput, "its storage, record \"{}data/{}\", is missing",
                 printable(prefix), printable(tensor.storage_key));
  }
  if (static_cast<std::uint64_t>(tensor.storage_bytes) > record->size) {
    return error(ErrorCode::kBadInput, "its storage of {} bytes has a record of {} bytes",
                 tensor.storage_bytes, record->size);
  }
  const std::int64_t width = block_size(tensor.dtype).bytes;
  std::int64_t bytes = width;
  for (const std::int64_t n : tensor.shape) bytes *= n;  // the unpickler checked for overflow
  const std::int64_t begin = tensor.offset * width;
  if (bytes + begin > tensor.storage_bytes) {
    return error(ErrorCode::kBadInput, "shape {} from element {} needs {} bytes of a storage of {}",
                 shape_text(tensor.shape), tensor.offset, bytes + begin, tensor.storage_bytes);
  }
  if (bytes > 0 && !is_contiguous(tensor)) {
    return error(ErrorCode::kUnsupported,
                 "shape {} with strides {} is not contiguous; save it again after .contiguous()",
                 shape_text(tensor.shape), shape_text(tensor.strides));
  }
  return StoredTensor{.name = tensor.name,
                      .dtype = tensor.dtype,
                      .big_endian = big_endian,
                      .shape = tensor.shape,
                      .offset = record->offset + static_cast<std::size_t>(begin),
                      .bytes = static_cast<std::size_t>(bytes)};
}

}  // namespace

Result<std::vector<StoredTensor>> parse_pth(std::span<const std::byte> file, bool verify) {
  TG_ASSIGN(const ZipDirectory zip, ZipDirectory::parse(file));
  if (verify) {
    for (const ZipEntry& entry : zip.entries()) TG_RETURN_IF_ERROR(check_crc32(file, entry));
  }
  TG_ASSIGN(const std::string prefix, find_prefix(zip));
  TG_ASSIGN(const bool big_endian, is_big_endian(file, zip, prefix));
  const ZipEntry* pickle = zip.find(prefix + std::string(kPickleName));
  TG_CHECK(pickle != nullptr);
  TG_ASSIGN(const std::vector<PickledTensor> pickled,
            unpickle_tensors(file.subspan(pickle->offset, pickle->size)));
  std::vector<StoredTensor> out;
  out.reserve(pickled.size());
  for (const PickledTensor& tensor : pickled) {
    Result<StoredTensor> stored = place(tensor, zip, prefix, big_endian);
    if (!stored) return at_place(std::move(stored).error(), printable(tensor.name));
    out.push_back(*std::move(stored));
  }
  return out;
}

}  // namespace tg
