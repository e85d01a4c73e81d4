// From a mask over rows to the rows themselves: bytes to bits, bits to row numbers.
#pragma once

#include <cstdint>

#include "level.h"

// One bit for each of n bytes that is not zero, the first in the lowest bit of the first of ceil(n / 64) words; how
// many.
SEMEME_DECLARE(int64_t pack_mask(const uint8_t* mask, int64_t n, uint64_t* words);)

// How many bits are set in `count` words.
SEMEME_DECLARE(int64_t count_bits(const uint64_t* words, int64_t count);)

// The numbers of the bits that are set in `count` words, ascending; how many. Up to seven numbers beyond those may be
// overwritten.
SEMEME_DECLARE(int64_t select_bits(const uint64_t* words, int64_t count, int64_t* rows);)

namespace sememe {

// Whether `count` words are a bit for each of n rows, and none beyond them.
inline bool bits_fit(const uint64_t* words, int64_t count, int64_t n) {
  return n >= 0 && count == (n + 63) / 64 && !(n % 64 && words[count - 1] >> (n % 64));
}

}  // namespace sememe
