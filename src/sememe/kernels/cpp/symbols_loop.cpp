// Multiplying rows of symbols with queries in integers.
#include "symbols.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

#if defined(__AVX512VNNI__)
// The sixteen lanes' sums of sixteen registers, in order.
inline __m512i sums_of(__m512i* a) {
  for (int i = 0; i < 8; ++i)
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]),
                            _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]));
  // a[i]: in each 128-bit lane the pairs (2i, 2i+1, 2i, 2i+1)
  for (int i = 0; i < 4; ++i)
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]),
                            _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
  // a[i]: in each 128-bit lane the rows 4i .. 4i+3
  const __m512i x = _mm512_add_epi32(_mm512_shuffle_i32x4(a[0], a[1], 0x88), _mm512_shuffle_i32x4(a[0], a[1], 0xDD));
  const __m512i y = _mm512_add_epi32(_mm512_shuffle_i32x4(a[2], a[3], 0x88), _mm512_shuffle_i32x4(a[2], a[3], 0xDD));
  return _mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xDD));
}

// How many of `left` queries are multiplied together, and lie together, word by word.
inline int64_t together(int64_t left) { return left >= 16 ? 16 : left >= 8 ? 8 : left >= 4 ? 4 : 1; }

// One tile and `queries` queries that lie together. Rows are lanes, so nothing is added up across; few queries take
// several sums each, so that none waits for the one before it.
template <int queries>
void match(const uint8_t* tile, const int8_t* words, int64_t padded, const float* more, const float* scale,
           const float* least, int32_t* sums, uint16_t* masks) {
  constexpr int parts = queries >= 8 ? 1 : queries == 4 ? 2 : 8;
  __m512i sum[queries * parts];
#pragma GCC unroll 16
  for (int i = 0; i < queries * parts; ++i) sum[i] = _mm512_setzero_si512();
#pragma GCC unroll 1
  for (int64_t w = 0; w < padded / 4; w += parts) {
#pragma GCC unroll 8
    for (int p = 0; p < parts; ++p) {
      const __m512i rows = _mm512_loadu_si512(tile + (w + p) * 64);
#pragma GCC unroll 16
      for (int i = 0; i < queries; ++i) {
        int32_t word;
        memcpy(&word, words + ((w + p) * queries + i) * 4, 4);
        sum[i * parts + p] = _mm512_dpbusd_epi32(sum[i * parts + p], rows, _mm512_set1_epi32(word));
        __asm__("" : "+v"(sum[i * parts + p]));  // stay in this register
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < queries; ++i) {
    __m512i all = sum[i * parts];
#pragma GCC unroll 8
    for (int p = 1; p < parts; ++p) all = _mm512_add_epi32(all, sum[i * parts + p]);
    _mm512_storeu_si512(sums + 16 * i, all);
    __m512 value = _mm512_add_ps(_mm512_cvtepi32_ps(all), _mm512_set1_ps(more[i]));
    if (scale) value = _mm512_mul_ps(value, _mm512_loadu_ps(scale));
    masks[i] = _mm512_cmp_ps_mask(value, _mm512_set1_ps(least[i]), _CMP_GE_OQ);
  }
}
#else
template <int queries>
void tile(const uint8_t* rows, const int8_t* q, int64_t padded, int32_t* out) {
  for (int r = 0; r < 16; ++r) {
    const uint8_t* row = rows + r * padded;
#if defined(__AVX2__)
    __m256i sum[queries];
    for (int i = 0; i < queries; ++i) sum[i] = _mm256_setzero_si256();
    for (int64_t j = 0; j < padded; j += 16) {
      // Widened to 16 bits: the instruction for mixed bytes would saturate.
      const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + j)));
      for (int i = 0; i < queries; ++i) {
        const __m256i part =
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i * padded + j)));
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(wide, part));
      }
    }
    for (int i = 0; i < queries; ++i) {
      __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum[i]), _mm256_extracti128_si256(sum[i], 1));
      half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
      half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
      out[i * 16 + r] = _mm_cvtsi128_si32(half);
    }
#else
    for (int i = 0; i < queries; ++i) {
      const int8_t* part = q + i * padded;
      int32_t sum = 0;
      for (int64_t j = 0; j < padded; ++j) sum += static_cast<int32_t>(row[j]) * part[j];
      out[i * 16 + r] = sum;
    }
#endif
  }
}
#endif

}  // namespace

void order_queries(const int8_t* queries, int64_t count, int64_t padded, int8_t* out) {
#if defined(__AVX512VNNI__)
  for (int64_t q = 0; q < count;) {
    const int64_t some = together(count - q);
    for (int64_t w = 0; w < padded / 4; ++w)
      for (int64_t i = 0; i < some; ++i, out += 4) memcpy(out, queries + (q + i) * padded + 4 * w, 4);
    q += some;
  }
#else
  memcpy(out, queries, count * padded);
#endif
}

