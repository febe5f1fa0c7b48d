#include "cli/rank_agreement.h"

#include <fmt/format.h>

#include <cstring>
#include <sstream>
#include <vector>

#include "model/rope.h"

namespace tg {
namespace {

// FNV-1a (Fowler, Noll, Vo) of the values' bits.
std::uint64_t hash(std::span<const float> values) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const float value : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    h = (h ^ bits) * 0x100000001b3U;
  }
  return h;
}

// Two short tensors tell checkpoints of one shape apart; reading all would take minutes.
Result<std::string> weights_text(const TensorSource& source) {
  std::string text;
  for (const char* name : {"norm.weight", "layers.0.attention_norm.weight"}) {
    const TensorInfo* info = source.find(name);
    if (info == nullptr) continue;
    std::vector<float> values(static_cast<std::size_t>(info->columns()));
    TG_RETURN_IF_ERROR(source.read_rows(*info, 0, 1, values));
    text += fmt::format("weights of {} {:016x}\n", name, hash(values));
  }
  return text;
}

}  // namespace

Result<std::string> settings_text(const RunSettings& settings, const ContextPlan& plan,
                                  const TensorSource& source) {
  const ModelConfig& c = source.config();
  const CollectivePlan& collectives = settings.mesh.collectives;
  TG_ASSIGN(const ShardPlan shards, ShardPlan::make(c, settings.mesh.shape));
  const WeightOrder order = weight_order(*settings.kernels, settings.dtype);
  std::string text = fmt::format("mesh {}\n", tg::text(settings.mesh.shape));
  for (const Use use : all_uses()) {
    for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
      text += fmt::format(
          "topology of {}.{} {}\n", name(use), work == HopWork::kReduceScatter ? "rs" : "ag",
          collectives.algorithm(work, use) == HopAlgorithm::kRing ? "ring" : "line");
    }
  }
  text += fmt::format(
      "ccl-dtype {}\ncompute-dtype {}\nkv-dtype {}\nweights {}\nkernels {}\n",
      name(collectives.payload), settings.dtype == ComputeDType::kBf16 ? "bf16" : "f32",
      name(settings.kv_format, settings.dtype),
      weight_formats(source, settings.weights, shards, order).text(), settings.kernels->name);
  text += fmt::format("pages {} of {}\nrows of a step {}\nmax-seq-len {}\n", plan.capacity.blocks,
                      plan.capacity.block, plan.capacity.max_rows, plan.max_seq_len);
  text += fmt::format(
      "model {} layers, hidden {}, feed-forward {}, heads {}/{} of {}, vocabulary {}, context {}\n",
      c.layers, c.dim, c.ffn_dim, c.heads, c.kv_heads, c.head_dim, c.vocab, c.max_context);
  text += fmt::format("rope frequencies {:016x}\n", hash(rope_frequencies(c)));
  TG_ASSIGN(const std::string weights, weights_text(source));
  return text + weights;
}

Status compare_settings(const std::string& of_rank_0, const std::string& mine) {
  std::istringstream theirs(of_rank_0);
  std::istringstream ours(mine);
  std::string their_line;
  std::string our_line;
  for (;;) {
    const bool more = static_cast<bool>(std::getline(theirs, their_line));
    const bool ours_more = static_cast<bool>(std::getline(ours, our_line));
    if (!more && !ours_more) return {};
    if (more && ours_more && their_line == our_line) continue;
    return error(ErrorCode::kBadArgument,
                 "the ranks differ: \"{}\" here, \"{}\" on rank 0 (under mpirun, -x NAME takes a "
                 "variable to other hosts)",
                 ours_more ? our_line : "", more ? their_line : "");
  }
}

Status agree_on_settings(Transport& transport, const std::string& mine) {
  std::vector<std::byte> message(mine.size());
  if (transport.rank() == 0) std::memcpy(message.data(), mine.data(), mine.size());
  transport.broadcast({"the comparison of settings", 0, -1}, message);
  std::string theirs(message.size(), '\0');
  std::memcpy(theirs.data(), message.data(), message.size());
  return compare_settings(theirs, mine);
}

void wait_for_all(Transport& transport) {
  const auto others = static_cast<std::size_t>(transport.ranks() - 1);
  const std::byte here{1};
  std::vector<std::byte> theirs(others);
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int rank = 0; rank < transport.ranks(); ++rank) {
    if (rank == transport.rank()) continue;
    receives.push_back({rank, 0, std::span(theirs).subspan(sends.size(), 1)});
    sends.push_back({rank, 0, {&here, 1}});
  }
  transport.exchange({"the look at the memory", 0, -1}, sends, receives);
}

}  // namespace tg
