// What: what this machine can do at best, measured: multiplications per second of each instruction
//   that a kernel may be made of, and bytes read from memory per second. Benchmarks state their
//   figures as shares of these.
// Who owns: ReadSpeed owns the memory that it reads; the team is the caller's. Thread: one caller.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "tensor/aligned_buffer.h"

namespace tg {

// Of the rates in many short windows: another tenant of the machine lowers the median, not the
// best.
struct RateSpread {
  double median = 0.0;
  double best = 0.0;
};

// `rates` has one at least.
RateSpread spread_of(std::vector<double> rates);

// An instruction by itself, in independent chains and registers only.
struct Ceiling {
  std::string_view name;      // "vdpbf16ps zmm"
  std::string_view operands;  // "f32", "bf16", "int8"
  double operations = 0.0;    // of one call of `run` per round: a multiply-add is two
  void (*run)(std::int64_t rounds) = nullptr;
};

// Those that this CPU has.
std::vector<Ceiling> available_ceilings();

// Operations per second of the whole team, in windows of about 10 ms for `seconds`.
RateSpread measure(const Ceiling& ceiling, ThreadTeam& team, double seconds);

// How each thread goes through its part of the memory.
struct ReadPattern {
  int streams = 1;         // places at which it reads in turn
  int lines = 4;           // cache lines of one place in a turn
  int prefetch_bytes = 0;  // software prefetch so far ahead; 0: none

  std::string text() const;
};

class ReadSpeed {
 public:
  // Huge pages where the system gives them. All of `bytes` is written once.
  static Result<ReadSpeed> create(std::size_t bytes, ThreadTeam& team);

  // Tries all patterns and keeps the one with the fastest pass.
  void choose_pattern(ThreadTeam& team);
  const ReadPattern& pattern() const { return pattern_; }

  // Bytes per second of the whole team with the kept pattern; a window is one pass over the memory.
  RateSpread measure(ThreadTeam& team, double seconds) const;

 private:
  explicit ReadSpeed(AlignedBuffer memory) : memory_(std::move(memory)) {}
  // Bytes per second of one pass.
  double one_pass(const ReadPattern& pattern, ThreadTeam& team) const;

  AlignedBuffer memory_;
  ReadPattern pattern_;
};

}  // namespace tg
