#include "text/shielded_text.h"

#include <algorithm>

#include "text/utf8.h"

namespace tg {
namespace {

// Both marks begin with the same two bytes.
constexpr std::string_view kMarkStart = kShieldMark.substr(0, 2);

bool mark_at(std::string_view text, std::size_t at, std::string_view mark) {
  return text.substr(at).starts_with(mark);
}

std::string with_own_marks_shielded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (mark_at(text, at, kShieldMark) || mark_at(text, at, kCutMark)) out += kShieldMark;
    out += text[at];
  }
  return out;
}

// The stretches of text between cuts, shields taken out.
std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> parts(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t mark = std::min(text.find(kMarkStart, at), text.size());
    parts.back() += text.substr(at, mark - at);
    at = mark;
    if (mark_at(text, at, kShieldMark)) {
      at += kShieldMark.size();
      if (!mark_at(text, at, kShieldMark) && !mark_at(text, at, kCutMark)) continue;
      parts.back() += text.substr(at, kShieldMark.size());
      at += kShieldMark.size();
    } else if (mark_at(text, at, kCutMark)) {
      parts.emplace_back();
      at += kCutMark.size();
    } else if (at < text.size()) {
      parts.back() += text[at++];  // another character with these first bytes
    }
  }
  return parts;
}

}  // namespace

std::string shield_special(const Tokenizer& tokenizer, std::string_view text) {
  const std::string source = with_own_marks_shielded(text);
  std::string out;
  std::size_t copied = 0;
  std::size_t from = 0;
  while (const auto found = tokenizer.find_special_in(source, from)) {
    // Behind the first character; the next search starts there, for tokens that overlap.
    const std::size_t first = utf8_step(std::string_view(source).substr(found->begin)).length;
    from = found->begin + first;
    out.append(source, copied, from - copied);
    copied = from;
    if (first < found->length && tokenizer.is_special(found->id)) out += kShieldMark;
  }
  out.append(source, copied);
  return out;
}

std::vector<TokenId> encode_shielded(const Tokenizer& tokenizer, std::string_view rendered) {
  std::vector<TokenId> ids;
  for (std::size_t at = 0; at < rendered.size();) {
    const auto found = tokenizer.find_special_in(rendered, at);
    const std::size_t end = found ? found->begin : rendered.size();
    for (const std::string& part : parts_of(rendered.substr(at, end - at))) {
      const std::vector<TokenId> text = tokenizer.encode(part, SpecialTokens::kAsText);
      ids.insert(ids.end(), text.begin(), text.end());
    }
    if (!found) break;
    ids.push_back(found->id);
    at = found->begin + found->length;
  }
  return ids;
}

std::string without_marks(std::string_view rendered) {
  std::string text;
  for (const std::string& part : parts_of(rendered)) text += part;
  return text;
}

}  // namespace tg
