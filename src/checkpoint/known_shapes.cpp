#include "checkpoint/known_shapes.h"

#include <array>

namespace tg {
namespace {

struct Shape {
  const char* name;
  std::int64_t dim;
  std::int64_t layers;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  std::int64_t ffn_dim;
  std::int64_t vocab;
  double rope_factor;  // of the llama3 rule; 0: plain rope
  bool tied;
};

constexpr std::array kShapes = {
    Shape{"llama3.1-8b", 4096, 32, 32, 8, 128, 14336, 128256, 8, false},
    Shape{"llama3.1-70b", 8192, 80, 64, 8, 128, 28672, 128256, 8, false},
    Shape{"llama3.3-70b", 8192, 80, 64, 8, 128, 28672, 128256, 8, false},
    Shape{"llama3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 32, true},
    Shape{"llama3.2-3b", 3072, 28, 24, 8, 128, 8192, 128256, 32, true},
    Shape{"smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 0, true},
    Shape{"tiny", 256, 4, 16, 8, 16, 352, 1024, 8, false},  // of the tests' golden data
};

}  // namespace

Result<ModelConfig> known_shape(std::string_view name) {
  for (const Shape& s : kShapes) {
    if (name != s.name) continue;
    ModelConfig c;
    c.format = "random";
    c.name = s.name;
    c.dim = s.dim;
    c.layers = s.layers;
    c.heads = s.heads;
    c.kv_heads = s.kv_heads;
    c.head_dim = s.head_dim;
    c.ffn_dim = s.ffn_dim;
    c.vocab = s.vocab;
    c.tied_embeddings = s.tied;
    if (s.rope_factor > 0) {
      c.rope_scaling = {RopeScaling::Kind::kLlama3, s.rope_factor, 1.0, 4.0, 8192, {}};
    } else {
      c.rope_theta = 100000.0;
      c.max_context = 8192;
    }
    if (s.vocab == 128256) {
      c.bos_id = 128000;
      c.stop_ids = {128001, 128008, 128009};
    }
    return c;
  }
  return error(ErrorCode::kBadArgument, "'{}' is no known shape; known are {}", name,
               known_shape_names());
}

std::string known_shape_names() {
  std::string names;
  for (const Shape& s : kShapes) names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

}  // namespace tg
