// What: the bytes of every token by id, and the id of a byte string among the tokens that text can
//   become without being parsed (special tokens are not among those).
// Who owns: the tokenizer; fixed after construction. Thread: const from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/token_id.h"

namespace tg {

class TokenTable {
 public:
  struct Token {
    std::string bytes;       // empty: the id is not in use
    bool from_text = false;  // id_of() may find it
  };

  TokenTable() = default;
  // tokens[id], at most 2^31 - 1 of them. Of two findable tokens with the same bytes the one with
  // the lower id is found.
  explicit TokenTable(std::vector<Token> tokens);

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  // Empty for ids outside of [0, size()).
  std::string_view bytes(TokenId id) const {
    return id >= 0 && id < size() ? std::string_view(tokens_[static_cast<std::size_t>(id)].bytes)
                                  : std::string_view();
  }
  std::optional<TokenId> id_of(std::string_view bytes) const;

 private:
  // Open addressing with linear probing over a power of two; at most half full. The upper half of
  // the hash is kept beside the id, so that almost no probe touches the bytes of a wrong token.
  struct Slot {
    std::uint32_t hash = 0;
    TokenId id = -1;  // -1: free
  };

  std::vector<Token> tokens_;
  std::vector<Slot> slots_;
  std::size_t longest_ = 0;  // bytes of the longest findable token
};

}  // namespace tg
