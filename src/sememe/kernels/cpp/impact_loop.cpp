#include "impact.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

template <class Term>
int64_t match_rest(const Term* terms, int64_t i, int64_t n, const uint32_t* asked, uint32_t* places, int64_t count) {
  for (; i < n; ++i) {
    places[count] = static_cast<uint32_t>(i);
    count += asked[terms[i] / 32] >> (terms[i] % 32) & 1;
  }
  return count;
}

}  // namespace

void add_impacts(const uint16_t* rows, const uint8_t* codes, int64_t n, uint16_t factor, uint16_t* totals) {
  constexpr int kStep = 32;  // computed together, added one by one
  uint16_t parts[kStep];
  int64_t start = 0;
  for (; start + kStep <= n; start += kStep) {
    for (int i = 0; i < kStep; ++i) {
      const uint32_t shifted = static_cast<uint16_t>(codes[start + i] << 8);
      parts[i] = static_cast<uint16_t>(1 + (shifted * factor >> 16));
    }
    for (int i = 0; i < kStep; ++i) totals[rows[start + i]] = static_cast<uint16_t>(totals[rows[start + i]] + parts[i]);
  }
  for (; start < n; ++start)
    totals[rows[start]] = static_cast<uint16_t>(totals[rows[start]] + 1 + (codes[start] * factor >> 8));
}

int64_t take_impacts(uint16_t* totals, int64_t n, uint16_t least, const uint8_t* allowed, uint32_t* found,
                     uint16_t* scores) {
  int64_t count = 0, i = 0;
#if defined(__AVX512BW__)
  const __m512i floor = _mm512_set1_epi16(static_cast<short>(least)), zero = _mm512_setzero_si512();
  for (; i + 32 <= n; i += 32) {
    const __m512i here = _mm512_loadu_si512(totals + i);
    _mm512_storeu_si512(totals + i, zero);
    uint32_t mask = _mm512_cmpge_epu16_mask(here, floor);
    if (!mask) continue;
    if (allowed)
      mask &= allowed[i / 8] | static_cast<uint32_t>(allowed[i / 8 + 1]) << 8 |
              static_cast<uint32_t>(allowed[i / 8 + 2]) << 16 | static_cast<uint32_t>(allowed[i / 8 + 3]) << 24;
    uint16_t lanes[32];
    _mm512_storeu_si512(lanes, here);
    for (; mask; mask &= mask - 1) {
      const int lane = __builtin_ctz(mask);
      found[count] = static_cast<uint32_t>(i + lane);
      scores[count++] = lanes[lane];
    }
  }
#elif defined(__AVX2__)
  const __m256i floor = _mm256_set1_epi16(static_cast<short>(least)), zero = _mm256_setzero_si256();
  for (; i + 16 <= n; i += 16) {
    __m256i* place = reinterpret_cast<__m256i*>(totals + i);
    const __m256i here = _mm256_loadu_si256(place);
    _mm256_storeu_si256(place, zero);
    const __m256i high = _mm256_cmpeq_epi16(_mm256_max_epu16(here, floor), here);
    if (_mm256_testz_si256(high, high)) continue;
    uint16_t lanes[16];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), here);
    for (int lane = 0; lane < 16; ++lane) {
      if (lanes[lane] < least || (allowed && !(allowed[(i + lane) / 8] >> (lane % 8) & 1))) continue;
      found[count] = static_cast<uint32_t>(i + lane);
      scores[count++] = lanes[lane];
    }
  }
#endif
  for (; i < n; ++i) {
    const uint16_t here = totals[i];
    totals[i] = 0;
    if (here >= least && (!allowed || (allowed[i / 8] >> (i % 8) & 1))) {
      found[count] = static_cast<uint32_t>(i);
      scores[count++] = here;
    }
  }
  return count;
}

int64_t match_terms(const void* terms, bool wide, int64_t n, const uint32_t* asked, uint32_t* places) {
  int64_t i = 0, count = 0;
#if defined(__AVX512F__)
  const __m512i low = _mm512_set1_epi32(31), one = _mm512_set1_epi32(1);
  __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + 16 <= n; i += 16, place = _mm512_add_epi32(place, _mm512_set1_epi32(16))) {
    const __m512i term =
        wide ? _mm512_loadu_si512(static_cast<const uint32_t*>(terms) + i)
             : _mm512_cvtepu16_epi32(
                   _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(terms) + i)));
    const __m512i word = _mm512_i32gather_epi32(_mm512_srli_epi32(term, 5), asked, 4);
    const __mmask16 mask = _mm512_test_epi32_mask(_mm512_srlv_epi32(word, _mm512_and_si512(term, low)), one);
    _mm512_mask_compressstoreu_epi32(places + count, mask, place);
    count += __builtin_popcount(mask);
  }
#endif
  return wide ? match_rest(static_cast<const uint32_t*>(terms), i, n, asked, places, count)
              : match_rest(static_cast<const uint16_t*>(terms), i, n, asked, places, count);
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
