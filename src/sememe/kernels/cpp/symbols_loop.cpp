#include "symbols.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// `width` bits a symbol, value j in byte j % length at bit width * (j / length); added to what is there, shifted.
template <int width>
void add_planes(const uint8_t* packed, int64_t d, int shift, uint8_t* out) {
  constexpr int slots = 8 / width;
  constexpr uint8_t mask = (1 << width) - 1;
  const int64_t length = (d * width + 7) / 8;
  for (int slot = 0; slot < slots; ++slot) {
    const int64_t first = slot * length;
    if (first >= d) break;
    const int64_t count = smaller(length, d - first);
    uint8_t* target = out + first;
    if (shift)
      for (int64_t j = 0; j < count; ++j)
        target[j] = static_cast<uint8_t>(target[j] | (((packed[j] >> (width * slot)) & mask) << shift));
    else
      for (int64_t j = 0; j < count; ++j)
        target[j] = static_cast<uint8_t>(target[j] | ((packed[j] >> (width * slot)) & mask));
  }
}

// Single bits, the first in the highest bit of a byte.
void add_bits(const uint8_t* packed, int64_t d, uint8_t* out) {
  int64_t j = 0;
#if defined(__AVX512BW__)
  const __m512i one = _mm512_set1_epi8(1);
  for (; j + 64 <= d; j += 64) {
    uint64_t word;
    memcpy(&word, packed + j / 8, 8);
    word = ((word >> 1) & 0x5555555555555555ull) | ((word & 0x5555555555555555ull) << 1);
    word = ((word >> 2) & 0x3333333333333333ull) | ((word & 0x3333333333333333ull) << 2);
    word = ((word >> 4) & 0x0F0F0F0F0F0F0F0Full) | ((word & 0x0F0F0F0F0F0F0F0Full) << 4);
    const __m512i old = _mm512_loadu_si512(out + j);
    _mm512_storeu_si512(out + j, _mm512_mask_or_epi32(old, 0xFFFF, old, _mm512_maskz_mov_epi8(word, one)));
  }
#endif
  for (; j + 8 <= d; j += 8) {
    // Eight copies of the byte, nine bits apart: the highest bit of byte i of the product is bit 7 - i.
    const uint64_t spread = ((packed[j / 8] * 0x8040201008040201ull) >> 7) & 0x0101010101010101ull;
    uint64_t old;
    memcpy(&old, out + j, 8);
    old |= spread;
    memcpy(out + j, &old, 8);
  }
  for (; j < d; ++j) out[j] = static_cast<uint8_t>(out[j] | ((packed[j / 8] >> (7 - j % 8)) & 1));
}

// Five ternary digits a byte, digit j in byte j % length.
void put_trits(const uint8_t* packed, int64_t d, uint8_t* out) {
  const int64_t length = (d + 4) / 5;
  int place = 1;
  for (int slot = 0; slot < 5; ++slot, place *= 3) {
    const int64_t first = slot * length;
    if (first >= d) break;
    const int64_t count = smaller(length, d - first);
    for (int64_t j = 0; j < count; ++j) {
      const unsigned whole = packed[j] / static_cast<unsigned>(place);
      out[first + j] = static_cast<uint8_t>(whole - whole / 3 * 3);
    }
  }
}

void put_symbols(const SymbolCode& code, const uint8_t* row, uint8_t* out) {
  const int64_t d = code.d;
  row += code.first;
  if (code.bits == 8) {
    const uint8_t flip = static_cast<uint8_t>(code.flip);
    for (int64_t j = 0; j < d; ++j) out[j] = row[j] ^ flip;
    return;
  }
  if (code.bits == 0) {
    put_trits(row, d, out);
    return;
  }
  if (code.bits == 4) {  // by far the most common: written once instead of or-ed in
    const int64_t length = (d + 1) / 2;
    for (int64_t j = 0; j < length; ++j) out[j] = row[j] & 15;
    for (int64_t j = 0; j < d - length; ++j) out[length + j] = row[j] >> 4;
    return;
  }
  memset(out, 0, d);
  int left = code.bits;
  if (left >= 4) {
    left -= 4;
    add_planes<4>(row, d, left, out);
    row += (d + 1) / 2;
  }
  if (left >= 2) {
    left -= 2;
    add_planes<2>(row, d, left, out);
    row += (2 * d + 7) / 8;
  }
  if (left) add_bits(row, d, out);
}

void map_levels(const uint8_t* levels, int bits, int64_t n, uint8_t* values) {
  int64_t j = 0;
#if defined(__AVX512VBMI__)
  if (bits >= 1 && bits <= 6) {
    const __m512i table = _mm512_loadu_si512(levels);
    for (; j + 64 <= n; j += 64)
      _mm512_storeu_si512(values + j, _mm512_permutexvar_epi8(_mm512_loadu_si512(values + j), table));
  } else {
    const __m512i a = _mm512_loadu_si512(levels), b = _mm512_loadu_si512(levels + 64),
                  c = _mm512_loadu_si512(levels + 128), e = _mm512_loadu_si512(levels + 192);
    for (; j + 64 <= n; j += 64) {
      const __m512i index = _mm512_loadu_si512(values + j);
      const __m512i low = _mm512_permutex2var_epi8(a, index, b), high = _mm512_permutex2var_epi8(c, index, e);
      _mm512_storeu_si512(values + j, _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(index), high));
    }
  }
