#include "model/step_message.h"

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "model/logit_shard.h"

namespace tg {
namespace {

// Of one sequence, and of one ask; then come all their lists, each kind without gaps. Both ends are
// the same program on machines of the same kind. Eight bytes each, so that there is no padding.
struct Header {
  std::int64_t tokens = 0;
  std::int64_t pages = 0;
  std::int64_t asks = 0;
  std::int64_t first_position = 0;
  std::int64_t kv_domain = 0;
};

struct AskHeader {
  std::int64_t kind = 0;
  std::int64_t row = 0;
  std::int64_t next = 0;
  std::int64_t top_n = 0;
  // SamplingContext; how long its lists are
  std::int64_t prompt = 0;
  std::int64_t output = 0;
  std::int64_t allowed = 0;
  std::uint64_t token_index = 0;
  // SamplingParams
  double temperature = 0.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  std::uint64_t seed = 0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::int64_t biases = 0;
  std::int64_t top_logprobs = -1;
};

struct Bias {
  TokenId token = 0;
  float bias = 0.0F;
};

class Writer {
 public:
  explicit Writer(std::vector<std::byte>& to) : to_(to) { to_.clear(); }
  template <typename T>
  void add(std::span<const T> values) {
    const std::span<const std::byte> bytes = std::as_bytes(values);
    to_.insert(to_.end(), bytes.begin(), bytes.end());
  }
  template <typename T>
  void add(const T& value) {
    add(std::span<const T>(&value, 1));
  }

 private:
  std::vector<std::byte>& to_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> from) : from_(from) {}
  // False when there is less.
  template <typename T>
  bool take(std::span<T> values) {
    if (from_.size() < values.size_bytes()) return false;
    if (!values.empty()) std::memcpy(values.data(), from_.data(), values.size_bytes());
    from_ = from_.subspan(values.size_bytes());
    return true;
  }
  // `count` values; false also for a count that no message could hold.
  template <typename T>
  bool take(std::int64_t count, std::vector<T>& values) {
    if (count < 0 || count > static_cast<std::int64_t>(from_.size() / sizeof(T))) return false;
    values.resize(static_cast<std::size_t>(count));
    return take(std::span(values));
  }
  std::size_t left() const { return from_.size(); }

 private:
  std::span<const std::byte> from_;
};

// Adds counts of lists; false when one is negative or more than `most`, and so before any overflow.
bool add_counts(std::initializer_list<std::pair<std::int64_t, std::int64_t*>> counts,
                std::int64_t most) {
  for (const auto& [count, sum] : counts) {
    if (count < 0 || count > most) return false;
    *sum += count;
    if (*sum > most) return false;
  }
  return true;
}

// The parameters that the choice for a row depends on; those of a score or of logits are none.
const SamplingParams* params_of(const RowAsk& ask) {
  return ask.kind == RowAsk::Kind::kSample ? ask.params : nullptr;
}

AskHeader header_of(const RowAsk& ask, bool in_full) {
  AskHeader h;
  h.row = ask.row;
  h.kind = static_cast<std::int64_t>(in_full ? ask.kind : RowAsk::Kind::kLogits);
  if (!in_full) return h;
  h.next = ask.next;
  h.top_n = ask.top_n;
  const SamplingParams* params = params_of(ask);
  if (params == nullptr) return h;
  if (has_penalties(*params)) {
    h.prompt = static_cast<std::int64_t>(ask.context.prompt.size());
    h.output = static_cast<std::int64_t>(ask.context.output.size());
  }
  h.allowed = static_cast<std::int64_t>(ask.context.allowed.size());
  h.token_index = ask.context.token_index;
  h.temperature = params->temperature;
  h.top_k = params->top_k;
  h.top_p = params->top_p;
  h.min_p = params->min_p;
  h.seed = params->seed;
  h.repetition_penalty = params->repetition_penalty;
  h.presence_penalty = params->presence_penalty;
  h.frequency_penalty = params->frequency_penalty;
  h.biases = static_cast<std::int64_t>(params->logit_bias.size());
  h.top_logprobs = params->top_logprobs;
  return h;
}

SamplingParams params_from(const AskHeader& h, std::span<const Bias> biases) {
  SamplingParams params;
  params.temperature = h.temperature;
  params.top_k = h.top_k;
  params.top_p = h.top_p;
  params.min_p = h.min_p;
  params.seed = h.seed;
  params.repetition_penalty = h.repetition_penalty;
  params.presence_penalty = h.presence_penalty;
  params.frequency_penalty = h.frequency_penalty;
  for (const Bias& b : biases) params.logit_bias.emplace_back(b.token, b.bias);
  params.top_logprobs = static_cast<std::int32_t>(h.top_logprobs);
  return params;
}

// The next `n` of a list.
template <typename T>
std::span<const T> next(std::span<const T>& from, std::int64_t n) {
  const auto part = from.first(static_cast<std::size_t>(n));
  from = from.subspan(static_cast<std::size_t>(n));
  return part;
}

// Makes step.asks of their headers; the lists are read already and as long as the headers say.
void make_asks(std::span<const AskHeader> headers, std::span<const Bias> biases,
               UnpackedStep& step) {
  std::span<const TokenId> texts = step.texts;
  std::span<const std::uint32_t> masks = step.masks;
  step.params.reserve(headers.size());  // asks point at them
  for (const AskHeader& h : headers) {
    step.params.push_back(params_from(h, next(biases, h.biases)));
    RowAsk ask;
    ask.kind = static_cast<RowAsk::Kind>(h.kind);
    ask.row = h.row;
    ask.params = &step.params.back();
    ask.context.prompt = next(texts, h.prompt);
    ask.context.output = next(texts, h.output);
    ask.context.allowed = next(masks, h.allowed);
    ask.context.token_index = h.token_index;
    ask.next = static_cast<TokenId>(h.next);
    ask.top_n = static_cast<std::int32_t>(h.top_n);
    step.asks.push_back(ask);
  }
}

}  // namespace

