#include "model/llama_runner.h"

#include <algorithm>
#include <utility>

#include "model/step_message.h"

namespace tg {

LlamaRunner::LlamaRunner(LlamaWeights weights) : weights_(std::move(weights)) {}

Result<std::unique_ptr<LlamaRunner>> LlamaRunner::create(LlamaWeights weights, ThreadTeam& team,
                                                         const RunnerOptions& options) {
  TG_CHECK(options.kernels != nullptr);
  const KvCapacity& capacity = options.capacity;
  if (capacity.max_rows < 1 || capacity.max_rows > 65536) {
    return error(ErrorCode::kBadArgument, "{} rows per step: need 1..65536", capacity.max_rows);
  }
  if (options.max_context < 0 || options.max_context > weights.config.max_context) {
    return error(ErrorCode::kBadArgument, "a context of {}: the model has {}", options.max_context,
                 weights.config.max_context);
  }
  if (options.dtype == ComputeDType::kF32 && weights.formats.has_integers()) {
    return error(ErrorCode::kBadArgument,
                 "weights in {} multiply 8-bit inputs: f32 computing needs weights in bf16",
                 weights.formats.text());
  }
  if (weights.formats.order == WeightOrder::kRows &&
      weight_order(*options.kernels, options.dtype) != WeightOrder::kRows) {
    return error(ErrorCode::kBadArgument,
                 "weights packed in rows, for tiles; the kernels {} with {} inputs take pairs",
                 options.kernels->name, options.dtype == ComputeDType::kBf16 ? "bf16" : "f32");
  }
  std::unique_ptr<LlamaRunner> runner(new LlamaRunner(std::move(weights)));
  if (options.max_context > 0) runner->weights_.config.max_context = options.max_context;
  runner->capacity_ = capacity;
  const ModelConfig& config = runner->weights_.config;
  const ShardPlan& plan = runner->weights_.plan;
  TG_ASSIGN(Mesh mesh, Mesh::create(plan.mesh(), options.collectives, team, options.transport));
  runner->mesh_ = std::make_unique<Mesh>(std::move(mesh));
  const DeviceBlock& block = runner->mesh_->block();
  for (std::int64_t col = 0; col < block.cols(); ++col) {
    TG_ASSIGN(KvCache kv, KvCache::allocate(config, block.rows() * plan.kv_heads(), options.dtype,
                                            options.kv_format, capacity));
    runner->kv_.push_back(std::move(kv));
  }
  TG_ASSIGN(LlamaForward forward,
            LlamaForward::create(runner->weights_, runner->kv_, *runner->mesh_,
                                 {options.kernels, options.dtype, capacity.max_rows,
                                  runner->weights_.formats.inputs()}));
  runner->forward_ = std::make_unique<LlamaForward>(std::move(forward));
  runner->answerer_ =
      std::make_unique<RowAnswerer>(*runner->mesh_, *runner->forward_, config.vocab);
  return runner;
}

Result<StepResult> LlamaRunner::step(const StepBatch& batch) {
  TG_RETURN_IF_ERROR(check(batch));
  if (times_ != nullptr) times_->start();
  if (mesh_->transport() != nullptr) {
    // Of a vocabulary in shards, each rank looks through its own for what is asked.
    pack_step(batch, mesh_->length(Axis::kRows) > 1, message_);
    mesh_->transport()->broadcast({"the next step", steps_, -1}, message_);
    if (times_ != nullptr) times_->mark("STEP", "broadcast");
  }
  return StepResult{run(batch)};
}

void LlamaRunner::set_op_times(OpTimes* times) {
  times_ = times;
  forward_->set_op_times(times);
  answerer_->set_op_times(times);
}

Status LlamaRunner::serve() {
  Transport* transport = mesh_->transport();
  TG_CHECK(transport != nullptr && transport->rank() != 0);
  for (;;) {
    transport->broadcast({"the next step", steps_, -1}, message_);
    if (message_.empty()) return {};
    TG_ASSIGN(const UnpackedStep step, unpack_step(message_));
    run({step.sequences});
  }
}

void LlamaRunner::stop() {
  if (mesh_->transport() == nullptr) return;
  message_.clear();  // an empty step is the last
  mesh_->transport()->broadcast({"the end", steps_, -1}, message_);
}

std::span<RowAnswer> LlamaRunner::run(const StepBatch& batch) {
  mesh_->set_step(steps_++);
  forward_->run(batch, probe_);
  list_questions(batch);
  return answerer_->answer(questions_);
}

void LlamaRunner::list_questions(const StepBatch& batch) {
  questions_.clear();
  std::int64_t first_row = 0;
  for (const StepSequence& sequence : batch.sequences) {
    for (const RowAsk& ask : sequence.asks) questions_.push_back({&ask, first_row + ask.row});
    first_row += static_cast<std::int64_t>(sequence.tokens.size());
  }
}

// Everything that would otherwise be an access outside of something.
Status LlamaRunner::check(const StepBatch& batch) const {
  std::int64_t rows = 0;
  for (std::size_t s = 0; s < batch.sequences.size(); ++s) {
    Status status = check(batch.sequences[s]);
    if (!status) {
      return at_place(std::move(status).error(), fmt::format("sequence {} of the step", s));
    }
    rows += static_cast<std::int64_t>(batch.sequences[s].tokens.size());
  }
  if (rows > capacity_.max_rows) {
    return error(ErrorCode::kBadArgument, "{} rows in a step made for {}", rows,
                 capacity_.max_rows);
  }
  return {};
}

Status LlamaRunner::check(const StepSequence& sequence) const {
  const auto count = static_cast<std::int64_t>(sequence.tokens.size());
  const std::int64_t end = sequence.first_position + count;
  if (count == 0) return error(ErrorCode::kBadArgument, "no tokens");
  if (sequence.kv_domain < 0 || sequence.kv_domain >= kv_domains()) {
    return error(ErrorCode::kBadArgument, "kv domain {}: there are {}", sequence.kv_domain,
                 kv_domains());
  }
  if (sequence.first_position < 0 || end > max_context()) {
    return error(ErrorCode::kBadArgument, "positions {}..{}: the model has 0..{}",
                 sequence.first_position, end - 1, max_context() - 1);
  }
  const std::int64_t pages = (end + capacity_.block - 1) / capacity_.block;
  if (static_cast<std::int64_t>(sequence.pages.size()) < pages) {
    return error(ErrorCode::kBadArgument, "{} pages of {} positions for {} positions: need {}",
                 sequence.pages.size(), capacity_.block, end, pages);
  }
  for (const PageId page : sequence.pages.first(static_cast<std::size_t>(pages))) {
    if (page < 0 || page >= capacity_.blocks) {
      return error(ErrorCode::kBadArgument, "page id {}: the pool has 0..{}", page,
                   capacity_.blocks - 1);
    }
  }
  for (const TokenId token : sequence.tokens) {
    if (token < 0 || token >= vocab()) {
      return error(ErrorCode::kBadArgument, "token id {}: the vocabulary has 0..{}", token,
                   vocab() - 1);
    }
  }
  for (const RowAsk& ask : sequence.asks) {
    if (ask.row < 0 || ask.row >= count) {
      return error(ErrorCode::kBadArgument, "asks row {} of {}", ask.row, count);
    }
    if (ask.kind == RowAsk::Kind::kSample && ask.params == nullptr) {
      return error(ErrorCode::kBadArgument, "asks for a sample without parameters");
    }
    if (ask.kind == RowAsk::Kind::kScore && (ask.next < 0 || ask.next >= vocab())) {
      return error(ErrorCode::kBadArgument, "asks for the score of id {} of {}", ask.next, vocab());
    }
  }
  return {};
}

}  // namespace tg
