// Search over impact-ordered lists: learned sparse weights as codes of one byte, the heaviest postings of a list first.
//
// The first step adds up only the postings that can count for much, in 16-bit totals of a block of passages; the second
// scores the passages that did well in full, from their own terms (the forward lists), in double precision. With nothing
// left out of the first step, and a bound on its rounding for the second, the answer is exact.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kImpactBlock = 1 << 16;  // passages of a block: their numbers take two bytes, their totals 128 KiB

}  // namespace sememe

// totals[rows[i]] += 1 + codes[i] * factor / 256 for i in [0, n); rows differ.
SEMEME_DECLARE(void add_impacts(const uint16_t* rows, const uint8_t* codes, int64_t n, uint16_t factor,
                                uint16_t* totals);)

// Among n totals those of at least `least` (which is not zero) and allowed where `allowed` (a bit each, lowest first) is
// not null: their numbers and totals go to `found` and `scores`, which hold n; all totals become zero. Returns how many.
SEMEME_DECLARE(int64_t take_impacts(uint16_t* totals, int64_t n, uint16_t least, const uint8_t* allowed,
                                    uint32_t* found, uint16_t* scores);)

// Which of a passage's n terms (of two bytes, or four where `wide`) are asked for, a bit each in `asked`: their places
// among the n go to `places`, in order. Returns how many.
SEMEME_DECLARE(int64_t match_terms(const void* terms, bool wide, int64_t n, const uint32_t* asked, uint32_t* places);)
