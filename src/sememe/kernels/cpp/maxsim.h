// MaxSim over codes: for every vector of a query the best of a document's vectors. The vectors are multiplied where they
// lie, or put together from their codes in the nearest cache, and no product is kept that is not the best so far.
#pragma once

#include <cstdint>

#include "level.h"
#include "symbols.h"

namespace sememe {

constexpr int kMatched = 4;  // rows, and vectors of queries, that are multiplied together

// What stands in a code behind its head.
enum class TokenKind : int { single = 0, half = 1, symbols = 2 };

struct TokenCode {
  TokenKind kind;
  int64_t d;
  int64_t first;        // byte of the code at which the numbers begin
  SymbolCode symbols;   // for TokenKind::symbols
  const float* levels;  // 256, what each symbol stands for
  bool even;            // level s is levels[0] + s
};

}  // namespace sememe

// One code as `padded` floats (a multiple of 16, zeros behind d). symbols: scratch of d rounded up to 64 bytes.
SEMEME_DECLARE(void widen_code(const TokenCode& code, const uint8_t* row, int64_t padded, uint8_t* symbols,
                               float* out);)

// row = centre + spread * row, all of `padded` entries. Returns what brings it to unit length, 0 for a row of zeros.
// Squares are added in four times 16 lanes, folded in the same order at every level.
SEMEME_DECLARE(float unit_row(const float* centre, const float* spread, int64_t padded, float* row);)

// best[q][r] = max(best[q][r], 256 high[q][r] + low[q][r]) for `count` queries and 16 rows.
SEMEME_DECLARE(void join_matches(const int32_t* high, const int32_t* low, int64_t count, float* best);)

// best[q] = max(best[q], scale[r] * (rows[r] . queries[q]) + add[r][q]) over four rows; queries: (count, padded), count
// a multiple of four; scale and add may be null. Sums run in 16 lanes, folded in the same order at every level.
SEMEME_DECLARE(void best_matches(const float* const* rows, const float* queries, int64_t count, int64_t padded,
                                 const float* scale, const float* const* add, float* best);)
