#include "model/row_answerer.h"

#include <algorithm>
#include <utility>

namespace tg {

RowAnswerer::RowAnswerer(Mesh& mesh, LlamaForward& forward, std::int64_t vocab)
    : mesh_(&mesh),
      forward_(&forward),
      vocab_(vocab),
      scratch_(static_cast<std::size_t>(mesh.team().size())) {
  // Which thread has most candidates and when is chance. Room for a whole row is not touched before
  // it is used, and then no step has to ask for memory.
  const auto ids = static_cast<std::size_t>(vocab);
  for (SamplerScratch& scratch : scratch_) scratch.reserve(ids);
}

std::span<RowAnswer> RowAnswerer::answer(std::span<const Question> questions) {
  answers_.clear();
  answers_.resize(questions.size());
  for (std::size_t first = 0; first < questions.size(); first += LlamaForward::kHeadRows) {
    const std::size_t count =
        std::min<std::size_t>(LlamaForward::kHeadRows, questions.size() - first);
    answer_some(questions.subspan(first, count), std::span(answers_).subspan(first, count));
  }
  return answers_;
}

void RowAnswerer::answer_some(std::span<const Question> questions, std::span<RowAnswer> answers) {
  const bool in_shards = mesh_->length(Axis::kRows) > 1;
  const std::int64_t shard_ids = forward_->shard_ids();
  places_.clear();
  rows_.clear();
  shard_floats_ = 0;
  for (const Question& question : questions) {
    places_.push_back(question.row);
    Row row;
    row.ask = question.ask;
    if (in_shards) row.query = query_of(*question.ask, vocab_, shard_ids);
    if (row.query && !worth_sharding(*row.query, vocab_, shard_ids)) row.query.reset();
    row.slot = shard_floats_;
    if (row.query) shard_floats_ += row.query->floats();
    rows_.push_back(row);
  }
  forward_->head(places_);
  if (in_shards) {
    look_through_shards();
    mark("choice");
    merge_shards(answers);
  }
  answer_whole_rows(answers);
  mark("choice");
}

// Fills the slots of this process's shards. Asks for samples change the logits, those for the whole
// row too.
void RowAnswerer::look_through_shards() {
  const DeviceBlock& block = mesh_->block();
  slots_.resize(static_cast<std::size_t>(mesh_->length(Axis::kRows) * shard_floats_));
  const auto rows = static_cast<std::int64_t>(rows_.size());
  mesh_->team().for_pieces_by_member(
      rows * block.rows(), 1, [&](int member, std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Row& row = rows_[static_cast<std::size_t>(i / block.rows())];
          const std::int64_t shard = block.row_begin + i % block.rows();
          const auto first = static_cast<TokenId>(
              std::min(shard * forward_->shard_ids(), vocab_));  // an empty one: nowhere
          const std::span<float> logits = forward_->shard_logits(i / block.rows(), shard);
          if (row.ask->kind == RowAsk::Kind::kSample) {
            adjust_logits(logits, first, *row.ask->params, row.ask->context, scratch(member));
          }
          if (!row.query) continue;
          const auto slot = static_cast<std::size_t>(shard * shard_floats_ + row.slot);
          const auto floats = static_cast<std::size_t>(row.query->floats());
          fill_slot(*row.ask, *row.query, logits, first, scratch(member),
                    std::span(slots_).subspan(slot, floats));
        }
      });
}

// Gathers the slots and answers what they can answer; the queries of the other rows end here.
void RowAnswerer::merge_shards(std::span<RowAnswer> answers) {
  if (shard_floats_ == 0) return;
  const std::int64_t shards = mesh_->length(Axis::kRows);
  MeshTensor slots;
  slots.name = "slots";
  slots.data = reinterpret_cast<std::byte*>(slots_.data());
  slots.tokens = 1;
  slots.width = shards * shard_floats_;
  slots.rows = kShardFeatures;
  slots.cols = kReplicate;
  mesh_->all_gather(slots, Axis::kRows, Use::kSampling);
  mark("all-gather");
  mesh_->team().for_pieces_by_member(
      static_cast<std::int64_t>(rows_.size()), 1,
      [&](int member, std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          Row& row = rows_[i];
          if (!row.query) continue;
          const ShardSlots of_row = {slots_.data() + row.slot, shard_floats_, shards};
          auto token = merge_slots(*row.ask, *row.query, of_row, vocab_, scratch(member));
          if (token) {
            answers[i].token = std::move(*token);
          } else {
            row.query.reset();
          }
        }
      });
}

void RowAnswerer::answer_whole_rows(std::span<RowAnswer> answers) {
  picked_.clear();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (!rows_[i].query) picked_.push_back(static_cast<std::int64_t>(i));
  }
  if (picked_.empty()) return;
  const std::span<float> logits = forward_->whole_logits(picked_);
  if (mesh_->transport() != nullptr && mesh_->transport()->rank() != 0) return;
  const auto stride = static_cast<std::size_t>(forward_->logits_stride());
  const auto vocab = static_cast<std::size_t>(vocab_);
  mesh_->team().for_pieces_by_member(
      static_cast<std::int64_t>(picked_.size()), 1,
      [&](int member, std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          const auto row = static_cast<std::size_t>(picked_[i]);
          answers[row] =
              answer_whole(*rows_[row].ask, logits.subspan(i * stride, vocab), scratch(member));
        }
      });
}

RowAnswer RowAnswerer::answer_whole(const RowAsk& ask, std::span<float> logits,
                                    SamplerScratch& scratch) const {
  RowAnswer answer;
  switch (ask.kind) {
    case RowAsk::Kind::kSample:
      // Logits in shards were adjusted there.
      answer.token = mesh_->length(Axis::kRows) > 1
                         ? choose(logits, *ask.params, ask.context, scratch)
                         : sample(logits, *ask.params, ask.context, scratch);
      break;
    case RowAsk::Kind::kScore:
      answer.token = score(logits, ask.next, ask.top_n, scratch);
      break;
    case RowAsk::Kind::kLogits:
      answer.logits.assign(logits.begin(), logits.end());
      break;
  }
  return answer;
}

}  // namespace tg
