// Orthogonal matching pursuit: for each target the atoms, one after another, that its residual is most correlated with.
//
// Atoms are screened as bytes: an integer product tells each correlation up to a bound that follows from what rounding
// to bytes left over (Cauchy-Schwarz), and only atoms that the bound cannot rule out are looked at in double precision.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kSide = 16;    // atoms that lie side by side in a block
constexpr int64_t kSpan = 64;    // atoms that are screened before their products leave the first cache
constexpr int64_t kLane = 8;     // lanes of every sum in double precision; rows are padded to a multiple of it

// What a screen of one residual keeps: atoms whose upper bound reaches the best lower bound seen until then.
struct Sieve {
  float scale;      // of the residual's bytes
  float lost;       // length of what rounding the residual lost
  float kept;       // length of the rounded residual
  int32_t shift;    // 128 times the sum of the residual's bytes: atoms are stored with 128 added
  float floor;      // the best lower bound so far
  int64_t count;
  int32_t* atom;    // room for every atom and kSide more
  float* upper;
};

}  // namespace sememe

// Integer products of `targets` residuals (int8, `quads` times 4 each) with kSpan atoms, into out (targets, kSpan).
// packed: kSpan / kSide blocks of (quads, kSide, 4) bytes.
SEMEME_DECLARE(void span_products(const uint8_t* packed, int64_t quads, const int8_t* residuals, int64_t targets,
                                  int32_t* out);)

// Adds those of kSpan atoms, from number `first` on, to a sieve. scale, norm, lost: of each atom, as of a residual.
SEMEME_DECLARE(void sift(const int32_t* products, const float* scale, const float* norm, const float* lost,
                         int64_t first, Sieve* sieve);)

// Inner products in double precision, in 2 * kLane lanes; `padded` is a multiple of kLane. `next` is the row that will be
// asked for next.
SEMEME_DECLARE(double dot_mixed(const float* row, const double* vector, int64_t padded, const float* next);)
SEMEME_DECLARE(double dot_rows(const float* a, const float* b, int64_t padded, const float* next);)

// vector -= weight * row.
SEMEME_DECLARE(void take_away(double* vector, double weight, const float* row, int64_t padded);)
