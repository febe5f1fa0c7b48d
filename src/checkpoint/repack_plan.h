// What: what a repack will write, byte for byte in its places, before anything is written: which
//   tensor goes into which file, at which offset, in which dtype. Plain data from plain data.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/tensor_source.h"
#include "checkpoint/zip_writer.h"

namespace tg {

enum class RepackForm : std::uint8_t {
  kRepacked,     // layers_{first}-{last}.pth, Meta's names and rows
  kSafetensors,  // model-0000i-of-0000N.safetensors, Hugging Face's names and rows
};

struct PlannedTensor {
  std::string name;            // in the file
  TensorInfo source;           // what is read for it; of a tied head written out, the embedding
  DType dtype = DType::kBf16;  // as written: F32, F16 and BF16 stay, all else becomes BF16
  // When not 0: written in Hugging Face's row order, by so many heads.
  std::int64_t half_split_heads = 0;
  std::uint64_t offset = 0;  // of its first byte in the file
  std::uint64_t bytes = 0;
};

struct PlannedFile {
  std::string name;
  std::vector<PlannedTensor> tensors;  // in the order of their offsets
  std::uint64_t bytes = 0;             // of the whole file
  std::string header;                  // kSafetensors: what lies in front of the tensors
  // kRepacked: data.pkl, byteorder, one record per tensor, version; and the text of data.pkl.
  std::vector<ZipRecord> records;
  std::string pickle;

  std::uint64_t tensor_bytes() const;
};

struct RepackPlan {
  RepackForm form = RepackForm::kRepacked;
  std::vector<PlannedFile> files;  // the first holds embedding, norm and head
  std::string index;               // kSafetensors: model.safetensors.index.json

  std::uint64_t bytes() const;                                // of all files
  std::uint64_t tensor_bytes() const;                         // of the tensors alone
  const PlannedFile* find(std::string_view file_name) const;  // nullptr when absent
};

// Groups the layers of a model by `chunk` (>= 1, else kBadArgument); the last file has what is left
// over. `tensors` are a TensorSource's. A tied head is written out in kRepacked, which has no word
// for it.
Result<RepackPlan> plan_repack(const ModelConfig& config, std::span<const TensorInfo> tensors,
                               RepackForm form, std::int64_t chunk);

// The text of the records of a planned .pth that hold no tensor, beside its pickle.
inline constexpr std::string_view kPthByteOrder = "little";
inline constexpr std::string_view kPthVersion = "3\n";
// Records in front of the tensors' ones.
inline constexpr std::size_t kPthRecordsBefore = 2;

}  // namespace tg
