// The binding of MaxSim over codes: walks over documents and adds up the best matches. Where symbols are whole steps
// apart products are made in integers; otherwise vectors are put together as floats.
#include "maxsim.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kQueries = 24 << 10;  // bytes of queries at a time: half of a first cache
constexpr int64_t kRows = 128 << 10;    // bytes of vectors that meet all queries before the next: of a second cache
constexpr int64_t kWorth = 2 << 20;     // products that are worth a thread

struct Job {
  TokenCode code;
  const uint8_t* codes;
  int64_t stride, t;
  int64_t head;  // bytes of the number of a centre, 0 to 2
  const float* centres;  // (cells, count): what a centre adds to each query's product; or null
  int64_t cells;
  const float* rows;    // (cells, padded): the centres themselves, for codes of unit length; or null
  const float* spread;  // (padded), what levels are multiplied by before a row of the above is added
  const float* queries;  // (count, padded)
  int64_t count, padded;
};

// The best match of every query among codes [first, last), into best (count,).
class Matcher {
 public:
  explicit Matcher(const Job& job)
      : job_(job),
        block_(std::max<int64_t>(kMatched, kQueries / (4 * job.padded) / kMatched * kMatched)),
        room_(std::max<int64_t>(kMatched, kRows / (4 * job.padded) / kMatched * kMatched)),
        symbols_((job.code.d + 63) / 64 * 64),
        memory_(as_they_lie(job) ? 0 : room_ * job.padded),
        row_(room_),
        add_(room_),
        scale_(room_, 1.0f) {}

  void match(int64_t first, int64_t last, float* best) {
    auto matches = SEMEME_PICK(best_matches);
    for (; first < last; first += room_) {
      const int64_t some = std::min(room_, last - first), full = (some + kMatched - 1) / kMatched * kMatched;
      for (int64_t r = 0; r < full; ++r) {
        if (r >= some) {  // the last one once more changes nothing
          row_[r] = row_[some - 1];
          add_[r] = add_[some - 1];
          scale_[r] = scale_[some - 1];
          continue;
        }
        const uint8_t* code = job_.codes + (first + r) * job_.stride;
        if (!memory_.empty()) request(first + r + 2 * kMatched);
        row_[r] = whole(code, r);
        if (job_.centres) add_[r] = job_.centres + cell(code) * job_.count;
      }
      for (int64_t from = 0; from < job_.count; from += block_) {
        const int64_t queries = std::min(block_, job_.count - from);
        for (int64_t r = 0; r < full; r += kMatched) {
          const float* add[kMatched] = {};
          for (int64_t i = 0; memory_.empty() && from == 0 && i < kMatched; ++i) request(first + r + kMatched + i);
          for (int64_t i = 0; job_.centres && i < kMatched; ++i) add[i] = add_[r + i] + from;
          matches(row_.data() + r, job_.queries + from * job_.padded, queries, job_.padded,
                  job_.rows ? scale_.data() + r : nullptr, job_.centres ? add : nullptr, best + from);
        }
      }
    }
  }

 private:
  static bool as_they_lie(const Job& job) {
    return job.code.kind == TokenKind::single && job.padded == job.code.d && job.stride % 4 == 0 &&
           reinterpret_cast<uintptr_t>(job.codes + job.code.first) % 4 == 0;
  }

  // Vectors of one document follow each other, and so do those of the next.
  void request(int64_t number) const {
    const uint8_t* code = job_.codes + std::min(number, job_.t - 1) * job_.stride;
    for (int64_t byte = 0; byte < job_.stride; byte += 64) __builtin_prefetch(code + byte);
  }

  const float* whole(const uint8_t* code, int64_t r) {
    const uint8_t* values = code + job_.code.first;
    if (memory_.empty()) return reinterpret_cast<const float*>(values);
    float* to = memory_.data() + r * job_.padded;
    SEMEME_PICK(widen_code)(job_.code, code, job_.padded, symbols_.data(), to);
    if (job_.rows)
      scale_[r] = SEMEME_PICK(unit_row)(job_.rows + cell(code) * job_.padded, job_.spread, job_.padded, to);
    return to;
  }

  int64_t cell(const uint8_t* code) const {
    const int64_t number = job_.head == 1 ? code[0] : code[0] | code[1] << 8;
    if (number >= job_.cells) throw std::out_of_range("a code names a centre that does not exist");
    return number;
  }

  const Job& job_;
  int64_t block_, room_;  // queries, and vectors of documents, at a time
  std::vector<uint8_t> symbols_;
  std::vector<float> memory_;
  std::vector<const float*> row_, add_;
  std::vector<float> scale_;  // of rows that are brought to unit length
};

// Queries as whole numbers of 16 bits, for codes whose symbol s stands for levels[0] + s: their products with symbols
// are exact, in two halves of 8 bits. product = offset + unit * (256 high + low).
struct WholeQueries {
  static constexpr int64_t kBlock = 64;  // queries whose sums stay in a first cache
  int64_t padded;                        // dimensions rounded up to a multiple of 64
  std::vector<int8_t> high, low;         // in the order of the level's loop, block after block
  std::vector<double> offset, unit;

