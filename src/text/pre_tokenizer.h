// What: how text is cut into pieces before merging: a list of patterns, each applied to the pieces
//   of the one before it. And the patterns of the model families that are known by name.
// Who owns: the tokenizer; fixed after construction. Thread: const from any.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/split_pattern.h"

namespace tg {

// Published patterns: facts of the models, which their weights were trained with.
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kSingleDigitsPattern = R"(\p{N})";
inline constexpr std::string_view kDigitRunsPattern = R"(\p{N}+)";

class PreTokenizer {
 public:
  PreTokenizer() = default;

  // Errors of SplitPattern::compile. At most 16 patterns.
  Status add(std::string_view regex);

  // The work allowed for splitting a text of so many bytes, in one or many calls of split().
  SplitWork work_for(std::size_t text_bytes) const {
    return SplitWork(text_bytes * patterns_.size());
  }

  // Replaces the contents of `pieces` with the pieces of `text`, which is valid UTF-8. They lie in
  // `text`, in order, none is empty, and together they are the text.
  void split(std::string_view text, SplitWork& work, std::vector<std::string_view>& pieces) const;

 private:
  std::vector<SplitPattern> patterns_;
};

}  // namespace tg
