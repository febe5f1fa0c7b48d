// What: finds stop strings in a text that comes in parts, and holds back what may become one: so
//   that nothing of a stop string is ever shown, and all other text as soon as it is sure.
// Who owns: one per answer. Thread: one at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tg {

class StopTexts {
 public:
  // None of the texts is empty. With `keeps` a found text is shown, and nothing behind it.
  StopTexts(std::vector<std::string> texts, bool keeps);

  // Appends to `out` what may be shown by now. False when a stop text is complete: the text then
  // ends, and push() must not be called again. Whole UTF-8 characters in, whole ones out.
  [[nodiscard]] bool push(std::string_view text, std::string& out);
  // The text ends without a stop text: what was held back comes out.
  void flush(std::string& out);

 private:
  struct Watched {
    std::string text;
    // fallback[i]: the longest beginning of text that text[0..i] also ends with, itself excepted.
    std::vector<std::size_t> fallback;
    std::size_t matched = 0;  // bytes of text that the answer ends with by now
  };
  static Watched watch(std::string text);
  static void advance(Watched& watched, char byte);

  std::vector<Watched> watched_;
  bool keeps_;
  std::string held_;
};

}  // namespace tg
