// Exact search over inverted lists: BM25 over term counts, inner products over learned weights.
//
// Lists are added up a term at a time into float totals of one block of passages, which stay in the cache. The error of
// those sums has a bound; passages that could be among the best are scored again in double precision, term by term in
// the query's order, so the answer is that of the formula.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kSparseBlock = 1 << 16;  // passages whose totals are held at once: 256 KiB

}  // namespace sememe

// totals[rows[i] - base] += weight * values[i], for i in [0, n); rows differ.
SEMEME_DECLARE(void add_bytes(const uint32_t* rows, const uint8_t* values, int64_t n, float weight, uint32_t base,
                              float* totals);)
SEMEME_DECLARE(void add_halves(const uint32_t* rows, const uint16_t* values, int64_t n, float weight, uint32_t base,
                               float* totals);)

// totals[rows[i] - base] += weight * counts[i] / (counts[i] + norms[rows[i]]); counts of one or two bytes.
SEMEME_DECLARE(void add_counts(const uint32_t* rows, const void* counts, bool wide, int64_t n, float weight,
                               const float* norms, uint32_t base, float* totals);)

// Among n totals those above zero and not below `least`, and allowed where `allowed` (a bit each, lowest first) is not
// null: their numbers and totals go to `found` and `scores`, which hold n; all totals become zero. Returns how many.
SEMEME_DECLARE(int64_t take_totals(float* totals, int64_t n, float least, const uint8_t* allowed, uint32_t* found,
                                   float* scores);)
