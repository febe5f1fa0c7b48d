// What: the events of a text/event-stream out of its bytes, which may come in pieces of any size,
//   and what a completions or chat event says.
// Who owns: plain values. Thread: any, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tg {

// Follows the HTML standard's rules: lines end with LF, CR or CR LF, a blank line ends an event,
// a line that starts with ':' is a comment, one space behind "data:" does not count, several data
// lines are joined by LF, a byte order mark in front of everything goes. Other fields are skipped.
class EventReader {
 public:
  // A server that never ends a line must not fill the memory.
  static constexpr std::size_t kMostBytes = std::size_t{16} << 20;

  // Appends the data of each event that these bytes complete. kOutOfCapacity when one has more
  // than kMostBytes.
  Status push(std::string_view bytes, std::vector<std::string>& events);

  // The data of an event that the end of the stream cut off, if there was any. The standard drops
  // it; whoever only wants to know whether the last word was "[DONE]" need not.
  std::optional<std::string> rest();

 private:
  void end_line(std::vector<std::string>& events);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // an LF now belongs to the CR before it
  bool first_line_ = true;
};

// One event of a streamed answer.
struct AnswerChunk {
  bool done = false;  // "[DONE]"
  std::string text;   // of all choices; a role chunk has none
  std::optional<std::int64_t> prompt_tokens;
  std::optional<std::int64_t> completion_tokens;
  std::optional<std::string> error;  // the server's message, when the event is an error
};

// kBadInput for what is no JSON object.
Result<AnswerChunk> read_answer_chunk(std::string_view data);

// The message of an error body or event in one of the usual forms ({"error": {"message": ...}},
// {"error": "..."}, {"message": ...}, {"detail": ...}); else the beginning of the text itself.
std::string error_message_of(std::string_view body);

}  // namespace tg
