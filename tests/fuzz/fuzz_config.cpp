// libFuzzer target: any text as params.json, config.json and generation_config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/config_readers.h"
#include "checkpoint/tensor_source.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto meta = tg::read_meta_params(text);
  // An accepted config may be used at once, so every sum over it must stay in range.
  if (meta && meta->layers <= 100) {
    static_cast<void>(meta->parameters());
    static_cast<void>(tg::expected_tensors(*meta).size());
  }
  const auto huggingface = tg::read_huggingface_config(text);
  if (huggingface) {
    TG_CHECK(tg::check_config(huggingface->config).has_value());
    TG_CHECK(huggingface->config.parameters() > 0);
  }
  tg::ModelConfig config;
  static_cast<void>(tg::read_generation_config(text, config).has_value());
  return 0;
}
