// Cutting a range among threads. Threads are started for each call: a call that is worth them lasts milliseconds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace sememe {

// Calls work(part, first, last) for `parts` even slices of [0, n), the last one on the calling thread.
template <class Work>
void parallel(int64_t n, int parts, Work work) {
  parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(parts, n)));
  std::vector<std::exception_ptr> failures(parts);
  auto guarded = [&](int part) {
    try {
      work(part, n * part / parts, n * (part + 1) / parts);
    } catch (...) {
      failures[part] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int part = 0; part + 1 < parts; ++part) threads.emplace_back(guarded, part);
  guarded(parts - 1);
  for (auto& thread : threads) thread.join();
  for (auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace sememe
