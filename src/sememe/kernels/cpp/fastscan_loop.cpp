#include "fastscan.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)

constexpr int64_t kAhead = 2048;  // words of four bytes that are requested ahead

// Appends those of 64 rows that `mask` names.
__attribute__((noinline)) void keep(const int32_t* sums, uint64_t mask, int32_t row, Hits& hits) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int32_t *const to_sums = hits.sums + hits.count, *const to_rows = hits.rows + hits.count;
  int64_t count = 0;  // of its own: a store through the pointers might change what lies in `hits`
  for (int g = 0; g < 4; ++g, mask >>= 16, row += 16) {
    const __mmask16 which = static_cast<__mmask16>(mask);  // a jump over an empty one would cost more than it saves
    // Compressed in a register and stored whole: stores under a mask are slow on some machines.
    const __m512i rows = _mm512_add_epi32(_mm512_set1_epi32(row), lanes);
    _mm512_storeu_si512(to_sums + count, _mm512_maskz_compress_epi32(which, _mm512_load_si512(sums + 16 * g)));
    _mm512_storeu_si512(to_rows + count, _mm512_maskz_compress_epi32(which, rows));
    count += __builtin_popcount(which);
  }
  hits.count += static_cast<int32_t>(count);
}

// One block for `queries` queries. Every loop over registers is unrolled, or the compiler keeps the sums in memory.
template <int queries>
inline void block(const uint32_t* words, int64_t width, const uint8_t* tables, int32_t row, uint64_t live, Hits* hits) {
  const __m512i low = _mm512_set1_epi8(15), place = _mm512_set1_epi32(0x30201000), ones = _mm512_set1_epi8(1);
  __m512i sum[queries * 4];
#pragma GCC unroll 16
  for (int i = 0; i < queries * 4; ++i) sum[i] = _mm512_setzero_si512();
  const int64_t step = width * kWordTable;
#pragma GCC unroll 1
  for (int64_t w = 0; w < width; ++w) {
    __m512i first[4], second[4];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const uint32_t* at = words + w * kBlock + 16 * g;
      // A single query is as fast as memory: the machine's own prefetching alone leaves half of that unused.
      if (queries == 1) __builtin_prefetch(at + kAhead, 0, 2);
      const __m512i code = _mm512_loadu_si512(at);
      first[g] = _mm512_ternarylogic_epi32(code, low, place, 0xEA);  // (code & low) | place
      second[g] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(code, 4), low, place, 0xEA);
    }
#pragma GCC unroll 4
    for (int q = 0; q < queries; ++q) {
      const __m512i a = _mm512_loadu_si512(tables + q * step + w * kWordTable);
      const __m512i b = _mm512_loadu_si512(tables + q * step + w * kWordTable + 64);
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        const __m512i both =
            _mm512_add_epi8(_mm512_permutexvar_epi8(first[g], a), _mm512_permutexvar_epi8(second[g], b));
        sum[q * 4 + g] = _mm512_dpbusd_epi32(sum[q * 4 + g], both, ones);
        __asm__("" : "+v"(sum[q * 4 + g]));  // stay in this register
      }
    }
  }
  uint64_t mask[queries], any = 0;
#pragma GCC unroll 4
  for (int q = 0; q < queries; ++q) {
    const __m512i least = _mm512_set1_epi32(hits[q].least);
    mask[q] = 0;
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g)
      mask[q] |= static_cast<uint64_t>(_mm512_cmpgt_epi32_mask(sum[q * 4 + g], least)) << (16 * g);
    any |= mask[q];
  }
  if (!(any & live)) return;
  alignas(64) int32_t sums[queries * kBlock];
#pragma GCC unroll 4
  for (int q = 0; q < queries; ++q)
    if (mask[q] & live)
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) _mm512_store_si512(sums + 16 * (q * 4 + g), sum[q * 4 + g]);
  for (int q = 0; q < queries; ++q)
    if (mask[q] & live) keep(sums + q * kBlock, mask[q] & live, row, hits[q]);
}

template <int queries>
void tile(const uint32_t* words, int64_t width, const uint8_t* tables, int64_t blocks, int32_t row,
          const uint64_t* live, Hits* hits) {
  for (int64_t b = 0; b < blocks; ++b)
    if (live[b]) block<queries>(words + b * width * kBlock, width, tables, row + static_cast<int32_t>(b * kBlock), live[b], hits);
}

