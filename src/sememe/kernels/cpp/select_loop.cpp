#include "select.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

// The bits of 64 bytes that are not zero.
inline uint64_t nonzero(const uint8_t* at) {
#if defined(__AVX512BW__)
  const __m512i bytes = _mm512_loadu_si512(at);
  return _mm512_test_epi8_mask(bytes, bytes);
#elif defined(__AVX2__)
  const __m256i none = _mm256_setzero_si256();
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32));
  const uint64_t a = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, none)));
  const uint64_t b = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, none)));
  return ~(a | b << 32);
#else
  uint64_t word = 0;
  for (int byte = 0; byte < 64; byte += 8) {
    uint64_t eight = 0;
    for (int i = 0; i < 8; ++i) eight |= static_cast<uint64_t>(at[byte + i] != 0) << i;
    word |= eight << byte;
  }
  return word;
#endif
}

}  // namespace

int64_t pack_mask(const uint8_t* mask, int64_t n, uint64_t* words) {
  int64_t found = 0, row = 0;
  for (; row + 64 <= n; row += 64) {
    const uint64_t word = nonzero(mask + row);
    words[row / 64] = word;
    found += __builtin_popcountll(word);
  }
  if (row < n) {
    uint8_t rest[64] = {0};
    memcpy(rest, mask + row, n - row);
    words[row / 64] = nonzero(rest);
    found += __builtin_popcountll(words[row / 64]);
  }
  return found;
}

int64_t count_bits(const uint64_t* words, int64_t count) {
  int64_t found = 0;
  for (int64_t w = 0; w < count; ++w) found += __builtin_popcountll(words[w]);
  return found;
}

int64_t select_bits(const uint64_t* words, int64_t count, int64_t* rows) {
  int64_t* to = rows;
  for (int64_t w = 0; w < count; ++w) {
    uint64_t word = words[w];
#if defined(__AVX512F__)
    // Where many are set, eight numbers are squeezed together at a time. (To a register: to memory it is slow.)
    if (__builtin_popcountll(word) > 12) {
      __m512i numbers = _mm512_add_epi64(_mm512_set1_epi64(64 * w), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
      for (int i = 0; i < 8; ++i, word >>= 8) {
        const __mmask8 some = static_cast<__mmask8>(word);
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(some, numbers));
        to += __builtin_popcountll(word & 255);
        numbers = _mm512_add_epi64(numbers, _mm512_set1_epi64(8));
      }
      continue;
    }
#endif
    for (; word; word &= word - 1) *to++ = 64 * w + __builtin_ctzll(word);
  }
  return to - rows;
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
