// What: the text that a prompt's "context" names: a download, a file, or the text itself. Downloads
//   are bounded in size, time and redirects, keep away from link-local addresses, and are cached.
// Who owns: nothing. Thread: the main thread (libcurl's global state is made at the first
// download).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace tg {

struct ContextOptions {
  std::string base_directory;                       // of relative files; empty: the current one
  std::string cache_directory = "context_cache";    // made when needed; empty: nothing is kept
  std::int64_t max_bytes = std::int64_t{16} << 20;  // after decompression
  double timeout_s = 30.0;                          // of a whole download, redirects included
  int max_redirects = 5;
};

// An http or https URL is downloaded, or taken from the cache. The name of a file that exists,
// relative to base_directory, is that file, and so is one word with a '.' or '/' in it, which has
// to exist. Anything else is the text itself, as it is. What was read becomes UTF-8: ISO-8859-1,
// where the server says so, is converted, other bytes that are no UTF-8 become U+FFFD, a byte order
// mark goes. HTML stays as it is. Errors (kIo, kNotFound, kBadArgument, kOutOfCapacity) name the
// URL or file.
Result<std::string> fetch_context(const std::string& context, const ContextOptions& options);

}  // namespace tg
