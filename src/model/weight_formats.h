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

namespace tg {

enum class WeightsWish : std::uint8_t {
  kStored,  // Q8_0 as int8 and Q4_0 as int4, bit for bit; anything else as bf16
  kBf16,
  kInt8,
  kInt4,
  kPerformance,  // the Galaxy's mixture: w1 and w3 in 4 bits, the rest in 8
};

std::string_view name(WeightsWish wish);

struct LayerFormats {
  WeightFormat wqkv = WeightFormat::kBf16;
  WeightFormat wo = WeightFormat::kBf16;
  WeightFormat w1 = WeightFormat::kBf16;
  WeightFormat w3 = WeightFormat::kBf16;
  WeightFormat w2 = WeightFormat::kBf16;
};

struct WeightFormats {
  WeightFormat embedding = WeightFormat::kBf16;  // with tied embeddings the LM head's too
  WeightFormat output = WeightFormat::kBf16;
  std::vector<LayerFormats> layers;
  WeightOrder order = WeightOrder::kPairs;

  bool has_integers() const;
  // What products take their inputs as, where it is not kPlain.
  InputForm inputs() const;
  // "bf16", or "int8", or "int4 + int8": for people.
  std::string text() const;
};

WeightFormats weight_formats(const TensorSource& source, WeightsWish wish,
                             WeightOrder order = WeightOrder::kPairs);

}  // namespace tg
