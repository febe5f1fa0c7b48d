// What: the texts of all tokens as a trie of bytes in depth-first order, so that walking it is one
//   pass over an array with jumps over what cannot match. Special tokens and stop ids are not in
//   it.
// Who owns: shared by all requests; immutable. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/token_id.h"
#include "grammar/token_constraint.h"

namespace tg {

// Bytes in 64 kinds, finer where forms tell bytes apart: a kind is digits, lower case, ..., or one
// sign of ASCII.
constexpr unsigned byte_kind(std::uint8_t byte) {
  if (byte >= 0x80) return byte < 0xC0 ? 0 : 1;
  if (byte == '\n' || byte == '\r' || byte == '\t') return 3;
  if (byte < 0x20 || byte == 0x7F) return 2;
  if (byte >= '0' && byte <= '9') return 4;
  if (byte >= 'A' && byte <= 'Z') return byte <= 'F' ? 5 : 6;
  if (byte >= 'a' && byte <= 'z') return byte <= 'f' ? 7 : 8;
  // The 33 signs from space on, without digits and letters.
  unsigned sign = byte - 0x20U;
  if (byte > '9') sign -= 10;
  if (byte > 'Z') sign -= 26;
  if (byte > 'z') sign -= 26;
  return 9 + sign;
}

class TokenVocabulary {
 public:
  struct Node {
    std::uint64_t kinds_below;  // bit k: a byte of kind k is in the subtree, below this node
    std::uint32_t end;          // one more than the last node of the subtree
    std::uint32_t ids;          // first of this node's ids in ids(); they go on to the next node's
    std::uint16_t depth;        // bytes from the root
    std::uint8_t byte;          // that leads here
  };

  TokenVocabulary(const Tokenizer& tokenizer, std::span<const TokenId> stop_ids);

  // The root is 0; a sentinel ends the list.
  const std::vector<Node>& nodes() const { return nodes_; }
  // Ids in order of the nodes: those of a whole subtree lie beside each other.
  const std::vector<TokenId>& ids() const { return ids_; }
  std::size_t longest() const { return longest_; }  // bytes of a token
  std::size_t mask_words() const { return (static_cast<std::size_t>(vocab_size_) + 31) / 32; }
  std::int64_t vocab_size() const { return vocab_size_; }
  const std::vector<TokenId>& stop_ids() const { return stop_ids_; }
  bool is_stop(TokenId id) const;
  // Empty for special tokens, stop ids and ids that do not exist. A copy of its own: the tokenizer
  // need not live as long.
  std::span<const std::uint8_t> bytes(TokenId id) const;

 private:
  void add_nodes(const std::vector<TokenId>& sorted);

  std::int64_t vocab_size_ = 0;
  std::vector<Node> nodes_;
  std::vector<TokenId> ids_;
  std::vector<TokenId> stop_ids_;  // ascending
  std::vector<std::uint8_t> bytes_;
  std::vector<std::uint32_t> bytes_begin_;  // by id, and one more
  std::size_t longest_ = 0;
};

}  // namespace tg