  WholeQueries(const float* weights, int64_t m, int64_t d, float first, int bits)
      : padded((d + 63) / 64 * 64), high(m * padded), low(m * padded), offset(m), unit(m) {
    std::vector<int8_t> upper(m * padded), lower(m * padded);
    const double middle = ((1 << bits) - 1) / 2.0;  // what weights lose by rounding counts from here
    for (int64_t q = 0; q < m; ++q) {
      const float* w = weights + q * d;
      double most = 0, sum = 0, whole = 0;
      for (int64_t j = 0; j < d; ++j) most = std::max(most, std::abs(static_cast<double>(w[j])));
      unit[q] = most > 0 ? most / (127 * 256) : 1.0;
      for (int64_t j = 0; j < d; ++j) {
        const int value = static_cast<int>(std::nearbyint(w[j] / unit[q])), rest = static_cast<int8_t>(value & 255);
        upper[q * padded + j] = static_cast<int8_t>((value - rest) >> 8);
        lower[q * padded + j] = static_cast<int8_t>(rest);
        sum += w[j];
        whole += value;
      }
      offset[q] = sum * (first + middle) - unit[q] * middle * whole;
    }
    for (int64_t q = 0; q < m; q += kBlock) {
      const int64_t some = std::min(kBlock, m - q);
      SEMEME_PICK(order_queries)(upper.data() + q * padded, some, padded, high.data() + q * padded);
      SEMEME_PICK(order_queries)(lower.data() + q * padded, some, padded, low.data() + q * padded);
    }
  }
};

// The same as Matcher, for such codes.
class WholeMatcher {
 public:
  WholeMatcher(const Job& job, const WholeQueries& queries, int64_t m)
      : job_(job), queries_(queries), m_(m), tiles_((kRoom + kTile) * queries.padded), best_(m * kTile) {}

  void match(int64_t first, int64_t last, float* best) {
    constexpr int64_t block = WholeQueries::kBlock;
    const int64_t padded = queries_.padded;
    const auto unpack = SEMEME_PICK(unpack_tiles);
    const auto products = SEMEME_PICK(match_symbols);
    const auto join = SEMEME_PICK(join_matches);
    std::fill(best_.begin(), best_.end(), -std::numeric_limits<float>::infinity());
    for (; first < last; first += kRoom) {
      const int64_t some = std::min(kRoom, last - first);
      uint8_t* tiles = tiles_.data();
      unpack(job_.code.symbols, job_.codes + first * job_.stride, nullptr, some, padded, tiles + kRoom * padded, tiles);
      for (int64_t q = 0; q < m_; q += block)
        for (int64_t row = 0; row < some; row += kTile) {
          const int64_t count = std::min(block, m_ - q);
          const uint8_t* tile = tiles + row * padded;
          products(tile, queries_.high.data() + q * padded, count, padded, zeros_, nullptr, zeros_, high_, masks_);
          products(tile, queries_.low.data() + q * padded, count, padded, zeros_, nullptr, zeros_, low_, masks_);
          join(high_, low_, count, best_.data() + q * kTile);
        }
    }
    for (int64_t q = 0; q < m_; ++q) {
      const float most = *std::max_element(best_.begin() + q * kTile, best_.begin() + (q + 1) * kTile);
      best[q] = static_cast<float>(queries_.offset[q] + queries_.unit[q] * most);
    }
  }

 private:
  static constexpr int64_t kRoom = 64;  // rows unpacked at a time
  const Job& job_;
  const WholeQueries& queries_;
  int64_t m_;
  std::vector<uint8_t> tiles_;  // and a tile of scratch
  std::vector<float> best_;     // of every query, in lanes
  int32_t high_[WholeQueries::kBlock * kTile], low_[WholeQueries::kBlock * kTile];
  float zeros_[WholeQueries::kBlock] = {};
  uint16_t masks_[WholeQueries::kBlock];
};

// Rows of d as rows of `padded`, zeros behind.
std::vector<float> widened(const float* rows, int64_t n, int64_t d, int64_t padded) {
  std::vector<float> wide(n * padded, 0.0f);
  for (int64_t r = 0; r < n; ++r) std::copy(rows + r * d, rows + (r + 1) * d, wide.data() + r * padded);
  return wide;
}

