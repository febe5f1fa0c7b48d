// What: a form as a pushdown automaton: a graph of nodes whose steps over bytes are leaves (regular
//   languages) and whose calls of rules make it recursive, as JSON is. A FormBuilder makes one from
//   the end: what follows a node exists before the node, but for placeholders in loops.
// Who owns: a Form is shared and immutable. Thread: any.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "grammar/form_leaf.h"

namespace tg {

using FormNodeId = std::uint32_t;

struct FormNode {
  enum class Kind : std::uint8_t {
    kLeaf,    // follow leaf `value`, then `next`
    kCall,    // follow rule `value`, then `next`
    kSplit,   // any of `count` targets from `value` on
    kReturn,  // the end of a rule; of the first one: the end of the answer
  };
  Kind kind = Kind::kReturn;
  std::uint32_t value = 0;
  std::uint32_t count = 0;
  FormNodeId next = 0;
};

class Form {
 public:
  // Nested calls: deeper JSON is not written. Many parsers stop at 100 too.
  static constexpr std::uint32_t kMostDepth = 100;
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();

  const FormNode& node(FormNodeId id) const { return nodes_[id]; }
  const FormLeaf& leaf(std::uint32_t id) const { return leaves_[id]; }
  std::span<const FormNodeId> targets(const FormNode& split) const {
    return std::span(targets_).subspan(split.value, split.count);
  }
  FormNodeId rule(std::uint32_t id) const { return rules_[id]; }
  FormNodeId start() const { return rules_[0]; }
  // The least depth of calls in which the rule can be ended from here: what is not started beyond
  // kMostDepth - this is sure to have an end. kNever: no text ends it.
  std::uint32_t depth_needed(FormNodeId id) const { return needed_[id]; }
  std::size_t memory() const { return memory_; }  // bytes

 private:
  friend class FormBuilder;
  void find_depths();

  std::vector<FormNode> nodes_;
  std::vector<FormNodeId> targets_;
  std::vector<FormLeaf> leaves_;
  std::vector<FormNodeId> rules_;
  std::vector<std::uint32_t> needed_;
  std::size_t memory_ = 0;
};

class FormBuilder {
 public:
  FormBuilder() { form_.nodes_.emplace_back(); }  // the kReturn that all rules share
  static constexpr FormNodeId kReturn = 0;
  static constexpr FormNodeId kNowhere = 0xFFFFFFFF;  // a node from which nothing fits

  // What the automata of all leaves are made with.
  AutomatonBudget& budget() { return budget_; }
  Result<std::uint32_t> add_leaf(const Regex& tree);
  // kOutOfCapacity beyond a number of leaves.
  Result<std::uint32_t> add_leaf(FormLeaf leaf);
  // For leaves that are needed several times. nullopt: there is none of this key yet.
  std::optional<std::uint32_t> find_leaf(const std::string& key) const;
  void name_leaf(const std::string& key, std::uint32_t leaf_id) { named_.emplace(key, leaf_id); }

  FormNodeId leaf(std::uint32_t leaf_id, FormNodeId next);
  FormNodeId call(std::uint32_t rule, FormNodeId next);
  // Leaves out kNowhere; kNowhere when nothing is left.
  FormNodeId either(std::vector<FormNodeId> targets);
  // A node to be filled in later, by becomes().
  FormNodeId placeholder();
  void becomes(FormNodeId placeholder, FormNodeId target);

  // The first rule is where the form starts.
  std::uint32_t declare_rule();
  void define_rule(std::uint32_t rule, FormNodeId entry) { form_.rules_[rule] = entry; }

  // kOutOfCapacity when there are too many nodes already: for callers that loop.
  Status check_size() const;
  // kBadInput when no text fits, kOutOfCapacity when each one is nested too deep.
  Result<std::shared_ptr<const Form>> finish();

 private:
  Form form_;
  std::unordered_map<std::string, std::uint32_t> named_;
  AutomatonBudget budget_;
};

}  // namespace tg
