// The binding of a scan over rows that are plain numbers: the best of all by exact inner products.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "ranking.h"
#include "rescore.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T>
using Table = nb::ndarray<const T, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kBlock = 64 << 10;  // bytes of rows that are multiplied by all queries before the next are read
constexpr int64_t kWorth = 1 << 20;   // multiply-adds for which a thread is worth waking

// The best of rows [first, last) for each query, not in order.
void scan_part(const Rows& table, const float* queries, int64_t count, int64_t first, int64_t last, int64_t k,
               std::vector<std::vector<Candidate>>& best) {
  const auto dots = SEMEME_PICK(dot_stretch);
  const int64_t step = std::max<int64_t>(16, kBlock / (table.d * table.size + 1));
  std::vector<float> scores(step);
  std::vector<Candidates> found(count);
  for (auto& each : found) each.start(k, 1, 0);
  for (int64_t start = first; start < last; start += step) {
    const int64_t rows = std::min(step, last - start);
    for (int64_t q = 0; q < count; ++q) {
      dots(table, queries + q * table.d, start, rows, scores.data());
      for (int64_t i = 0; i < rows; ++i) {
        // What has no order counts as the least there is.
        const float score = std::isnan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
        if (found[q].wants(score)) found[q].offer(score, start + i);
      }
    }
  }
  for (int64_t q = 0; q < count; ++q) best[q] = found[q].settle();
}

template <class T>
nb::tuple row_scan(Table<T> values, Table<float> queries, int64_t k, int threads) {
  const int64_t n = values.shape(0), d = values.shape(1), count = queries.shape(0);
  if (k < 1 || static_cast<int64_t>(queries.shape(1)) != d) throw std::invalid_argument("arguments of row_scan do not fit together");
  Answer answer(count, std::min(k, n));
  {
    nb::gil_scoped_release release;
    const Rows table{values.data(), d, sizeof(T)};
    const int parts = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(threads, count * n * d / kWorth), 1, 256));
    std::vector<std::vector<std::vector<Candidate>>> found(parts, std::vector<std::vector<Candidate>>(count));
    parallel(n, parts, [&](int part, int64_t first, int64_t last) {
      scan_part(table, queries.data(), count, first, last, answer.width(), found[part]);
    });
    for (int64_t q = 0; q < count; ++q) {
      std::vector<Candidate>& all = found[0][q];
      for (int part = 1; part < parts; ++part) all.insert(all.end(), found[part][q].begin(), found[part][q].end());
      keep_best(all, answer.width());
      answer.put(q, all);
    }
  }
  return answer.arrays();
}

}  // namespace

void bind_row_scan(nb::module_& m) {
  m.def("row_scan_single", &row_scan<float>, nb::arg("values"), nb::arg("queries"), nb::arg("k"), nb::arg("threads"),
        "Scores and rows (q, k') of the best of all rows by inner product. See kernels/row_scan.py.");
  m.def("row_scan_half", &row_scan<uint16_t>, nb::arg("values"), nb::arg("queries"), nb::arg("k"), nb::arg("threads"),
        "The same for vectors in half precision, as uint16.");
  m.def("row_scan_bytes", &row_scan<int8_t>, nb::arg("values"), nb::arg("queries"), nb::arg("k"), nb::arg("threads"),
        "The same for int8 vectors.");
}
