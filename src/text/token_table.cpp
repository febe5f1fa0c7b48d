#include "text/token_table.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

namespace tg {
namespace {

std::uint64_t hash_of(std::string_view bytes) { return std::hash<std::string_view>{}(bytes); }

std::uint32_t upper_half(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

}  // namespace

TokenTable::TokenTable(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  slots_.resize(std::bit_ceil(2 * tokens_.size() + 2));
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const Token& token = tokens_[id];
    if (!token.from_text || token.bytes.empty() || id_of(token.bytes)) continue;
    const std::uint64_t hash = hash_of(token.bytes);
    std::size_t at = hash & mask;
    while (slots_[at].id >= 0) at = (at + 1) & mask;
    slots_[at] = {upper_half(hash), static_cast<TokenId>(id)};
    longest_ = std::max(longest_, token.bytes.size());
  }
}

std::optional<TokenId> TokenTable::id_of(std::string_view bytes) const {
  if (bytes.size() > longest_) return std::nullopt;  // also when there is no slot at all
  const std::size_t mask = slots_.size() - 1;
  const std::uint64_t hash = hash_of(bytes);
  for (std::size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.hash == upper_half(hash) &&
        tokens_[static_cast<std::size_t>(slot.id)].bytes == bytes) {
      return slot.id;
    }
  }
  return std::nullopt;
}

}  // namespace tg
