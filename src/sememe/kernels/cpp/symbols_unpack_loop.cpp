// Taking rows of packed symbols apart, and scoring a single one of them exactly.
#include "symbols.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int64_t kAhead = 8192;  // bytes

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

#if defined(__AVX512VNNI__)
namespace {

// Sixteen rows of sixteen words of four bytes: afterwards register w has word w of every row.
inline void turn(__m512i* a) {
  __m512i b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  // a[4 g + c] has in its lane l of 128 bits word 4 l + c of rows 4 g to 4 g + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i x = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x44), y = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x44);
    const __m512i z = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xEE), w = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xEE);
    b[c] = _mm512_shuffle_i32x4(x, y, 0x88);
    b[4 + c] = _mm512_shuffle_i32x4(x, y, 0xDD);
    b[8 + c] = _mm512_shuffle_i32x4(z, w, 0x88);
    b[12 + c] = _mm512_shuffle_i32x4(z, w, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = b[i];
}

// Word after word of sixteen rows: out (padded / 4, 16, 4). Bytes, or two symbols a byte, whose planes are whole words.
template <bool nibbles>
void turn_rows(const SymbolCode& code, const uint8_t* const* rows, int64_t padded, uint8_t* out) {
  const int64_t length = nibbles ? code.d / 2 : code.d;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(code.flip)), low = _mm512_set1_epi8(15);
  const __m512i table = nibbles && code.narrow ? _mm512_loadu_si512(code.narrow) : flip;
  for (int64_t byte = 0; byte < length; byte += 64) {
    const int64_t left = length - byte < 64 ? length - byte : 64;
    const __mmask64 some = left == 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    __m512i word[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) word[r] = _mm512_maskz_loadu_epi8(some, rows[r] + code.first + byte);
    turn(word);
    uint8_t* to = out + 16 * byte;
    for (int64_t w = 0; w < left / 4; ++w) {
      if (!nibbles) {
        _mm512_storeu_si512(to + 64 * w, _mm512_xor_si512(word[w], flip));
        continue;
      }
      __m512i first = _mm512_and_si512(word[w], low), second = _mm512_and_si512(_mm512_srli_epi16(word[w], 4), low);
      if (code.narrow) {
        first = _mm512_permutexvar_epi8(first, table);
        second = _mm512_permutexvar_epi8(second, table);
      }
      _mm512_storeu_si512(to + 64 * w, first);
      _mm512_storeu_si512(to + 16 * length + 64 * w, second);
    }
  }
  memset(out + 16 * code.d, 0, 16 * (padded - code.d));
}

}  // namespace
#endif

void unpack_tiles(const SymbolCode& code, const uint8_t* codes, const int64_t* pick, int64_t rows, int64_t padded,
                  uint8_t* scratch, uint8_t* out) {
#if defined(__AVX512VNNI__)
  const bool bytes = code.bits == 8 && !code.narrow && code.d % 4 == 0, nibbles = code.bits == 4 && code.d % 8 == 0;
  for (int64_t first = 0; first < rows; first += kTile, out += kTile * padded) {
    const uint8_t* row[kTile];
    for (int64_t r = 0; r < kTile; ++r) {
      const int64_t at = smaller(first + r, rows - 1);
      row[r] = codes + (pick ? pick[at] : at) * code.stride;
      // Asked for in advance: the machine's own prefetching stops at every page.
      const uint8_t* later = pick ? codes + pick[smaller(at + kTile, rows - 1)] * code.stride : row[r] + kAhead;
      for (int64_t byte = 0; byte < code.stride; byte += 64) __builtin_prefetch(later + byte);
    }
    if (nibbles) {
      turn_rows<true>(code, row, padded, out);
    } else if (bytes) {
      turn_rows<false>(code, row, padded, out);
    } else {
      for (int64_t r = 0; r < kTile; ++r) unpack_symbols(code, row[r], nullptr, 1, padded, scratch + r * padded);
      for (int64_t r = 0; r < kTile; ++r) row[r] = scratch + r * padded;
      SymbolCode plain = code;
      plain.d = padded, plain.first = 0, plain.flip = 0;
      turn_rows<false>(plain, row, padded, out);
    }
  }
#else
  (void)scratch;
  unpack_symbols(code, codes, pick, rows, padded, out);
  for (int64_t r = rows; r % kTile; ++r) memcpy(out + r * padded, out + (rows - 1) * padded, padded);
#endif
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
