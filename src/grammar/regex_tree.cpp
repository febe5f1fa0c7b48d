#include "grammar/regex_tree.h"

#include <algorithm>
#include <utility>

namespace tg {
namespace {

using Kind = RegexTree::Kind;

Regex tree_of(Kind kind, std::vector<Regex> parts = {}) {
  auto tree = std::make_shared<RegexTree>();
  tree->kind = kind;
  tree->parts = std::move(parts);
  return tree;
}

std::uint32_t clip_length(std::uint64_t length) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(length, RegexTree::kNoLimit));
}

}  // namespace

Regex regex_nothing() { return tree_of(Kind::kNothing); }
Regex regex_empty() { return tree_of(Kind::kEmpty); }

Regex regex_set(CodePointSet set) {
  if (set.empty()) return regex_nothing();
  auto tree = std::make_shared<RegexTree>();
  tree->kind = Kind::kSet;
  tree->set = std::move(set);
  return tree;
}

Regex regex_literal(std::string_view utf8) {
  std::vector<Regex> parts;
  for (const char32_t c : code_points(utf8)) parts.push_back(regex_set(CodePointSet::of({{c, c}})));
  return regex_sequence(std::move(parts));
}

Regex regex_sequence(std::vector<Regex> parts) {
  std::vector<Regex> kept;
  for (Regex& part : parts) {
    if (part->kind == Kind::kNothing) return part;
    if (part->kind != Kind::kEmpty) kept.push_back(std::move(part));
  }
  if (kept.empty()) return regex_empty();
  return kept.size() == 1 ? kept[0] : tree_of(Kind::kSequence, std::move(kept));
}

Regex regex_either(std::vector<Regex> parts) {
  std::vector<Regex> kept;
  bool has_empty = false;
  for (Regex& part : parts) {
    if (part->kind == Kind::kNothing || (part->kind == Kind::kEmpty && has_empty)) continue;
    has_empty = has_empty || part->kind == Kind::kEmpty;
    kept.push_back(std::move(part));
  }
  if (kept.empty()) return regex_nothing();
  return kept.size() == 1 ? kept[0] : tree_of(Kind::kEither, std::move(kept));
}

Regex regex_repeat(Regex part, std::uint32_t least, std::uint32_t most) {
  if (most == 0 || part->kind == Kind::kEmpty) return regex_empty();
  if (part->kind == Kind::kNothing) return least == 0 ? regex_empty() : part;
  if (least == 1 && most == 1) return part;
  auto tree = std::make_shared<RegexTree>();
  tree->kind = Kind::kRepeat;
  tree->parts.push_back(std::move(part));
  tree->least = least;
  tree->most = most;
  return tree;
}

RegexLengths regex_lengths(const Regex& tree) {
  RegexLengths out;
  if (tree->kind == Kind::kSet) return {1, 1};
  if (tree->kind == Kind::kRepeat) {
    const RegexLengths part = regex_lengths(tree->parts[0]);
    return {clip_length(std::uint64_t{part.least} * tree->least),
            clip_length(std::uint64_t{part.most} * tree->most)};
  }
  bool first = true;
  for (const Regex& child : tree->parts) {
    const RegexLengths part = regex_lengths(child);
    if (tree->kind == Kind::kSequence) {
      out.least = clip_length(std::uint64_t{out.least} + part.least);
      out.most = clip_length(std::uint64_t{out.most} + part.most);
    } else {
      out.least = first ? part.least : std::min(out.least, part.least);
      out.most = std::max(out.most, part.most);
    }
    first = false;
  }
  return out;
}

}  // namespace tg
