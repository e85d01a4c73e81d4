#include "maxsim.h"

#include <math.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "half.h"

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

#if defined(__AVX512F__)
inline __m512 levels_of(const TokenCode& code, __m512i symbols) {
  if (code.even) return _mm512_add_ps(_mm512_cvtepi32_ps(symbols), _mm512_set1_ps(code.levels[0]));
  if (code.symbols.bits <= 4) return _mm512_permutexvar_ps(symbols, _mm512_loadu_ps(code.levels));
  return _mm512_i32gather_ps(symbols, code.levels, 4);
}

// Symbols of 2, 4 or 8 bits, one plane: straight from the packed bytes.
void put_plane(const TokenCode& code, const uint8_t* packed, float* out) {
  const int bits = code.symbols.bits;
  const int64_t length = (code.d * bits + 7) / 8;
  const __m512i mask = _mm512_set1_epi32((1 << bits) - 1), flip = _mm512_set1_epi32(code.symbols.flip);
  for (int shift = 0; shift < 8; shift += bits) {
    const int64_t first = shift / bits * length, count = code.d - first < length ? code.d - first : length;
    for (int64_t j = 0; j < count; j += 16) {
      const __mmask16 some = count - j >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << (count - j)) - 1);
      const __m512i bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, packed + j));
      const __m512i symbols = _mm512_and_si512(_mm512_srli_epi32(bytes, shift), mask);
      _mm512_mask_storeu_ps(out + first + j, some, levels_of(code, _mm512_xor_si512(symbols, flip)));
    }
  }
}
#endif

void put_levels(const TokenCode& code, const uint8_t* symbols, int64_t padded, float* out) {
  int64_t j = 0;
#if defined(__AVX512F__)
  for (; j < padded; j += 16)
    _mm512_storeu_ps(out + j, levels_of(code, _mm512_cvtepu8_epi32(_mm_loadu_si128(
                                                  reinterpret_cast<const __m128i*>(symbols + j)))));
#else
  if (code.even)
    for (; j < padded; ++j) out[j] = static_cast<float>(symbols[j]) + code.levels[0];
  else
    for (; j < padded; ++j) out[j] = code.levels[symbols[j]];
#endif
}

#if defined(__AVX512F__)
// The sums of the lanes of sixteen registers, in order; folded as `folded` below does.
inline __m512 folded(__m512* a) {
  for (int i = 0; i < 8; ++i)
    a[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
  for (int i = 0; i < 4; ++i) {
    const __m512d x = _mm512_castps_pd(a[2 * i]), y = _mm512_castps_pd(a[2 * i + 1]);
    a[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  }
  const __m512 x = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x88), _mm512_shuffle_f32x4(a[0], a[1], 0xDD));
  const __m512 y = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x88), _mm512_shuffle_f32x4(a[2], a[3], 0xDD));
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xDD));
}
#endif

inline float folded(const float* lane) {
  float four[4];
  for (int i = 0; i < 4; ++i) four[i] = (lane[4 * i] + lane[4 * i + 2]) + (lane[4 * i + 1] + lane[4 * i + 3]);
  return (four[0] + four[1]) + (four[2] + four[3]);
}

#if !defined(__AVX512F__)
inline float larger(float a, float b) { return a > b ? a : b; }
#endif

}  // namespace

void widen_code(const TokenCode& code, const uint8_t* row, int64_t padded, uint8_t* symbols, float* out) {
  if (code.kind == TokenKind::symbols) {
#if defined(__AVX512F__)
    const int bits = code.symbols.bits;
    if (bits == 2 || bits == 4 || bits == 8) {
      put_plane(code, row + code.first, out);
      for (int64_t j = code.d; j < padded; ++j) out[j] = 0;
      return;
    }
#endif
    const int64_t wide = (code.d + 63) / 64 * 64;
    unpack_symbols(code.symbols, row, nullptr, 1, wide, symbols);
    put_levels(code, symbols, padded, out);
  } else if (code.kind == TokenKind::single) {
    memcpy(out, row + code.first, code.d * sizeof(float));
  } else {
    int64_t j = 0;
#if defined(__AVX512F__)
    for (; j + 16 <= code.d; j += 16)
      _mm512_storeu_ps(out + j, _mm512_cvtph_ps(_mm256_loadu_si256(
                                    reinterpret_cast<const __m256i*>(row + code.first + 2 * j))));
#endif
    for (; j < code.d; ++j) {
      uint16_t half;
      memcpy(&half, row + code.first + 2 * j, 2);
      out[j] = widened(half);
    }
  }
  for (int64_t j = code.d; j < padded; ++j) out[j] = 0;
}

