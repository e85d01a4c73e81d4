// Scanning codes of which every byte adds an entry of a table of its own:
// score(q, row) = constant[q] + scale[row] * (inner[q] + sum_m table[q, m, byte(row, m)]).
//
// The sums are made in float32, byte after byte, as kernels/tables.py makes them, so both agree to the last bit. There
// is nothing to vectorise: a look-up is a load, and sixteen rows at a time keep both load ports busy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "ranking.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int kTile = 16;

void sum_tile(const uint8_t* const* rows, int64_t bytes, const float* table, float* out) {
  float sum[kTile] = {};
  for (int64_t m = 0; m < bytes; ++m, table += 256)
    for (int r = 0; r < kTile; ++r) sum[r] += table[rows[r][m]];
  for (int r = 0; r < kTile; ++r) out[r] = sum[r];
}

nb::tuple scan_tables(Array<uint8_t, 2> codes, int64_t first_byte, Array<float, 3> tables,
                      std::optional<Array<float, 1>> scales, Array<float, 1> inner, Array<float, 1> constants,
                      int64_t k, std::optional<Array<int64_t, 1>> rows, int threads) {
  const int64_t count = tables.shape(0), bytes = tables.shape(1), stride = codes.shape(1);
  if (tables.shape(2) != 256 || first_byte < 0 || first_byte + bytes > stride || k < 1 ||
      (scales && (scales->shape(0) != 256 || stride < 1)) || static_cast<int64_t>(inner.shape(0)) != count ||
      static_cast<int64_t>(constants.shape(0)) != count)
    throw std::invalid_argument("arguments of scan_tables do not fit together");
  const int64_t n = rows ? rows->shape(0) : codes.shape(0);
  const int64_t* pick = rows ? rows->data() : nullptr;
  for (int64_t i = 0; pick && i < n; ++i)
    if (pick[i] < 0 || pick[i] >= static_cast<int64_t>(codes.shape(0)))
      throw std::out_of_range("a row number lies outside the codes");
  const int64_t width = std::min(k, n);
  Answer answer(count, width);
  if (width > 0 && count > 0) {
    nb::gil_scoped_release release;
    const int64_t work = n * bytes * count / (2 << 20);  // a thread is worth its start for a millisecond
    const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, work)));
    std::vector<std::vector<Candidates>> lists(parts, std::vector<Candidates>(count));
    parallel(n, parts, [&](int part, int64_t first, int64_t last) {
      for (Candidates& list : lists[part]) list.start(width, 1, 0);
      const uint8_t* tile[kTile];
      float sums[kTile];
      // A block of rows for all queries, so that codes come from memory once.
      constexpr int64_t block = 1024;
      for (int64_t start = first; start < last; start += block)
        for (int64_t q = 0; q < count; ++q)
          for (int64_t at = start; at < std::min(start + block, last); at += kTile) {
            const int64_t here = std::min<int64_t>(kTile, last - at);
            for (int64_t r = 0; r < kTile; ++r) {
              const int64_t row = at + std::min(r, here - 1);
              tile[r] = codes.data() + (pick ? pick[row] : row) * stride + first_byte;
            }
            sum_tile(tile, bytes, tables.data() + q * bytes * 256, sums);
            Candidates& list = lists[part][q];
            for (int64_t r = 0; r < here; ++r) {
              float score = sums[r] + inner.data()[q];
              if (scales) score *= scales->data()[*(tile[r] - first_byte)];
              score += constants.data()[q];
              if (list.wants(score)) list.offer(score, pick ? pick[at + r] : at + r);
            }
          }
    });
    for (int64_t q = 0; q < count; ++q) {
      std::vector<Candidate> all;
      for (auto& list : lists) {
        const auto& some = list[q].settle();
        all.insert(all.end(), some.begin(), some.end());
      }
      keep_best(all, width);
      answer.put(q, all);
    }
  }
  return answer.arrays();
}

}  // namespace

void bind_tables(nb::module_& m) {
  m.def("scan_tables", &scan_tables, nb::arg("codes"), nb::arg("first_byte"), nb::arg("tables"),
        nb::arg("scales").none(), nb::arg("inner"), nb::arg("constants"), nb::arg("k"), nb::arg("rows").none(),
        nb::arg("threads"), "The k best rows for each query by sums of look-ups. See kernels/tables.py.");
}
