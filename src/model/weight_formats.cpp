#include "model/weight_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tg {
namespace {

// What "stored" means for the matrices of one checkpoint on one mesh.
class StoredFormats {
 public:
  StoredFormats(const TensorSource& source, const ShardPlan& plan, WeightOrder order)
      : source_(source), plan_(plan), order_(order) {}

  WeightFormat of(const std::string& name, WeightRole role) const {
    const TensorInfo* tensor = source_.find(name);
    if (tensor == nullptr) return WeightFormat::kBf16;
    switch (tensor->dtype) {
      case DType::kQ8_0:
        return WeightFormat::kInt8;
      case DType::kQ4_0:
        return WeightFormat::kInt4;
      case DType::kQ4K:
        return takes_blocks(*tensor, role) ? WeightFormat::kQ4K : WeightFormat::kBf16;
      case DType::kQ6K:
        return takes_blocks(*tensor, role) ? WeightFormat::kQ6K : WeightFormat::kBf16;
      default:
        return WeightFormat::kBf16;
    }
  }

  LayerFormats layer(std::int64_t index) const {
    const auto in_layer = [&](const char* name, WeightRole role) {
      return of(fmt::format("layers.{}.{}.weight", index, name), role);
    };
    LayerFormats f;
    const WeightFormat q = in_layer("attention.wq", WeightRole::kWq);
    const WeightFormat k = in_layer("attention.wk", WeightRole::kWk);
    const WeightFormat v = in_layer("attention.wv", WeightRole::kWv);
    // Q4_K_M files have v in Q6_K in half of the layers. A product with integer inputs stays whole.
    const bool apart = q == k && order_ == WeightOrder::kRows;
    f.wqkv = apart ? q : common(common(q, k), v);
    f.wv = apart ? v : f.wqkv;
    f.wo = in_layer("attention.wo", WeightRole::kWo);
    f.w1 = in_layer("feed_forward.w1", WeightRole::kW1);
    f.w3 = in_layer("feed_forward.w3", WeightRole::kW3);
    f.w2 = in_layer("feed_forward.w2", WeightRole::kW2);
    return f;
  }

 private:
  // Every device has as many columns as the first.
  bool takes_blocks(const TensorInfo& tensor, WeightRole role) const {
    return order_ == WeightOrder::kRows && plan_.part(role, 0, 0).columns() % kKBlockWeights == 0 &&
           !source_.stored_blocks(tensor, 0, 1).empty();
  }

  // A format that holds both.
  static WeightFormat common(WeightFormat a, WeightFormat b) {
    if (a == b) return a;
    const bool integers = std::max(a, b) <= WeightFormat::kInt4;
    return integers ? std::min(a, b) : WeightFormat::kBf16;
  }

  const TensorSource& source_;
  const ShardPlan& plan_;
  WeightOrder order_;
};

LayerFormats uniform_layer(WeightFormat f) { return {f, f, f, f, f, f}; }

}  // namespace

std::string_view name(WeightsWish wish) {
  switch (wish) {
    case WeightsWish::kStored:
      return "stored";
    case WeightsWish::kBf16:
      return "bf16";
    case WeightsWish::kInt8:
      return "int8";
    case WeightsWish::kInt4:
      return "int4";
    case WeightsWish::kBfp8:
      return "bfp8";
    case WeightsWish::kBfp4:
      return "bfp4";
    case WeightsWish::kPerformance:
      return "performance";
  }
  return "?";
}

template <typename F>
void WeightFormats::each(const F& f) const {
  f(embedding);
  f(output);
  for (const LayerFormats& l : layers) {
    for (const WeightFormat of : {l.wqkv, l.wv, l.wo, l.w1, l.w3, l.w2}) f(of);
  }
}

bool WeightFormats::has_integers() const {
  bool found = false;
  each([&found](WeightFormat f) {
    found = found || f == WeightFormat::kInt8 || f == WeightFormat::kInt4;
  });
  return found;
}

InputForm WeightFormats::inputs() const {
  if (order == WeightOrder::kRows) return InputForm::kTiles;
  return has_integers() ? InputForm::kQuantized : InputForm::kPlain;
}

std::string WeightFormats::text() const {
  std::array<bool, kWeightFormats> used{};
  each([&used](WeightFormat f) { used[static_cast<std::size_t>(f)] = true; });
  std::string text;
  bool widened = false;
  for (const WeightFormat f :
       {WeightFormat::kBfp4, WeightFormat::kQ4K, WeightFormat::kInt4, WeightFormat::kQ6K,
        WeightFormat::kBfp8, WeightFormat::kInt8, WeightFormat::kBf16}) {
    if (!used[static_cast<std::size_t>(f)]) continue;
    text += fmt::format("{}{}", text.empty() ? "" : " + ", name(f));
    widened = widened || packed(f) != f;
  }
  return widened ? text + " held as bf16" : text;
}

WeightFormats weight_formats(const TensorSource& source, WeightsWish wish, const ShardPlan& plan,
                             WeightOrder order) {
  const ModelConfig& config = source.config();
  WeightFormats formats;
  formats.order = order;
  const auto all = [&](WeightFormat embedding, WeightFormat output, const LayerFormats& layer) {
    formats.embedding = config.tied_embeddings ? output : embedding;
    formats.output = output;
    formats.layers.assign(static_cast<std::size_t>(config.layers), layer);
  };
  // An embedding that is not the LM head is only looked up: 8 bits cost nothing in time, and 4
  // would cost accuracy.
  switch (wish) {
    case WeightsWish::kStored: {
      const StoredFormats stored(source, plan, order);
      formats.embedding = stored.of("tok_embeddings.weight", WeightRole::kEmbedding);
      formats.output = config.tied_embeddings ? formats.embedding
                                              : stored.of("output.weight", WeightRole::kOutput);
      for (std::int64_t i = 0; i < config.layers; ++i) formats.layers.push_back(stored.layer(i));
      break;
    }
    case WeightsWish::kBf16:
      all(WeightFormat::kBf16, WeightFormat::kBf16, uniform_layer(WeightFormat::kBf16));
      break;
    case WeightsWish::kInt8:
      all(WeightFormat::kInt8, WeightFormat::kInt8, uniform_layer(WeightFormat::kInt8));
      break;
    case WeightsWish::kInt4:
      all(WeightFormat::kInt8, WeightFormat::kInt4, uniform_layer(WeightFormat::kInt4));
      break;
    case WeightsWish::kBfp8:
      all(WeightFormat::kBfp8, WeightFormat::kBfp8, uniform_layer(WeightFormat::kBfp8));
      break;
    case WeightsWish::kBfp4:
      all(WeightFormat::kBfp8, WeightFormat::kBfp4, uniform_layer(WeightFormat::kBfp4));
      break;
    case WeightsWish::kPerformance: {
      LayerFormats layer = uniform_layer(WeightFormat::kInt8);
      layer.w1 = layer.w3 = WeightFormat::kInt4;
      all(WeightFormat::kInt8, WeightFormat::kInt8, layer);
      break;
    }
  }
  return formats;
}

}  // namespace tg
