// Encoding by the nearest of a few hundred centres in each of many small sub-spaces (product codes).
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kTogether = 64;  // rows whose columns are turned together

}  // namespace sememe

// The numbers of the nearest centres of kTogether rows in one sub-space of `depth` dimensions (at most 65536).
// columns: (depth, kTogether); centres: (count, depth), negated; half: (count,) half their squared lengths; the value
// that is least is ((half - x[0] c[0]) - x[1] c[1]) ..., fused at every step, and of equal ones the first counts.
SEMEME_DECLARE(void nearest_centres(const float* columns, int64_t depth, const float* centres, const float* half,
                                    int64_t count, int32_t* out);)
