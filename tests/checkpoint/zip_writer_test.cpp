// The zip archives and pickles that are written, read back by the readers of this program. Sizes
// beyond 32 bits are in files with holes: nothing of 4 GiB is written.
#include "checkpoint/zip_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/mapped_file.h"
#include "checkpoint/pickle_writer.h"
#include "checkpoint/zip_directory.h"
#include "test_files.h"

namespace tg {
namespace {

std::vector<ZipRecord> records_of(const std::vector<std::pair<std::string, std::uint64_t>>& sizes) {
  std::vector<ZipRecord> records;
  for (const auto& [name, size] : sizes) {
    ZipRecord record;
    record.name = name;
    record.size = size;
    record.crc32 = static_cast<std::uint32_t>(0x1000 + records.size());
    records.push_back(record);
  }
  place_zip_records(records);
  return records;
}

// Headers and directory in their places, the data a hole.
std::string write_with_holes(const test::TempDirectory& directory,
                             const std::vector<ZipRecord>& records) {
  std::string path = directory.write("holes.zip", "");
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  for (const ZipRecord& record : records) {
    const std::string header = zip_local_header(record);
    EXPECT_EQ(record.header_offset + header.size(), record.data_offset);
    EXPECT_EQ(record.data_offset % 64, 0U);
    file.seekp(static_cast<std::streamoff>(record.header_offset));
    file << header;
  }
  file.seekp(static_cast<std::streamoff>(records.back().data_offset + records.back().size));
  file << zip_directory_bytes(records);
  return path;
}

void expect_read_back(const std::vector<ZipRecord>& records) {
  const test::TempDirectory directory;
  const std::string path = write_with_holes(directory, records);
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().text();
  const auto zip = ZipDirectory::parse(file->bytes());
  ASSERT_TRUE(zip) << zip.error().text();
  ASSERT_EQ(zip->entries().size(), records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    const ZipEntry& entry = zip->entries()[i];
    EXPECT_EQ(entry.name, records[i].name);
    EXPECT_EQ(entry.size, records[i].size);
    EXPECT_EQ(entry.offset, records[i].data_offset);
    EXPECT_EQ(entry.crc32, records[i].crc32);
  }
}

TEST(ZipWriter, SmallRecordsNeedNoZip64) {
  const auto records = records_of({{"a/data.pkl", 17}, {"a/data/0", 64}, {"a/version", 2}});
  expect_read_back(records);
  EXPECT_EQ(zip_directory_bytes(records).size(), 3 * 46 + 10 + 8 + 9 + 22U);
}

TEST(ZipWriter, RecordsAndOffsetsBeyond32Bits) {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  expect_read_back(records_of({{"a/data.pkl", 1},
                               {"a/data/0", 5 * kGiB},
                               {"a/data/1", 100},
                               {"a/data/2", 6 * kGiB + 1},
                               {"a/version", 2}}));
}

TEST(ZipWriter, TheBordersOf32Bits) {
  for (const std::uint64_t size : {0xfffffffeULL, 0xffffffffULL, 0x100000000ULL}) {
    expect_read_back(records_of({{"a/0", size}, {"a/1", 1}}));
  }
}

TEST(ZipWriter, MoreRecordsThan16Bits) {
  std::vector<std::pair<std::string, std::uint64_t>> sizes;
  for (int i = 0; i < 65535; ++i) sizes.emplace_back("a/" + std::to_string(i), 1);
  expect_read_back(records_of(sizes));
}

// Python's own zip reader follows the format strictly. The archive is small, but for its offsets.
TEST(ZipWriter, PythonReadsZip64) {
  const test::TempDirectory directory;
  auto records = records_of({{"a/big", (std::uint64_t{1} << 32) + 5}, {"a/after", 3}});
  records[1].crc32 = static_cast<std::uint32_t>(::crc32_z(0, nullptr, 0));
  const std::string zeros(3, '\0');
  records[1].crc32 =
      static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(zeros.data()), 3));
  const std::string path = write_with_holes(directory, records);
  const std::string command =
      "python3 -c \"import zipfile\nz = zipfile.ZipFile('" + path +
      "')\nassert z.getinfo('a/big').file_size == 2**32 + 5\n"
      "assert z.open('a/big').read(9) == bytes(9)\nassert z.read('a/after') == bytes(3)\"";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(PickleWriter, IsReadBack) {
  std::vector<PickledTensor> tensors;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    PickledTensor t;
    t.name = "layers.0." + std::string(name(dtype));
    t.dtype = dtype;
    t.shape = {128256, 16384};  // more values than 31 bits count
    t.strides = {16384, 1};
    t.storage_key = std::to_string(tensors.size());
    t.storage_bytes = 128256LL * 16384 * 2 * block_size(dtype).bytes;
    t.offset = 128256LL * 16384;
    tensors.push_back(t);
  }
  PickledTensor vector;
  vector.name = "norm.weight";
  vector.shape = {7};
  vector.strides = {1};
  vector.storage_key = "3";
  vector.storage_bytes = 14;
  tensors.push_back(vector);
  const std::string pickle = pickle_tensors(tensors);
  const auto again = unpickle_tensors(test::as_bytes(pickle));
  ASSERT_TRUE(again) << again.error().text();
  ASSERT_EQ(again->size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ((*again)[i].name, tensors[i].name);
    EXPECT_EQ((*again)[i].dtype, tensors[i].dtype);
    EXPECT_EQ((*again)[i].shape, tensors[i].shape);
    EXPECT_EQ((*again)[i].strides, tensors[i].strides);
    EXPECT_EQ((*again)[i].storage_key, tensors[i].storage_key);
    EXPECT_EQ((*again)[i].storage_bytes, tensors[i].storage_bytes);
    EXPECT_EQ((*again)[i].offset, tensors[i].offset);
  }
}

}  // namespace
}  // namespace tg
