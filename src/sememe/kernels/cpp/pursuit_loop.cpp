#include "pursuit.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int64_t kBlocks = kSpan / kSide;

#if defined(__AVX512VNNI__)

// `some` residuals with the four blocks of a span: 4 * some sums stay in registers.
template <int some>
inline void products(const uint8_t* packed, int64_t quads, const int8_t* residuals, int32_t* out) {
  __m512i sum[some][kBlocks];
#pragma GCC unroll 8
  for (int t = 0; t < some; ++t)
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) sum[t][b] = _mm512_setzero_si512();
  for (int64_t q = 0; q < quads; ++q) {
    __m512i atoms[kBlocks];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) atoms[b] = _mm512_loadu_si512(packed + (b * quads + q) * 4 * kSide);
#pragma GCC unroll 8
    for (int t = 0; t < some; ++t) {
      int32_t four;
      __builtin_memcpy(&four, residuals + (t * quads + q) * 4, 4);
      const __m512i each = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) sum[t][b] = _mm512_dpbusd_epi32(sum[t][b], atoms[b], each);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < some; ++t)
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) _mm512_storeu_si512(out + t * kSpan + b * kSide, sum[t][b]);
}
constexpr int kAbreast = 6;

#elif defined(__AVX2__)

// One block at a time: pairs of sums of 16 atoms in four registers for each residual.
template <int some>
inline void products(const uint8_t* packed, int64_t quads, const int8_t* residuals, int32_t* out) {
  for (int64_t b = 0; b < kBlocks; ++b) {
    __m256i sum[some][4];
#pragma GCC unroll 2
    for (int t = 0; t < some; ++t)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[t][i] = _mm256_setzero_si256();
    for (int64_t q = 0; q < quads; ++q) {
      const uint8_t* from = packed + (b * quads + q) * 4 * kSide;
      __m256i atoms[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        atoms[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * i)));
#pragma GCC unroll 2
      for (int t = 0; t < some; ++t) {
        int32_t four;
        __builtin_memcpy(&four, residuals + (t * quads + q) * 4, 4);
        const __m256i each = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[t][i] = _mm256_add_epi32(sum[t][i], _mm256_madd_epi16(atoms[i], each));
      }
    }
#pragma GCC unroll 2
    for (int t = 0; t < some; ++t)
#pragma GCC unroll 2
      for (int i = 0; i < 4; i += 2) {
        const __m256i added = _mm256_hadd_epi32(sum[t][i], sum[t][i + 1]);  // within halves: 0 2 | 1 3, in twos
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + t * kSpan + b * kSide + 4 * i),
                            _mm256_permute4x64_epi64(added, 0b11011000));
      }
  }
}
constexpr int kAbreast = 2;

#else

template <int some>
inline void products(const uint8_t* packed, int64_t quads, const int8_t* residuals, int32_t* out) {
  for (int64_t b = 0; b < kBlocks; ++b)
    for (int t = 0; t < some; ++t) {
      int32_t sum[kSide] = {};
      for (int64_t q = 0; q < quads; ++q) {
        const uint8_t* from = packed + (b * quads + q) * 4 * kSide;
        const int8_t* with = residuals + (t * quads + q) * 4;
        for (int64_t i = 0; i < kSide; ++i)
          sum[i] += from[4 * i] * with[0] + from[4 * i + 1] * with[1] + from[4 * i + 2] * with[2] +
                    from[4 * i + 3] * with[3];
      }
      for (int64_t i = 0; i < kSide; ++i) out[t * kSpan + b * kSide + i] = sum[i];
    }
}
constexpr int kAbreast = 1;

#endif

// Eight lanes at every level; where registers are narrower the compiler uses several.
using Floats = float __attribute__((vector_size(4 * kLane), aligned(4)));
using Doubles = double __attribute__((vector_size(8 * kLane), aligned(8)));

inline void widen(const float* at, Doubles& to) {
  to = __builtin_convertvector(*reinterpret_cast<const Floats*>(at), Doubles);
}
inline double total(const Doubles& sum) {
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

}  // namespace

void span_products(const uint8_t* packed, int64_t quads, const int8_t* residuals, int64_t targets, int32_t* out) {
  int64_t t = 0;
  for (; t + kAbreast <= targets; t += kAbreast)
    products<kAbreast>(packed, quads, residuals + t * quads * 4, out + t * kSpan);
  for (; t < targets; ++t) products<1>(packed, quads, residuals + t * quads * 4, out + t * kSpan);
}

#if defined(__AVX512F__)