#else

#if defined(__AVX2__)
// Sums of 32 rows. Position p of the 16-bit sums belongs to row 8 * (p % 16 / 4) + 4 * (p / 16) + p % 4.
void half_block(const uint32_t* words, int64_t width, const uint8_t* tables, int32_t* out) {
  const __m256i gather = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i low = _mm256_set1_epi8(15);
  for (int r = 0; r < 32; ++r) out[r] = 0;
  for (int64_t first = 0; first < width; first += 64) {  // 512 look-ups of at most 127 fit 16 bits
    const int64_t last = first + 64 < width ? first + 64 : width;
    __m256i all = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
    for (int64_t w = first; w < last; ++w) {
      __m256i c[4];
      for (int i = 0; i < 4; ++i)
        c[i] = _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + w * kBlock + 8 * i)), gather);
      const __m256i a = _mm256_unpacklo_epi32(c[0], c[1]), b = _mm256_unpacklo_epi32(c[2], c[3]);
      const __m256i d = _mm256_unpackhi_epi32(c[0], c[1]), e = _mm256_unpackhi_epi32(c[2], c[3]);
      const __m256i bytes[4] = {_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b), _mm256_unpacklo_epi64(d, e),
                                _mm256_unpackhi_epi64(d, e)};
      for (int i = 0; i < 4; ++i) {
        const uint8_t* table = tables + w * kWordTable + 16 * i;
        const __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        const __m256i y = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 64)));
        const __m256i u = _mm256_shuffle_epi8(x, _mm256_and_si256(bytes[i], low));
        const __m256i v = _mm256_shuffle_epi8(y, _mm256_and_si256(_mm256_srli_epi16(bytes[i], 4), low));
        const __m256i both = _mm256_add_epi8(u, v);
        all = _mm256_add_epi16(all, both);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(both, 8));
      }
    }
    alignas(32) uint16_t even_sums[16], odd_sums[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(even_sums), _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(odd_sums), odd);
    for (int p = 0; p < 32; ++p)
      out[8 * (p % 16 / 4) + 4 * (p / 16) + p % 4] += p % 2 ? odd_sums[p / 2] : even_sums[p / 2];
  }
}
#else
void half_block(const uint32_t* words, int64_t width, const uint8_t* tables, int32_t* out) {
  for (int r = 0; r < 32; ++r) out[r] = 0;
  for (int64_t w = 0; w < width; ++w) {
    const uint8_t* table = tables + w * kWordTable;
    for (int r = 0; r < 32; ++r) {
      uint32_t word = words[w * kBlock + r];
      int32_t sum = 0;
      for (int i = 0; i < 4; ++i, word >>= 8) sum += table[16 * i + (word & 15)] + table[64 + 16 * i + (word >> 4 & 15)];
      out[r] += sum;
    }
  }
}
#endif

template <int queries>
void tile(const uint32_t* words, int64_t width, const uint8_t* tables, int64_t blocks, int32_t row,
          const uint64_t* live, Hits* hits) {
  int32_t sums[kBlock];
  for (int64_t b = 0; b < blocks; ++b, row += kBlock) {
    if (!live[b]) continue;
    for (int q = 0; q < queries; ++q) {
      Hits& list = hits[q];
      for (int64_t half = 0; half < kBlock; half += 32)
        half_block(words + b * width * kBlock + half, width, tables + q * width * kWordTable, sums + half);
      uint64_t mask = 0;
      for (int r = 0; r < kBlock; ++r) mask |= static_cast<uint64_t>(sums[r] > list.least) << r;
      for (mask &= live[b]; mask; mask &= mask - 1) {
        const int r = __builtin_ctzll(mask);
        list.sums[list.count] = sums[r];
        list.rows[list.count++] = row + r;
      }
    }
  }
}

#endif

}  // namespace

void scan_nibbles(const uint32_t* words, int64_t width, const uint8_t* tables, int64_t count, int64_t blocks,
                  int32_t row, const uint64_t* live, Hits* hits) {
  const int64_t step = width * kWordTable;
  int64_t q = 0;
  for (; q + 4 <= count; q += 4) tile<4>(words, width, tables + q * step, blocks, row, live, hits + q);
  for (; q < count; ++q) tile<1>(words, width, tables + q * step, blocks, row, live, hits + q);
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
