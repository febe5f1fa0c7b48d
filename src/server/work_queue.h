// What: a few threads for work that takes too long for the HTTP server's: tokenizing, templates,
//   grammars. The queue is bounded, so that a flood of requests is refused and not stored.
// Who owns: the caller; the destructor ends the threads, work that has not begun is dropped.
// Thread: post() from any.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tg {

class WorkQueue {
 public:
  WorkQueue(int threads, std::size_t most_waiting);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False, and nothing happens: the queue is full. `work` must not throw.
  [[nodiscard]] bool post(std::function<void()> work);

 private:
  void run();

  const std::size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable has_work_;
  std::deque<std::function<void()>> waiting_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tg