#elif defined(__AVX2__)
  if (bits >= 1 && bits <= 4) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
    for (; j + 32 <= n; j += 32) {
      __m256i* place = reinterpret_cast<__m256i*>(values + j);
      _mm256_storeu_si256(place, _mm256_shuffle_epi8(table, _mm256_loadu_si256(place)));
    }
  }
#endif
  (void)bits;
  for (; j < n; ++j) values[j] = levels[values[j]];
}

#if defined(__AVX512VNNI__)
// The sixteen lanes' sums of sixteen registers, in order.
inline __m512i sums_of(__m512i* a) {
  for (int i = 0; i < 8; ++i)
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]));
  // a[i]: in each 128-bit lane the pairs (2i, 2i+1, 2i, 2i+1)
  for (int i = 0; i < 4; ++i)
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
  // a[i]: in each 128-bit lane the rows 4i .. 4i+3
  const __m512i x = _mm512_add_epi32(_mm512_shuffle_i32x4(a[0], a[1], 0x88), _mm512_shuffle_i32x4(a[0], a[1], 0xDD));
  const __m512i y = _mm512_add_epi32(_mm512_shuffle_i32x4(a[2], a[3], 0x88), _mm512_shuffle_i32x4(a[2], a[3], 0xDD));
  return _mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xDD));
}

// `queries` (4 or 1) times 16 / `queries` rows: sixteen registers, one reduction.
template <int queries>
void tile(const uint8_t* rows, const int8_t* q, int64_t padded, int32_t* out) {
  constexpr int group = 16 / queries;
  for (int first = 0; first < 16; first += group) {
    __m512i sum[16];
    for (int i = 0; i < 16; ++i) sum[i] = _mm512_setzero_si512();
    for (int64_t j = 0; j < padded; j += 64) {
      __m512i part[queries];
      for (int i = 0; i < queries; ++i) part[i] = _mm512_loadu_si512(q + i * padded + j);
      for (int r = 0; r < group; ++r) {
        const __m512i row = _mm512_loadu_si512(rows + (first + r) * padded + j);
        for (int i = 0; i < queries; ++i)
          sum[i * group + r] = _mm512_dpbusd_epi32(sum[i * group + r], row, part[i]);
      }
    }
    const __m512i total = sums_of(sum);
    if (queries == 1)
      _mm512_storeu_si512(out, total);
    else {
      alignas(64) int32_t flat[16];
      _mm512_store_si512(flat, total);
      for (int i = 0; i < queries; ++i) memcpy(out + i * 16 + first, flat + i * group, group * sizeof(int32_t));
    }
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

void unpack_symbols(const SymbolCode& code, const uint8_t* codes, const int64_t* pick, int64_t rows, int64_t padded,
                    uint8_t* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* row = codes + (pick ? pick[r] : r) * code.stride;
    if (pick && r + 8 < rows) {
      const uint8_t* later = codes + pick[r + 8] * code.stride;
      for (int64_t byte = 0; byte < code.stride; byte += 64) __builtin_prefetch(later + byte);
    }
    uint8_t* values = out + r * padded;
    put_symbols(code, row, values);
    if (code.narrow) map_levels(code.narrow, code.bits, code.d, values);
    memset(values + code.d, 0, padded - code.d);
  }
}

void multiply_symbols(const uint8_t* rows, const int8_t* queries, int64_t count, int64_t padded, int32_t* out) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) tile<4>(rows, queries + i * padded, padded, out + i * 16);
  for (; i < count; ++i) tile<1>(rows, queries + i * padded, padded, out + i * 16);
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

uint32_t passing(const int32_t* sums, float shift, const float* scale, float margin, float least) {
  uint32_t mask = 0;
#if defined(__AVX512F__)
  __m512 value = _mm512_add_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums)), _mm512_set1_ps(shift + margin));
  if (scale) value = _mm512_mul_ps(value, _mm512_loadu_ps(scale));
  mask = _mm512_cmp_ps_mask(value, _mm512_set1_ps(least), _CMP_GE_OQ);
#else
  const float more = shift + margin;
  for (int r = 0; r < 16; ++r) {
    float value = static_cast<float>(sums[r]) + more;
    if (scale) value *= scale[r];
    mask |= static_cast<uint32_t>(value >= least) << r;
  }
#endif
  return mask;
}

double exact_symbols(const SymbolCode& code, const double* weights, const uint8_t* row, uint8_t* symbols) {
  put_symbols(code, row, symbols);
  // Eight running sums at every level, so that the last bit does not depend on the machine.
  double sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t j = 0;
  for (; j + 8 <= code.d; j += 8)
    for (int lane = 0; lane < 8; ++lane) sum[lane] += weights[j + lane] * code.levels[symbols[j + lane]];
  for (int lane = 0; j < code.d; ++j, ++lane) sum[lane] += weights[j] * code.levels[symbols[j]];
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
