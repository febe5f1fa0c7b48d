#include "grammar/code_points.h"

#include <algorithm>

#include "text/utf8.h"

namespace tg {
namespace {

std::size_t spell_utf8(char32_t c, std::uint8_t (&out)[4]) {
  const auto bits = [c](unsigned shift) { return static_cast<std::uint8_t>((c >> shift) & 0x3F); };
  if (c < 0x80) {
    out[0] = static_cast<std::uint8_t>(c);
    return 1;
  }
  if (c < 0x800) {
    out[0] = static_cast<std::uint8_t>(0xC0 | (c >> 6));
    out[1] = static_cast<std::uint8_t>(0x80 | bits(0));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = static_cast<std::uint8_t>(0xE0 | (c >> 12));
    out[1] = static_cast<std::uint8_t>(0x80 | bits(6));
    out[2] = static_cast<std::uint8_t>(0x80 | bits(0));
    return 3;
  }
  out[0] = static_cast<std::uint8_t>(0xF0 | (c >> 18));
  out[1] = static_cast<std::uint8_t>(0x80 | bits(12));
  out[2] = static_cast<std::uint8_t>(0x80 | bits(6));
  out[3] = static_cast<std::uint8_t>(0x80 | bits(0));
  return 4;
}

// Cuts the range until its first and last spelling differ byte by byte as independent ranges: the
// lengths are equal, and behind a byte that varies all continuation bytes are free.
void append_sequences(char32_t first, char32_t last, std::vector<Utf8Sequence>& out) {
  for (const char32_t end : {char32_t{0x7F}, char32_t{0x7FF}, char32_t{0xFFFF}}) {
    if (first <= end && last > end) {
      append_sequences(first, end, out);
      append_sequences(end + 1, last, out);
      return;
    }
  }
  if (last > 0x7F) {
    for (unsigned i = 1; i <= 3; ++i) {
      const char32_t low = (char32_t{1} << (6 * i)) - 1;
      if ((first & ~low) == (last & ~low)) continue;
      if ((first & low) != 0) {
        append_sequences(first, first | low, out);
        append_sequences((first | low) + 1, last, out);
        return;
      }
      if ((last & low) != low) {
        append_sequences(first, (last & ~low) - 1, out);
        append_sequences(last & ~low, last, out);
        return;
      }
    }
  }
  std::uint8_t from[4] = {};
  std::uint8_t to[4] = {};
  Utf8Sequence sequence;
  sequence.length = spell_utf8(first, from);
  spell_utf8(last, to);
  for (std::size_t i = 0; i < sequence.length; ++i) sequence.bytes[i] = {from[i], to[i]};
  out.push_back(sequence);
}

}  // namespace

CodePointSet CodePointSet::of(const std::vector<CodePointRange>& ranges) {
  std::vector<CodePointRange> kept;
  for (const CodePointRange& range : ranges) {
    const CodePointRange below{range.first, std::min<char32_t>(range.last, 0xD7FF)};
    const CodePointRange above{std::max<char32_t>(range.first, 0xE000),
                               std::min<char32_t>(range.last, 0x10FFFF)};
    if (below.first <= below.last) kept.push_back(below);
    if (above.first <= above.last) kept.push_back(above);
  }
  std::sort(kept.begin(), kept.end(),
            [](const CodePointRange& a, const CodePointRange& b) { return a.first < b.first; });
  CodePointSet set;
  for (const CodePointRange& range : kept) {
    if (!set.ranges_.empty() && range.first <= set.ranges_.back().last + 1) {
      set.ranges_.back().last = std::max(set.ranges_.back().last, range.last);
    } else {
      set.ranges_.push_back(range);
    }
  }
  return set;
}

CodePointSet CodePointSet::complement() const {
  std::vector<CodePointRange> gaps;
  char32_t next = 0;
  for (const CodePointRange& range : ranges_) {
    if (range.first > next) gaps.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= 0x10FFFF) gaps.push_back({next, 0x10FFFF});
  return of(gaps);
}

CodePointSet CodePointSet::also(const CodePointSet& other) const {
  std::vector<CodePointRange> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  return of(both);
}

CodePointSet CodePointSet::without(const CodePointSet& other) const {
  return complement().also(other).complement();
}

bool CodePointSet::has(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [c](const CodePointRange& range) {
    return range.first <= c && c <= range.last;
  });
}

std::vector<Utf8Sequence> utf8_sequences(const CodePointSet& set) {
  std::vector<Utf8Sequence> sequences;
  for (const CodePointRange& range : set.ranges()) {
    append_sequences(range.first, range.last, sequences);
  }
  return sequences;
}

std::vector<char32_t> code_points(std::string_view utf8) {
  std::vector<char32_t> out;
  while (!utf8.empty()) {
    const std::size_t length = std::max<std::size_t>(utf8_step(utf8).length, 1);
    const auto lead = static_cast<unsigned char>(utf8[0]);
    char32_t c = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t i = 1; i < length; ++i) {
      c = (c << 6) | (static_cast<unsigned char>(utf8[i]) & 0x3FU);
    }
    out.push_back(c);
    utf8.remove_prefix(length);
  }
  return out;
}

}  // namespace tg
