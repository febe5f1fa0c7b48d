#include "checkpoint/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace tg {
namespace {

bool starts_with_any_case(std::string_view text, std::string_view lower_case_prefix) {
  if (text.size() < lower_case_prefix.size()) return false;
  return std::equal(
      lower_case_prefix.begin(), lower_case_prefix.end(), text.begin(),
      [](char want, char have) { return want == std::tolower(static_cast<unsigned char>(have)); });
}

std::string_view without_leading_space(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // byte order mark of UTF-8
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

}  // namespace

std::string looks_like(std::span<const std::byte> file) {
  if (file.empty()) return "the file is empty (0 bytes)";
  const std::string_view start = as_text(file.first(std::min<std::size_t>(file.size(), 256)));
  const std::string_view text = without_leading_space(start);
  if (text.starts_with("version https://git-lfs")) {
    return fmt::format(
        "it is a git-lfs pointer file of {} bytes that stands for the weights; fetch them with "
        "\"git lfs pull\"",
        file.size());
  }
  if (starts_with_any_case(text, "<!doctype html") || starts_with_any_case(text, "<html") ||
      starts_with_any_case(text, "<?xml") || starts_with_any_case(text, "<error")) {
    return fmt::format(
        "it is a web page of {} bytes, as servers send in place of a file when a download is "
        "refused",
        file.size());
  }
  // A pickled long, 0x1950a86a20f9469cfc6c, opened every file of torch.save before version 1.6.
  if (start.starts_with("\x80\x02\x8a\nl\xfc\x9c"
                        "F\xf9 j\xa8P\x19")) {
    return "it is in the torch format from before 2020 (bare pickles, not a zip archive); load and "
           "save it again with a newer torch";
  }
  if (start.starts_with("\x80") && start.size() > 1 && start[1] >= 2 && start[1] <= 5) {
    return "it is a bare pickle, not the zip archive that torch.save writes since 2020";
  }
  if (start.starts_with("PK\x03\x04")) {
    return fmt::format(
        "it starts as a zip archive but is cut off: no central directory at the end of its {} "
        "bytes (was the download stopped?)",
        file.size());
  }
  if (start.starts_with("GGUF")) return "it is a GGUF file";
  if (start.starts_with("\x1f\x8b")) return "it is compressed with gzip";
  if (start.starts_with("{")) return fmt::format("it starts as JSON: {}", printable(start));
  const bool zeros = std::all_of(start.begin(), start.end(), [](char c) { return c == '\0'; });
  if (zeros) return fmt::format("it starts with {} zero bytes", start.size());
  return fmt::format("it starts with \"{}\"", printable(start.substr(0, 16)));
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string out;
  for (const char c : text) {
    if (out.size() >= kLongest) return out + "...";
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace tg