void match_symbols(const uint8_t* rows, const int8_t* queries, int64_t count, int64_t padded, const float* more,
                   const float* scale, const float* least, int32_t* sums, uint16_t* masks) {
#if defined(__AVX512VNNI__)
  for (int64_t q = 0; q < count;) {
    const int64_t some = together(count - q);
    auto* each = some == 16 ? &match<16> : some == 8 ? &match<8> : some == 4 ? &match<4> : &match<1>;
    each(rows, queries + q * padded, padded, more + q, scale, least + q, sums + 16 * q, masks + q);
    q += some;
  }
#else
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) tile<4>(rows, queries + i * padded, padded, sums + i * 16);
  for (; i < count; ++i) tile<1>(rows, queries + i * padded, padded, sums + i * 16);
  for (int64_t q = 0; q < count; ++q)
    masks[q] = static_cast<uint16_t>(passing(sums + 16 * q, more[q], scale, least[q]));
#endif
}

bool direct_symbols() {
#if defined(__AVX512VNNI__)
  return true;
#else
  return false;
#endif
}

#if defined(__AVX512VNNI__)
namespace {

template <int bits, bool mapped>
void packed_tile(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows, const uint8_t* const* later,
                 const int8_t* query, int32_t* out) {
  constexpr int slots = bits == 8 ? 1 : 8 / bits;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << (bits & 7)) - 1));
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(code.flip));
  const __m512i table = mapped ? _mm512_loadu_si512(code.narrow) : flip;
  __m512i sum[16];
  // Row after row, so that memory is read in order; two sums a row keep the multiplier busy.
  for (int r = 0; r < 16; ++r) {
    const uint8_t *row = rows[r] + code.first, *next = later[r] + code.first;
    __m512i total[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const int8_t* part = query;
    for (int64_t chunk = 0; chunk < direct.chunks; ++chunk, part += slots * 64) {
      const bool whole = chunk + 1 < direct.chunks || direct.last == ~uint64_t{0};
      __m512i& mine = total[chunk & 1];
      _mm_prefetch(reinterpret_cast<const char*>(next + chunk * 64), _MM_HINT_T0);
      const __m512i packed = whole ? _mm512_loadu_si512(row + chunk * 64)
                                   : _mm512_maskz_loadu_epi8(direct.last, row + chunk * 64);
      if (bits == 8) {
        mine = _mm512_dpbusd_epi32(mine, _mm512_xor_si512(packed, flip), _mm512_loadu_si512(part));
        continue;
      }
      for (int slot = 0; slot < slots; ++slot) {
        __m512i symbols = _mm512_and_si512(slot ? _mm512_srli_epi16(packed, (bits * slot) & 15) : packed, mask);
        if (mapped) symbols = _mm512_permutexvar_epi8(symbols, table);
        total[slot & 1] = _mm512_dpbusd_epi32(total[slot & 1], symbols, _mm512_loadu_si512(part + slot * 64));
      }
    }
    sum[r] = _mm512_add_epi32(total[0], total[1]);
  }
  _mm512_storeu_si512(out, sums_of(sum));
}

// The same for a number of chunks that is known beforehand: the query stays in registers, and so do the sums.
template <int bits, bool mapped, int chunks>
void short_tile(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows, const uint8_t* const* later,
                const int8_t* query, int32_t* out) {
  constexpr int slots = 8 / bits;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << bits) - 1));
  const __m512i table = mapped ? _mm512_loadu_si512(code.narrow) : mask;
  __m512i parts[chunks * slots], sum[16];
  for (int i = 0; i < chunks * slots; ++i) parts[i] = _mm512_loadu_si512(query + 64 * i);
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    const uint8_t *row = rows[r] + code.first, *next = later[r] + code.first;
    __m512i total[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk) {
      _mm_prefetch(reinterpret_cast<const char*>(next + chunk * 64), _MM_HINT_T0);
      const __m512i packed = chunk + 1 < chunks ? _mm512_loadu_si512(row + chunk * 64)
                                                : _mm512_maskz_loadu_epi8(direct.last, row + chunk * 64);
#pragma GCC unroll 4
      for (int slot = 0; slot < slots; ++slot) {
        __m512i symbols = _mm512_and_si512(slot ? _mm512_srli_epi16(packed, bits * slot) : packed, mask);
        if (mapped) symbols = _mm512_permutexvar_epi8(symbols, table);
        total[slot & 1] = _mm512_dpbusd_epi32(total[slot & 1], symbols, parts[chunk * slots + slot]);
      }
    }
    sum[r] = _mm512_add_epi32(total[0], total[1]);
  }
  _mm512_storeu_si512(out, sums_of(sum));
}

