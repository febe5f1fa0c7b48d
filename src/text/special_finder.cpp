#include "text/special_finder.h"

#include <algorithm>
#include <utility>

namespace tg {

SpecialFinder::SpecialFinder(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (const Entry& entry : entries_) starts_[static_cast<unsigned char>(entry.text[0])] = true;
}

std::optional<SpecialFinder::Found> SpecialFinder::find(std::string_view text,
                                                        std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    // The entries that share the first `length` bytes with the text are one range of the sorted
    // list; each further byte narrows it, and its first entry is the one that is all used up.
    auto low = entries_.begin();
    auto high = entries_.end();
    std::optional<Found> longest;
    for (std::size_t length = 1; begin + length <= text.size() && low != high; ++length) {
      const auto byte = static_cast<unsigned char>(text[begin + length - 1]);
      const auto byte_of = [&](const Entry& entry) {  // -1 sorts the entries that have ended first
        return entry.text.size() < length ? -1 : static_cast<unsigned char>(entry.text[length - 1]);
      };
      low = std::partition_point(low, high, [&](const Entry& e) { return byte_of(e) < byte; });
      high = std::partition_point(low, high, [&](const Entry& e) { return byte_of(e) <= byte; });
      if (low != high && low->text.size() == length) longest = Found{begin, length, low->id};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

std::optional<TokenId> SpecialFinder::id_of(std::string_view text) const {
  const auto found = std::partition_point(entries_.begin(), entries_.end(),
                                          [&](const Entry& entry) { return entry.text < text; });
  if (found == entries_.end() || found->text != text) return std::nullopt;
  return found->id;
}

}  // namespace tg
