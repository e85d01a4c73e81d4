#include "graph.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int64_t kAhead = 8;  // rows asked for before they are scored

inline void ask_for(const uint8_t* row, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 3);
}

inline void ask_for_links(const LinkedRows& graph, uint32_t row) {
  const uint32_t* links = graph.links + row * graph.degree;
  for (int64_t at = 0; at < graph.degree; at += 16) __builtin_prefetch(links + at, 0, 3);
}

// Products of one query with four rows.
inline void four(const int8_t* query, int32_t sum, const uint8_t* const* rows, int64_t d, int32_t* out) {
#if defined(__AVX512VNNI__)
  // Rows become unsigned by adding 128, which adds 128 * sum to the product.
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i total[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  int64_t j = 0;
  for (; j + 64 <= d; j += 64) {
    const __m512i weights = _mm512_loadu_si512(query + j);
    for (int r = 0; r < 4; ++r)
      total[r] = _mm512_dpbusd_epi32(total[r], _mm512_xor_si512(_mm512_loadu_si512(rows[r] + j), flip), weights);
  }
  if (j < d) {
    const __mmask64 rest = ~0ull >> (64 - (d - j));
    const __m512i weights = _mm512_loadu_si512(query + j);
    for (int r = 0; r < 4; ++r)
      total[r] =
          _mm512_dpbusd_epi32(total[r], _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, rows[r] + j), flip), weights);
  }
  __m256i half[4];
  for (int r = 0; r < 4; ++r)
    half[r] = _mm256_add_epi32(_mm512_castsi512_si256(total[r]), _mm512_extracti64x4_epi64(total[r], 1));
  const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_hadd_epi32(half[2], half[3]));
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_sub_epi32(sums, _mm_set1_epi32(128 * sum)));
#elif defined(__AVX2__)
  (void)sum;
  __m256i total[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  int64_t j = 0;
  for (; j + 16 <= d; j += 16) {
    const __m256i weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(query + j)));
    for (int r = 0; r < 4; ++r) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + j));
      total[r] = _mm256_add_epi32(total[r], _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), weights));
    }
  }
  const __m256i pairs =
      _mm256_hadd_epi32(_mm256_hadd_epi32(total[0], total[1]), _mm256_hadd_epi32(total[2], total[3]));
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
  for (; j < d; ++j)
    for (int r = 0; r < 4; ++r) out[r] += query[j] * static_cast<int8_t>(rows[r][j]);
#else
  (void)sum;
  for (int r = 0; r < 4; ++r) {
    int32_t total = 0;
    for (int64_t j = 0; j < d; ++j) total += query[j] * static_cast<int8_t>(rows[r][j]);
    out[r] = total;
  }
#endif
}

inline bool is_set(const uint64_t* bits, uint32_t row) { return bits[row >> 6] >> (row & 63) & 1; }

// Note that a row was seen; false where it had been.
inline bool first_seen(Walk& walk, uint32_t row) {
  uint64_t& word = walk.seen[row >> 6];
  const uint64_t bit = 1ull << (row & 63);
  if (word & bit) return false;
  word |= bit;
  if (walk.marked < walk.room) walk.trail[walk.marked] = row;
  ++walk.marked;
  return true;
}

inline void forget(Walk& walk, int64_t n) {
  if (walk.marked <= walk.room)
    for (int64_t i = 0; i < walk.marked; ++i) walk.seen[walk.trail[i] >> 6] = 0;
  else
    memset(walk.seen, 0, (n + 63) / 64 * 8);
  walk.marked = 0;
}

// Put a key where it belongs in the pool; its place.
inline int64_t insert(Walk& walk, uint64_t key) {
  int64_t low = 0, high = walk.size;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (walk.pool[middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  const int64_t stays = walk.size < walk.most ? walk.size : walk.most - 1;
  memmove(walk.pool + low + 1, walk.pool + low, (stays - low) * sizeof(uint64_t));
  walk.pool[low] = key;
  walk.size = stays + 1;
  return low;
}

// Score the fresh rows and keep those that are good enough; the first place of the pool that changed, or `cursor`.
inline int64_t take(const LinkedRows& graph, const int8_t* query, int32_t sum, const int32_t* bias, int64_t count,
                    int64_t cursor, Walk& walk) {
  graph_dots(graph, query, sum, bias, walk.fresh, count, walk.sums);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t key = key_of(walk.sums[i], walk.fresh[i]);
    if (walk.size == walk.most && key >= walk.pool[walk.size - 1]) continue;
    ask_for_links(graph, walk.fresh[i]);
    const int64_t place = insert(walk, key);
    if (place < cursor) cursor = place;
  }
  return cursor;
}

}  // namespace

