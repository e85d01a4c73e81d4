#include "rescore.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "half.h"

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int64_t kAhead = 6;  // rows requested before they are needed: a row far away takes longer than several dots

inline void request(const void* row, int64_t bytes) {
  const char* at = static_cast<const char*>(row);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}

#if defined(__AVX512F__)
template <class T>
inline __m512 load(const T* at, __mmask16 mask);
template <>
inline __m512 load<float>(const float* at, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, at);
}
template <>
inline __m512 load<uint16_t>(const uint16_t* at, __mmask16 mask) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
}
template <>
inline __m512 load<int8_t>(const int8_t* at, __mmask16 mask) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, at)));
}

inline float folded(const __m512* sum) {
  const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[2]), _mm512_add_ps(sum[1], sum[3]));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The products of `rows` rows that lie one after the other: a part of the query is loaded once for all of them.
template <int rows, class T>
inline void dots(const T* row, const float* query, int64_t d, float* out) {
  __m512 sum[rows][4];
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < 4; ++i) sum[r][i] = _mm512_setzero_ps();
  int64_t j = 0;
  for (; j + 64 <= d; j += 64)
    for (int i = 0; i < 4; ++i) {
      const __m512 part = _mm512_loadu_ps(query + j + 16 * i);
      for (int r = 0; r < rows; ++r)
        sum[r][i] = _mm512_add_ps(sum[r][i], _mm512_mul_ps(load(row + r * d + j + 16 * i, 0xFFFF), part));
    }
  for (int i = 0; j < d; j += 16, ++i) {
    const __mmask16 mask = d - j >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << (d - j)) - 1);
    const __m512 part = _mm512_maskz_loadu_ps(mask, query + j);
    for (int r = 0; r < rows; ++r)
      sum[r][i] = _mm512_add_ps(sum[r][i], _mm512_mul_ps(load(row + r * d + j, mask), part));
  }
  for (int r = 0; r < rows; ++r) out[r] = folded(sum[r]);
}
#else
inline float wide(float value) { return value; }
inline float wide(int8_t value) { return value; }

inline float wide(uint16_t half) { return widened(half); }

template <class T>
float dot(const T* row, const float* query, int64_t d) {
  float sum[64] = {};
  int64_t j = 0;
  for (; j + 64 <= d; j += 64)
    for (int lane = 0; lane < 64; ++lane) sum[lane] += wide(row[j + lane]) * query[j + lane];
  for (int lane = 0; j < d; ++j, ++lane) sum[lane] += wide(row[j]) * query[j];
  for (int half = 32; half; half /= 2)
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  return sum[0];
}

template <int rows, class T>
void dots(const T* row, const float* query, int64_t d, float* out) {
  for (int r = 0; r < rows; ++r) out[r] = dot(row + r * d, query, d);
}
#endif

template <class T>
void all_rows(const T* values, int64_t d, const float* query, const int64_t* pick, int64_t count, float* out) {
  const int64_t bytes = d * static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count && i < kAhead; ++i) request(values + pick[i] * d, bytes);
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) request(values + pick[i + kAhead] * d, bytes);
    dots<1>(values + pick[i] * d, query, d, out + i);
  }
}

template <class T>
void stretch(const T* row, int64_t d, const float* query, int64_t count, float* out) {
  constexpr int64_t kTogether = 4;
  int64_t i = 0;
  for (; i + kTogether <= count; i += kTogether) {
    request(row + (i + kTogether) * d, kTogether * d * static_cast<int64_t>(sizeof(T)));
    dots<kTogether>(row + i * d, query, d, out + i);
  }
  for (; i < count; ++i) dots<1>(row + i * d, query, d, out + i);
}

}  // namespace

void dot_rows(const Rows& rows, const float* query, const int64_t* pick, int64_t count, float* out) {
  if (rows.size == 1)
    all_rows(static_cast<const int8_t*>(rows.values), rows.d, query, pick, count, out);
  else if (rows.size == 2)
    all_rows(static_cast<const uint16_t*>(rows.values), rows.d, query, pick, count, out);
  else
    all_rows(static_cast<const float*>(rows.values), rows.d, query, pick, count, out);
}

void dot_stretch(const Rows& rows, const float* query, int64_t first, int64_t count, float* out) {
  const int64_t start = first * rows.d;
  if (rows.size == 1)
    stretch(static_cast<const int8_t*>(rows.values) + start, rows.d, query, count, out);
  else if (rows.size == 2)
    stretch(static_cast<const uint16_t*>(rows.values) + start, rows.d, query, count, out);
  else
    stretch(static_cast<const float*>(rows.values) + start, rows.d, query, count, out);
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
