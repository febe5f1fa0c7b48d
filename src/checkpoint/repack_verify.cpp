#include <algorithm>
#include <bit>
#include <memory>
#include <utility>

#include "base/bf16.h"
#include "checkpoint/config_writers.h"
#include "checkpoint/huggingface_source.h"
#include "checkpoint/meta_source.h"
#include "checkpoint/repack.h"
#include "checkpoint/repack_progress.h"

namespace tg {
namespace {

constexpr std::int64_t kCompareValues = std::int64_t{1} << 18;

// The planned files alone, whatever else lies in the directory.
Result<std::unique_ptr<TensorSource>> open_written(const RepackJob& job) {
  std::vector<std::string> names;
  names.reserve(job.plan.files.size());
  for (const PlannedFile& file : job.plan.files) names.push_back(file.name);
  if (job.plan.form == RepackForm::kRepacked) {
    return open_repacked(job.out, names, {.verify = true});
  }
  return open_huggingface(job.out, names, /*has_index=*/true);
}

Status compare_tensor(const RepackJob& job, const TensorInfo& before, const TensorSource& written,
                      const TensorInfo& after, RepackProgress& progress) {
  const std::int64_t columns = before.columns();
  const std::int64_t block = std::max<std::int64_t>(1, kCompareValues / columns);
  const bool is_exact = before.dtype == after.dtype;
  std::vector<float> in;
  std::vector<float> out;
  for (std::int64_t row = 0; row < before.rows(); row += block) {
    const std::int64_t count = std::min(block, before.rows() - row);
    in.resize(static_cast<std::size_t>(count * columns));
    out.resize(in.size());
    TG_RETURN_IF_ERROR(job.source.read_rows(before, row, count, in));
    TG_RETURN_IF_ERROR(written.read_rows(after, row, count, out));
    for (std::size_t i = 0; i < in.size(); ++i) {
      const float wanted = is_exact ? in[i] : to_float(to_bf16(in[i]));
      if (std::bit_cast<std::uint32_t>(wanted) == std::bit_cast<std::uint32_t>(out[i])) continue;
      const std::int64_t at = row * columns + static_cast<std::int64_t>(i);
      return error(ErrorCode::kBadInput,
                   "tensor \"{}\" differs at row {}, column {}: {} there, {} in the source",
                   after.name, at / columns, at % columns, out[i], wanted);
    }
    TG_RETURN_IF_ERROR(
        progress.add(in.size() * static_cast<std::size_t>(block_size(after.dtype).bytes)));
  }
  job.source.release(before);
  written.release(after);
  return {};
}

}  // namespace

Result<VerifyCounts> verify_repacked(const RepackJob& job, const RepackHooks& hooks) {
  TG_ASSIGN(const std::unique_ptr<TensorSource> written, open_written(job));
  const std::string difference = config_difference(job.source.config(), written->config());
  if (!difference.empty()) {
    return at_place(Error{ErrorCode::kBadInput,
                          fmt::format("the configs differ: {} (source and target)", difference),
                          {}},
                    job.out);
  }
  RepackProgress progress(hooks, job.plan.tensor_bytes());
  VerifyCounts counts;
  for (const TensorInfo& after : written->tensors()) {
    const TensorInfo* before = job.source.find(after.name);
    // A tied head that was written out.
    if (before == nullptr) before = job.source.find("tok_embeddings.weight");
    TG_CHECK(before != nullptr);
    const Status same = compare_tensor(job, *before, *written, after, progress);
    if (!same) return at_place(same.error(), job.out);
    ++counts.tensors;
    counts.values += after.rows() * after.columns();
  }
  return counts;
}

}  // namespace tg
