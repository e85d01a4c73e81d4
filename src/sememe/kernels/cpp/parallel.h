// Cutting a range among threads.
//
// On a busy machine a thread may begin milliseconds after it was called. Nobody waits for one: slices are fetched by
// whoever is free, the calling thread fetches too, and a helper that comes when all are taken goes away again. Helpers
// sleep between calls: a thread that exists is put to work on another core much sooner than one that has to be made.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace sememe {

// Wakes `count` sleeping helpers, or makes them, to call `task` once each, sometime. Where the machine gives no more
// threads, fewer come.
void call_helpers(int count, const std::function<void()>& task);

// What the threads of one call share. Helpers own it too, for they may outlive the call.
class Slices {
 public:
  explicit Slices(int count) : count_(count) {}

  // Takes slices and works on them until none is left. Nothing of the caller's is touched where none was.
  template <class Work>
  void help(Work& work) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (next_ < count_) {
      const int slice = next_++;
      ++busy_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        work(slice);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure && !failure_) failure_ = failure;
      if (--busy_ == 0 && next_ == count_) done_.notify_all();
    }
  }

  // Until all slices are worked on; the first failure of any.
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0 && next_ == count_; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  int count_, next_ = 0, busy_ = 0;
  std::exception_ptr failure_;
};

// Calls work(part, first, last) for `parts` even slices of [0, n), from at most as many threads, the calling one among
// them. All calls have returned when this does.
template <class Work>
void parallel(int64_t n, int parts, Work work) {
  parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(parts, n)));
  if (parts == 1) {
    work(0, int64_t{0}, n);
    return;
  }
  auto one = [&](int part) { work(part, n * part / parts, n * (part + 1) / parts); };
  const auto slices = std::make_shared<Slices>(parts);
  call_helpers(parts - 1, [slices, &one] { slices->help(one); });
  slices->help(one);
  slices->wait();
}

}  // namespace sememe
