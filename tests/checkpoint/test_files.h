// What: files for the tests of the checkpoint layer: a directory that goes away, writers of .pth
//   and .safetensors bytes that can be told to write them wrong, and a small Llama in both forms.
// Who owns: plain values. Thread: any.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg::test {

// A new empty directory under the build folder, removed with all it holds.
class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = std::string(TG_BINARY_DIR) + "/checkpoint-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string write(const std::string& name, std::string_view bytes) const {
    const std::string file = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file;
  }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// `value` as `width` little-endian bytes, zeros from the ninth on.
inline std::string le(std::uint64_t value, int width) {
  std::string out;
  for (int i = 0; i < width; ++i) {
    out += i < 8 ? static_cast<char>((value >> (8 * i)) & 0xff) : '\0';
  }
  return out;
}

// --- zip

struct Record {
  std::string name;
  std::string data;
};

// A zip archive of stored records, without ZIP64 fields. Bytes of one central header can be changed
// with `patch`: {offset in the header, new bytes} for record `patched`.
struct ZipPatch {
  std::size_t record = 0;
  std::size_t offset = 0;
  std::string bytes;
};

inline std::string zip_bytes(const std::vector<Record>& records,
                             const std::vector<ZipPatch>& patches = {}) {
  std::string out;
  std::string directory;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& [name, data] = records[i];
    const auto crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size());
    const std::string numbers = le(crc, 4) + le(data.size(), 4) + le(data.size(), 4);
    std::string header = le(0x02014b50, 4) + le(0, 4) + le(0, 2) + le(0, 2) + le(0, 4) + numbers +
                         le(name.size(), 2) + le(0, 12) + le(out.size(), 4);
    for (const ZipPatch& patch : patches) {
      if (patch.record == i) header.replace(patch.offset, patch.bytes.size(), patch.bytes);
    }
    directory += header + name;
    out += le(0x04034b50, 4) + le(0, 10) + numbers + le(name.size(), 2) + le(0, 2) + name + data;
  }
  const std::size_t start = out.size();
  return out + directory + le(0x06054b50, 4) + le(0, 4) + le(records.size(), 2) +
         le(records.size(), 2) + le(directory.size(), 4) + le(start, 4) + le(0, 2);
}

// --- pickles and .pth

// A tensor of f32 values for the writers.
struct TestTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;

  std::string bytes() const {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }
};

inline std::string pickle_string(std::string_view text) {
  return "X" + le(text.size(), 4) + std::string(text);
}
inline std::string pickle_int(std::int64_t n) { return "J" + le(static_cast<std::uint64_t>(n), 4); }
inline std::string pickle_tuple(const std::vector<std::int64_t>& items) {
  std::string out = "(";
  for (const std::int64_t item : items) out += pickle_int(item);
  return out + "t";
}

// What the pickle says of one tensor; every field can be made to lie.
struct PickleTensor {
  std::string name;
  std::string storage_global = "torch\nFloatStorage\n";
  std::string key = "0";
  std::int64_t elements = 0;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
};

// The pickled value of the tensor, without its name.
inline std::string pickle_tensor(const PickleTensor& t) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle_string("storage") + "c" +
         t.storage_global + pickle_string(t.key) + pickle_string("cpu") + pickle_int(t.elements) +
         "tQ" + pickle_int(t.offset) + pickle_tuple(t.shape) + pickle_tuple(t.strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

inline std::string pickle_dict(const std::vector<PickleTensor>& tensors) {
  std::string out = "\x80\x02}(";
  for (const PickleTensor& t : tensors) out += pickle_string(t.name) + pickle_tensor(t);
  return out + "u.";
}

inline std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

inline std::string pth_bytes(const std::vector<TestTensor>& tensors) {
  std::vector<PickleTensor> pickled;
  std::vector<Record> records;
  for (const TestTensor& t : tensors) {
    const std::string key = std::to_string(pickled.size());
    PickleTensor p;
    p.name = t.name;
    p.key = key;
    p.elements = static_cast<std::int64_t>(t.values.size());
    p.shape = t.shape;
    p.strides = row_major(t.shape);
    pickled.push_back(std::move(p));
    records.push_back({"archive/data/" + key, t.bytes()});
  }
  records.insert(records.begin(), {"archive/data.pkl", pickle_dict(pickled)});
  return zip_bytes(records);
}

// --- safetensors

// The file of a header and the data behind it.
inline std::string safetensors_raw(std::string_view header, std::string_view data) {
  return le(header.size(), 8) + std::string(header) + std::string(data);
}

inline std::string safetensors_bytes(const std::vector<TestTensor>& tensors) {
  std::string header = "{";
  std::string data;
  for (const TestTensor& t : tensors) {
    std::string shape;
    for (const std::int64_t n : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(n);
    header += (header.size() > 1 ? "," : "") + ("\"" + t.name) +
              "\":{\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + t.bytes().size()) +
              "]}";
    data += t.bytes();
  }
  return safetensors_raw(header + "}", data);
}

// --- a model

// dim 8, 2 layers, 4 heads and 2 kv heads of size 2, feed-forward 12, vocabulary 6; every value is
// another whole number, so a value in the wrong place shows.
inline constexpr std::string_view kSmallParams =
    R"({"dim": 8, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 6, "hidden_dim": 12,
        "norm_eps": 1e-05, "rope_theta": 500000.0})";
