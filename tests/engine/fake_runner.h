// What: a ModelRunner whose "model" is a hash. Its KV pages hold the token of each position, and
//   the logits of a row are a function of the tokens that a walk over the pages finds: a wrong
//   page, a stale position or a wrong offset changes the answer. The real sampler chooses.
// Who owns: the test. Thread: the test's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/model_runner.h"

namespace tg::test {

inline std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 31)) * 0xd6e8feb86659fd93U;
  z = (z ^ (z >> 29)) * 0xa0761d6478bd642fU;
  return z ^ (z >> 32);
}

// The next row of logits after `tokens`, in about -8..8. After `habit` of 100 texts the same token
// as always follows the last one, however the rest of the text goes: a text that repeats itself
// for a while and then does not.
inline std::vector<float> logits_after(std::span<const TokenId> tokens, std::int64_t vocab,
                                       std::uint64_t habit = 0) {
  std::uint64_t hash = 1;
  for (const TokenId id : tokens) hash = mix(hash * 3 + static_cast<std::uint64_t>(id) + 7);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(mix(hash + i * 0x9e37U) % 16001) / 1000.0F - 8.0F;
  }
  if (mix(hash) % 100 < habit) {
    const auto last = static_cast<std::uint64_t>(tokens.back());
    logits[mix(last + 1) % static_cast<std::uint64_t>(vocab)] += 20.0F;
  }
  return logits;
}

class FakeRunner : public ModelRunner {
 public:
  struct Options {
    std::int64_t vocab = 64;
    std::int64_t context = 4096;
    std::int64_t block = 16;
    std::int64_t blocks = 64;
    std::int64_t max_rows = 256;
    std::int32_t domains = 1;
    std::uint64_t habit = 0;
  };

  explicit FakeRunner(Options options)
      : options_(options),
        memory_(
            static_cast<std::size_t>(options.domains),
            std::vector<TokenId>(static_cast<std::size_t>(options.blocks * options.block), -1)) {}

  std::int64_t vocab() const override { return options_.vocab; }
  std::int64_t max_context() const override { return options_.context; }
  KvCapacity kv_capacity() const override {
    return {options_.block, options_.blocks, options_.max_rows};
  }
  std::int32_t kv_domains() const override { return options_.domains; }

  Result<StepResult> step(const StepBatch& batch) override {
    ++steps;
    if (in_step) in_step();
    const bool fails = steps >= fail_at_step && steps < fail_at_step + failures;
    answers_.clear();
    std::set<std::pair<std::int32_t, PageId>> written, read;
    std::int64_t rows = 0;
    for (const StepSequence& s : batch.sequences) {
      const auto count = static_cast<std::int64_t>(s.tokens.size());
      rows += count;
      if (count == 0 || s.kv_domain < 0 || s.kv_domain >= options_.domains) return broken("shape");
      if (static_cast<std::int64_t>(s.pages.size()) * options_.block < s.first_position + count) {
        return broken("a position without a page");
      }
      if (s.first_position + count > options_.context) return broken("past the context");
      for (std::size_t i = 0; i < s.pages.size(); ++i) {
        const PageId page = s.pages[i];
        if (page < 0 || page >= options_.blocks) return broken("a page outside the pool");
        // Full pages in front may be those of others too, the rest is its own.
        const bool full = static_cast<std::int64_t>(i + 1) * options_.block <= s.first_position;
        if (full) {
          read.emplace(s.kv_domain, page);
        } else if (!written.emplace(s.kv_domain, page).second) {
          return broken("a page of two sequences");
        }
      }
      for (std::int64_t i = 0; i < count; ++i) {
        cell(s, s.first_position + i) = fails ? -9 : s.tokens[static_cast<std::size_t>(i)];
      }
    }
    for (const auto& page : written) {
      if (read.contains(page)) return broken("a page of two sequences");
    }
    if (fails) return error(ErrorCode::kInternal, "the fake fails at step {}", steps);
    if (rows > options_.max_rows) return broken("too many rows");
    most_rows = std::max(most_rows, rows);
    most_sequences = std::max(most_sequences, batch.sequences.size());
    for (const StepSequence& s : batch.sequences) {
      std::int64_t last_row = -1;
      for (const RowAsk& ask : s.asks) {
        if (ask.row < last_row || ask.row >= static_cast<std::int64_t>(s.tokens.size())) {
          return broken("asks out of order");
        }
        last_row = ask.row;
        std::vector<TokenId> seen;
        for (std::int64_t p = 0; p <= s.first_position + ask.row; ++p) seen.push_back(cell(s, p));
        std::vector<float> logits = logits_after(seen, options_.vocab, options_.habit);
        RowAnswer answer;
        if (ask.kind == RowAsk::Kind::kScore) {
          ++scored_rows;
          answer.token = score(logits, ask.next, ask.top_n, scratch_);
        } else {
          answer.token = sample(logits, *ask.params, ask.context, scratch_);
        }
        answers_.push_back(std::move(answer));
      }
    }
    if (drop_an_answer && !answers_.empty()) answers_.pop_back();
    return StepResult{answers_};
  }

  std::int64_t steps = 0;
  std::int64_t most_rows = 0;
  std::size_t most_sequences = 0;
  std::int64_t scored_rows = 0;
  std::int64_t fail_at_step = -1;  // counted from 1
  std::int64_t failures = 1;       // steps, from that one on
  std::function<void()> in_step;   // called in each step, if set
  bool drop_an_answer = false;
  std::string broken_rule;  // what a batch did wrong; "" = nothing so far

 private:
  TokenId& cell(const StepSequence& s, std::int64_t position) {
    const PageId page = s.pages[static_cast<std::size_t>(position / options_.block)];
    return memory_[static_cast<std::size_t>(s.kv_domain)]
                  [static_cast<std::size_t>(page * options_.block + position % options_.block)];
  }

  tl::unexpected<Error> broken(const char* rule) {
    broken_rule = rule;
    return error(ErrorCode::kInternal, "{}", rule);
  }

  Options options_;
  std::vector<std::vector<TokenId>> memory_;  // [domain][page * block + offset]
  SamplerScratch scratch_;
  std::vector<RowAnswer> answers_;
};

// The answer that a request must get: the loop without pages, batches or chunks.
struct Expected {
  std::vector<TokenId> sampled;  // the stop id included
  bool stopped = false;
};

inline Expected expected_answer(std::vector<TokenId> tokens, std::int64_t max_new,
                                const SamplingParams& params, std::span<const TokenId> stops,
                                std::int64_t vocab, std::uint64_t habit = 0) {
  Expected expected;
  SamplerScratch scratch;
  const std::size_t prompt = tokens.size();
  for (std::int64_t i = 0; i < max_new; ++i) {
    std::vector<float> logits = logits_after(tokens, vocab, habit);
    SamplingContext context;
    context.prompt = std::span(tokens).first(prompt);
    context.output = std::span(tokens).subspan(prompt);
    context.token_index = static_cast<std::uint64_t>(i);
    const TokenId token = sample(logits, params, context, scratch).token;
    tokens.push_back(token);
    expected.sampled.push_back(token);
    for (const TokenId stop : stops) expected.stopped = expected.stopped || stop == token;
    if (expected.stopped) break;
  }
  return expected;
}

}  // namespace tg::test
