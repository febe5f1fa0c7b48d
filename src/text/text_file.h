// What: a file of text with a limit on its size, for the loaders of this folder.
// Who owns: the caller owns the mapping; text_of() refers to it. Thread: any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/mapped_file.h"
#include "base/result.h"

namespace tg {

// Errors of MappedFile::open; kBadInput with both sizes for a file above `most` bytes.
inline Result<MappedFile> open_text_file(const std::string& path, std::size_t most) {
  TG_ASSIGN(MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > most) {
    return at_place(Error{ErrorCode::kBadInput,
                          fmt::format("{} bytes; a file of this kind has at most {}",
                                      file.bytes().size(), most),
                          {}},
                    path);
  }
  return file;
}

inline std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace tg
