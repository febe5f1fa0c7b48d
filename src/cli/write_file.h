// What: a file that appears complete under its name or not at all, whoever else looks or writes.
// Who owns: nothing. Thread: any.
#pragma once

#include <string>

#include "base/result.h"

namespace tg {

// Writes beside `path` and renames. kIo with the system's reason (without the path); nothing is
// left behind then.
Status write_whole_file(const std::string& path, const std::string& text);

}  // namespace tg
