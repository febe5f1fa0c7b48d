#include "server/http_shared.h"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "server/http_text.h"

namespace tg {

void HttpShared::post(std::function<void()> work) {
  {
    const std::scoped_lock lock(post_mutex_);
    if (!ended_) {
      boost::asio::post(io, std::move(work));
      return;
    }
  }
  work();
}

void HttpShared::end_posts() {
  {
    const std::scoped_lock lock(post_mutex_);
    ended_ = true;
  }
  io.restart();
  io.poll();
}

const std::string& HttpShared::date() {
  const std::time_t now = std::time(nullptr);
  if (now != date_time_ || date_.empty()) {
    date_time_ = now;
    date_ = http_date(now);
  }
  return date_;
}

std::string HttpShared::make_id() {
  // A full-period walk: no id twice, and none that says how many came before.
  id_state_ = id_state_ * 6364136223846793005U + 1442695040888963407U;
  return fmt::format("req-{:016x}", id_state_);
}

}  // namespace tg
