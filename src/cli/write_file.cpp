#include "cli/write_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace tg {

Status write_whole_file(const std::string& path, const std::string& text) {
  const std::string part = fmt::format("{}.{}.part", path, ::getpid());
  std::ofstream out(part, std::ios::binary);
  out << text;
  out.close();
  if (out && std::rename(part.c_str(), path.c_str()) == 0) return {};
  const int reason = errno;
  std::remove(part.c_str());
  return error(ErrorCode::kIo, "cannot be written: {}", std::strerror(reason));
}

}  // namespace tg
