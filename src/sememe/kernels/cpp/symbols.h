// Scanning codes in which every dimension is a small symbol that stands for a level (int8, int4, uniform, power,
// ternary, binary, bit planes ...):
// score(q, row) = constant[q] + scale[row] * (inner[q] + sum_j weight[q, j] * levels[symbol(row, j)]).
//
// The scan itself is in integers: weights as int8, levels as uint8, and a bound on what that rounding can do to a score.
// A row stays a candidate while its score could be among the best k, and candidates are scored in double precision, so
// the answer is that of the formula above.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

// How a row's scale is stored: as a number, or as a byte that picks one from a table.
enum class Tail : int { none = 0, bfloat16 = 1, half = 2, single = 3, table = 4 };

// How a row of codes is laid out, and what its symbols stand for.
struct SymbolCode {
  int64_t stride;         // bytes from row to row
  int64_t d;              // dimensions
  int bits;               // 1 to 8 as kernels/bits.py packs them; 0: five ternary digits a byte
  int flip;               // xor-ed to every symbol: 128 turns int8 into an offset code
  Tail tail;              // the row's scale
  int64_t tail_offset;    // where it lies in the row
  int64_t first;          // byte of the row at which the symbols begin
  const uint8_t* narrow;  // 256 levels as uint8, or null where a symbol is its own level
  const double* levels;   // 256 levels, indexed by the flipped symbol
  const float* scales;    // 256 scales, for Tail::table
};

constexpr int kTile = 16;  // rows scored together

// Bytes of d symbols as kernels/bits.py packs them.
static inline int64_t packed_bytes(int64_t d, int bits) {
  if (bits == 0) return (d + 4) / 5;
  int64_t bytes = 0;
  for (int width = 8; width; width /= 2)
    if (bits >= width) {
      bits -= width;
      bytes += (d * width + 7) / 8;
    }
  return bytes;
}

}  // namespace sememe

// Unpack `rows` rows into uint8 (rows, padded) levels. codes: the first row, or with `pick` non-null the row numbers.
SEMEME_DECLARE(void unpack_symbols(const SymbolCode& code, const uint8_t* codes, const int64_t* pick, int64_t rows,
                                   int64_t padded, uint8_t* out);)

// The same in tiles of 16 rows, each as `match_symbols` of the level wants it; a tile that is not full repeats its last
// row. scratch: (16, padded).
SEMEME_DECLARE(void unpack_tiles(const SymbolCode& code, const uint8_t* codes, const int64_t* pick, int64_t rows,
                                 int64_t padded, uint8_t* scratch, uint8_t* out);)

// Queries (count, padded) in the order in which `match_symbols` of the level reads them.
SEMEME_DECLARE(void order_queries(const int8_t* queries, int64_t count, int64_t padded, int8_t* out);)

// How packed rows are multiplied where they lie, for few queries: `slots` symbols of `bits` bits in each byte, the query's
// weights in the same order, 64 for each chunk of packed bytes and slot. Even levels only, and one width of symbol.
struct Direct {
  int64_t chunks;        // of 64 packed bytes (8 bytes for single bits)
  int64_t slots;         // 1, 2, 4; single bits take 8 bytes to 64 symbols
  uint64_t last;         // mask over the bytes of the last chunk
};

// 16 products of one query, int8 (chunks, slots, 64), with 16 rows at `rows[0..15]`; memory from `later[0..15]` is
// requested meanwhile. Only where `direct_symbols()`. Single bits have weights of 16 bits, in two such tables, the high
// bytes first: taking bits apart costs more than the products.
SEMEME_DECLARE(void multiply_packed(const SymbolCode& code, const Direct& direct, const uint8_t* const* rows,
                                    const uint8_t* const* later, const int8_t* query, int32_t* out);)
SEMEME_DECLARE(bool direct_symbols();)

// Integer products of a tile with `count` ordered queries, (count, 16), and which of them pass: bit r of masks[q] is
// (sum[r] + more[q]) * scale[r] >= least[q]; scale may be null.
SEMEME_DECLARE(void match_symbols(const uint8_t* tile, const int8_t* queries, int64_t count, int64_t padded,
                                  const float* more, const float* scale, const float* least, int32_t* sums,
                                  uint16_t* masks);)

// Which of 16 scores pass, as above, for one query.
SEMEME_DECLARE(uint32_t passing(const int32_t* sums, float more, const float* scale, float least);)

// The formula in double precision for one query and one row; `symbols` is scratch of `d` bytes.
SEMEME_DECLARE(double exact_symbols(const SymbolCode& code, const double* weights, const uint8_t* row,
                                    uint8_t* symbols);)
