#include "product.h"

#include <math.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

// What the loop needs of a register of floats. Rows lie in lanes and never meet, so the width does not matter.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
using Floats = __m512;
using Numbers = __m512i;
inline Floats load(const float* at) { return _mm512_loadu_ps(at); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Numbers every(int32_t value) { return _mm512_set1_epi32(value); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline void improve(Floats value, Numbers number, Floats& best, Numbers& which) {
  const __mmask16 better = _mm512_cmp_ps_mask(value, best, _CMP_LT_OQ);
  best = _mm512_min_ps(value, best);
  which = _mm512_mask_mov_epi32(which, better, number);
}
inline void store(int32_t* at, Numbers numbers) { _mm512_storeu_si512(at, numbers); }
#elif defined(__AVX2__)
constexpr int kLanes = 8;
using Floats = __m256;
using Numbers = __m256i;
inline Floats load(const float* at) { return _mm256_loadu_ps(at); }
inline Floats all(float value) { return _mm256_set1_ps(value); }
inline Numbers every(int32_t value) { return _mm256_set1_epi32(value); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline void improve(Floats value, Numbers number, Floats& best, Numbers& which) {
  const __m256 better = _mm256_cmp_ps(value, best, _CMP_LT_OQ);
  best = _mm256_min_ps(value, best);
  which = _mm256_blendv_epi8(which, number, _mm256_castps_si256(better));
}
inline void store(int32_t* at, Numbers numbers) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), numbers); }
#else
constexpr int kLanes = 1;
using Floats = float;
using Numbers = int32_t;
inline Floats load(const float* at) { return *at; }
inline Floats all(float value) { return value; }
inline Numbers every(int32_t value) { return value; }
inline Floats fused(Floats a, Floats b, Floats c) { return fmaf(a, b, c); }
inline void improve(Floats value, Numbers number, Floats& best, Numbers& which) {
  if (value < best) {
    best = value;
    which = number;
  }
}
inline void store(int32_t* at, Numbers numbers) { *at = numbers; }
#endif

#if defined(__AVX512F__)
constexpr int kAbreast = 4, kCentres = 4;  // registers of rows, and centres, that share their loads
#elif defined(__AVX2__)
constexpr int kAbreast = 2, kCentres = 2;
#else
constexpr int kAbreast = 1, kCentres = 1;
#endif

// `some` centres from number c on, for kAbreast registers of rows.
template <int some>
inline void compare(const float* columns, int64_t depth, const float* centre, const float* half, int64_t c,
                    Floats* best, Numbers* which) {
  Floats value[some * kAbreast];
#pragma GCC unroll 16
  for (int i = 0; i < some * kAbreast; ++i) value[i] = all(half[c + i / kAbreast]);
  for (int64_t j = 0; j < depth; ++j) {
    Floats column[kAbreast];
#pragma GCC unroll 4
    for (int i = 0; i < kAbreast; ++i) column[i] = load(columns + j * kTogether + i * kLanes);
#pragma GCC unroll 4
    for (int k = 0; k < some; ++k) {
      const Floats part = all(centre[k * depth + j]);
#pragma GCC unroll 4
      for (int i = 0; i < kAbreast; ++i) value[k * kAbreast + i] = fused(column[i], part, value[k * kAbreast + i]);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < some; ++k) {
    const Numbers number = every(static_cast<int32_t>(c + k));
#pragma GCC unroll 4
    for (int i = 0; i < kAbreast; ++i) improve(value[k * kAbreast + i], number, best[i], which[i]);
  }
}

// `fixed` is the depth where it is small enough to be known to the compiler, or 0.
template <int fixed>
void nearest(const float* columns, int64_t depth, const float* centres, const float* half, int64_t count,
             int32_t* out) {
  if (fixed) depth = fixed;
  for (int64_t row = 0; row < kTogether; row += kLanes * kAbreast) {
    Floats best[kAbreast];
    Numbers which[kAbreast];
#pragma GCC unroll 4
    for (int i = 0; i < kAbreast; ++i) {
      best[i] = all(INFINITY);
      which[i] = every(0);
    }
    int64_t c = 0;
    for (; c + kCentres <= count; c += kCentres)
      compare<kCentres>(columns + row, depth, centres + c * depth, half, c, best, which);
    for (; c < count; ++c) compare<1>(columns + row, depth, centres + c * depth, half, c, best, which);
#pragma GCC unroll 4
    for (int i = 0; i < kAbreast; ++i) store(out + row + i * kLanes, which[i]);
  }
}

}  // namespace

void nearest_centres(const float* columns, int64_t depth, const float* centres, const float* half, int64_t count,
                     int32_t* out) {
  switch (depth) {
    case 1: return nearest<1>(columns, depth, centres, half, count, out);
    case 2: return nearest<2>(columns, depth, centres, half, count, out);
    case 3: return nearest<3>(columns, depth, centres, half, count, out);
    case 4: return nearest<4>(columns, depth, centres, half, count, out);
    case 6: return nearest<6>(columns, depth, centres, half, count, out);
    case 8: return nearest<8>(columns, depth, centres, half, count, out);
    case 12: return nearest<12>(columns, depth, centres, half, count, out);
    case 16: return nearest<16>(columns, depth, centres, half, count, out);
    default: return nearest<0>(columns, depth, centres, half, count, out);
  }
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
