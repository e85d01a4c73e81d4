// Steps of a row-wise optimiser: the rows of a table that a batch used, and no others.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

// A table (n, d) and what is remembered of its gradients.
struct RowStep {
  float* weight;
  float* first;    // (n, d) mean of gradients; null for none
  float* second;   // (n, d) mean of squares, or (n,) of their means over a row
  int64_t d;
  bool by_row;     // whether `second` is (n,)
  float keep_first, keep_second;  // share of the old first and second moment that stays
  float add_second;               // share of the new second moment
  float rate, eps;
};

}  // namespace sememe

// Moves the rows `ids[0 .. count)`, which are distinct; the gradient of row i is the sum of the rows
// `order[starts[i] .. starts[i + 1])` of `gradients` (m, d), in that order. `scratch` holds d numbers.
SEMEME_DECLARE(void step_rows(const RowStep& step, const int64_t* ids, const int64_t* starts, const int64_t* order,
                              const float* gradients, int64_t count, float* scratch);)
