// The helpers of `parallel`: threads that sleep until they are called.
#include "parallel.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <new>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace sememe {
namespace {

class Helpers {
 public:
  void call(int count, const std::function<void()>& task) {
    std::lock_guard<std::mutex> lock(mutex_);
    try {
      for (int i = 0; i < count; ++i) tasks_.push_back(task);
    } catch (const std::bad_alloc&) {  // those who were called will do: the caller must not leave before they are done
    }
    // As many threads as the widest call asked for: calls at the same time share them, and do the rest themselves.
    for (; made_ < std::min(count, kMost); ++made_) {
      try {
        std::thread([this] { serve(); }).detach();
      } catch (const std::exception&) {
        break;
      }
    }
    if (made_ == 0) tasks_.clear();  // nobody would ever fetch them
    if (count == 1)
      called_.notify_one();
    else
      called_.notify_all();
  }

 private:
  static constexpr int kMost = 256;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      called_.wait(lock, [&] { return !tasks_.empty(); });
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable called_;
  std::deque<std::function<void()>> tasks_;
  int made_ = 0;
};

// Never destroyed: helpers sleep in it until the process ends. A forked process has none of them and begins anew.
Helpers* helpers = nullptr;
std::once_flag once;

void begin() { helpers = new Helpers; }

}  // namespace

void call_helpers(int count, const std::function<void()>& task) {
  std::call_once(once, [] {
    begin();
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, begin);
#endif
  });
  helpers->call(count, task);
}

}  // namespace sememe
