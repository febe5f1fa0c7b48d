// What: one streamed answer as a load client sees it: from bytes and the times at which they came
//   to the times of its text, its tokens, or the reason why it counts as failed.
// Who owns: plain values; a reader belongs to its transfer. Thread: any, one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/load_events.h"

namespace tg {

// Seconds since the run's begin throughout.
struct LoadAnswer {
  double sent_s = 0.0;
  double first_text_s = 0.0;   // of a completed answer
  double last_text_s = 0.0;    // likewise; a chunk without text (role, usage) does not count
  double end_s = 0.0;          // when nothing more could come, or it failed
  std::vector<double> gaps_s;  // between neighbouring chunks with text
  std::int64_t output_tokens = 0;
  std::optional<std::int64_t> prompt_tokens;
  bool has_usage = false;  // else output_tokens counts chunks with text
  std::string text;
  std::string failure;       // empty: completed
  bool interrupted = false;  // by us, while it was running: neither completed nor failed

  bool completed() const { return failure.empty() && !interrupted; }
  // From sending to the first chunk with text, or to the last.
  double ttft_s() const { return first_text_s - sent_s; }
  double e2el_s() const { return last_text_s - sent_s; }
  // Per token behind the first; nothing for a single token.
  std::optional<double> tpot_s() const;
};

inline constexpr long kHttpOk = 200;

class AnswerReader {
 public:
  // `prompt_tokens`: what is known before the server says it.
  AnswerReader(double sent_s, std::optional<std::int64_t> prompt_tokens);

  // Bytes of the body that came together. False when nothing behind them matters: they are wrong.
  bool push(double at_s, std::string_view bytes);

  // "[DONE]" has come: the answer is complete, whatever the connection does.
  bool done() const { return done_; }

  // How it ended: `status` 0 when no HTTP status came, `broken` the connection's error or empty.
  // A completed answer has HTTP status 200, text, and "[DONE]" behind it.
  LoadAnswer finish(double at_s, long status, const std::string& broken);

  // What there was when the client stopped.
  LoadAnswer interrupt(double at_s);

 private:
  Status take(double at_s, const std::string& event);
  std::string failure_of(long status, const std::string& broken) const;

  LoadAnswer answer_;
  EventReader events_;
  std::string beginning_;    // of the body, for the message of a failure
  std::string wrong_;        // what the events themselves say
  std::int64_t chunks_ = 0;  // with text
  bool has_events_ = false;
  bool done_ = false;
};

}  // namespace tg
