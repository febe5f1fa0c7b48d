#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "checkpoint/meta_source.h"
#include "checkpoint/pth_file.h"
#include "checkpoint/repack.h"
#include "checkpoint/repack_progress.h"
#include "checkpoint/safetensors_file.h"
#include "checkpoint/tensor_bytes.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

// Whether a reader of the target would take a file of this name for a part of the checkpoint, or
// another checkpoint in its place.
bool is_weights_name(std::string_view name, RepackForm form) {
  if (layer_range(name)) return true;
  return form == RepackForm::kSafetensors &&
         (shard_number(name).has_value() || name.ends_with(".safetensors"));
}

Status check_foreign_files(const RepackJob& job) {
  std::vector<std::string> foreign;
  std::error_code failure;
  fs::directory_iterator it(job.out, failure);
  for (; !failure && it != fs::directory_iterator(); it.increment(failure)) {
    const std::string name = it->path().filename().string();
    if (job.plan.find(name) != nullptr || !is_weights_name(name, job.plan.form)) continue;
    foreign.push_back(printable(name));
  }
  if (failure && failure != std::errc::no_such_file_or_directory) {
    return at_place(Error{ErrorCode::kIo, "cannot be listed: " + failure.message(), {}}, job.out);
  }
  if (foreign.empty()) return {};
  std::sort(foreign.begin(), foreign.end());
  constexpr std::size_t kShown = 6;
  const std::size_t shown = std::min(kShown, foreign.size());
  return at_place(
      Error{ErrorCode::kBadArgument,
            fmt::format("{} files there are not of this repack ({} to {}) but of another chunk "
                        "size or checkpoint: {}{}; remove them or give another directory",
                        foreign.size(), job.plan.files.front().name, job.plan.files.back().name,
                        fmt::join(foreign.begin(),
                                  foreign.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                        shown < foreign.size() ? ", ..." : ""),
            {}},
      job.out);
}

// nullopt when there is no such file.
Result<std::optional<MappedFile>> open_if_there(const std::string& path) {
  Result<MappedFile> file = MappedFile::open(path);
  if (file) return std::optional<MappedFile>(*std::move(file));
  if (file.error().code == ErrorCode::kNotFound) return std::optional<MappedFile>();
  return tl::unexpected<Error>(std::move(file).error());
}

// Those that are to be written; one with other content is refused.
Result<std::vector<SmallFile>> small_work(const RepackJob& job,
                                          const std::vector<SmallFile>& planned) {
  std::vector<SmallFile> work;
  for (const SmallFile& small : planned) {
    TG_ASSIGN(const SmallFileBytes bytes, SmallFileBytes::open(small));
    const std::string path = path_in(job, small.name);
    TG_ASSIGN(const std::optional<MappedFile> there, open_if_there(path));
    if (there && as_text(there->bytes()) == bytes.text()) continue;
    if (there && !job.force) {
      return at_place(
          Error{ErrorCode::kBadArgument,
                fmt::format("is there with other content ({} bytes, not the {} of {}); --force "
                            "writes it anew",
                            there->bytes().size(), bytes.text().size(),
                            small.copy_of.empty() ? "this checkpoint" : small.copy_of),
                {}},
          path);
    }
    work.push_back(small);
  }
  return work;
}

Result<std::vector<StoredTensor>> parse_weights(std::span<const std::byte> file, RepackForm form) {
  if (form == RepackForm::kRepacked) return parse_pth(file, /*verify=*/true);
  TG_ASSIGN(const std::vector<SafetensorsEntry> entries, parse_safetensors(file));
  std::vector<StoredTensor> tensors;
  for (const SafetensorsEntry& entry : entries) {
    TG_ASSIGN(StoredTensor tensor, as_float_tensor(entry));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// The error says which value is the first that differs.
Status compare_tensor(const PlannedTensor& tensor, const StoredTensor& stored,
                      const MappedFile& there, TensorBytes& reader, RepackProgress& progress) {
  std::size_t at = 0;
  const auto compare_block = [&](std::span<const std::byte> bytes) -> Status {
    const auto other = there.bytes().subspan(stored.offset + at, bytes.size());
    if (std::memcmp(other.data(), bytes.data(), bytes.size()) != 0) {
      const auto first = std::mismatch(bytes.begin(), bytes.end(), other.begin()).first;
      const auto value = (at + static_cast<std::size_t>(first - bytes.begin())) /
                         static_cast<std::size_t>(block_size(tensor.dtype).bytes);
      const auto columns = static_cast<std::size_t>(tensor.source.columns());
      return error(ErrorCode::kBadInput, "tensor \"{}\" differs at row {}, column {}", tensor.name,
                   value / columns, value % columns);
    }
    at += bytes.size();
    return progress.add(bytes.size());
  };
  TG_RETURN_IF_ERROR(reader.for_each_block(tensor, compare_block));
  there.drop(stored.offset, stored.bytes);
  return {};
}

Status compare_file(const RepackJob& job, const PlannedFile& file, const MappedFile& there,
                    RepackProgress& progress) {
  TG_ASSIGN(const std::vector<StoredTensor> stored, parse_weights(there.bytes(), job.plan.form));
  there.drop(0, there.bytes().size());
  if (stored.size() != file.tensors.size()) {
    return error(ErrorCode::kBadInput, "it has {} tensors, not {}", stored.size(),
                 file.tensors.size());
  }
  TensorBytes reader(job.source);
  for (const PlannedTensor& tensor : file.tensors) {
    const auto found = std::find_if(stored.begin(), stored.end(),
                                    [&](const auto& s) { return s.name == tensor.name; });
    if (found == stored.end()) {
      return error(ErrorCode::kBadInput, "it has no tensor \"{}\"", tensor.name);
    }
    if (found->shape != tensor.source.shape || found->dtype != tensor.dtype || found->big_endian) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is {}{} {} there, {} {} here", tensor.name,
                   found->big_endian ? "big-endian " : "", name(found->dtype),
                   shape_text(found->shape), name(tensor.dtype), shape_text(tensor.source.shape));
    }
    TG_RETURN_IF_ERROR(compare_tensor(tensor, *found, there, reader, progress));
  }
  return {};
}

// Whether the file is there and right; one that is not right is refused.
Result<bool> is_there(const RepackJob& job, const PlannedFile& file, const RepackHooks& hooks,
                      RepackProgress& progress) {
  const std::string path = path_in(job, file.name);
  TG_ASSIGN(const std::optional<MappedFile> there, open_if_there(path));
  if (!there) return false;
  const Status same = compare_file(job, file, *there, progress);
  if (same) return true;
  if (hooks.stopped()) return at_place(same.error(), path);
  if (job.force) return false;
  Error e = same.error();
  e.message += "; it is damaged or another checkpoint's, and --force writes it anew";
  return at_place(std::move(e), path);
}

}  // namespace

Result<RepackWork> find_work(const RepackJob& job, const RepackHooks& hooks) {
  TG_RETURN_IF_ERROR(check_foreign_files(job));
  RepackWork work;
  TG_ASSIGN(work.before, small_work(job, job.companions.before));
  TG_ASSIGN(work.after, small_work(job, job.companions.after));
  std::uint64_t there_bytes = 0;
  std::error_code ignored;
  for (const PlannedFile& file : job.plan.files) {
    if (fs::exists(path_in(job, file.name), ignored)) there_bytes += file.tensor_bytes();
  }
  RepackProgress progress(hooks, there_bytes);
  for (std::size_t i = 0; i < job.plan.files.size(); ++i) {
    TG_ASSIGN(const bool there, is_there(job, job.plan.files[i], hooks, progress));
    if (there) {
      ++work.kept;
      continue;
    }
    work.files.push_back(i);
    work.bytes += job.plan.files[i].bytes;
  }
  for (const std::vector<SmallFile>* smalls : {&work.before, &work.after}) {
    for (const SmallFile& small : *smalls) {
      TG_ASSIGN(const SmallFileBytes bytes, SmallFileBytes::open(small));
      work.bytes += bytes.text().size();
    }
  }
  return work;
}

}  // namespace tg
