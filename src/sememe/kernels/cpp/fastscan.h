// Scanning codes of 4-bit numbers by table look-up: sum(q, row) = sum over places m of table[q, m, number(row, m)], with
// tables of bytes. Sign codes (four dimensions a number), 2-bit codes (two) and product codes of 16 centres (any) are
// all scanned by this one loop.
//
// Rows lie in blocks of 64, cut into words of four bytes (eight numbers): words[block][word][row]. Sixteen words fill a
// register; one permutation looks up the four low numbers of each in a table of 64 bytes, another the four high
// ones; the two are added in bytes (no entry is above 127) and a dot product with ones adds four bytes into the row's
// 32-bit sum. So 64 look-ups cost two instructions and nothing ever saturates.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

constexpr int64_t kBlock = 64;       // rows in a block
constexpr int kTop = 127;            // the largest entry of a table
constexpr int64_t kWordTable = 128;  // bytes of tables a word: four of 16 for the low numbers, four for the high ones

// The rows of one query whose sum is above `least`. The caller sees to it that there is room.
struct Hits {
  int32_t least;
  int32_t count;
  int32_t* sums;
  int32_t* rows;
};

}  // namespace sememe

// Scan `blocks` blocks for `count` queries. words: the first block; tables: (count, width, kWordTable); row: the number of
// the first row; live: for each block a bit for each row that counts.
SEMEME_DECLARE(void scan_nibbles(const uint32_t* words, int64_t width, const uint8_t* tables, int64_t count,
                                 int64_t blocks, int32_t row, const uint64_t* live, Hits* hits);)
