// Attention of a decode step at a long context, as a share of the memory's read speed measured in
// the same seconds on the same memory, and of a prompt, in flop/s. Each round runs the ceiling and
// every table once; the figures are medians over the rounds.
//   attention_bench [--threads 2] [--context 16384] [--rounds 15] [--kernels NAME] [--prompt 1024]
//                   [--clock wall|cpu] [--shape 1B|70B] [--users N] [--kv-dtype int8|bfp8]
// With --kv-dtype every table runs on such a cache beside the one of bf16, in the same rounds.
// On a machine that others use too, --threads 1 --clock cpu counts this program's own time.

// g++ 12 takes the deliberately undefined vectors of its own header for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <fmt/format.h>
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_team.h"
#include "kernels/kernel_table.h"
#include "tensor/aligned_buffer.h"

namespace tg {
namespace {

constexpr std::int64_t kBlock = 64;
// Keys and values in bf16 of all layers that are walked through: more than any cache.
constexpr std::int64_t kMemory = std::int64_t{1} << 30;

struct Shape {
  const char* name;
  std::int64_t heads, kv_heads, head_dim;
};
constexpr Shape kShapes[] = {{"1B", 32, 8, 64}, {"70B", 64, 8, 128}};

struct Options {
  int threads = 2;
  std::int64_t context = 16384;
  std::int64_t prompt = 1024;
  int rounds = 15;
  std::string kernels;
  std::string shape;
  std::int64_t users = 0;
  std::vector<KvFormat> formats = {KvFormat::kCompute};
  bool cpu_clock = false;
};

double now(bool cpu_clock) {
  timespec time{};
  clock_gettime(cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename F>
double seconds(const Options& options, const F& f) {
  const double start = now(options.cpu_clock);
  f();
  return now(options.cpu_clock) - start;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Layers of keys and values for `users` contexts in pages in no order.
struct Cache {
  std::vector<AlignedBuffer> buffers;
  std::vector<KvLayer> layers;
  std::vector<std::vector<PageId>> pages;  // of each user
  std::int64_t layer_bytes = 0;

  Cache(const KernelTable& kernels, const Shape& shape, KvFormat format, std::int64_t users,
        std::int64_t context, std::int64_t memory) {
    const std::int64_t blocks = context / kBlock;
    KvLayer layer;
    layer.block = kBlock;
    layer.head_dim = shape.head_dim;
    layer.format = format;
    layer.head_stride = kBlock * kv_vector_bytes(format, layer.dtype, shape.head_dim);
    layer.page_stride = layer.head_stride * shape.kv_heads;
    layer_bytes = 2 * users * blocks * layer.page_stride;
    const std::int64_t bf16_bytes = 2 * users * context * shape.kv_heads * shape.head_dim * 2;
    std::vector<PageId> ids(static_cast<std::size_t>(users * blocks));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(3));
    for (std::int64_t u = 0; u < users; ++u) {
      pages.emplace_back(ids.begin() + u * blocks, ids.begin() + (u + 1) * blocks);
    }
    std::vector<float> vector(static_cast<std::size_t>(shape.head_dim));
    for (std::int64_t i = 0; i < std::max<std::int64_t>(1, memory / bf16_bytes); ++i) {
      for (std::byte** part : {&layer.keys, &layer.values}) {
        auto buffer = AlignedBuffer::allocate(static_cast<std::size_t>(layer_bytes / 2));
        TG_CHECK(buffer);
        *part = buffer->data();
        buffers.push_back(std::move(*buffer));
      }
      layers.push_back(layer);
      for (std::int64_t u = 0; u < users; ++u) {
        for (std::int64_t p = 0; p < context; ++p) {
          for (std::size_t d = 0; d < vector.size(); ++d) {
            vector[d] = static_cast<float>((p * 7 + static_cast<std::int64_t>(d) * 5) % 23) * 0.04F;
          }
          for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
            kernels.store_kv(
                layer, pages[static_cast<std::size_t>(u)][static_cast<std::size_t>(p / kBlock)], h,
                p % kBlock, vector.data(), vector.data());
          }
        }
      }
    }
  }
};

// Reads a piece in 4 streams far from each other; a stream is about a quarter of it.
__attribute__((target("avx512f"))) std::int64_t read_streams(const std::byte* p,
                                                             std::int64_t bytes) {
  constexpr std::int64_t kStreams = 4;
  // An odd number of lines, so that the streams do not fall on the same sets of the caches.
  const std::int64_t stride = (bytes / kStreams / 64 - 1) / 2 * 2 * 64 + 64;
  __m512i sums[kStreams] = {};
  for (std::int64_t i = 0; i + 128 <= stride; i += 128) {
    for (std::int64_t s = 0; s < kStreams; ++s) {
      sums[s] = _mm512_xor_si512(sums[s], _mm512_load_si512(p + s * stride + i));
      sums[s] = _mm512_xor_si512(sums[s], _mm512_load_si512(p + s * stride + i + 64));
    }
  }
  const __m512i sum =
      _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  return _mm_cvtsi128_si64(_mm512_castsi512_si128(sum));
}

std::int64_t read_plainly(const std::byte* p, std::int64_t bytes) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < bytes; i += 64) sum ^= *reinterpret_cast<const std::int64_t*>(p + i);
  return sum;
}

double read_ceiling(Cache& cache, const Options& options, ThreadTeam& team) {
  constexpr std::int64_t kPiece = std::int64_t{8} << 20;
  const bool wide = __builtin_cpu_supports("avx512f") != 0;
  std::atomic<std::int64_t> all = 0;
  return seconds(options, [&] {
    for (const AlignedBuffer& buffer : cache.buffers) {
      const auto size = static_cast<std::int64_t>(buffer.size());
      team.for_pieces(size, std::min(kPiece, size / team.size()),
                      [&](std::int64_t begin, std::int64_t end) {
                        const std::byte* p = buffer.data() + begin;
                        all += wide ? read_streams(p, end - begin) : read_plainly(p, end - begin);
                      });
    }
  });
}

struct Step {
  const Shape& shape;
  const Options& options;
  ThreadTeam& team;
  std::int64_t rows;  // of a task
  std::vector<float> q, out;
  AlignedBuffer scratch;
  std::int64_t scratch_floats;