template <bool mapped>
void nibble_tile(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows, const uint8_t* const* later,
                 const int8_t* query, int32_t* out) {
  switch (direct.chunks) {
    case 1:
      return short_tile<4, mapped, 1>(code, direct, rows, later, query, out);
    case 2:
      return short_tile<4, mapped, 2>(code, direct, rows, later, query, out);
    case 3:
      return short_tile<4, mapped, 3>(code, direct, rows, later, query, out);
    default:
      return packed_tile<4, mapped>(code, direct, rows, later, query, out);
  }
}

inline __m512i bits_of(uint64_t word) { return _mm512_maskz_mov_epi8(word, _mm512_set1_epi8(1)); }

// Single bits, with weights of two bytes. Two chunks at a time, so that no sum waits for the one before it.
void bit_tile(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows, const uint8_t* const* later,
              const int8_t* query, int32_t* out) {
  __m512i sum[16];
  const int8_t* fine = query + direct.chunks * 64;
  const int64_t whole = direct.last == ~uint64_t{0} ? direct.chunks : direct.chunks - 1;
  for (int r = 0; r < 16; ++r) {
    const uint8_t* row = rows[r] + code.first;
    for (int64_t chunk = 0; chunk < direct.chunks; chunk += 8)
      _mm_prefetch(reinterpret_cast<const char*>(later[r] + code.first + chunk * 8), _MM_HINT_T0);
    __m512i high = _mm512_setzero_si512(), low = high, more = high, rest = high;
    int64_t chunk = 0;
    for (; chunk + 2 <= whole; chunk += 2) {
      uint64_t word[2];
      memcpy(word, row + chunk * 8, 16);
      const __m512i a = bits_of(word[0]), b = bits_of(word[1]);
      high = _mm512_dpbusd_epi32(high, a, _mm512_loadu_si512(query + chunk * 64));
      low = _mm512_dpbusd_epi32(low, a, _mm512_loadu_si512(fine + chunk * 64));
      more = _mm512_dpbusd_epi32(more, b, _mm512_loadu_si512(query + chunk * 64 + 64));
      rest = _mm512_dpbusd_epi32(rest, b, _mm512_loadu_si512(fine + chunk * 64 + 64));
    }
    for (; chunk < direct.chunks; ++chunk) {
      uint64_t word = 0;
      if (chunk < whole)
        memcpy(&word, row + chunk * 8, 8);
      else
        for (int byte = 0; byte < 8 && (direct.last >> (8 * byte) & 1); ++byte)
          word |= static_cast<uint64_t>(row[chunk * 8 + byte]) << (8 * byte);
      const __m512i a = bits_of(word);
      high = _mm512_dpbusd_epi32(high, a, _mm512_loadu_si512(query + chunk * 64));
      low = _mm512_dpbusd_epi32(low, a, _mm512_loadu_si512(fine + chunk * 64));
    }
    sum[r] = _mm512_add_epi32(_mm512_slli_epi32(_mm512_add_epi32(high, more), 8), _mm512_add_epi32(low, rest));
  }
  _mm512_storeu_si512(out, sums_of(sum));
}

}  // namespace
#endif

void multiply_packed(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows,
                     const uint8_t* const* later, const int8_t* query, int32_t* out) {
#if defined(__AVX512VNNI__)
  switch (code.bits) {
    case 8:
      return packed_tile<8, false>(code, direct, rows, later, query, out);
    case 4:
      return code.narrow ? nibble_tile<true>(code, direct, rows, later, query, out)
                         : nibble_tile<false>(code, direct, rows, later, query, out);
    case 2:
      return code.narrow ? packed_tile<2, true>(code, direct, rows, later, query, out)
                         : packed_tile<2, false>(code, direct, rows, later, query, out);
    default:
      return bit_tile(code, direct, rows, later, query, out);
  }
#else
  (void)code, (void)direct, (void)rows, (void)later, (void)query, (void)out;
#endif
}

uint32_t passing(const int32_t* sums, float more, const float* scale, float least) {
  uint32_t mask = 0;
#if defined(__AVX512F__)
  __m512 value = _mm512_add_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums)), _mm512_set1_ps(more));
  if (scale) value = _mm512_mul_ps(value, _mm512_loadu_ps(scale));
  mask = _mm512_cmp_ps_mask(value, _mm512_set1_ps(least), _CMP_GE_OQ);
#else
  for (int r = 0; r < 16; ++r) {
    float value = static_cast<float>(sums[r]) + more;
    if (scale) value *= scale[r];
    mask |= static_cast<uint32_t>(value >= least) << r;
  }
#endif
  return mask;
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
