// Test helper: a real model with its runner, and whole prompts through it without an engine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "checkpoint/safetensors_file.h"
#include "checkpoint/tensor_source.h"
#include "model/llama_runner.h"

namespace tg::test {

inline nlohmann::json read_json(const std::string& name) {
  std::ifstream in(std::string(TG_SOURCE_DIR) + "/tests/golden/" + name);
  return nlohmann::json::parse(in);
}

// f32 and i32 arrays of a .safetensors file of goldens.
class GoldenArrays {
 public:
  explicit GoldenArrays(const std::string& name) {
    auto file = MappedFile::open(std::string(TG_SOURCE_DIR) + "/tests/golden/" + name);
    TG_CHECK(file);
    file_ = std::move(*file);
    const auto entries = parse_safetensors(file_.bytes());
    TG_CHECK(entries);
    for (const SafetensorsEntry& entry : *entries) entries_[entry.name] = entry;
  }
  std::span<const float> floats(const std::string& name) const { return array<float>(name, "F32"); }
  std::span<const std::int32_t> ints(const std::string& name) const {
    return array<std::int32_t>(name, "I32");
  }
  std::span<const std::int16_t> short_ints(const std::string& name) const {
    return array<std::int16_t>(name, "I16");
  }

 private:
  template <typename T>
  std::span<const T> array(const std::string& name, std::string_view dtype) const {
    const SafetensorsEntry& entry = entries_.at(name);
    TG_CHECK(entry.dtype == dtype);
    return {reinterpret_cast<const T*>(file_.bytes().data() + entry.offset),
            entry.bytes / sizeof(T)};
  }
  MappedFile file_;
  std::map<std::string, SafetensorsEntry> entries_;
};

struct ModelSetting {
  ComputeDType dtype = ComputeDType::kF32;
  KvFormat kv_format = KvFormat::kCompute;
  int threads = 2;
  std::int64_t block = 64;
  std::int64_t positions = 4096;  // in the pool, whatever the block
  std::int64_t max_rows = 512;
  std::string kernels = {};
  MeshShape mesh = {};
  CollectivePlan collectives = {};
  WeightsWish weights = WeightsWish::kBf16;
};

class TestModel {
 public:
  // A checkpoint that does not load, or a setting that is refused, fails the test program.
  TestModel(const std::string& path, const ModelSetting& setting)
      : TestModel(*opened(path), setting) {}
  TestModel(const TensorSource& source, const ModelSetting& setting)
      : setting_(setting), team_(setting.threads) {
    const auto plan = ShardPlan::make(source.config(), setting.mesh);
    TG_CHECK(plan);
    auto weights = load_weights(source, *plan, {0, setting.mesh.rows, 0, setting.mesh.cols}, team_,
                                setting.weights,
                                weight_order(**choose_kernels(setting.kernels), setting.dtype));
    TG_CHECK(weights);
    RunnerOptions options;
    options.kernels = *choose_kernels(setting.kernels);
    options.dtype = setting.dtype;
    options.kv_format = setting.kv_format;
    options.capacity = {setting.block, setting.positions / setting.block, setting.max_rows};
    options.collectives = setting.collectives;
    auto runner = LlamaRunner::create(std::move(*weights), team_, options);
    TG_CHECK(runner);
    runner_ = std::move(*runner);
  }

  LlamaRunner& runner() { return *runner_; }

  // Pages 0, 1, 2, ... for so many positions.
  std::vector<PageId> pages(std::int64_t positions) const {
    std::vector<PageId> ids(
        static_cast<std::size_t>((positions + setting_.block - 1) / setting_.block));
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }

  // Logits of the given rows of a prompt, fed in chunks, into the given pages.
  std::vector<std::vector<float>> logits(std::span<const TokenId> ids,
                                         const std::vector<std::int64_t>& rows, std::int64_t chunk,
                                         std::span<const PageId> page_ids) {
    std::vector<std::vector<float>> all;
    const auto length = static_cast<std::int64_t>(ids.size());
    for (std::int64_t first = 0; first < length; first += chunk) {
      const std::int64_t count = std::min(chunk, length - first);
      std::vector<RowAsk> asks;
      for (const std::int64_t row : rows) {
        if (row < first || row >= first + count) continue;
        asks.push_back({.kind = RowAsk::Kind::kLogits, .row = row - first});
      }
      StepSequence sequence;
      sequence.tokens =
          ids.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
      sequence.first_position = first;
      sequence.pages = page_ids;
      sequence.asks = asks;
      auto result = runner_->step({{&sequence, 1}});
      if (!result) {
        ADD_FAILURE() << result.error().text();
        return {};
      }
      for (RowAnswer& answer : result->answers) all.push_back(std::move(answer.logits));
    }
    return all;
  }
  std::vector<std::vector<float>> logits(std::span<const TokenId> ids,
                                         const std::vector<std::int64_t>& rows,
                                         std::int64_t chunk = 512) {
    return logits(ids, rows, chunk, pages(static_cast<std::int64_t>(ids.size())));
  }

  // `count` tokens, each the best of its step (the lowest of equals), ids in `masked` never chosen.
  std::vector<TokenId> greedy(std::vector<TokenId> ids, std::size_t count,
                              const std::vector<TokenId>& masked = {}) {
    std::vector<TokenId> out;
    const std::vector<PageId> page_ids = pages(static_cast<std::int64_t>(ids.size() + count));
    std::vector<float> row =
        logits(ids, {static_cast<std::int64_t>(ids.size()) - 1}, 512, page_ids).at(0);
    for (;;) {
      for (const TokenId id : masked) row[static_cast<std::size_t>(id)] = -1e30F;
      out.push_back(static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
      if (out.size() == count) return out;
      StepSequence sequence;
      sequence.tokens = {&out.back(), 1};
      sequence.first_position = static_cast<std::int64_t>(ids.size() + out.size()) - 1;
      sequence.pages = page_ids;
      const RowAsk ask{.kind = RowAsk::Kind::kLogits};
      sequence.asks = {&ask, 1};
      auto result = runner_->step({{&sequence, 1}});
      if (!result) {
        ADD_FAILURE() << result.error().text();
        return out;
      }
      row = std::move(result->answers[0].logits);
    }
  }

 private:
  static std::unique_ptr<TensorSource> opened(const std::string& path) {
    auto source = open_checkpoint(path);
    if (!source) ADD_FAILURE() << source.error().text();
    TG_CHECK(source);
    return std::move(*source);
  }

  ModelSetting setting_;
  ThreadTeam team_;
  std::unique_ptr<LlamaRunner> runner_;
};

// The tiny model in one of its four forms (tests/tools/make_tiny_forms.py).
inline std::string tiny(const std::string& form) {
  return std::string(TG_BINARY_DIR) + "/tiny/" + form;
}

// Agreement of logits `a` with reference logits `b`.
struct Agreement {
  double largest = 0;  // absolute difference
  double rms = 0;
  double pcc = 0;  // Pearson correlation
};

inline Agreement compare(std::span<const float> a, std::span<const float> b) {
  TG_CHECK(a.size() == b.size());
  Agreement r;
  double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0, squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    r.largest = std::max(r.largest, std::isfinite(x) ? std::abs(x - y) : 1e30);
    squares += (x - y) * (x - y);
    sa += x, sb += y, saa += x * x, sbb += y * y, sab += x * y;
  }
  const auto n = static_cast<double>(a.size());
  r.rms = std::sqrt(squares / n);
  r.pcc = (sab - sa * sb / n) / std::sqrt((saa - sa * sa / n) * (sbb - sb * sb / n));
  return r;
}

}  // namespace tg::test
