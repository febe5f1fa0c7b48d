#include "grammar/token_vocabulary.h"

#include <algorithm>

namespace tg {

TokenVocabulary::TokenVocabulary(const Tokenizer& tokenizer, std::span<const TokenId> stop_ids)
    : vocab_size_(tokenizer.vocab_size()), stop_ids_(stop_ids.begin(), stop_ids.end()) {
  std::sort(stop_ids_.begin(), stop_ids_.end());
  stop_ids_.erase(std::unique(stop_ids_.begin(), stop_ids_.end()), stop_ids_.end());
  std::erase_if(stop_ids_, [this](TokenId id) { return id < 0 || id >= vocab_size_; });
  std::vector<TokenId> usable;
  for (TokenId id = 0; id < vocab_size_; ++id) {
    bytes_begin_.push_back(static_cast<std::uint32_t>(bytes_.size()));
    const std::string_view text = tokenizer.token_bytes(id);
    // No vocabulary has tokens of more than a few hundred bytes; 65535 is what a depth can hold.
    if (text.empty() || text.size() > 0xFFFF || tokenizer.is_special(id) || is_stop(id)) continue;
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    usable.push_back(id);
    longest_ = std::max(longest_, text.size());
  }
  bytes_begin_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  std::sort(usable.begin(), usable.end(), [this](TokenId a, TokenId b) {
    const auto left = bytes(a);
    const auto right = bytes(b);
    return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end());
  });
  add_nodes(usable);
}

bool TokenVocabulary::is_stop(TokenId id) const {
  return std::binary_search(stop_ids_.begin(), stop_ids_.end(), id);
}

std::span<const std::uint8_t> TokenVocabulary::bytes(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) + 1 >= bytes_begin_.size()) return {};
  const std::uint32_t begin = bytes_begin_[static_cast<std::size_t>(id)];
  const std::uint32_t end = bytes_begin_[static_cast<std::size_t>(id) + 1];
  return std::span(bytes_).subspan(begin, end - begin);
}

// Sorted texts are a trie in depth-first order: each shares a prefix with the one before it.
void TokenVocabulary::add_nodes(const std::vector<TokenId>& sorted) {
  std::vector<std::uint32_t> path;  // nodes from the root to where the last token ended
  const auto close_to = [&](std::size_t depth) {
    while (path.size() > depth) {
      Node& node = nodes_[path.back()];
      node.end = static_cast<std::uint32_t>(nodes_.size());
      path.pop_back();
      if (!path.empty()) {
        nodes_[path.back()].kinds_below |=
            node.kinds_below | (std::uint64_t{1} << byte_kind(node.byte));
      }
    }
  };
  const auto open = [&](std::uint8_t byte) {
    const auto depth = static_cast<std::uint16_t>(path.size());
    path.push_back(static_cast<std::uint32_t>(nodes_.size()));
    nodes_.push_back({0, 0, static_cast<std::uint32_t>(ids_.size()), depth, byte});
  };
  open(0);
  std::span<const std::uint8_t> before;
  for (const TokenId id : sorted) {
    const std::span<const std::uint8_t> text = bytes(id);
    const auto common = std::mismatch(text.begin(), text.end(), before.begin(), before.end());
    const auto shared = static_cast<std::size_t>(common.first - text.begin());
    close_to(shared + 1);
    for (std::size_t i = shared; i < text.size(); ++i) open(text[i]);
    ids_.push_back(id);
    before = text;
  }
  close_to(0);
  nodes_.push_back({0, static_cast<std::uint32_t>(nodes_.size()) + 1,
                    static_cast<std::uint32_t>(ids_.size()), 0, 0});
}

std::shared_ptr<const TokenVocabulary> make_token_vocabulary(const Tokenizer& tokenizer,
                                                             std::span<const TokenId> stop_ids) {
  return std::make_shared<const TokenVocabulary>(tokenizer, stop_ids);
}

}  // namespace tg
