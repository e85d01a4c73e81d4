#include "additive.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

// What the loop needs of a register of floats; values lie in lanes and never meet.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kWide = 16;  // floats of a register, registers that hold sums
using Floats = __m512;
inline Floats load(const float* at) { return _mm512_loadu_ps(at); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline void store(float* at, Floats value) { _mm512_storeu_ps(at, value); }
inline uint32_t below(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
#elif defined(__AVX2__)
constexpr int kLanes = 8, kWide = 8;
using Floats = __m256;
inline Floats load(const float* at) { return _mm256_loadu_ps(at); }
inline Floats all(float value) { return _mm256_set1_ps(value); }
inline Floats plus(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline void store(float* at, Floats value) { _mm256_storeu_ps(at, value); }
inline uint32_t below(Floats a, Floats b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}
#else
constexpr int kLanes = 1, kWide = 8;
using Floats = float;
inline Floats load(const float* at) { return *at; }
inline Floats all(float value) { return value; }
inline Floats plus(Floats a, Floats b) { return a + b; }
inline void store(float* at, Floats value) { *at = value; }
inline uint32_t below(Floats a, Floats b) { return a < b; }
#endif

}  // namespace

void add_rows(const float* first, const float* const* rows, int64_t count, float start, float* out) {
  for (int64_t c = 0; c < kChoices; c += kLanes * kWide) {
    Floats sum[kWide];
#pragma GCC unroll 16
    for (int i = 0; i < kWide; ++i) sum[i] = plus(all(start), load(first + c + i * kLanes));
    for (int64_t r = 0; r < count; ++r) {
      const float* row = rows[r] + c;
#pragma GCC unroll 16
      for (int i = 0; i < kWide; ++i) sum[i] = plus(sum[i], load(row + i * kLanes));
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWide; ++i) store(out + c + i * kLanes, sum[i]);
  }
}

int64_t keep_least(const float* values, int32_t number, int64_t most, int64_t held, float* best, int32_t* which) {
  for (int64_t c = 0; c < kChoices; c += kLanes) {
    uint32_t mask = (1u << kLanes) - 1;
    if (held == most) mask = below(load(values + c), all(best[most - 1]));
    for (; mask; mask &= mask - 1) {
      const int64_t at = c + __builtin_ctz(mask);
      const float value = values[at];
      if (held == most && !(value < best[most - 1])) continue;
      int64_t place = held == most ? most - 1 : held++;
      for (; place > 0 && value < best[place - 1]; --place) {
        best[place] = best[place - 1];
        which[place] = which[place - 1];
      }
      best[place] = value;
      which[place] = number + static_cast<int32_t>(at);
    }
  }
  return held;
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