inline constexpr std::string_view kSmallConfig =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 12, "vocab_size": 6, "rope_theta": 500000.0})";

inline ModelConfig small_config() {
  ModelConfig config;
  config.dim = 8;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 2;
  config.ffn_dim = 12;
  config.vocab = 6;
  return config;
}

inline std::vector<TestTensor> small_model() {
  std::vector<TestTensor> model;
  float next = 1;
  for (const TensorInfo& info : expected_tensors(small_config())) {
    TestTensor t{info.name, info.shape, {}};
    for (std::int64_t i = 0; i < info.rows() * info.columns(); ++i) t.values.push_back(next++);
    model.push_back(std::move(t));
  }
  return model;
}

// Rows or columns [part * n / parts, (part + 1) * n / parts) of a matrix.
inline TestTensor slice(const TestTensor& t, std::size_t dimension, std::size_t part,
                        std::size_t parts) {
  const auto rows = static_cast<std::size_t>(t.shape[0]);
  const auto columns = static_cast<std::size_t>(t.shape[1]);
  const std::size_t row_step = dimension == 0 ? rows / parts : rows;
  const std::size_t column_step = dimension == 1 ? columns / parts : columns;
  const std::size_t first_row = dimension == 0 ? part * row_step : 0;
  const std::size_t first_column = dimension == 1 ? part * column_step : 0;
  TestTensor out{
      t.name, {static_cast<std::int64_t>(row_step), static_cast<std::int64_t>(column_step)}, {}};
  for (std::size_t r = first_row; r < first_row + row_step; ++r) {
    for (std::size_t c = first_column; c < first_column + column_step; ++c) {
      out.values.push_back(t.values[r * columns + c]);
    }
  }
  return out;
}

// --- reading everything

// All values of a tensor, read in blocks of `block` rows.
inline std::vector<float> read_all(const TensorSource& source, const TensorInfo& info,
                                   std::int64_t block = 5) {
  const auto columns = static_cast<std::size_t>(info.columns());
  std::vector<float> values(static_cast<std::size_t>(info.rows()) * columns, -1);
  for (std::int64_t row = 0; row < info.rows(); row += block) {
    const std::int64_t n = std::min(block, info.rows() - row);
    const auto out = std::span(values).subspan(static_cast<std::size_t>(row) * columns,
                                               static_cast<std::size_t>(n) * columns);
    const Status status = source.read_rows(info, row, n, out);
    EXPECT_TRUE(status) << status.error().text();
  }
  return values;
}

// Opens, or fails the test with the error's text.
inline std::unique_ptr<TensorSource> open_or_fail(const std::string& path,
                                                  const OpenOptions& options = {}) {
  auto source = open_checkpoint(path, options);
  EXPECT_TRUE(source) << source.error().text();
  return source ? *std::move(source) : nullptr;
}

// The error's text of a checkpoint that must be refused.
inline std::string refusal(const std::string& path, const OpenOptions& options = {}) {
  const auto source = open_checkpoint(path, options);
  EXPECT_FALSE(source) << path << " was opened";
  return source ? std::string() : source.error().text();
}

// Same tensors, in the same order, with the same bits.
inline void expect_same_tensors(const TensorSource& a, const TensorSource& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (std::size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorInfo& ta = a.tensors()[i];
    const TensorInfo& tb = b.tensors()[i];
    ASSERT_EQ(ta.name, tb.name);
    ASSERT_EQ(ta.shape, tb.shape) << ta.name;
    const std::vector<float> va = read_all(a, ta, 7);
    const std::vector<float> vb = read_all(b, tb, 64);
    EXPECT_EQ(std::memcmp(va.data(), vb.data(), va.size() * sizeof(float)), 0) << ta.name;
  }
}

}  // namespace tg::test
