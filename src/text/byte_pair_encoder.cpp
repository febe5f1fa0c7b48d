#include "text/byte_pair_encoder.h"

#include <algorithm>
#include <bit>

namespace tg {
namespace {

constexpr std::uint64_t kFree = ~std::uint64_t{0};

std::uint64_t pair_of(TokenId left, TokenId right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) |
         static_cast<std::uint32_t>(right);
}

// Fibonacci hashing: the upper bits of the product depend on all bits of the pair.
std::size_t slot_of(std::uint64_t pair, std::size_t slots) {
  const std::uint64_t mixed = (pair ^ (pair >> 29)) * 0x9E3779B97F4A7C15U;
  return static_cast<std::size_t>(mixed >> 32) & (slots - 1);
}

// Positions in a piece are 32 bit numbers; a longer piece is merged in parts of this size. No text
// that a model could take comes near.
constexpr std::size_t kLongestPiece = std::size_t{1} << 30;

bool later(const BytePairEncoder::Scratch::Candidate& a,
           const BytePairEncoder::Scratch::Candidate& b) {
  return a.order > b.order;  // std heaps keep the largest in front; the smallest is wanted
}

}  // namespace

Result<BytePairEncoder> BytePairEncoder::build(const TokenTable& tokens,
                                               const std::vector<Merge>& merges,
                                               bool whole_pieces_first,
                                               std::optional<TokenId> unknown) {
  BytePairEncoder encoder;
  encoder.whole_pieces_first_ = whole_pieces_first;
  bool any = false;
  for (std::size_t byte = 0; byte < encoder.byte_tokens_.size(); ++byte) {
    const char c = static_cast<char>(byte);
    const std::optional<TokenId> id = tokens.id_of(std::string_view(&c, 1));
    any = any || id;
    encoder.byte_tokens_[byte] = id.value_or(unknown.value_or(-1));
  }
  if (!any) {
    return error(ErrorCode::kBadInput,
                 "none of the {} tokens is a single byte; byte-level BPE starts from those",
                 tokens.size());
  }
  encoder.slots_.assign(std::bit_ceil(2 * merges.size() + 2), Slot{kFree, 0, 0});
  for (const Merge& merge : merges) encoder.add(merge);
  return encoder;
}

void BytePairEncoder::add(const Merge& merge) {
  const std::uint64_t pair = pair_of(merge.left, merge.right);
  std::size_t at = slot_of(pair, slots_.size());
  while (slots_[at].pair != kFree && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  if (slots_[at].pair == pair && slots_[at].rank <= merge.rank) return;
  slots_[at] = {pair, merge.rank, merge.merged};
}

const BytePairEncoder::Slot* BytePairEncoder::find(TokenId left, TokenId right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t at = slot_of(pair, slots_.size());
  while (slots_[at].pair != kFree) {
    if (slots_[at].pair == pair) return &slots_[at];
    at = (at + 1) & (slots_.size() - 1);
  }
  return nullptr;
}

void BytePairEncoder::append(std::string_view piece, const TokenTable& tokens, Scratch& scratch,
                             std::vector<TokenId>& out) const {
  if (whole_pieces_first_) {
    if (const std::optional<TokenId> whole = tokens.id_of(piece)) {
      out.push_back(*whole);
      return;
    }
  }
  for (std::size_t at = 0; at < piece.size(); at += kLongestPiece) {
    append_merged(piece.substr(at, kLongestPiece), scratch, out);
  }
}

void BytePairEncoder::push_candidate(Scratch& scratch, std::uint32_t left_index) const {
  const Scratch::Symbol& left = scratch.symbols[left_index];
  if (left.next == scratch.symbols.size()) return;
  const TokenId right_id = scratch.symbols[left.next].id;
  if (const Slot* merge = find(left.id, right_id)) {
    scratch.heap.push_back(
        {(std::uint64_t{merge->rank} << 32) | left_index, left.id, right_id, merge->merged});
  }
}

void BytePairEncoder::append_merged(std::string_view piece, Scratch& scratch,
                                    std::vector<TokenId>& out) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  for (const char c : piece) {
    const TokenId id = byte_tokens_[static_cast<unsigned char>(c)];
    const auto i = static_cast<std::uint32_t>(symbols.size());
    if (id >= 0) symbols.push_back({id, i - 1, i + 1});
  }
  const auto count = static_cast<std::uint32_t>(symbols.size());
  for (std::uint32_t i = 0; i < count; ++i) push_candidate(scratch, i);
  std::make_heap(heap.begin(), heap.end(), later);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    const auto left_index = static_cast<std::uint32_t>(best.order);
    Scratch::Symbol& left = symbols[left_index];
    const std::uint32_t right_index = left.next;
    if (left.id != best.left || right_index == count || symbols[right_index].id != best.right) {
      continue;  // stale
    }
    left.id = best.merged;
    left.next = symbols[right_index].next;
    symbols[right_index].id = -1;
    if (left.next != count) symbols[left.next].previous = left_index;

    const std::size_t before = heap.size();
    push_candidate(scratch, left_index);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), later);
    if (left_index != 0) {
      const std::size_t middle = heap.size();
      push_candidate(scratch, left.previous);
      if (heap.size() > middle) std::push_heap(heap.begin(), heap.end(), later);
    }
  }
  for (std::uint32_t i = 0; i != count; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace tg
