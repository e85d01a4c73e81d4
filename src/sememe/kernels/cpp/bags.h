// The loops of bags of pieces: a text's vector is the sum of the table's rows for its pieces, scaled.
//
// The table is half precision, so every value is a whole number of 2^-24 and the sums are kept as such numbers: they are
// exact, and a text has the same vector whatever was added first, remembered, or done by another thread.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

// A table of half-precision rows, one a piece.
struct PieceTable {
  const uint16_t* values;
  int64_t stride;  // values from row to row
  int64_t d;       // leading values of a row that count
};

}  // namespace sememe

// Bit i of `bits` is set where byte i is a space, for `words` times 64 bytes.
SEMEME_DECLARE(void mark_spaces(const uint8_t* bytes, int64_t words, uint64_t* bits);)

// Adds the rows of `count` pieces to `total`, in units of 2^-24. The sum of any `most` rows fits into 32 bits.
SEMEME_DECLARE(void add_pieces(const PieceTable& table, const uint16_t* pieces, int64_t count, int64_t most,
                               int64_t* total);)

// A unit row (zero where the total is), or with `pieces` > 0 the mean over so many pieces.
SEMEME_DECLARE(void finish_row(const int64_t* total, int64_t d, int64_t pieces, float* out);)
