#include "checkpoint/random_source.h"

#include <cmath>
#include <map>
#include <utility>

#include "base/bf16.h"

namespace tg {
namespace {

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio, odd
constexpr std::int64_t kLanes = 4;                    // values of 16 bits from one mix

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// FNV-1a (Fowler, Noll, Vo).
std::uint64_t hash(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return h;
}

class RandomSource final : public TensorSource {
 public:
  RandomSource(ModelConfig config, std::uint64_t seed)
      : config_(std::move(config)), tensors_(expected_tensors(config_)) {
    for (TensorInfo& t : tensors_) {
      t.dtype = DType::kBf16;
      keys_.emplace(t.name, mix(mix(seed + kStep) ^ hash(t.name)));
    }
  }

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }

  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    const auto key = keys_.find(tensor.name);
    if (key == keys_.end()) {
      return error(ErrorCode::kNotFound, "no tensor \"{}\" in this model", tensor.name);
    }
    TG_RETURN_IF_ERROR(
        check_block(tensor, first_row, row_count, first_column, column_count, out.size()));
    const Form form = form_of(tensor);
    const std::int64_t groups_per_row = (tensor.columns() + kLanes - 1) / kLanes;
    float* to = out.data();
    for (std::int64_t row = first_row; row < first_row + row_count; ++row) {
      fill_row(key->second + static_cast<std::uint64_t>(row * groups_per_row) * kStep, form,
               first_column, column_count, to);
      to += column_count;
    }
    return {};
  }

  void release(const TensorInfo&) const override {}

 private:
  struct Form {
    float middle;
    float per_unit;  // of a lane, whose units are -32767.5 .. 32767.5
  };

  Form form_of(const TensorInfo& t) const {
    // A uniform number between -a and a has the standard deviation a / sqrt(3).
    const auto unit = [](double deviation) {
      return static_cast<float>(deviation * std::sqrt(3.0) / 32767.5);
    };
    if (t.shape.size() == 1) return {1.0F, unit(1.0 / 16.0 / std::sqrt(3.0))};
    if (t.name == "tok_embeddings.weight") return {0.0F, unit(1.0)};
    double deviation = 1.0 / std::sqrt(static_cast<double>(t.columns()));
    if (t.name.ends_with("wo.weight") || t.name.ends_with("w2.weight")) {
      deviation /= std::sqrt(2.0 * static_cast<double>(config_.layers));
    }
    return {0.0F, unit(deviation)};
  }

  static float value(std::uint64_t bits, std::int64_t lane, const Form& form) {
    const auto lane_bits = static_cast<std::int32_t>((bits >> (16 * lane)) & 0xffffU);
    const float units = static_cast<float>(lane_bits) - 32767.5F;
    return to_float(to_bf16(form.middle + form.per_unit * units));
  }

  static void fill_row(std::uint64_t row_key, const Form& form, std::int64_t first,
                       std::int64_t count, float* out) {
    const auto bits_of = [&](std::int64_t column) {
      return mix(row_key + static_cast<std::uint64_t>(column / kLanes) * kStep);
    };
    const std::int64_t end = first + count;
    std::int64_t column = first;
    while (column < end && column % kLanes != 0) {
      *out++ = value(bits_of(column), column % kLanes, form);
      ++column;
    }
    for (; column + kLanes <= end; column += kLanes) {
      const std::uint64_t bits = bits_of(column);
      for (std::int64_t lane = 0; lane < kLanes; ++lane) *out++ = value(bits, lane, form);
    }
    for (; column < end; ++column) *out++ = value(bits_of(column), column % kLanes, form);
  }

  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::uint64_t, std::less<>> keys_;
};

}  // namespace

Result<std::unique_ptr<TensorSource>> open_random(ModelConfig config, std::uint64_t seed) {
  for (const std::int64_t n : {config.dim, config.layers, config.heads, config.kv_heads,
                               config.head_dim, config.ffn_dim, config.vocab}) {
    if (n < 1) return error(ErrorCode::kBadArgument, "a model shape with a size of {}", n);
  }
  return std::unique_ptr<TensorSource>(new RandomSource(std::move(config), seed));
}

}  // namespace tg