void pack_step(const StepBatch& batch, bool asks_in_full, std::vector<std::byte>& message) {
  Writer out(message);
  out.add(static_cast<std::int64_t>(batch.sequences.size()));
  for (const StepSequence& s : batch.sequences) {
    out.add(Header{static_cast<std::int64_t>(s.tokens.size()),
                   static_cast<std::int64_t>(s.pages.size()),
                   static_cast<std::int64_t>(s.asks.size()), s.first_position, s.kv_domain});
  }
  const auto for_asks = [&](const auto& f) {
    for (const StepSequence& s : batch.sequences) {
      for (const RowAsk& ask : s.asks) f(ask, header_of(ask, asks_in_full));
    }
  };
  for_asks([&](const RowAsk&, const AskHeader& h) { out.add(h); });
  for (const StepSequence& s : batch.sequences) out.add(s.tokens);
  for (const StepSequence& s : batch.sequences) out.add(s.pages);
  for_asks([&](const RowAsk& ask, const AskHeader& h) {
    out.add(ask.context.prompt.first(static_cast<std::size_t>(h.prompt)));
    out.add(ask.context.output.first(static_cast<std::size_t>(h.output)));
  });
  for_asks([&](const RowAsk& ask, const AskHeader& h) {
    out.add(ask.context.allowed.first(static_cast<std::size_t>(h.allowed)));
  });
  for_asks([&](const RowAsk& ask, const AskHeader& h) {
    if (h.biases == 0) return;
    for (const auto& [token, bias] : ask.params->logit_bias) out.add(Bias{token, bias});
  });
}

Result<UnpackedStep> unpack_step(std::span<const std::byte> message) {
  const auto cut_off = [&] {
    return error(ErrorCode::kBadInput, "a step message of {} bytes is cut off or garbled",
                 message.size());
  };
  Reader in(message);
  std::int64_t count = 0;
  const auto most = static_cast<std::int64_t>(message.size());  // of anything in it
  std::vector<Header> headers;
  if (!in.take(std::span(&count, 1)) || !in.take(count, headers)) return cut_off();
  Header sum;
  for (const Header& h : headers) {
    if (!add_counts({{h.tokens, &sum.tokens}, {h.pages, &sum.pages}, {h.asks, &sum.asks}}, most)) {
      return cut_off();
    }
  }
  std::vector<AskHeader> ask_headers;
  if (!in.take(sum.asks, ask_headers)) return cut_off();
  std::int64_t texts = 0, masks = 0, biases = 0;
  for (const AskHeader& h : ask_headers) {
    const bool known = h.kind >= 0 && h.kind <= static_cast<std::int64_t>(RowAsk::Kind::kLogits);
    if (!known ||
        !add_counts(
            {{h.prompt, &texts}, {h.output, &texts}, {h.allowed, &masks}, {h.biases, &biases}},
            most)) {
      return cut_off();
    }
  }
  UnpackedStep step;
  std::vector<Bias> all_biases;
  if (!in.take(sum.tokens, step.tokens) || !in.take(sum.pages, step.pages) ||
      !in.take(texts, step.texts) || !in.take(masks, step.masks) || !in.take(biases, all_biases) ||
      in.left() != 0) {
    return cut_off();
  }
  make_asks(ask_headers, all_biases, step);
  std::span<const TokenId> tokens = step.tokens;
  std::span<const PageId> pages = step.pages;
  std::span<const RowAsk> asks = step.asks;
  for (const Header& h : headers) {
    StepSequence s;
    s.tokens = next(tokens, h.tokens);
    s.pages = next(pages, h.pages);
    s.asks = next(asks, h.asks);
    s.first_position = h.first_position;
    s.kv_domain = static_cast<std::int32_t>(h.kv_domain);
    step.sequences.push_back(s);
  }
  return step;
}

}  // namespace tg