void graph_dots(const LinkedRows& graph, const int8_t* query, int32_t sum, const int32_t* bias, const uint32_t* rows,
                int64_t count, int32_t* out) {
  if (count == 0) return;
  for (int64_t i = 0; i < count && i < kAhead; ++i) ask_for(graph.rows + rows[i] * graph.stride, graph.d);
  for (int64_t i = 0; i < count; i += 4) {
    const uint8_t* at[4];
    for (int r = 0; r < 4; ++r) {
      at[r] = graph.rows + rows[i + r < count ? i + r : count - 1] * graph.stride;
      if (i + r + kAhead < count) ask_for(graph.rows + rows[i + r + kAhead] * graph.stride, graph.d);
    }
    int32_t sums[4];
    four(query, sum, at, graph.d, sums);
    for (int r = 0; r < 4 && i + r < count; ++r) out[i + r] = bias ? 2 * sums[r] - bias[rows[i + r]] : sums[r];
  }
}

void graph_walk(const LinkedRows& graph, const int8_t* query, int32_t sum, const int32_t* bias, const uint32_t* starts,
                int64_t count, Walk& walk) {
  walk.size = 0;
  for (int64_t first = 0; first < count; first += walk.reach) {
    int64_t found = 0;
    for (int64_t i = first; i < count && i < first + walk.reach; ++i)
      if (first_seen(walk, starts[i])) walk.fresh[found++] = starts[i];
    take(graph, query, sum, bias, found, 0, walk);
  }
  for (int64_t cursor = 0; cursor < walk.size;) {
    const uint64_t key = walk.pool[cursor];
    if (key & 1) {
      ++cursor;
      continue;
    }
    walk.pool[cursor] |= 1;
    const uint32_t row = row_of(key);
    const uint32_t* links = graph.links + row * graph.degree;
    int64_t found = 0;
    for (int64_t i = 0; i < graph.degree && links[i] != row; ++i)
      if (first_seen(walk, links[i])) walk.fresh[found++] = links[i];
    cursor = take(graph, query, sum, bias, found, cursor, walk);
  }
  forget(walk, graph.n);
}

void graph_walk_allowed(const LinkedRows& graph, const int8_t* query, int32_t sum, const uint64_t* allow,
                        const uint32_t* starts, int64_t count, Walk& walk) {
  walk.size = 0;
  for (int64_t first = 0; first < count; first += walk.reach) {
    int64_t found = 0;
    for (int64_t i = first; i < count && i < first + walk.reach; ++i)
      if (is_set(allow, starts[i]) && first_seen(walk, starts[i])) walk.fresh[found++] = starts[i];
    take(graph, query, sum, nullptr, found, 0, walk);
  }
  for (int64_t cursor = 0; cursor < walk.size;) {
    const uint64_t key = walk.pool[cursor];
    if (key & 1) {
      ++cursor;
      continue;
    }
    walk.pool[cursor] |= 1;
    const uint32_t row = row_of(key);
    const uint32_t* links = graph.links + row * graph.degree;
    int64_t found = 0, met = 0;
    for (int64_t i = 0; i < graph.degree && links[i] != row; ++i) {
      if (!is_set(allow, links[i])) {
        ask_for_links(graph, links[i]);
        continue;
      }
      ++met;
      if (first_seen(walk, links[i])) walk.fresh[found++] = links[i];
    }
    for (int64_t i = 0; i < graph.degree && links[i] != row && met < graph.degree; ++i) {
      const uint32_t refused = links[i];
      if (is_set(allow, refused) || !first_seen(walk, refused)) continue;  // its links were followed before
      const uint32_t* beyond = graph.links + refused * graph.degree;
      for (int64_t j = 0; j < graph.degree && beyond[j] != refused; ++j) {
        if (!is_set(allow, beyond[j])) continue;
        ++met;
        if (first_seen(walk, beyond[j])) walk.fresh[found++] = beyond[j];
      }
    }
    cursor = take(graph, query, sum, nullptr, found, cursor, walk);
  }
  forget(walk, graph.n);
}

double exact_bytes(const double* weights, const uint8_t* row, int64_t d) {
  double sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t j = 0;
  for (; j + 8 <= d; j += 8)
    for (int lane = 0; lane < 8; ++lane) sum[lane] += weights[j + lane] * static_cast<int8_t>(row[j + lane]);
  for (int lane = 0; j < d; ++j, ++lane) sum[lane] += weights[j] * static_cast<int8_t>(row[j]);
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
