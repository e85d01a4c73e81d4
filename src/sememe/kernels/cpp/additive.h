// Encoding by sums of centres (additive codes): beam search over some places of a code while the others are held.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kChoices = 256;  // centres of a codebook: what a byte can number

}  // namespace sememe

// out[c] = ((start + first[c]) + rows[0][c]) + rows[1][c] ..., for kChoices values c.
SEMEME_DECLARE(void add_rows(const float* first, const float* const* rows, int64_t count, float start, float* out);)

// Merge kChoices values, numbered from `number` on, into the `held` smallest so far, ascending; at most `most` are kept,
// and of equal ones the first that came. Gives how many are held now.
SEMEME_DECLARE(int64_t keep_least(const float* values, int32_t number, int64_t most, int64_t held, float* best,
                                  int32_t* which);)