  Step(const Shape& s, const Options& o, ThreadTeam& t, std::int64_t count, std::int64_t task_rows)
      : shape(s),
        options(o),
        team(t),
        rows(task_rows),
        q(static_cast<std::size_t>(count * s.heads * s.head_dim)),
        out(q.size()),
        scratch_floats(
            attention_scratch_floats(task_rows, s.heads / s.kv_heads, s.head_dim) / 16 * 16 + 16) {
    auto memory = AlignedBuffer::allocate(static_cast<std::size_t>(4 * scratch_floats * t.size()));
    TG_CHECK(memory);
    scratch = std::move(*memory);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(i % 29) * 0.03F - 0.4F;
  }

  void attend(const KernelTable& kernels, const Cache& cache, const KvLayer& layer, int member,
              std::int64_t user, std::int64_t head, std::int64_t row, std::int64_t position) {
    const std::int64_t width = shape.heads * shape.head_dim;
    AttentionArgs args;
    args.q = q.data() + row * width + head * (shape.heads / shape.kv_heads) * shape.head_dim;
    args.q_stride = width;
    args.rows = rows;
    args.group = shape.heads / shape.kv_heads;
    args.first_position = position;
    args.kv = layer;
    args.kv_head = head;
    args.pages = cache.pages[static_cast<std::size_t>(user)].data();
    args.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    args.out = out.data() + (args.q - q.data());
    args.out_stride = width;
    args.scratch = scratch.as<float>() + member * scratch_floats;
    kernels.attention(args);
  }
};

std::vector<const KernelTable*> tables(const Options& options) {
  std::vector<const KernelTable*> chosen;
  for (const KernelTable* table : available_kernels()) {
    if (table->name == "reference") continue;
    if (options.kernels.empty() || options.kernels == table->name) chosen.push_back(table);
  }
  return chosen;
}

// A table and the cache that it reads.
struct Contender {
  const KernelTable* kernels;
  const Cache* cache;
  std::vector<double> times = {};

