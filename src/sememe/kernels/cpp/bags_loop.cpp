#include "bags.h"

#include <math.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int64_t kStrip = 256;  // columns summed in one pass of plain code

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A finite half-precision number in units of 2^-24. Those of 128 and more do not fit and must not occur.
inline int32_t fixed(uint16_t half) {
  const int32_t exponent = (half >> 10) & 31, fraction = half & 1023;
  const int32_t size = exponent ? (1024 + fraction) << (exponent - 1) : fraction;
  return half & 0x8000 ? -size : size;
}

#if defined(__AVX512F__) || defined(__AVX2__)
constexpr int64_t kAhead = 4;  // rows asked for before they are added

inline void ask_for(const uint16_t* row, int64_t columns) {
  for (int64_t j = 0; j < columns; j += 32) _mm_prefetch(reinterpret_cast<const char*>(row + j), _MM_HINT_T0);
}
#endif

#if defined(__AVX512F__)
// Sixteen times `registers` columns, summed in registers and then added to the total.
template <int registers>
void add_strip(const uint16_t* values, int64_t stride, const uint16_t* pieces, int64_t count, int64_t known,
               int64_t* total) {
  const __m512 unit = _mm512_set1_ps(0x1p24f);
  __m512i sum[registers];
  for (int v = 0; v < registers; ++v) sum[v] = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < known) ask_for(values + pieces[i + kAhead] * stride, 16 * registers);
    const uint16_t* row = values + pieces[i] * stride;
    for (int v = 0; v < registers; ++v) {
      const __m512 wide = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 16 * v)));
      sum[v] = _mm512_add_epi32(sum[v], _mm512_cvtps_epi32(_mm512_mul_ps(wide, unit)));
    }
  }
  for (int v = 0; v < registers; ++v) {
    int64_t* at = total + 16 * v;
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum[v]));
    const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum[v], 1));
    _mm512_storeu_si512(at, _mm512_add_epi64(_mm512_loadu_si512(at), low));
    _mm512_storeu_si512(at + 8, _mm512_add_epi64(_mm512_loadu_si512(at + 8), high));
  }
}
#elif defined(__AVX2__)
// Eight times `registers` columns.
template <int registers>
void add_strip(const uint16_t* values, int64_t stride, const uint16_t* pieces, int64_t count, int64_t known,
               int64_t* total) {
  const __m256 unit = _mm256_set1_ps(0x1p24f);
  __m256i sum[registers];
  for (int v = 0; v < registers; ++v) sum[v] = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < known) ask_for(values + pieces[i + kAhead] * stride, 8 * registers);
    const uint16_t* row = values + pieces[i] * stride;
    for (int v = 0; v < registers; ++v) {
      const __m256 wide = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 8 * v)));
      sum[v] = _mm256_add_epi32(sum[v], _mm256_cvtps_epi32(_mm256_mul_ps(wide, unit)));
    }
  }
  for (int v = 0; v < registers; ++v) {
    __m256i* at = reinterpret_cast<__m256i*>(total + 8 * v);
    const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sum[v]));
    const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sum[v], 1));
    _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), low));
    _mm256_storeu_si256(at + 1, _mm256_add_epi64(_mm256_loadu_si256(at + 1), high));
  }
}
#endif

// `count` rows whose sum fits into 32 bits; `known` pieces can be read.
void add_some(const PieceTable& table, const uint16_t* pieces, int64_t count, int64_t known, int64_t* total) {
  int64_t first = 0;
#if defined(__AVX512F__)
  for (; first + 256 <= table.d; first += 256)
    add_strip<16>(table.values + first, table.stride, pieces, count, known, total + first);
  for (; first + 64 <= table.d; first += 64)
    add_strip<4>(table.values + first, table.stride, pieces, count, known, total + first);
#elif defined(__AVX2__)
  for (; first + 64 <= table.d; first += 64)
    add_strip<8>(table.values + first, table.stride, pieces, count, known, total + first);
#endif
  for (; first < table.d; first += kStrip) {
    const int64_t width = smaller(kStrip, table.d - first);
    int32_t part[kStrip];
    memset(part, 0, sizeof part);
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t* row = table.values + pieces[i] * table.stride + first;
      for (int64_t j = 0; j < width; ++j) part[j] += fixed(row[j]);
    }
    for (int64_t j = 0; j < width; ++j) total[first + j] += part[j];
  }
}

}  // namespace

void mark_spaces(const uint8_t* bytes, int64_t words, uint64_t* bits) {
  for (int64_t w = 0; w < words; ++w, bytes += 64) {
    uint64_t found = 0;
#if defined(__AVX512BW__)
    found = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(' '));
#elif defined(__AVX2__)
    const __m256i space = _mm256_set1_epi8(' ');
    for (int half = 0; half < 2; ++half) {
      const __m256i here = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 32 * half));
      const uint32_t mask = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(here, space)));
      found |= static_cast<uint64_t>(mask) << (32 * half);
    }
#else
    for (int i = 0; i < 64; ++i) found |= static_cast<uint64_t>(bytes[i] == ' ') << i;
#endif
    bits[w] = found;
  }
}

void add_pieces(const PieceTable& table, const uint16_t* pieces, int64_t count, int64_t most, int64_t* total) {
  for (int64_t first = 0; first < count; first += most)
    add_some(table, pieces + first, smaller(most, count - first), count - first, total);
}

void finish_row(const int64_t* total, int64_t d, int64_t pieces, float* out) {
  if (pieces > 0) {
    for (int64_t j = 0; j < d; ++j)
      out[j] = static_cast<float>(static_cast<double>(total[j]) * 0x1p-24 / static_cast<double>(pieces));
    return;
  }
  // Eight running sums at every level, and in NumPy: the last bit does not depend on the machine.
  double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t j = 0;
  for (; j + 8 <= d; j += 8)
    for (int i = 0; i < 8; ++i) {
      const double value = static_cast<double>(total[j + i]);
      lane[i] += value * value;
    }
  for (int i = 0; j < d; ++j, ++i) {
    const double value = static_cast<double>(total[j]);
    lane[i] += value * value;
  }
  const double square = ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
  const double scale = square > 0 ? 1.0 / sqrt(square) : 0.0;
  for (j = 0; j < d; ++j) out[j] = static_cast<float>(static_cast<double>(total[j]) * scale);
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
