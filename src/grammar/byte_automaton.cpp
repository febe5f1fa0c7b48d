#include "grammar/byte_automaton.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace tg {
namespace {

constexpr std::size_t kMostNfaStates = 300000;
constexpr std::size_t kMostDfaStates = 65536;
constexpr std::uint64_t kMostStored = 16 << 20;  // members of all sets, 64 MiB
constexpr std::uint64_t kWorkOfNfaState = 8;     // to make one, beside looking at one

constexpr std::uint32_t kNone = 0xFFFFFFFF;

struct NfaEdge {
  ByteRange bytes;
  std::uint32_t target;
};

// Either a split (targets reached without a byte) or edges of bytes, or the accepting state.
struct NfaState {
  std::uint32_t split[2] = {kNone, kNone};
  std::uint32_t edges_begin = 0;
  std::uint32_t edges_end = 0;
};

// Thompson's construction from the end: what follows exists before what leads to it.
class NfaBuilder {
 public:
  Status build(const Regex& tree) {
    const std::uint32_t accept = add({});
    TG_ASSIGN(start_, before(tree, accept));
    return {};
  }

  std::uint32_t start() const { return start_; }
  bool is_accept(std::uint32_t state) const { return state == 0; }
  const std::vector<NfaState>& states() const { return states_; }
  const std::vector<NfaEdge>& edges() const { return edges_; }

 private:
  using Kind = RegexTree::Kind;

  std::uint32_t add(NfaState state) {
    states_.push_back(state);
    return static_cast<std::uint32_t>(states_.size() - 1);
  }
  std::uint32_t add_split(std::uint32_t a, std::uint32_t b) { return add({{a, b}, 0, 0}); }

  Result<std::uint32_t> before(const Regex& tree, std::uint32_t next) {
    if (states_.size() > kMostNfaStates) {
      return error(ErrorCode::kOutOfCapacity,
                   "the expression has more than {} parts with its repetitions written out",
                   kMostNfaStates);
    }
    switch (tree->kind) {
      case Kind::kNothing:
        return error(ErrorCode::kBadInput, "no text at all fits");
      case Kind::kSet:
        return set(tree->set, next);
      case Kind::kSequence: {
        for (std::size_t i = tree->parts.size(); i-- > 0;) {
          TG_ASSIGN(next, before(tree->parts[i], next));
        }
        return next;
      }
      case Kind::kEither: {
        std::uint32_t all = kNone;
        for (std::size_t i = tree->parts.size(); i-- > 0;) {
          TG_ASSIGN(const std::uint32_t one, before(tree->parts[i], next));
          all = all == kNone ? one : add_split(one, all);
        }
        return all;
      }
      case Kind::kRepeat:
        return repeat(*tree, next);
      case Kind::kEmpty:
      case Kind::kStart:
      case Kind::kEnd:
        break;
    }
    return next;
  }

  Result<std::uint32_t> repeat(const RegexTree& tree, std::uint32_t next) {
    std::uint32_t entry = next;
    if (tree.most == RegexTree::kNoLimit) {
      entry = add_split(kNone, next);
      TG_ASSIGN(const std::uint32_t body, before(tree.parts[0], entry));
      states_[entry].split[0] = body;
    } else {
      for (std::uint32_t i = tree.least; i < tree.most; ++i) {
        TG_ASSIGN(const std::uint32_t body, before(tree.parts[0], entry));
        entry = add_split(body, next);
      }
    }
    for (std::uint32_t i = 0; i < tree.least; ++i) {
      TG_ASSIGN(entry, before(tree.parts[0], entry));
    }
    return entry;
  }

  std::uint32_t set(const CodePointSet& characters, std::uint32_t next) {
    if (characters.ranges().size() == 1 && characters.ranges()[0].last < 0x80) {
      const CodePointRange& range = characters.ranges()[0];
      return add_edges(
          {{{static_cast<std::uint8_t>(range.first), static_cast<std::uint8_t>(range.last)},
            next}});
    }
    // States of the set's later bytes, by the ranges that are still to come.
    std::map<std::string, std::uint32_t> tails;
    std::vector<NfaEdge> first;
    for (const Utf8Sequence& sequence : utf8_sequences(characters)) {
      std::uint32_t target = next;
      std::string key;
      for (std::size_t i = sequence.length; i-- > 1;) {
        key +=
            {static_cast<char>(sequence.bytes[i].first), static_cast<char>(sequence.bytes[i].last)};
        const auto [found, is_new] = tails.try_emplace(key, 0);
        if (is_new) found->second = add_edges({{sequence.bytes[i], target}});
        target = found->second;
      }
      first.push_back({sequence.bytes[0], target});
    }
    return add_edges(first);
  }

  std::uint32_t add_edges(const std::vector<NfaEdge>& list) {
    NfaState state;
    state.edges_begin = static_cast<std::uint32_t>(edges_.size());
    edges_.insert(edges_.end(), list.begin(), list.end());
    state.edges_end = static_cast<std::uint32_t>(edges_.size());
    return add(state);
  }