float unit_row(const float* centre, const float* spread, int64_t padded, float* row) {
  float lane[16];
#if defined(__AVX512F__)
  // Four sums, so that one addition need not wait for the one before.
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  const auto put = [&](int64_t j, __m512& part) {
    const __m512 left = _mm512_mul_ps(_mm512_loadu_ps(spread + j), _mm512_loadu_ps(row + j));
    const __m512 value = _mm512_add_ps(_mm512_loadu_ps(centre + j), left);
    part = _mm512_add_ps(part, _mm512_mul_ps(value, value));
    _mm512_storeu_ps(row + j, value);
  };
  int64_t j = 0;
  for (; j + 64 <= padded; j += 64) {
    put(j, sum[0]);
    put(j + 16, sum[1]);
    put(j + 32, sum[2]);
    put(j + 48, sum[3]);
  }
  for (int i = 0; j < padded; j += 16, ++i) put(j, sum[i]);
  _mm512_storeu_ps(lane, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
#else
  float sum[4][16] = {};
  for (int64_t j = 0; j < padded; j += 16)
    for (int l = 0; l < 16; ++l) {
      const float value = centre[j + l] + spread[j + l] * row[j + l];
      sum[j / 16 % 4][l] += value * value;
      row[j + l] = value;
    }
  for (int l = 0; l < 16; ++l) lane[l] = (sum[0][l] + sum[1][l]) + (sum[2][l] + sum[3][l]);
#endif
  const float square = folded(lane);
  return square > 0 ? 1.0f / sqrtf(square) : 0.0f;
}

void join_matches(const int32_t* high, const int32_t* low, int64_t count, float* best) {
  for (int64_t i = 0; i < count * 16; i += 16) {
#if defined(__AVX512F__)
    const __m512 upper = _mm512_cvtepi32_ps(_mm512_loadu_si512(high + i));
    const __m512 lower = _mm512_cvtepi32_ps(_mm512_loadu_si512(low + i));
    const __m512 both = _mm512_add_ps(_mm512_mul_ps(upper, _mm512_set1_ps(256)), lower);
    _mm512_storeu_ps(best + i, _mm512_max_ps(both, _mm512_loadu_ps(best + i)));
#else
    for (int64_t r = i; r < i + 16; ++r)
      best[r] = larger(static_cast<float>(high[r]) * 256 + static_cast<float>(low[r]), best[r]);
#endif
  }
}

void best_matches(const float* const* rows, const float* queries, int64_t count, int64_t padded,
                  const float* scale, const float* const* add, float* best) {
#if defined(__AVX512F__)
  __m512 scales = _mm512_set1_ps(1);  // each row's, for its four queries
  if (scale) {
    const __m512i row = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    scales = _mm512_permutexvar_ps(row, _mm512_castps128_ps512(_mm_loadu_ps(scale)));
  }
#endif
  for (int64_t q = 0; q < count; q += kMatched) {
    const float* query = queries + q * padded;
#if defined(__AVX512F__)
    __m512 sum[16];  // row after row, the four queries of each together
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i] = _mm512_setzero_ps();
    for (int64_t j = 0; j < padded; j += 16) {
      __m512 part[kMatched];
#pragma GCC unroll 4
      for (int i = 0; i < kMatched; ++i) part[i] = _mm512_loadu_ps(query + i * padded + j);
#pragma GCC unroll 4
      for (int r = 0; r < kMatched; ++r) {
        const __m512 row = _mm512_loadu_ps(rows[r] + j);
#pragma GCC unroll 4
        for (int i = 0; i < kMatched; ++i)
          sum[4 * r + i] = _mm512_add_ps(sum[4 * r + i], _mm512_mul_ps(row, part[i]));
      }
    }
    __m512 all = folded(sum);
    if (scale) all = _mm512_mul_ps(all, scales);
    if (add) {
      __m512 more = _mm512_castps128_ps512(_mm_loadu_ps(add[0] + q));
      more = _mm512_insertf32x4(more, _mm_loadu_ps(add[1] + q), 1);
      more = _mm512_insertf32x4(more, _mm_loadu_ps(add[2] + q), 2);
      all = _mm512_add_ps(all, _mm512_insertf32x4(more, _mm_loadu_ps(add[3] + q), 3));
    }
    const __m128 first = _mm_max_ps(_mm512_castps512_ps128(all), _mm512_extractf32x4_ps(all, 1));
    const __m128 second = _mm_max_ps(_mm512_extractf32x4_ps(all, 2), _mm512_extractf32x4_ps(all, 3));
    _mm_storeu_ps(best + q, _mm_max_ps(_mm_max_ps(first, second), _mm_loadu_ps(best + q)));
#else
    for (int i = 0; i < kMatched; ++i, query += padded) {
      float one[kMatched];
      for (int r = 0; r < kMatched; ++r) {
        float lane[16] = {};
        for (int64_t j = 0; j < padded; j += 16)
          for (int l = 0; l < 16; ++l) lane[l] += rows[r][j + l] * query[j + l];
        one[r] = scale ? folded(lane) * scale[r] : folded(lane);
        if (add) one[r] += add[r][q + i];
      }
      best[q + i] = larger(larger(larger(one[0], one[1]), larger(one[2], one[3])), best[q + i]);
    }
#endif
  }
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
