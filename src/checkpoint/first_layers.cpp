#include "checkpoint/first_layers.h"

#include <map>
#include <string>
#include <utility>

namespace tg {
namespace {

class FirstLayers final : public TensorSource {
 public:
  FirstLayers(std::unique_ptr<TensorSource> source, std::int64_t layers)
      : source_(std::move(source)), config_(source_->config()) {
    config_.layers = layers;
    std::map<std::string, const TensorInfo*, std::less<>> all;
    for (const TensorInfo& t : source_->tensors()) all.emplace(t.name, &t);
    for (const TensorInfo& t : expected_tensors(config_)) {
      const auto original = all.find(t.name);
      if (original == all.end()) continue;  // a tied output
      originals_.emplace(t.name, original->second);
      tensors_.push_back(*original->second);
    }
  }

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }

  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    const auto original = originals_.find(tensor.name);
    if (original == originals_.end()) {
      return error(ErrorCode::kNotFound, "no tensor \"{}\" in the first {} layers", tensor.name,
                   config_.layers);
    }
    return source_->read_block(*original->second, first_row, row_count, first_column, column_count,
                               out);
  }

  std::span<const std::byte> stored_blocks(const TensorInfo& tensor, std::int64_t first_row,
                                           std::int64_t row_count) const override {
    const auto original = originals_.find(tensor.name);
    if (original == originals_.end()) return {};
    return source_->stored_blocks(*original->second, first_row, row_count);
  }

  std::vector<std::string> files() const override { return source_->files(); }

  void release(const TensorInfo& tensor) const override {
    const auto original = originals_.find(tensor.name);
    if (original != originals_.end()) source_->release(*original->second);
  }

 private:
  std::unique_ptr<TensorSource> source_;
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, const TensorInfo*, std::less<>> originals_;  // of source_
};

}  // namespace

Result<std::unique_ptr<TensorSource>> first_layers(std::unique_ptr<TensorSource> source,
                                                   std::int64_t layers) {
  const std::int64_t all = source->config().layers;
  if (layers < 1 || layers > all) {
    return error(ErrorCode::kBadArgument, "{} layers: the checkpoint has 1..{}", layers, all);
  }
  if (layers == all) return source;
  return std::unique_ptr<TensorSource>(new FirstLayers(std::move(source), layers));
}

}  // namespace tg
