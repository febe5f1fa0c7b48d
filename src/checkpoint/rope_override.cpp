#include "checkpoint/rope_override.h"

#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "checkpoint/config_writers.h"

namespace tg {
namespace {

constexpr double kMostFactor = 1024;

// Positions without scaling.
double trained_context(const ModelConfig& config, const RopeScaling& rule) {
  switch (rule.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      return static_cast<double>(config.max_context) / rule.factor;
    case RopeScaling::Kind::kLlama3:
      return static_cast<double>(rule.original_context);
  }
  return static_cast<double>(config.max_context);
}

class RopeOverride final : public TensorSource {
 public:
  RopeOverride(std::unique_ptr<TensorSource> source, const RopeScaling& scaling, double trained)
      : source_(std::move(source)), config_(source_->config()) {
    config_.rope_scaling = scaling;
    config_.rope_scaling.original_context = static_cast<std::int64_t>(trained);
    config_.max_context = static_cast<std::int64_t>(trained * scaling.factor);
  }

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return source_->tensors(); }
  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    return source_->read_block(tensor, first_row, row_count, first_column, column_count, out);
  }
  std::span<const std::byte> stored_blocks(const TensorInfo& tensor, std::int64_t first_row,
                                           std::int64_t row_count) const override {
    return source_->stored_blocks(tensor, first_row, row_count);
  }
  std::vector<std::string> files() const override { return source_->files(); }
  void release(const TensorInfo& tensor) const override { source_->release(tensor); }

 private:
  std::unique_ptr<TensorSource> source_;
  ModelConfig config_;
};

}  // namespace

Result<RopeScaling> parse_rope_scaling(std::string_view text) {
  RopeScaling scaling;
  if (text == "none") return scaling;
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  if (kind == "linear") scaling.kind = RopeScaling::Kind::kLinear;
  if (kind == "llama3") scaling.kind = RopeScaling::Kind::kLlama3;
  if (scaling.kind == RopeScaling::Kind::kNone || colon == std::string_view::npos) {
    return error(ErrorCode::kBadArgument,
                 "'{}' is neither none nor linear:FACTOR nor llama3:FACTOR", text);
  }
  const std::string_view number = text.substr(colon + 1);
  const auto [end, failed] =
      std::from_chars(number.data(), number.data() + number.size(), scaling.factor);
  if (failed != std::errc() || end != number.data() + number.size() ||
      !(scaling.factor > 0 && scaling.factor <= kMostFactor)) {
    return error(ErrorCode::kBadArgument, "the factor '{}' is no number above 0 and up to {}",
                 number, kMostFactor);
  }
  return scaling;
}

Result<std::unique_ptr<TensorSource>> with_rope_scaling(std::unique_ptr<TensorSource> source,
                                                        const RopeScaling& scaling) {
  TG_ASSIGN(const RopeScaling own, rope_rule(source->config()));
  const double trained = trained_context(source->config(), own);
  if (trained * scaling.factor < 1) {
    return error(ErrorCode::kBadArgument, "a factor of {} leaves nothing of a context of {}",
                 scaling.factor, trained);
  }
  return std::unique_ptr<TensorSource>(new RopeOverride(std::move(source), scaling, trained));
}

}  // namespace tg
