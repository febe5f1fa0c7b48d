// What: a regular language as a tree of code point sets, sequences, alternatives and repetitions.
//   The functions that make one keep it simple: what can match nothing is left out, so that
//   whatever is left in the middle of a tree can be completed.
// Who owns: shared, immutable. Thread: any.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "grammar/code_points.h"

namespace tg {

struct RegexTree;
using Regex = std::shared_ptr<const RegexTree>;

struct RegexTree {
  enum class Kind : std::uint8_t {
    kNothing,  // no text at all
    kEmpty,    // the empty text
    kSet,      // one character of the set
    kSequence,
    kEither,
    kRepeat,  // parts[0], `least` to `most` times
    kStart,   // an anchor: only the parser makes these two, and takes them out again
    kEnd,
  };
  static constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

  Kind kind = Kind::kNothing;
  CodePointSet set;
  std::vector<Regex> parts;
  std::uint32_t least = 0;
  std::uint32_t most = 0;
  std::size_t offset = 0;  // of an anchor in the pattern
};

Regex regex_nothing();
Regex regex_empty();
Regex regex_set(CodePointSet set);
// Each character of valid UTF-8 as it is.
Regex regex_literal(std::string_view utf8);
Regex regex_sequence(std::vector<Regex> parts);
Regex regex_either(std::vector<Regex> parts);
Regex regex_repeat(Regex part, std::uint32_t least, std::uint32_t most);

// The characters of the shortest and the longest text; kNoLimit for more than can be counted.
struct RegexLengths {
  std::uint32_t least = 0;
  std::uint32_t most = 0;
};
RegexLengths regex_lengths(const Regex& tree);

}  // namespace tg