void sift(const int32_t* products, const float* scale, const float* norm, const float* lost, int64_t first,
          Sieve* sieve) {
  const __m512i shift = _mm512_set1_epi32(sieve->shift);
  const __m512 by = _mm512_set1_ps(sieve->scale), gone = _mm512_set1_ps(sieve->lost), kept = _mm512_set1_ps(sieve->kept);
  const __m512 round = _mm512_set1_ps(1.0001f), share = _mm512_set1_ps(1e-6f);
  __m512 upper[kBlocks], highest = _mm512_set1_ps(sieve->floor);
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t i = b * kSide;
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(products + i), shift));
    const __m512 size = _mm512_abs_ps(_mm512_mul_ps(whole, _mm512_mul_ps(_mm512_loadu_ps(scale + i), by)));
    const __m512 rest =
        _mm512_add_ps(_mm512_mul_ps(gone, _mm512_loadu_ps(norm + i)), _mm512_mul_ps(kept, _mm512_loadu_ps(lost + i)));
    const __m512 slack = _mm512_add_ps(_mm512_mul_ps(rest, round), _mm512_mul_ps(size, share));
    upper[b] = _mm512_add_ps(size, slack);
    highest = _mm512_max_ps(highest, _mm512_sub_ps(size, slack));
  }
  const float floor = _mm512_reduce_max_ps(highest);
  sieve->floor = floor;
  const __m512 least = _mm512_set1_ps(floor);
  int64_t count = sieve->count;
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const __mmask16 stay = _mm512_cmp_ps_mask(upper[b], least, _CMP_GE_OQ);
    if (!stay) continue;
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i atoms = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(first + b * kSide)));
    _mm512_storeu_si512(sieve->atom + count, _mm512_maskz_compress_epi32(stay, atoms));
    _mm512_storeu_ps(sieve->upper + count, _mm512_maskz_compress_ps(stay, upper[b]));
    count += __builtin_popcount(stay);
  }
  sieve->count = count;
}

#else

void sift(const int32_t* products, const float* scale, const float* norm, const float* lost, int64_t first,
          Sieve* sieve) {
  float upper[kSpan], floor = sieve->floor;
  for (int64_t i = 0; i < kSpan; ++i) {
    const float about = static_cast<float>(products[i] - sieve->shift) * (scale[i] * sieve->scale);
    const float size = about < 0 ? -about : about;
    // The last part covers the rounding of these very lines.
    const float slack = (sieve->lost * norm[i] + sieve->kept * lost[i]) * 1.0001f + size * 1e-6f;
    upper[i] = size + slack;
    floor = size - slack > floor ? size - slack : floor;
  }
  sieve->floor = floor;
  int64_t count = sieve->count;
  for (int64_t i = 0; i < kSpan; ++i) {
    sieve->atom[count] = static_cast<int32_t>(first + i);
    sieve->upper[count] = upper[i];
    count += upper[i] >= floor;
  }
  sieve->count = count;
}

#endif

// Rows come from memory in no order: while one is multiplied, the next is fetched.
double dot_mixed(const float* row, const double* vector, int64_t padded, const float* next) {
  Doubles sum[2] = {}, wide;
  int64_t j = 0;
  for (; j + 2 * kLane <= padded; j += 2 * kLane) {
    __builtin_prefetch(next + j);
    widen(row + j, wide);
    sum[0] += wide * *reinterpret_cast<const Doubles*>(vector + j);
    widen(row + j + kLane, wide);
    sum[1] += wide * *reinterpret_cast<const Doubles*>(vector + j + kLane);
  }
  if (j < padded) {
    widen(row + j, wide);
    sum[0] += wide * *reinterpret_cast<const Doubles*>(vector + j);
  }
  return total(sum[0] + sum[1]);
}

double dot_rows(const float* a, const float* b, int64_t padded, const float* next) {
  Doubles sum[2] = {}, left, right;
  int64_t j = 0;
  for (; j + 2 * kLane <= padded; j += 2 * kLane) {
    __builtin_prefetch(next + j);
    widen(a + j, left);
    widen(b + j, right);
    sum[0] += left * right;
    widen(a + j + kLane, left);
    widen(b + j + kLane, right);
    sum[1] += left * right;
  }
  if (j < padded) {
    widen(a + j, left);
    widen(b + j, right);
    sum[0] += left * right;
  }
  return total(sum[0] + sum[1]);
}

void take_away(double* vector, double weight, const float* row, int64_t padded) {
  Doubles wide;
  for (int64_t j = 0; j < padded; j += kLane) {
    widen(row + j, wide);
    *reinterpret_cast<Doubles*>(vector + j) -= weight * wide;
  }
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