// queries: query i has vectors [queries[i], queries[i + 1]); document j has codes [starts[j], stops[j]).
nb::ndarray<nb::numpy, float> maxsim(int kind, Array<uint8_t, 2> codes, int64_t d, int bits, int flip, int64_t first,
                                     Array<float, 1> levels, int64_t head, Array<float, 2> centres,
                                     Array<float, 2> rows, Array<float, 1> spread, Array<float, 2> weights,
                                     Array<float, 1> constants, Array<int64_t, 1> queries, Array<int64_t, 1> starts,
                                     Array<int64_t, 1> stops, int threads) {
  const int64_t t = codes.shape(0), stride = codes.shape(1), m = weights.shape(0), n = starts.shape(0);
  const int64_t asked = static_cast<int64_t>(queries.shape(0)) - 1, count = (m + kMatched - 1) / kMatched * kMatched;
  const int64_t bytes = kind == 2 ? packed_bytes(d, bits) : d * (kind == 0 ? 4 : 2);
  const bool unit = rows.shape(0) > 0;
  bool fits = kind >= 0 && kind <= 2 && d >= 1 && d <= 65536 && bits >= 1 && bits <= 8 && first >= head && head >= 0 &&
              head <= 2 && first + bytes <= stride && static_cast<int64_t>(weights.shape(1)) == d && asked >= 0 &&
              static_cast<int64_t>(constants.shape(0)) == m && static_cast<int64_t>(stops.shape(0)) == n &&
              (kind != 2 || static_cast<int64_t>(levels.shape(0)) == int64_t{1} << bits) &&
              (!head || unit || static_cast<int64_t>(centres.shape(1)) == count) &&
              (!unit || (head && kind == 2 && static_cast<int64_t>(rows.shape(1)) == d &&
                         static_cast<int64_t>(spread.shape(0)) == d));
  for (int64_t i = 0; fits && i <= asked; ++i)
    fits = queries.data()[i] >= (i ? queries.data()[i - 1] : 0) && queries.data()[i] <= m;
  int64_t vectors = 0;
  for (int64_t j = 0; fits && j < n; ++j) {
    fits = starts.data()[j] >= 0 && starts.data()[j] <= stops.data()[j] && stops.data()[j] <= t;
    vectors += stops.data()[j] - starts.data()[j];
  }
  if (!fits) throw std::invalid_argument("arguments of maxsim do not fit together");
  float* scores = new float[asked * n + 1];
  nb::capsule keep(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    nb::gil_scoped_release release;
    std::vector<float> table(256, 0.0f);
    if (kind == 2) std::copy(levels.data(), levels.data() + levels.shape(0), table.begin());
    bool even = kind == 2;
    for (int64_t s = 0; even && s < int64_t{1} << bits; ++s) even = table[s] == table[0] + static_cast<float>(s);
    const int64_t padded = (d + 15) / 16 * 16;
    std::vector<float> memory = widened(weights.data(), m, d, padded);
    memory.resize(count * padded, 0.0f);
    const SymbolCode symbols{stride, d, bits, flip, Tail::none, 0, first, nullptr, nullptr, nullptr};
    const std::vector<float> wide = unit ? widened(rows.data(), rows.shape(0), d, padded) : std::vector<float>();
    const std::vector<float> wide_spread = unit ? widened(spread.data(), 1, d, padded) : std::vector<float>();
    const Job job{{static_cast<TokenKind>(kind), d, first, symbols, table.data(), even}, codes.data(), stride, t, head,
                  head && !unit ? centres.data() : nullptr,
                  static_cast<int64_t>(unit ? rows.shape(0) : centres.shape(0)), unit ? wide.data() : nullptr,
                  wide_spread.data(), memory.data(), count, padded};
    const double worth = static_cast<double>(vectors) * static_cast<double>(m * d) / kWorth;
    const int parts = static_cast<int>(std::clamp<double>(worth, 1, std::clamp(threads, 1, 256)));
    std::atomic<int64_t> next{0};
    auto all = [&](auto& matcher) {
      std::vector<float> best(count);
      for (int64_t j; (j = next.fetch_add(1)) < n;) {
        const int64_t start = starts.data()[j], stop = stops.data()[j];
        std::fill(best.begin(), best.end(), -std::numeric_limits<float>::infinity());
        if (start < stop) matcher.match(start, stop, best.data());
        for (int64_t i = 0; i < asked; ++i) {
          double sum = 0;
          for (int64_t q = queries.data()[i]; start < stop && q < queries.data()[i + 1]; ++q)
            sum += static_cast<double>(best[q]) + constants.data()[q];
          scores[i * n + j] = static_cast<float>(sum);
        }
      }
    };
    if (even && !head) {
      const WholeQueries whole(weights.data(), m, d, table[0], bits);
      parallel(parts, parts, [&](int, int64_t, int64_t) {
        WholeMatcher matcher(job, whole, m);
        all(matcher);
      });
    } else {
      parallel(parts, parts, [&](int, int64_t, int64_t) {
        Matcher matcher(job);
        all(matcher);
      });
    }
  }
  const size_t shape[2] = {static_cast<size_t>(asked), static_cast<size_t>(n)};
  return nb::ndarray<nb::numpy, float>(scores, 2, shape, keep);
}

}  // namespace

void bind_maxsim(nb::module_& m) {
  m.def("maxsim", &maxsim, nb::arg("kind"), nb::arg("codes"), nb::arg("d"), nb::arg("bits"), nb::arg("flip"),
        nb::arg("first"), nb::arg("levels"), nb::arg("head"), nb::arg("centres"), nb::arg("rows"),
        nb::arg("spread"), nb::arg("weights"), nb::arg("constants"), nb::arg("queries"), nb::arg("starts"),
        nb::arg("stops"), nb::arg("threads"),
        "Scores (q, n) of queries with documents of codes. See kernels/maxsim.py.");
}
