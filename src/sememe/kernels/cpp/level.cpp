#include "level.h"

#include <atomic>
#include <cstring>

namespace sememe {
namespace {

constexpr Level kLevels[] = {Level::plain, Level::avx2, Level::neon, Level::avx512};

Level best() {
  Level found = Level::plain;
  for (Level level : kLevels)
    if (available(level)) found = level;
  return found;
}

std::atomic<Level>& chosen() {
  static std::atomic<Level> level{best()};
  return level;
}

}  // namespace

bool available(Level level) {
  switch (level) {
    case Level::plain:
      return true;
#if defined(__x86_64__)
    case Level::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Level::avx512:
      return available(Level::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("avx512vpopcntdq");
#endif
#if defined(__aarch64__)
    case Level::neon:
      return true;  // part of the architecture
#endif
    default:
      return false;
  }
}

const char* name(Level level) {
  switch (level) {
    case Level::avx2:
      return "avx2";
    case Level::neon:
      return "neon";
    case Level::avx512:
      return "avx512";
    default:
      return "plain";
  }
}

Level current() { return chosen().load(std::memory_order_relaxed); }

bool use(const char* wanted) {
  for (Level level : kLevels)
    if (std::strcmp(name(level), wanted) == 0 && available(level)) {
      chosen().store(level, std::memory_order_relaxed);
      return true;
    }
  return false;
}

}  // namespace sememe
