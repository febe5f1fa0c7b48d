// The memory ceiling: passes over memory that no cache holds, with nothing but loads.
#include <fmt/format.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>

#include "kernels/ceilings.h"

namespace tg {
namespace {

constexpr std::int64_t kLine = 64;

// A part of the memory as `streams` stretches of `length` bytes, `stride` apart.
struct Stretches {
  const std::byte* first;
  std::int64_t length;
  std::int64_t stride;
};

// Streams a power of two apart would share cache sets and DRAM banks: an odd number of lines is
// taken.
Stretches cut(const std::byte* part, std::int64_t bytes, const ReadPattern& pattern) {
  const std::int64_t turn = kLine * pattern.lines;
  std::int64_t lines = bytes / pattern.streams / kLine;
  if (lines % 2 == 0) --lines;
  return {part, lines * kLine / turn * turn, lines * kLine};
}

__attribute__((target("avx512f"))) std::int64_t read_avx512(const Stretches& s,
                                                            const ReadPattern& pattern) {
  __m512i sum = _mm512_setzero_si512();
  __m512i other = _mm512_setzero_si512();
  const std::int64_t turn = kLine * pattern.lines;
  for (std::int64_t at = 0; at < s.length; at += turn) {
    for (int stream = 0; stream < pattern.streams; ++stream) {
      const std::byte* p = s.first + stream * s.stride + at;
      if (pattern.prefetch_bytes != 0) {
        for (std::int64_t i = 0; i < turn; i += kLine) {
          _mm_prefetch(reinterpret_cast<const char*>(p + i + pattern.prefetch_bytes), _MM_HINT_T0);
        }
      }
      for (std::int64_t i = 0; i < turn; i += 2 * kLine) {
        sum = _mm512_xor_si512(sum, _mm512_load_si512(p + i));
        other = _mm512_xor_si512(other, _mm512_load_si512(p + i + kLine));
      }
    }
  }
  return _mm512_xor_si512(sum, other)[0];
}

__attribute__((target("avx2"))) std::int64_t read_avx2(const Stretches& s,
                                                       const ReadPattern& pattern) {
  __m256i sum = _mm256_setzero_si256();
  __m256i other = _mm256_setzero_si256();
  const std::int64_t turn = kLine * pattern.lines;
  for (std::int64_t at = 0; at < s.length; at += turn) {
    for (int stream = 0; stream < pattern.streams; ++stream) {
      const std::byte* p = s.first + stream * s.stride + at;
      if (pattern.prefetch_bytes != 0) {
        for (std::int64_t i = 0; i < turn; i += kLine) {
          _mm_prefetch(reinterpret_cast<const char*>(p + i + pattern.prefetch_bytes), _MM_HINT_T0);
        }
      }
      for (std::int64_t i = 0; i < turn; i += kLine) {
        const auto* v = reinterpret_cast<const __m256i*>(p + i);
        sum = _mm256_xor_si256(sum, _mm256_load_si256(v));
        other = _mm256_xor_si256(other, _mm256_load_si256(v + 1));
      }
    }
  }
  return _mm256_xor_si256(sum, other)[0];
}

std::int64_t read_plain(const Stretches& s, const ReadPattern& pattern) {
  std::int64_t sum = 0;
  const std::int64_t turn = kLine * pattern.lines;
  for (std::int64_t at = 0; at < s.length; at += turn) {
    for (int stream = 0; stream < pattern.streams; ++stream) {
      const auto* p = reinterpret_cast<const std::int64_t*>(s.first + stream * s.stride + at);
      for (std::int64_t i = 0; i < turn / 8; ++i) sum ^= p[i];
    }
  }
  return sum;
}

using Reader = std::int64_t (*)(const Stretches&, const ReadPattern&);

Reader best_reader() {
  if (__builtin_cpu_supports("avx512f")) return read_avx512;
  return __builtin_cpu_supports("avx2") ? read_avx2 : read_plain;
}

}  // namespace

std::string ReadPattern::text() const {
  return fmt::format("{} stream{} a thread, {} lines in turn, {}", streams, streams == 1 ? "" : "s",
                     lines,
                     prefetch_bytes == 0 ? std::string("no prefetch")
                                         : fmt::format("prefetch {} bytes ahead", prefetch_bytes));
}

Result<ReadSpeed> ReadSpeed::create(std::size_t bytes, ThreadTeam& team) {
  TG_ASSIGN(AlignedBuffer memory, AlignedBuffer::allocate(bytes));
  // Untouched pages would all be the same zeros.
  constexpr std::int64_t kPiece = std::int64_t{1} << 21;
  team.for_pieces(static_cast<std::int64_t>(bytes), kPiece,
                  [&memory](std::int64_t begin, std::int64_t end) {
                    std::fill(memory.data() + begin, memory.data() + end, std::byte{1});
                  });
  return ReadSpeed(std::move(memory));
}

double ReadSpeed::one_pass(const ReadPattern& pattern, ThreadTeam& team) const {
  const Reader reader = best_reader();
  const auto part = static_cast<std::int64_t>(memory_.size()) / team.size() / kLine * kLine;
  const Stretches shape = cut(memory_.data(), part, pattern);
  const double bytes =
      static_cast<double>(shape.length) * static_cast<double>(pattern.streams) * team.size();
  const auto begin = std::chrono::steady_clock::now();
  team.run([&](int member) {
    Stretches s = shape;
    s.first += member * part;
    std::int64_t sum = reader(s, pattern);
    __asm__ volatile("" : "+r"(sum));  // so that the loads have a purpose
  });
  return bytes / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

RateSpread ReadSpeed::measure(ThreadTeam& team, double seconds) const {
  std::vector<double> rates;
  const auto begin = std::chrono::steady_clock::now();
  do {
    rates.push_back(one_pass(pattern_, team));
  } while (rates.size() < 3 ||
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() <
               seconds);
  return spread_of(std::move(rates));
}

void ReadSpeed::choose_pattern(ThreadTeam& team) {
  constexpr std::array kStreams = {1, 2, 3, 4, 6, 8, 12};
  constexpr std::array kLines = {2, 4, 16};
  constexpr std::array kPrefetches = {0, 512, 2048};
  // In turns, so that a busy moment of the machine is not held against the patterns it meets.
  constexpr int kTurns = 3;
  double best = 0.0;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (const int streams : kStreams) {
      for (const int lines : kLines) {
        for (const int prefetch : kPrefetches) {
          const ReadPattern pattern{streams, lines, prefetch};
          const double rate = one_pass(pattern, team);
          if (rate <= best) continue;
          best = rate;
          pattern_ = pattern;
        }
      }
    }
  }
}

}  // namespace tg
