// What: what the steps of a repack have in common: counting bytes and asking whether to stop, and
//   the bytes of a small file.
// Who owns: plain values. Thread: one. Only for the .cpp files of repack.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/mapped_file.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/repack.h"

namespace tg {

// Counts bytes towards the hooks, across files.
class RepackProgress {
 public:
  RepackProgress(const RepackHooks& hooks, std::uint64_t total)
      : hooks_(hooks), total_(static_cast<std::int64_t>(total)) {}

  // An error when the work is to end.
  Status add(std::size_t bytes) {
    done_ += static_cast<std::int64_t>(bytes);
    hooks_.progress(done_, total_);
    if (!hooks_.stopped()) return {};
    return error(ErrorCode::kIo, "stopped after {} of {} bytes", done_, total_);
  }

 private:
  const RepackHooks& hooks_;
  std::int64_t done_ = 0;
  std::int64_t total_ = 0;
};

inline std::string path_in(const RepackJob& job, std::string_view name) {
  return fmt::format("{}/{}", job.out, name);
}

// The bytes that a small file is to have: its text, or another file mapped.
class SmallFileBytes {
 public:
  // `small` must outlive the result.
  static Result<SmallFileBytes> open(const SmallFile& small) {
    SmallFileBytes bytes;
    if (small.copy_of.empty()) {
      bytes.text_ = &small.text;
    } else {
      TG_ASSIGN(bytes.copied_, MappedFile::open(small.copy_of));
    }
    return bytes;
  }

  std::string_view text() const {
    return text_ != nullptr ? std::string_view(*text_) : as_text(copied_.bytes());
  }

 private:
  const std::string* text_ = nullptr;
  MappedFile copied_;
};

}  // namespace tg
