#include "model/weight_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tg {
namespace {

WeightFormat stored_format(const TensorSource& source, const std::string& name) {
  const TensorInfo* tensor = source.find(name);
  if (tensor == nullptr) return WeightFormat::kBf16;
  return tensor->dtype == DType::kQ8_0   ? WeightFormat::kInt8
         : tensor->dtype == DType::kQ4_0 ? WeightFormat::kInt4
                                         : WeightFormat::kBf16;
}

// q, k and v are one matrix: a format that holds all three.
WeightFormat widest(WeightFormat a, WeightFormat b, WeightFormat c) { return std::min({a, b, c}); }

LayerFormats stored_layer(const TensorSource& source, std::int64_t layer) {
  const auto of = [&](const char* name) {
    return stored_format(source, fmt::format("layers.{}.{}.weight", layer, name));
  };
  LayerFormats f;
  f.wqkv = widest(of("attention.wq"), of("attention.wk"), of("attention.wv"));
  f.wo = of("attention.wo");
  f.w1 = of("feed_forward.w1");
  f.w3 = of("feed_forward.w3");
  f.w2 = of("feed_forward.w2");
  return f;
}

LayerFormats uniform_layer(WeightFormat f) { return {f, f, f, f, f}; }

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
    case WeightsWish::kPerformance:
      return "performance";
  }
  return "?";
}

bool WeightFormats::has_integers() const {
  const auto integer = [](WeightFormat f) { return f != WeightFormat::kBf16; };
  return integer(embedding) || integer(output) ||
         std::any_of(layers.begin(), layers.end(), [&](const LayerFormats& l) {
           return integer(l.wqkv) || integer(l.wo) || integer(l.w1) || integer(l.w3) ||
                  integer(l.w2);
         });
}

InputForm WeightFormats::inputs() const {
  if (order == WeightOrder::kRows) return InputForm::kTiles;
  return has_integers() ? InputForm::kQuantized : InputForm::kPlain;
}

std::string WeightFormats::text() const {
  std::array<bool, 3> used{};
  const auto use = [&used](WeightFormat f) { used[static_cast<std::size_t>(f)] = true; };
  use(embedding);
  use(output);
  for (const LayerFormats& l : layers) {
    for (const WeightFormat f : {l.wqkv, l.wo, l.w1, l.w3, l.w2}) use(f);
  }
  std::string text;
  for (const WeightFormat f : {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kBf16}) {
    if (!used[static_cast<std::size_t>(f)]) continue;
    text += fmt::format("{}{}", text.empty() ? "" : " + ", name(f));
  }
  return text;
}

WeightFormats weight_formats(const TensorSource& source, WeightsWish wish, WeightOrder order) {
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
    case WeightsWish::kStored:
      formats.embedding = stored_format(source, "tok_embeddings.weight");
      formats.output =
          config.tied_embeddings ? formats.embedding : stored_format(source, "output.weight");
      for (std::int64_t i = 0; i < config.layers; ++i) {
        formats.layers.push_back(stored_layer(source, i));
      }
      break;
    case WeightsWish::kBf16:
      all(WeightFormat::kBf16, WeightFormat::kBf16, uniform_layer(WeightFormat::kBf16));
      break;
    case WeightsWish::kInt8:
      all(WeightFormat::kInt8, WeightFormat::kInt8, uniform_layer(WeightFormat::kInt8));
      break;
    case WeightsWish::kInt4:
      all(WeightFormat::kInt8, WeightFormat::kInt4, uniform_layer(WeightFormat::kInt4));
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
