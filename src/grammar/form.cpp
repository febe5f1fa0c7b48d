#include "grammar/form.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace tg {
namespace {

constexpr std::size_t kMostFormNodes = 200000;
constexpr std::size_t kMostLeaves = 20000;

}  // namespace

// Depths in ascending order, so that each is final when it is met: all nodes of one depth, then
// those of the next. What needs a node hears of it once, and a call waits for both that it needs.
void Form::find_depths() {
  needed_.assign(nodes_.size(), kNever);
  // By node, the nodes that lead to it: one list with the place of each node's part.
  std::vector<std::uint32_t> begin(nodes_.size() + 1, 0);
  std::vector<FormNodeId> users;
  const auto for_each_edge = [this](const auto& edge) {
    for (FormNodeId id = 0; id < nodes_.size(); ++id) {
      const FormNode& node = nodes_[id];
      if (node.kind == FormNode::Kind::kSplit) {
        for (const FormNodeId target : targets(node)) edge(target, id);
      } else if (node.kind != FormNode::Kind::kReturn) {
        edge(node.next, id);
      }
      if (node.kind == FormNode::Kind::kCall) edge(rules_[node.value], id);
    }
  };
  for_each_edge([&](FormNodeId to, FormNodeId /*from*/) { ++begin[to + 1]; });
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  users.resize(begin.back());
  std::vector<std::uint32_t> place(begin.begin(), begin.end() - 1);
  for_each_edge([&](FormNodeId to, FormNodeId from) { users[place[to]++] = from; });

  std::vector<FormNodeId> open;  // of this depth
  std::vector<FormNodeId> deeper;
  for (FormNodeId id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id].kind == FormNode::Kind::kReturn) open.push_back(id);
  }
  for (std::uint32_t depth = 0; !open.empty(); ++depth) {
    while (!open.empty()) {
      const FormNodeId id = open.back();
      open.pop_back();
      if (needed_[id] != kNever) continue;
      needed_[id] = depth;
      for (std::uint32_t i = begin[id]; i < begin[id + 1]; ++i) {
        const FormNode& user = nodes_[users[i]];
        bool one_more = false;
        if (user.kind == FormNode::Kind::kCall) {
          const std::uint32_t inside = needed_[rules_[user.value]];
          if (inside == kNever || needed_[user.next] == kNever) continue;
          // A call at the end of a rule keeps nothing to come back to.
          const bool tail = nodes_[user.next].kind == FormNode::Kind::kReturn;
          one_more = !tail && inside == depth;
        }
        (one_more ? deeper : open).push_back(users[i]);
      }
    }
    open.swap(deeper);
  }
}

Result<std::uint32_t> FormBuilder::add_leaf(const Regex& tree) {
  TG_ASSIGN(ByteAutomaton automaton, ByteAutomaton::compile(tree, budget_));
  return add_leaf(FormLeaf(std::move(automaton)));
}

Result<std::uint32_t> FormBuilder::add_leaf(FormLeaf leaf) {
  if (form_.leaves_.size() >= kMostLeaves) {
    return error(ErrorCode::kOutOfCapacity, "the form has more than {} terminals", kMostLeaves);
  }
  form_.leaves_.push_back(std::move(leaf));
  return static_cast<std::uint32_t>(form_.leaves_.size() - 1);
}

std::optional<std::uint32_t> FormBuilder::find_leaf(const std::string& key) const {
  const auto found = named_.find(key);
  return found == named_.end() ? std::nullopt : std::optional(found->second);
}

FormNodeId FormBuilder::leaf(std::uint32_t leaf_id, FormNodeId next) {
  if (next == kNowhere) return kNowhere;
  form_.nodes_.push_back({FormNode::Kind::kLeaf, leaf_id, 0, next});
  return static_cast<FormNodeId>(form_.nodes_.size() - 1);
}

FormNodeId FormBuilder::call(std::uint32_t rule, FormNodeId next) {
  if (next == kNowhere) return kNowhere;
  form_.nodes_.push_back({FormNode::Kind::kCall, rule, 0, next});
  return static_cast<FormNodeId>(form_.nodes_.size() - 1);
}

FormNodeId FormBuilder::either(std::vector<FormNodeId> targets) {
  std::erase(targets, kNowhere);
  if (targets.empty()) return kNowhere;
  if (targets.size() == 1) return targets[0];
  const auto begin = static_cast<std::uint32_t>(form_.targets_.size());
  form_.targets_.insert(form_.targets_.end(), targets.begin(), targets.end());
  const auto count = static_cast<std::uint32_t>(targets.size());
  form_.nodes_.push_back({FormNode::Kind::kSplit, begin, count, 0});
  return static_cast<FormNodeId>(form_.nodes_.size() - 1);
}

FormNodeId FormBuilder::placeholder() {
  form_.nodes_.push_back({FormNode::Kind::kSplit, 0, 0, 0});
  return static_cast<FormNodeId>(form_.nodes_.size() - 1);
}

void FormBuilder::becomes(FormNodeId placeholder, FormNodeId target) {
  if (target == kNowhere) return;  // a split without targets is a dead end
  form_.nodes_[placeholder].value = static_cast<std::uint32_t>(form_.targets_.size());
  form_.nodes_[placeholder].count = 1;
  form_.targets_.push_back(target);
}

std::uint32_t FormBuilder::declare_rule() {
  form_.rules_.push_back(placeholder());  // a dead end until it is defined
  return static_cast<std::uint32_t>(form_.rules_.size() - 1);
}

Status FormBuilder::check_size() const {
  if (form_.nodes_.size() <= kMostFormNodes) return {};
  return error(ErrorCode::kOutOfCapacity,
               "the form has more than {} parts with its repetitions written out", kMostFormNodes);
}

Result<std::shared_ptr<const Form>> FormBuilder::finish() {
  TG_RETURN_IF_ERROR(check_size());
  for (FormNodeId& rule : form_.rules_) {
    if (rule == kNowhere) rule = placeholder();
  }
  form_.find_depths();
  const std::uint32_t needed = form_.depth_needed(form_.start());
  if (needed == Form::kNever) {
    return error(ErrorCode::kBadInput, "no finite text fits");
  }
  if (needed > Form::kMostDepth) {
    return error(ErrorCode::kOutOfCapacity, "every text is nested at least {} deep; at most {}",
                 needed, Form::kMostDepth);
  }
  form_.memory_ = sizeof(ByteAutomaton::State) * budget_.table_cells +
                  sizeof(FormNode) * form_.nodes_.size() + sizeof(FormLeaf) * form_.leaves_.size();
  return std::make_shared<const Form>(std::move(form_));
}

}  // namespace tg