  std::string name() const {
    const KvLayer& layer = cache->layers[0];
    return fmt::format("{} {}", kernels->name, tg::name(layer.format, layer.dtype));
  }
  double bytes() const {
    return static_cast<double>(cache->layer_bytes) * static_cast<double>(cache->layers.size());
  }
};

std::vector<Contender> contenders(const Options& options, const std::vector<Cache>& caches) {
  std::vector<Contender> all;
  for (const KernelTable* table : tables(options)) {
    for (const Cache& cache : caches) all.push_back({table, &cache});
  }
  return all;
}

std::vector<Cache> make_caches(const Options& options, const Shape& shape, std::int64_t users,
                               std::int64_t context, std::int64_t memory) {
  std::vector<Cache> caches;
  for (const KvFormat format : options.formats) {
    caches.emplace_back(*tables(options)[0], shape, format, users, context, memory);
  }
  return caches;
}

void decode(const Shape& shape, std::int64_t users, const Options& options, ThreadTeam& team) {
  std::vector<Cache> caches = make_caches(options, shape, users, options.context, kMemory);
  std::vector<Contender> all = contenders(options, caches);
  Step step(shape, options, team, users, 1);
  std::vector<double> ceilings;
  for (int round = 0; round < options.rounds; ++round) {
    ceilings.push_back(all[0].bytes() / read_ceiling(caches[0], options, team));
    for (Contender& c : all) {
      c.times.push_back(seconds(options, [&] {
        for (const KvLayer& layer : c.cache->layers) {
          team.for_pieces_by_member(users * shape.kv_heads, 1,
                                    [&](int member, std::int64_t i, std::int64_t) {
                                      const std::int64_t user = i / shape.kv_heads;
                                      step.attend(*c.kernels, *c.cache, layer, member, user,
                                                  i % shape.kv_heads, user, options.context - 1);
                                    });
        }
      }));
    }
  }
  fmt::print("decode, {} shape, {} users at {}: reading {:.1f} GB/s\n", shape.name, users,
             options.context, median(ceilings) / 1e9);
  for (const Contender& c : all) {
    std::vector<double> shares;
    for (std::size_t i = 0; i < ceilings.size(); ++i) {
      shares.push_back(c.bytes() / c.times[i] / ceilings[i]);
    }
    const double time = median(c.times);
    fmt::print("  {:16} {:6.1f} GB/s {:6.1f} % {:8.3f} ms a layer\n", c.name(),
               c.bytes() / time / 1e9, 100.0 * median(shares),
               1e3 * time / static_cast<double>(c.cache->layers.size()));
  }
}

// One layer of a prompt from position 0, in tasks of 32 rows.
void prompt(const Shape& shape, const Options& options, ThreadTeam& team) {
  constexpr std::int64_t kRows = 32;
  const std::int64_t rows = options.prompt / kBlock * kBlock;
  const std::vector<Cache> caches = make_caches(options, shape, 1, rows, 0);
  std::vector<Contender> all = contenders(options, caches);
  Step step(shape, options, team, rows, kRows);
  const std::int64_t tasks = rows / kRows * shape.kv_heads;
  const double flop = 2.0 * static_cast<double>(rows * (rows + 1) * shape.heads * shape.head_dim);
  for (int round = 0; round < options.rounds; ++round) {
    for (Contender& c : all) {
      c.times.push_back(seconds(options, [&] {
        team.for_pieces_by_member(tasks, 1, [&](int member, std::int64_t i, std::int64_t) {
          const std::int64_t row = (tasks - 1 - i) / shape.kv_heads * kRows;
          step.attend(*c.kernels, *c.cache, c.cache->layers[0], member, 0, i % shape.kv_heads, row,
                      row);
        });
      }));
    }
  }
  fmt::print("prompt, {} shape, {} tokens, one layer\n", shape.name, rows);
  for (const Contender& c : all) {
    const double time = median(c.times);
    fmt::print("  {:16} {:8.2f} ms {:8.1f} GFLOP/s\n", c.name(), 1e3 * time, flop / time / 1e9);
  }
}

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--threads") options.threads = std::atoi(value);
    if (name == "--context") options.context = std::atoll(value) / kBlock * kBlock;
    if (name == "--prompt") options.prompt = std::atoll(value);
    if (name == "--rounds") options.rounds = std::atoi(value);
    if (name == "--kernels") options.kernels = value;
    if (name == "--shape") options.shape = value;
    if (name == "--users") options.users = std::atoll(value);
    if (name == "--kv-dtype") {
      options.formats.push_back(std::string_view(value) == "int8" ? KvFormat::kInt8
                                                                  : KvFormat::kBfp8);
    }
    if (name == "--clock") options.cpu_clock = std::string_view(value) == "cpu";
  }
  return options;
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  const tg::Options options = tg::read_options(argc, argv);
  if (tg::tables(options).empty()) {
    fmt::print("no kernels named '{}' here\n", options.kernels);
    return 2;
  }
  tg::ThreadTeam team(options.threads);
  for (const tg::Shape& shape : tg::kShapes) {
    if (!options.shape.empty() && options.shape != shape.name) continue;
    for (const std::int64_t users : {1, 8}) {
      if (options.users == 0 || options.users == users) tg::decode(shape, users, options, team);
    }
    tg::prompt(shape, options, team);
  }
  return 0;
}
