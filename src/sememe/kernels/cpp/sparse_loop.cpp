#include "sparse.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int kStep = 32;  // postings whose contributions are computed together, before they are added one by one

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Half precision as float, exact for all finite values.
inline void widen(const uint16_t* values, int n, float* out) {
  int i = 0;
#if defined(__AVX2__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i))));
#endif
  for (; i < n; ++i) {
    const uint32_t wide =
        (static_cast<uint32_t>(values[i] & 0x7FFF) << 13) | (static_cast<uint32_t>(values[i] & 0x8000) << 16);
    float value;
    memcpy(&value, &wide, 4);
    out[i] = value * 0x1p112f;
  }
}

inline void scatter(const uint32_t* rows, const float* parts, int n, float* totals) {
  for (int i = 0; i < n; ++i) totals[rows[i]] += parts[i];
}

template <class Count>
void add_counts_of(const uint32_t* rows, const Count* counts, int64_t n, float weight, const float* norms,
                   uint32_t base, float* totals) {
  float parts[kStep], norm[kStep];
  totals -= base;
  for (int64_t start = 0; start < n; start += kStep) {
    const int here = static_cast<int>(smaller(kStep, n - start));
    const uint32_t* row = rows + start;
    for (int i = 0; i < here; ++i) norm[i] = norms[row[i]];
    for (int i = 0; i < here; ++i) {
      const float count = counts[start + i];
      parts[i] = weight * count / (count + norm[i]);
    }
    scatter(row, parts, here, totals);
  }
}

}  // namespace

void add_bytes(const uint32_t* rows, const uint8_t* values, int64_t n, float weight, uint32_t base, float* totals) {
  float parts[kStep];
  totals -= base;
  int64_t start = 0;
  for (; start + kStep <= n; start += kStep) {
    for (int i = 0; i < kStep; ++i) parts[i] = weight * static_cast<float>(values[start + i]);
    scatter(rows + start, parts, kStep, totals);
  }
  for (; start < n; ++start) totals[rows[start]] += weight * static_cast<float>(values[start]);
}

void add_halves(const uint32_t* rows, const uint16_t* values, int64_t n, float weight, uint32_t base, float* totals) {
  float parts[kStep];
  totals -= base;
  for (int64_t start = 0; start < n; start += kStep) {
    const int here = static_cast<int>(smaller(kStep, n - start));
    widen(values + start, here, parts);
    for (int i = 0; i < here; ++i) parts[i] *= weight;
    scatter(rows + start, parts, here, totals);
  }
}

void add_counts(const uint32_t* rows, const void* counts, bool wide, int64_t n, float weight, const float* norms,
                uint32_t base, float* totals) {
  if (wide)
    add_counts_of(rows, static_cast<const uint16_t*>(counts), n, weight, norms, base, totals);
  else
    add_counts_of(rows, static_cast<const uint8_t*>(counts), n, weight, norms, base, totals);
}

int64_t take_totals(float* totals, int64_t n, float least, const uint8_t* allowed, uint32_t* found, float* scores) {
  int64_t count = 0, i = 0;
#if defined(__AVX512F__)
  const __m512 floor = _mm512_set1_ps(least), zero = _mm512_setzero_ps();
  for (; i + 16 <= n; i += 16) {
    const __m512 here = _mm512_loadu_ps(totals + i);
    _mm512_storeu_ps(totals + i, zero);
    uint32_t mask = _mm512_cmp_ps_mask(here, floor, _CMP_GE_OQ) & _mm512_cmp_ps_mask(here, zero, _CMP_GT_OQ);
    if (allowed) mask &= allowed[i / 8] | static_cast<uint32_t>(allowed[i / 8 + 1]) << 8;
    if (!mask) continue;
    float lanes[16];
    _mm512_storeu_ps(lanes, here);
    for (; mask; mask &= mask - 1) {
      const int lane = __builtin_ctz(mask);
      found[count] = static_cast<uint32_t>(i + lane);
      scores[count++] = lanes[lane];
    }
  }
#elif defined(__AVX2__)
  const __m256 floor = _mm256_set1_ps(least), zero = _mm256_setzero_ps();
  for (; i + 8 <= n; i += 8) {
    const __m256 here = _mm256_loadu_ps(totals + i);
    _mm256_storeu_ps(totals + i, zero);
    uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(
        _mm256_and_ps(_mm256_cmp_ps(here, floor, _CMP_GE_OQ), _mm256_cmp_ps(here, zero, _CMP_GT_OQ))));
    if (allowed) mask &= allowed[i / 8];
    if (!mask) continue;
    float lanes[8];
    _mm256_storeu_ps(lanes, here);
    for (; mask; mask &= mask - 1) {
      const int lane = __builtin_ctz(mask);
      found[count] = static_cast<uint32_t>(i + lane);
      scores[count++] = lanes[lane];
    }
  }
#endif
  for (; i < n; ++i) {
    const float here = totals[i];
    totals[i] = 0.0f;
    if (here > 0.0f && here >= least && (!allowed || (allowed[i / 8] >> (i % 8) & 1))) {
      found[count] = static_cast<uint32_t>(i);
      scores[count++] = here;
    }
  }
  return count;
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
