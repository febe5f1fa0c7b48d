#include "server/stop_texts.h"

#include <algorithm>
#include <utility>

namespace tg {

StopTexts::StopTexts(std::vector<std::string> texts, bool keeps) : keeps_(keeps) {
  watched_.reserve(texts.size());
  for (std::string& text : texts) watched_.push_back(watch(std::move(text)));
}

StopTexts::Watched StopTexts::watch(std::string text) {
  Watched w;
  w.fallback.assign(text.size(), 0);
  for (std::size_t i = 1, length = 0; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = w.fallback[length - 1];
    if (text[i] == text[length]) ++length;
    w.fallback[i] = length;
  }
  w.text = std::move(text);
  return w;
}

void StopTexts::advance(Watched& watched, char byte) {
  while (watched.matched > 0 && watched.text[watched.matched] != byte) {
    watched.matched = watched.fallback[watched.matched - 1];
  }
  if (watched.text[watched.matched] == byte) ++watched.matched;
}

bool StopTexts::push(std::string_view text, std::string& out) {
  if (watched_.empty()) {
    out += text;
    return true;
  }
  for (const char byte : text) {
    held_ += byte;
    std::size_t found = 0;
    for (Watched& w : watched_) {
      advance(w, byte);
      // Of several that end here the one that begins first.
      if (w.matched == w.text.size()) found = std::max(found, w.matched);
    }
    if (found == 0) continue;
    out.append(held_, 0, held_.size() - (keeps_ ? 0 : found));
    held_.clear();
    return false;
  }
  std::size_t unsure = 0;
  for (const Watched& w : watched_) unsure = std::max(unsure, w.matched);
  out.append(held_, 0, held_.size() - unsure);
  held_.erase(0, held_.size() - unsure);
  return true;
}

void StopTexts::flush(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace tg
