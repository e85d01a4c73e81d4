// A graph of neighbours over int8 rows: walking it towards a query, and choosing the links of a row.
//
// Scores are whole numbers, so every level walks the same way: a query of int8 weights times a row of int8 codes.
#pragma once

#include <cstdint>

#include "level.h"

namespace sememe {

// Rows and their links. A row has at most `degree` links, in the first slots; a link of a row to itself ends them.
struct LinkedRows {
  const uint8_t* rows;    // int8 (n, stride), of which the first d bytes count
  int64_t stride;
  int64_t d;
  const uint32_t* links;  // (n, degree), all below n
  int64_t degree;
  int64_t n;
};

// What a walk needs beside the graph; one for each thread. A key is the score, turned so that smaller is better, in
// the upper half, then the row, then a bit that tells that its links were followed: ordinary order is best first, ties
// to the lower row.
struct Walk {
  uint64_t* pool;     // (most + 1,) keys, in order
  int64_t size;       // of the pool
  int64_t most;       // keys that the pool keeps
  uint64_t* seen;     // a bit a row, all zero between walks
  uint32_t* trail;    // rows whose bit was set, as long as there is room
  int64_t room;       // of the trail; twice `reach` at least
  int64_t marked;     // rows whose bit was set
  uint32_t* fresh;    // (reach,) rows to score
  int32_t* sums;      // (reach,)
  int64_t reach;      // most rows that one step looks at
};

inline uint32_t row_of(uint64_t key) { return static_cast<uint32_t>(key) >> 1; }
inline int32_t score_of(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key >> 32) ^ 0x80000000u); }
inline uint64_t key_of(int32_t score, uint32_t row) {
  return static_cast<uint64_t>(~(static_cast<uint32_t>(score) ^ 0x80000000u)) << 32 | static_cast<uint64_t>(row) << 1;
}

constexpr int64_t kLine = 64;  // queries are padded with zeros to a multiple of this

}  // namespace sememe

// Inner products of a query, int8 padded to a multiple of kLine, with `count` rows; `sum` is that of its entries.
// `bias`, where not null, holds a number for each row of the table: the result is then 2 * product - bias[row].
SEMEME_DECLARE(void graph_dots(const LinkedRows& graph, const int8_t* query, int32_t sum, const int32_t* bias,
                               const uint32_t* rows, int64_t count, int32_t* out);)

// Best first from the `starts` until no row of the pool has links to follow.
SEMEME_DECLARE(void graph_walk(const LinkedRows& graph, const int8_t* query, int32_t sum, const int32_t* bias,
                               const uint32_t* starts, int64_t count, Walk& walk);)

// The same among the rows with a bit in `allow`; links of refused rows are followed at once, until a step has met as
// many allowed rows as a row has links.
SEMEME_DECLARE(void graph_walk_allowed(const LinkedRows& graph, const int8_t* query, int32_t sum,
                                       const uint64_t* allow, const uint32_t* starts, int64_t count, Walk& walk);)

// The sum of weights[j] * row[j], in the order of `exact_symbols` (symbols.h).
SEMEME_DECLARE(double exact_bytes(const double* weights, const uint8_t* row, int64_t d);)
