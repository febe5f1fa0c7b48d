// What: masks of the tokens that may come next, of one form and one vocabulary. They are kept, so a
//   place in the form that was met before, by this answer or another, costs a look-up. So are walks
//   of a leaf through much of the vocabulary (a string's): the next mask whose leaf is in the
//   same state only follows the tokens that leave the leaf.
// Who owns: the Grammar, shared with its constraints. Thread: any; one mask is made at a time.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "grammar/form_run.h"
#include "grammar/leaf_reach.h"
#include "grammar/token_vocabulary.h"

namespace tg {

class TokenMasks {
 public:
  // What is kept at most.
  static constexpr std::size_t kMostMaskBytes = 8 << 20;    // 512 masks of 128,256 tokens
  static constexpr std::size_t kMostKeyBytes = 16 << 10;    // a place in so many ways is rare
  static constexpr std::size_t kMostReachBytes = 16 << 20;  // then all of it is dropped
  // For one mask, about 40 ms, in which no other request gets a token either.
  static constexpr std::uint64_t kMostNodes = 5'000'000;  // looked at
  static constexpr std::size_t kMostContinuations = 20'000;

  TokenMasks(std::shared_ptr<const TokenVocabulary> vocabulary, std::shared_ptr<const Form> form);

  const std::shared_ptr<const TokenVocabulary>& vocabulary() const { return vocabulary_; }

  // kOutOfCapacity when the form is so ambiguous that a mask needs more than kMostNodes.
  Result<std::shared_ptr<const MaskWords>> mask_at(FormRun& run);

  std::size_t masks_kept() const {
    const std::lock_guard lock(mutex_);
    return masks_.size();
  }

 private:
  struct Reach {
    MaskWords mask;
    std::vector<std::uint32_t> borders;
  };
  using KeptMask = std::pair<std::string, std::shared_ptr<const MaskWords>>;

  class Maker;
  // Empty when it would have more than kMostKeyBytes: such a mask is not kept.
  std::string key_of(FormRun& run) const;
  std::size_t bytes_of(const std::string& key) const;

  const std::shared_ptr<const TokenVocabulary> vocabulary_;
  const std::shared_ptr<const Form> form_;

  mutable std::mutex mutex_;   // for all below
  std::list<KeptMask> masks_;  // the latest used first
  std::unordered_map<std::string, std::list<KeptMask>::iterator> by_key_;
  std::size_t mask_bytes_ = 0;
  std::unordered_map<std::uint64_t, std::shared_ptr<const Reach>> reaches_;  // leaf, state
  std::size_t reach_bytes_ = 0;
  // Of counted strings, by the automaton of a character and the state in it: about ten for each
  // kind of character. They count as reaches.
  std::map<std::pair<const ByteAutomaton*, FormLeaf::State>, CountedReach> characters_;
};

}  // namespace tg
