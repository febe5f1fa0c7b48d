#include <zlib.h>

#include <filesystem>
#include <utility>

#include "checkpoint/output_file.h"
#include "checkpoint/repack.h"
#include "checkpoint/repack_progress.h"
#include "checkpoint/tensor_bytes.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

std::uint32_t crc_of(std::uint32_t so_far, std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(so_far, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

Status write_text_record(OutputFile& out, ZipRecord& record, std::string_view text) {
  record.crc32 = crc_of(0, std::as_bytes(std::span(text)));
  TG_RETURN_IF_ERROR(out.append(zip_local_header(record)));
  return out.append(text);
}

Status write_pth(const RepackJob& job, const PlannedFile& file, RepackProgress& progress,
                 OutputFile& out) {
  TensorBytes reader(job.source);
  std::vector<ZipRecord> records = file.records;  // these get their CRC-32
  TG_RETURN_IF_ERROR(write_text_record(out, records[0], file.pickle));
  TG_RETURN_IF_ERROR(write_text_record(out, records[1], kPthByteOrder));
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    ZipRecord& record = records[kPthRecordsBefore + i];
    TG_RETURN_IF_ERROR(out.append(zip_local_header(record)));
    TG_CHECK(out.size() == file.tensors[i].offset);
    const auto put_block = [&](std::span<const std::byte> bytes) -> Status {
      record.crc32 = crc_of(record.crc32, bytes);
      TG_RETURN_IF_ERROR(out.append(bytes));
      return progress.add(bytes.size());
    };
    TG_RETURN_IF_ERROR(reader.for_each_block(file.tensors[i], put_block));
    TG_RETURN_IF_ERROR(out.overwrite(record.header_offset, zip_local_header(record)));
  }
  TG_RETURN_IF_ERROR(write_text_record(out, records.back(), kPthVersion));
  return out.append(zip_directory_bytes(records));
}

Status write_safetensors(const RepackJob& job, const PlannedFile& file, RepackProgress& progress,
                         OutputFile& out) {
  TensorBytes reader(job.source);
  const auto put_block = [&](std::span<const std::byte> bytes) -> Status {
    TG_RETURN_IF_ERROR(out.append(bytes));
    return progress.add(bytes.size());
  };
  TG_RETURN_IF_ERROR(out.append(file.header));
  for (const PlannedTensor& tensor : file.tensors) {
    TG_CHECK(out.size() == tensor.offset);
    TG_RETURN_IF_ERROR(reader.for_each_block(tensor, put_block));
  }
  return {};
}

Status write_file(const RepackJob& job, const PlannedFile& file, RepackProgress& progress) {
  const std::string path = path_in(job, file.name);
  TG_ASSIGN(OutputFile out, OutputFile::create(path));
  const Status written = job.plan.form == RepackForm::kRepacked
                             ? write_pth(job, file, progress, out)
                             : write_safetensors(job, file, progress, out);
  if (!written) {
    Error e = written.error();
    if (e.place.empty()) e.place = path;
    return tl::unexpected<Error>(std::move(e));
  }
  TG_CHECK(out.size() == file.bytes);
  return out.commit();
}

Status write_small(const RepackJob& job, const SmallFile& small) {
  TG_ASSIGN(const SmallFileBytes bytes, SmallFileBytes::open(small));
  TG_ASSIGN(OutputFile out, OutputFile::create(path_in(job, small.name)));
  TG_RETURN_IF_ERROR(out.append(bytes.text()));
  return out.commit();
}

}  // namespace

Status check_space(const RepackJob& job, const RepackWork& work) {
  std::vector<std::string> parts;
  parts.reserve(work.files.size());
  for (const std::size_t i : work.files) {
    parts.push_back(OutputFile::temporary_name(path_in(job, job.plan.files[i].name)));
  }
  const std::size_t count = work.files.size() + work.before.size() + work.after.size();
  if (count == 0) return {};
  return check_free_space(job.out, work.bytes, parts, count);
}

Status write_work(const RepackJob& job, const RepackWork& work, const RepackHooks& hooks) {
  std::error_code failure;
  fs::create_directories(job.out, failure);
  if (failure) {
    return at_place(Error{ErrorCode::kIo, "cannot be made: " + failure.message(), {}}, job.out);
  }
  for (const SmallFile& small : work.before) TG_RETURN_IF_ERROR(write_small(job, small));
  std::uint64_t total = 0;
  for (const std::size_t i : work.files) total += job.plan.files[i].tensor_bytes();
  RepackProgress progress(hooks, total);
  for (const std::size_t i : work.files) {
    TG_RETURN_IF_ERROR(write_file(job, job.plan.files[i], progress));
  }
  for (const SmallFile& small : work.after) TG_RETURN_IF_ERROR(write_small(job, small));
  return {};
}

}  // namespace tg
