// Exact inner products of a query with rows of a table of vectors, picked out or one after the other.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

// A table of vectors: float32, IEEE half precision, or int8, which the size of a value tells apart.
struct Rows {
  const void* values;
  int64_t d;
  int size;  // 4, 2 or 1 bytes
};

}  // namespace sememe

// out[i] = query . row pick[i]. Sums run in 64 lanes (dimension j in lane j % 64) that are then folded in halves, so the
// result is the same at every level.
SEMEME_DECLARE(void dot_rows(const Rows& rows, const float* query, const int64_t* pick, int64_t count, float* out);)

// The same for `count` rows that lie one after the other, from `first` on.
SEMEME_DECLARE(void dot_stretch(const Rows& rows, const float* query, int64_t first, int64_t count, float* out);)
