#include "grammar/token_masks.h"

#include <utility>

namespace tg {
namespace {

constexpr std::uint64_t kNodesWorthKeeping = 2048;  // a smaller walk is as fast as a look-up
constexpr std::uint64_t kNodesPerEntry = 8;         // of the form, with its stack

}  // namespace

// The making of one mask. Work goes along continuations: what is to be done behind a leaf, on which
// stack, for all trie nodes at which the leaf may end.
class TokenMasks::Maker {
 public:
  Maker(TokenMasks& masks, FormRun& run)
      : masks_(masks), run_(run), mask_(masks.vocabulary_->mask_words()) {}

  Result<std::shared_ptr<const MaskWords>> make() {
    for (const FormThread& thread : run_.threads()) {
      add_from_root(thread);
      TG_RETURN_IF_ERROR(check_work());
    }
    for (std::size_t i = 0; i < continuations_.size(); ++i) {
      TG_RETURN_IF_ERROR(follow(i));
    }
    if (run_.complete()) add_to_mask(masks_.vocabulary_->stop_ids(), mask_);
    return std::make_shared<const MaskWords>(std::move(mask_));
  }

 private:
  struct Continuation {
    FormNodeId node;
    StackId stack;
    std::vector<std::uint32_t> borders;
  };

  // Behind the last leaf of an answer no token goes on.
  bool ends(const FormThread& thread) const {
    return thread.stack == FormStacks::kBottom &&
           masks_.form_->node(next_of(thread)).kind == FormNode::Kind::kReturn;
  }
  FormNodeId next_of(const FormThread& thread) const {
    return masks_.form_->node(thread.node).next;
  }
  const FormLeaf& leaf_of(const FormThread& thread) const {
    return masks_.form_->leaf(masks_.form_->node(thread.node).value);
  }

  void add_from_root(const FormThread& thread) {
    const FormLeaf& leaf = leaf_of(thread);
    const FormLeaf::State state = leaf.like(thread.state, masks_.vocabulary_->longest());
    if (leaf.inside_quotes(state)) {
      limit_reach(characters_from(leaf, state), leaf.least_left(state), leaf.most_left(state),
                  reach_.mask, reach_.borders);
      add_reach(thread, reach_);
      return;
    }
    const bool ends_here = ends(thread);
    const std::uint32_t leaf_id = masks_.form_->node(thread.node).value;
    const std::uint64_t key =
        (std::uint64_t{leaf_id} << 33) | (std::uint64_t{state} << 1) | (ends_here ? 1 : 0);
    const auto found = masks_.reaches_.find(key);
    if (found != masks_.reaches_.end()) {
      add_reach(thread, *found->second);
      return;
    }
    reach_.mask.assign(mask_.size(), 0);
    reach_.borders.clear();
    const std::uint64_t looked_at = reach_leaf(*masks_.vocabulary_, leaf, state, 0, reach_.mask,
                                               ends_here ? nullptr : &reach_.borders);
    looked_at_ += looked_at;
    add_reach(thread, reach_);
    if (looked_at >= kNodesWorthKeeping) keep(key, std::make_shared<Reach>(reach_));
  }

  const CountedReach& characters_from(const FormLeaf& leaf, FormLeaf::State state) {
    const std::pair key(&leaf.automaton(), leaf.without_count(state));
    const auto found = masks_.characters_.find(key);
    if (found != masks_.characters_.end()) return found->second;
    looked_at_ += masks_.vocabulary_->nodes().size();
    CountedReach reach = reach_characters(*masks_.vocabulary_, leaf, state);
    pay_for(sizeof(std::uint32_t) * reach.mask.size() +
            sizeof(CountedReach::Counted) *
                (reach.tokens.size() + reach.closing.capacity() + reach.borders.capacity()));
    return masks_.characters_.emplace(key, std::move(reach)).first->second;
  }

  void add_reach(const FormThread& thread, const Reach& reach) {
    for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] |= reach.mask[i];
    add_borders(next_of(thread), thread.stack, reach.borders);
  }

  Status check_work() const {
    if (looked_at_ <= kMostNodes && continuations_.size() <= kMostContinuations) return {};
    return error(
        ErrorCode::kOutOfCapacity,
        "the form is too ambiguous: the tokens that may come next need more than {} steps or "
        "{} continuations",
        kMostNodes, kMostContinuations);
  }

  void keep(std::uint64_t key, const std::shared_ptr<const Reach>& reach) {
    pay_for(sizeof(std::uint32_t) * (reach->mask.size() + reach->borders.capacity()));
    masks_.reaches_.emplace(key, reach);
  }

  void pay_for(std::size_t bytes) {
    if (masks_.reach_bytes_ + bytes > kMostReachBytes) {
      masks_.reaches_.clear();
      masks_.characters_.clear();
      masks_.reach_bytes_ = 0;
    }
    masks_.reach_bytes_ += bytes;
  }

