// What: which number format each matrix of a model is packed in: what the user wishes, resolved
//   against what the checkpoint stores, as plain data that loading and the memory check share.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "kernels/kernel_table.h"
#include "model/shard_plan.h"

namespace tg {

enum class WeightsWish : std::uint8_t {
  kStored,  // Q8_0 as int8 and Q4_0 as int4, bit for bit, Q4_K and Q6_K too where the weights'
            // order is kRows; anything else as bf16
  kBf16,
  kInt8,
  kInt4,
  kBfp8,  // rounded to block float; held as bf16 where the weights' order is kPairs
  kBfp4,
  kPerformance,  // the Galaxy's mixture: w1 and w3 in 4 bits, the rest in 8
};

std::string_view name(WeightsWish wish);

struct LayerFormats {
  WeightFormat wqkv = WeightFormat::kBf16;
  // That of v. Where it is another one than that of q and k, v is a matrix of its own.
  WeightFormat wv = WeightFormat::kBf16;
  WeightFormat wo = WeightFormat::kBf16;
  WeightFormat w1 = WeightFormat::kBf16;
  WeightFormat w3 = WeightFormat::kBf16;
  WeightFormat w2 = WeightFormat::kBf16;

  bool splits_v() const { return wv != wqkv; }
};

struct WeightFormats {
  WeightFormat embedding = WeightFormat::kBf16;  // with tied embeddings the LM head's too
  WeightFormat output = WeightFormat::kBf16;
  std::vector<LayerFormats> layers;
  WeightOrder order = WeightOrder::kPairs;

  // What a matrix in this format is packed as: block float as bf16 in WeightOrder::kPairs.
  WeightFormat packed(WeightFormat f) const {
    return is_bfp(f) && order == WeightOrder::kPairs ? WeightFormat::kBf16 : f;
  }
  // Of those that multiply inputs of 8 bits where the order is kPairs.
  bool has_integers() const;
  // What products take their inputs as, where it is not kPlain.
  InputForm inputs() const;
  // "bf16", or "int4 + int8", or "q4_k + q6_k", or "bfp8 held as bf16": for people.
  std::string text() const;

 private:
  // Of every matrix.
  template <typename F>
  void each(const F& f) const;
};

// The plan's devices must have whole blocks of Q4_K and Q6_K to keep them.
WeightFormats weight_formats(const TensorSource& source, WeightsWish wish, const ShardPlan& plan,
                             WeightOrder order = WeightOrder::kPairs);

}  // namespace tg