  std::vector<NfaState> states_;  // 0 accepts
  std::vector<NfaEdge> edges_;
  std::uint32_t start_ = 0;
};

using NfaSet = std::vector<std::uint32_t>;  // ascending

struct NfaSetHash {
  std::size_t operator()(const NfaSet& set) const {
    return std::hash<std::string_view>()(
        {reinterpret_cast<const char*>(set.data()), set.size() * sizeof(set[0])});
  }
};

// The subset construction.
class SubsetBuilder {
 public:
  SubsetBuilder(const NfaBuilder& nfa, AutomatonBudget& budget)
      : nfa_(nfa), budget_(budget), seen_(nfa.states().size(), 0) {}

  Result<ByteAutomaton> build() {
    make_classes();
    state_of({nfa_.start()});
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      TG_RETURN_IF_ERROR(add_row(i));
    }
    return ByteAutomaton(std::move(out_));
  }

 private:
  void make_classes() {
    std::array<bool, 257> begins{};
    begins[0] = true;
    for (const NfaEdge& edge : nfa_.edges()) {
      begins[edge.bytes.first] = true;
      begins[edge.bytes.last + 1U] = true;
    }
    std::size_t classes = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (begins[byte]) ++classes;
      out_.class_of[byte] = static_cast<std::uint8_t>(classes - 1);
    }
    out_.classes = classes;
    targets_.resize(classes);
  }

  // The state for everything that these reach without a byte; a new one if need be.
  ByteAutomaton::State state_of(const NfaSet& from) {
    NfaSet set;
    ++round_;
    NfaSet open = from;
    while (!open.empty()) {
      const std::uint32_t state = open.back();
      open.pop_back();
      if (seen_[state] == round_) continue;
      seen_[state] = round_;
      ++work_;
      const NfaState& its = nfa_.states()[state];
      bool splits = false;
      for (const std::uint32_t target : its.split) {
        if (target == kNone) continue;
        splits = true;
        open.push_back(target);
      }
      if (!splits) set.push_back(state);
    }
    std::sort(set.begin(), set.end());
    work_ += set.size();
    const auto [found, is_new] =
        numbers_.try_emplace(set, static_cast<std::uint32_t>(sets_.size()));
    if (is_new) {
      sets_.push_back(&found->first);
      stored_ += found->first.size();
    }
    return found->second;
  }

  Status add_row(std::size_t number) {
    const NfaSet& set = *sets_[number];  // keys of the map stay where they are
    std::uint8_t flags = ByteAutomaton::kStuck;
    for (NfaSet& target : targets_) target.clear();
    for (const std::uint32_t state : set) {
      if (nfa_.is_accept(state)) flags |= ByteAutomaton::kAccepts;
      const NfaState& its = nfa_.states()[state];
      for (std::uint32_t i = its.edges_begin; i < its.edges_end; ++i) {
        const NfaEdge& edge = nfa_.edges()[i];
        flags &= static_cast<std::uint8_t>(~ByteAutomaton::kStuck);
        const std::size_t last = out_.class_of[edge.bytes.last];
        for (std::size_t c = out_.class_of[edge.bytes.first]; c <= last; ++c) {
          targets_[c].push_back(edge.target);
          ++work_;
        }
      }
    }
    out_.flags.push_back(flags);
    const std::size_t row = out_.next.size();
    out_.next.resize(row + out_.classes, ByteAutomaton::kDead);
    for (std::size_t c = 0; c < out_.classes; ++c) {
      if (targets_[c].empty()) continue;
      const bool as_before = c > 0 && targets_[c] == targets_[c - 1];
      out_.next[row + c] = as_before ? out_.next[row + c - 1] : state_of(targets_[c]);
    }
    if (sets_.size() > kMostDfaStates || stored_ > kMostStored) {
      return error(ErrorCode::kOutOfCapacity,
                   "the automaton is too large: {} states of {} members together, not yet complete "
                   "(at most {} and {})",
                   sets_.size(), stored_, kMostDfaStates, kMostStored);
    }
    return budget_.spend(std::exchange(work_, 0) + out_.classes, out_.classes);
  }

  const NfaBuilder& nfa_;
  AutomatonBudget& budget_;
  ByteAutomaton::Table out_;
  std::unordered_map<NfaSet, std::uint32_t, NfaSetHash> numbers_;
  std::vector<const NfaSet*> sets_;
  std::vector<NfaSet> targets_;  // by class, of the row being made
  std::vector<std::uint32_t> seen_;
  std::uint32_t round_ = 0;
  std::uint64_t work_ = 0;  // of the row being made
  std::uint64_t stored_ = 0;
};

}  // namespace

Status AutomatonBudget::spend(std::uint64_t more_work, std::uint64_t more_cells) {
  work += more_work;
  table_cells += more_cells;
  if (work <= kMostWork && table_cells <= kMostTableCells) return {};
  return error(ErrorCode::kOutOfCapacity,
               "the form is too large: its automata need more than {} steps of work or {} table "
               "cells",
               kMostWork, kMostTableCells);
}

Result<ByteAutomaton> ByteAutomaton::compile(const Regex& tree, AutomatonBudget& budget) {
  NfaBuilder nfa;
  TG_RETURN_IF_ERROR(nfa.build(tree));
  TG_RETURN_IF_ERROR(budget.spend(kWorkOfNfaState * nfa.states().size(), 0));
  return SubsetBuilder(nfa, budget).build();
}

}  // namespace tg