  void add_borders(FormNodeId node, StackId stack, const std::vector<std::uint32_t>& borders) {
    if (borders.empty()) return;
    const std::uint64_t key = (std::uint64_t{node} << 32) | stack;
    const auto [found, is_new] = numbers_.try_emplace(key, continuations_.size());
    if (is_new) continuations_.push_back({node, stack, {}});
    const std::uint64_t number = std::uint64_t{found->second} << 32;
    for (const std::uint32_t border : borders) {
      if (met_.insert(number | border)) continuations_[found->second].borders.push_back(border);
    }
    if (!is_new && found->second <= at_) again_.push_back(found->second);
  }

  Status follow(std::size_t index) {
    at_ = index;
    TG_RETURN_IF_ERROR(follow_one(index));
    // Ambiguous forms come back to what was done already, with more borders.
    while (!again_.empty()) {
      const std::size_t earlier = again_.back();
      again_.pop_back();
      TG_RETURN_IF_ERROR(follow_one(earlier));
    }
    return {};
  }

  Status follow_one(std::size_t index) {
    const std::vector<std::uint32_t> borders = std::exchange(continuations_[index].borders, {});
    if (borders.empty()) return {};
    std::vector<FormThread> threads;
    run_.forget_entered();
    run_.enter(continuations_[index].node, continuations_[index].stack, threads);
    TG_RETURN_IF_ERROR(run_.check_ways());
    looked_at_ += kNodesPerEntry * run_.entered();
    std::vector<std::uint32_t> next_borders;
    for (const FormThread& thread : threads) {
      const FormLeaf& leaf = leaf_of(thread);
      next_borders.clear();
      for (const std::uint32_t border : borders) {
        looked_at_ += 1 + reach_leaf(*masks_.vocabulary_, leaf, thread.state, border, mask_,
                                     ends(thread) ? nullptr : &next_borders);
      }
      TG_RETURN_IF_ERROR(check_work());
      add_borders(next_of(thread), thread.stack, next_borders);
    }
    return check_work();
  }

  TokenMasks& masks_;
  FormRun& run_;
  MaskWords mask_;
  Reach reach_;  // of the walk being made
  std::vector<Continuation> continuations_;
  std::unordered_map<std::uint64_t, std::size_t> numbers_;  // of continuations
  std::vector<std::size_t> again_;
  std::size_t at_ = 0;
  NumberSet met_;  // continuation, border
  std::uint64_t looked_at_ = 0;
};

TokenMasks::TokenMasks(std::shared_ptr<const TokenVocabulary> vocabulary,
                       std::shared_ptr<const Form> form)
    : vocabulary_(std::move(vocabulary)), form_(std::move(form)) {}

// Equal for places with equal masks: threads with what their stacks hold, by nodes of the form, as
// ids of stacks mean something in their own run only.
std::string TokenMasks::key_of(FormRun& run) const {
  std::string key(1, run.complete() ? 'c' : '-');
  const auto add = [&key](std::uint32_t number) {
    key.append(reinterpret_cast<const char*>(&number), sizeof(number));
  };
  StackId last = 0xFFFFFFFF;
  for (const FormThread& thread : run.threads()) {
    if (key.size() > kMostKeyBytes) return {};
    const FormLeaf& leaf = form_->leaf(form_->node(thread.node).value);
    add(thread.node);
    add(leaf.like(thread.state, vocabulary_->longest()));
    if (thread.stack == last) {
      add(0xFFFFFFFE);  // the stack of the thread before
      continue;
    }
    last = thread.stack;
    for (StackId id = thread.stack; id != FormStacks::kBottom; id = run.stacks().frame(id).below) {
      add(run.stacks().frame(id).node);
    }
    add(0xFFFFFFFF);
  }
  return key;
}

Result<std::shared_ptr<const MaskWords>> TokenMasks::mask_at(FormRun& run) {
  TG_RETURN_IF_ERROR(run.check_ways());
  std::string key = key_of(run);
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found != by_key_.end()) {
    masks_.splice(masks_.begin(), masks_, found->second);
    return found->second->second;
  }
  TG_ASSIGN(std::shared_ptr<const MaskWords> mask, Maker(*this, run).make());
  if (key.empty()) return mask;
  mask_bytes_ += bytes_of(key);
  masks_.emplace_front(key, mask);
  by_key_.emplace(std::move(key), masks_.begin());
  while (mask_bytes_ > kMostMaskBytes) {
    mask_bytes_ -= bytes_of(masks_.back().first);
    by_key_.erase(masks_.back().first);
    masks_.pop_back();
  }
  return mask;
}

// Of a kept mask and its key, which is in the list and in the map.
std::size_t TokenMasks::bytes_of(const std::string& key) const {
  return sizeof(std::uint32_t) * vocabulary_->mask_words() + 2 * key.size();
}

}  // namespace tg
