// What: sets of Unicode code points, and the byte sequences that spell them in UTF-8.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tg {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// Ascending, apart from each other, without surrogates: they have no UTF-8.
class CodePointSet {
 public:
  CodePointSet() = default;
  // Any ranges, in any order.
  static CodePointSet of(const std::vector<CodePointRange>& ranges);
  static CodePointSet all() { return of({{0, 0x10FFFF}}); }

  CodePointSet complement() const;
  CodePointSet without(const CodePointSet& other) const;
  CodePointSet also(const CodePointSet& other) const;

  bool empty() const { return ranges_.empty(); }
  bool has(char32_t c) const;
  const std::vector<CodePointRange>& ranges() const { return ranges_; }

 private:
  std::vector<CodePointRange> ranges_;
};

struct ByteRange {
  std::uint8_t first;
  std::uint8_t last;
};

// 1 to 4 ranges: every choice of one byte of each is a character.
struct Utf8Sequence {
  ByteRange bytes[4];
  std::size_t length = 0;
};

// Together exactly the spellings of the set, each once.
std::vector<Utf8Sequence> utf8_sequences(const CodePointSet& set);

// The code points of valid UTF-8.
std::vector<char32_t> code_points(std::string_view utf8);

}  // namespace tg
