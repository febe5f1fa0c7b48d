#include "model/kv_cache.h"

#include <cstring>

namespace tg {

std::int64_t kv_bytes_per_position(const ModelConfig& config, ComputeDType dtype, KvFormat format) {
  return config.layers * 2 * config.kv_heads * kv_vector_bytes(format, dtype, config.head_dim);
}

Result<KvCache> KvCache::allocate(const ModelConfig& config, std::int64_t kv_heads,
                                  ComputeDType dtype, KvFormat format, const KvCapacity& capacity) {
  if (capacity.block <= 0 || capacity.block % kKeyGroup != 0) {
    return error(ErrorCode::kBadArgument, "pages of {} positions: need a multiple of {}",
                 capacity.block, kKeyGroup);
  }
  // Page ids are 32 bits.
  if (capacity.blocks <= 0 || capacity.blocks > (std::int64_t{1} << 30)) {
    return error(ErrorCode::kBadArgument, "{} pages: need 1..2^30", capacity.blocks);
  }
  if (dtype == ComputeDType::kF32 && format != KvFormat::kCompute) {
    return error(ErrorCode::kBadArgument,
                 "a KV cache of {} stands for values of bf16: f32 computing keeps them in f32",
                 name(format, dtype));
  }
  KvCache cache;
  KvLayer layer;
  layer.block = capacity.block;
  layer.head_dim = config.head_dim;
  layer.dtype = dtype;
  layer.format = format;
  layer.head_stride = capacity.block * kv_vector_bytes(format, dtype, config.head_dim);
  layer.page_stride = layer.head_stride * kv_heads;
  const auto bytes = static_cast<std::size_t>(capacity.blocks * layer.page_stride);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    TG_ASSIGN(AlignedBuffer keys, AlignedBuffer::allocate(bytes));
    TG_ASSIGN(AlignedBuffer values, AlignedBuffer::allocate(bytes));
    layer.keys = keys.data();
    layer.values = values.data();
    cache.buffers_.push_back(std::move(keys));
    cache.buffers_.push_back(std::move(values));
    cache.layers_.push_back(layer);
  }
  return cache;
}

void KvCache::touch() {
  for (AlignedBuffer& buffer : buffers_) std::memset(buffer.data(), 0, buffer.size());
}

}  // namespace tg
