#include "grammar/form_run.h"

#include <algorithm>

namespace tg {
namespace {

constexpr std::size_t kMostStackFrames = 100000;  // before those of old masks are dropped

std::uint64_t pair_of(std::uint32_t high, std::uint32_t low) {
  return (std::uint64_t{high} << 32) | low;
}

}  // namespace

void NumberSet::clear() {
  ++round_;
  count_ = 0;
  if (round_ == 0) {  // all 2^32 rounds were used: old slots could look new
    std::fill(slots_.begin(), slots_.end(), Slot{});
    round_ = 1;
  }
}

std::size_t NumberSet::slot_of(std::uint64_t number) const {
  // Fibonacci hashing: the upper bits of the product depend on all bits.
  std::size_t at = (number * 0x9E3779B97F4A7C15ULL) >> 32;
  at &= slots_.size() - 1;
  while (slots_[at].round == round_ && slots_[at].number != number) {
    at = (at + 1) & (slots_.size() - 1);
  }
  return at;
}

bool NumberSet::insert(std::uint64_t number) {
  if (2 * (count_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[slot_of(number)];
  if (slot.round == round_) return false;
  slot = {number, round_};
  ++count_;
  return true;
}

void NumberSet::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.round == round_) slots_[slot_of(slot.number)] = slot;
  }
}

StackId FormStacks::push(FormNodeId node, StackId below) {
  const auto [found, is_new] =
      ids_.try_emplace(pair_of(node, below), static_cast<StackId>(frames_.size()));
  if (is_new) frames_.push_back({node, below, frames_[below].depth + 1});
  return found->second;
}

FormRun::FormRun(std::shared_ptr<const Form> form) : form_(std::move(form)) {
  complete_ = enter(form_->start(), FormStacks::kBottom, threads_);
  std::sort(threads_.begin(), threads_.end());
}

bool FormRun::enter(FormNodeId node, StackId stack, std::vector<FormThread>& out) {
  bool ends = false;
  open_.push_back({node, stack});
  while (!open_.empty()) {
    const Entry entry = open_.back();
    open_.pop_back();
    if (entered_.size() >= kMostEntered) {
      open_.clear();
      break;
    }
    if (!entered_.insert(pair_of(entry.node, entry.stack))) continue;
    const FormStacks::Frame frame = stacks_.frame(entry.stack);
    const std::uint32_t needed = form_->depth_needed(entry.node);
    if (needed == Form::kNever || frame.depth + needed > Form::kMostDepth) continue;
    const FormNode& at = form_->node(entry.node);
    switch (at.kind) {
      case FormNode::Kind::kLeaf: {
        const FormLeaf& leaf = form_->leaf(at.value);
        if (!leaf.stuck(leaf.start())) out.push_back({entry.node, leaf.start(), entry.stack});
        if (leaf.accepts(leaf.start())) open_.push_back({at.next, entry.stack});
        break;
      }
      case FormNode::Kind::kCall: {
        const bool tail = form_->node(at.next).kind == FormNode::Kind::kReturn;
        open_.push_back(
            {form_->rule(at.value), tail ? entry.stack : stacks_.push(at.next, entry.stack)});
        break;
      }
      case FormNode::Kind::kSplit:
        for (const FormNodeId target : form_->targets(at)) open_.push_back({target, entry.stack});
        break;
      case FormNode::Kind::kReturn:
        if (entry.stack == FormStacks::kBottom) {
          ends = true;
        } else {
          open_.push_back({frame.node, frame.below});
        }
        break;
    }
  }
  return ends;
}

Status FormRun::follow(std::uint8_t byte) {
  if (stacks_.size() > kMostStackFrames) drop_old_stacks();
  before_.swap(threads_);
  threads_.clear();
  complete_ = false;
  entered_.clear();
  for (const FormThread& thread : before_) {
    const FormNode& node = form_->node(thread.node);
    const FormLeaf& leaf = form_->leaf(node.value);
    const FormLeaf::State after = leaf.next(thread.state, byte);
    if (after == FormLeaf::kDead) continue;
    if (!leaf.stuck(after)) threads_.push_back({thread.node, after, thread.stack});
    if (leaf.accepts(after) && enter(node.next, thread.stack, threads_)) complete_ = true;
  }
  std::sort(threads_.begin(), threads_.end());
  threads_.erase(std::unique(threads_.begin(), threads_.end()), threads_.end());
  return check_ways();
}

Status FormRun::check_ways() const {
  if (entered_.size() >= kMostEntered) {
    return error(ErrorCode::kOutOfCapacity,
                 "the form can be read in too many ways at this point: more than {} parts of it "
                 "may come next",
                 kMostEntered);
  }
  if (threads_.size() > kMostThreads) {
    return error(ErrorCode::kOutOfCapacity,
                 "the form can be read in {} ways at this point; at most {}", threads_.size(),
                 kMostThreads);
  }
  return {};
}

// Masks look ahead on stacks that the answer then does not take.
void FormRun::drop_old_stacks() {
  FormStacks kept;
  std::vector<FormNodeId> path;
  for (FormThread& thread : threads_) {
    path.clear();
    for (StackId id = thread.stack; id != FormStacks::kBottom; id = stacks_.frame(id).below) {
      path.push_back(stacks_.frame(id).node);
    }
    StackId stack = FormStacks::kBottom;
    for (auto node = path.rbegin(); node != path.rend(); ++node) stack = kept.push(*node, stack);
    thread.stack = stack;
  }
  stacks_ = std::move(kept);
}

}  // namespace tg
