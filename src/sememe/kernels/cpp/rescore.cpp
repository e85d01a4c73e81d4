// The binding of rescoring: the best of some candidates by their exact scores, reading as few rows as may do.
#include "rescore.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

struct Best {
  float score;
  int64_t row;
  bool operator<(const Best& other) const {
    return score > other.score || (score == other.score && row < other.row);
  }
};

// A line through (coarse, exact) of the rows read so far, and how far they scatter about it.
struct Line {
  double slope, offset, scatter;
};

Line fit(const std::vector<float>& x, const std::vector<float>& y) {
  const double n = static_cast<double>(x.size());
  double mx = 0, my = 0, xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mx += x[i];
    my += y[i];
  }
  mx /= n;
  my /= n;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xy += (x[i] - mx) * (y[i] - my);
    yy += (y[i] - my) * (y[i] - my);
  }
  const double slope = xx > 0 ? std::max(0.0, xy / xx) : 0.0;
  return {slope, my - slope * mx, std::sqrt(std::max(0.0, yy - slope * xy) / std::max(1.0, n - 2))};
}

// A candidate: its score from the codes, and its row.
using Coarse = std::pair<float, int64_t>;

// Scratch of one thread.
struct Work {
  std::vector<Coarse> order;
  std::vector<int64_t> rows;
  std::vector<float> coarse, exact, sorted;
  std::vector<Best> best;
};

// Exact scores of one query's candidates into work.best; the number of rows read. Candidates are read from the best
// coarse score on, twice as many in all at each step, and after each step the line is drawn anew.
int64_t score(const Rows& table, const float* query, const int64_t* rows, const float* coarse, int64_t count, int64_t k,
              int64_t first, double margin, Work& work) {
  auto dots = SEMEME_PICK(dot_rows);
  work.best.clear();
  work.coarse.clear();
  work.exact.clear();
  auto read = [&](const int64_t* some, int64_t n) {
    const size_t before = work.exact.size();
    work.exact.resize(before + n);
    dots(table, query, some, n, work.exact.data() + before);
    for (int64_t i = 0; i < n; ++i) {
      float& value = work.exact[before + i];
      if (std::isnan(value)) value = -std::numeric_limits<float>::infinity();  // sorting must not meet what has no order
      work.best.push_back({value, some[i]});
    }
  };
  first = std::max(first, k);
  if (!coarse || first >= count || std::isinf(margin)) {
    read(rows, count);
    return count;
  }
  work.order.resize(count);
  for (int64_t i = 0; i < count; ++i) work.order[i] = {coarse[i], rows[i]};
  const auto better = [](const Coarse& a, const Coarse& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  auto next = work.order.begin();
  for (int64_t done = 0; next != work.order.end(); done = static_cast<int64_t>(work.exact.size())) {
    auto last = work.order.end();
    if (done) {
      const Line line = fit(work.coarse, work.exact);
      work.sorted = work.exact;
      std::nth_element(work.sorted.begin(), work.sorted.begin() + (k - 1), work.sorted.end(), std::greater<float>());
      const double need = work.sorted[k - 1] - line.offset - margin * line.scatter;
      last = std::partition(next, last, [&](const Coarse& one) { return line.slope * one.first >= need; });
      if (next == last) break;
    }
    const int64_t some = std::min<int64_t>(done ? done : first, last - next);
    if (some < last - next) std::nth_element(next, next + some, last, better);
    work.rows.clear();
    for (const auto stop = next + some; next != stop; ++next) {
      work.coarse.push_back(next->first);
      work.rows.push_back(next->second);
    }
    read(work.rows.data(), some);
  }
  return static_cast<int64_t>(work.exact.size());
}

nb::tuple rescore(const void* values, int size, int64_t n, int64_t d, Array<float, 2> queries, Array<int64_t, 2> rows,
                  std::optional<Array<float, 2>> coarse, int64_t k, int64_t first, double margin, int threads) {
  const int64_t count = rows.shape(0), each = rows.shape(1);
  if (k < 1 || static_cast<int64_t>(queries.shape(0)) != count || static_cast<int64_t>(queries.shape(1)) != d ||
      (coarse && (coarse->shape(0) != rows.shape(0) || coarse->shape(1) != rows.shape(1))) || !(margin >= 0))
    throw std::invalid_argument("arguments of rescore do not fit together");
  for (int64_t i = 0; i < count * each; ++i)
    if (rows.data()[i] < 0 || rows.data()[i] >= n) throw std::out_of_range("a row number lies outside the vectors");
  const int64_t wide = std::min(k, each);
  float* scores = new float[count * wide + 1];
  nb::capsule keep_scores(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  int64_t* found = new int64_t[count * wide + 1];
  nb::capsule keep_found(found, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  int64_t* reads = new int64_t[count + 1];
  nb::capsule keep_reads(reads, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  {
    nb::gil_scoped_release release;
    const Rows table{values, d, size};
    const int64_t work = count * each * d / (1 << 20);  // a thread is worth its start for some hundred microseconds
    const int64_t parts = std::clamp<int64_t>(std::min<int64_t>({threads, work, count}), 1, 256);
    std::atomic<int64_t> next{0};  // threads fetch queries, so that one that is held up does not hold up the others
    parallel(parts, static_cast<int>(parts),
             [&](int, int64_t, int64_t) {
               Work scratch;
               for (int64_t q; (q = next.fetch_add(1)) < count;) {
                 reads[q] = each == 0 ? 0
                                      : score(table, queries.data() + q * d, rows.data() + q * each,
                                              coarse ? coarse->data() + q * each : nullptr, each, wide, first, margin,
                                              scratch);
                 std::partial_sort(scratch.best.begin(), scratch.best.begin() + wide, scratch.best.end());
                 for (int64_t i = 0; i < wide; ++i) {
                   scores[q * wide + i] = scratch.best[i].score;
                   found[q * wide + i] = scratch.best[i].row;
                 }
               }
             });
  }
  const size_t shape[2] = {static_cast<size_t>(count), static_cast<size_t>(wide)}, line[1] = {static_cast<size_t>(count)};
  return nb::make_tuple(nb::ndarray<nb::numpy, float>(scores, 2, shape, keep_scores),
                        nb::ndarray<nb::numpy, int64_t>(found, 2, shape, keep_found),
                        nb::ndarray<nb::numpy, int64_t>(reads, 1, line, keep_reads));
}

template <class T>
nb::tuple rescore_as(Array<T, 2> values, Array<float, 2> queries, Array<int64_t, 2> rows,
                     std::optional<Array<float, 2>> coarse, int64_t k, int64_t first, double margin, int threads) {
  return rescore(values.data(), sizeof(T), values.shape(0), values.shape(1), queries, rows, coarse, k, first,
                 margin, threads);
}

// All products of a few queries with a few rows.
nb::ndarray<nb::numpy, float> multiply(Array<float, 2> queries, Array<float, 2> rows, int threads) {
  if (queries.shape(1) != rows.shape(1)) throw std::invalid_argument("arguments of multiply do not fit together");
  const int64_t count = queries.shape(0), n = rows.shape(0), d = rows.shape(1);
  float* out = new float[count * n + 1];
  nb::capsule keep(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    nb::gil_scoped_release release;
    auto dots = SEMEME_PICK(dot_rows);
    std::vector<int64_t> all(n);
    for (int64_t i = 0; i < n; ++i) all[i] = i;
    const int64_t parts = std::clamp<int64_t>(std::min<int64_t>(threads, count * n * d / (2 << 20)), 1, 256);
    parallel(count, static_cast<int>(parts), [&](int, int64_t first, int64_t last) {
      for (int64_t q = first; q < last; ++q)
        dots(Rows{rows.data(), d, 4}, queries.data() + q * d, all.data(), n, out + q * n);
    });
  }
  const size_t shape[2] = {static_cast<size_t>(count), static_cast<size_t>(n)};
  return nb::ndarray<nb::numpy, float>(out, 2, shape, keep);
}

}  // namespace

void bind_rescore(nb::module_& m) {
  m.def("rescore_single", &rescore_as<float>, nb::arg("values"), nb::arg("queries"), nb::arg("rows"),
        nb::arg("coarse").none(), nb::arg("k"), nb::arg("first"), nb::arg("margin"), nb::arg("threads"),
        "The k best of the candidates by exact scores: scores, rows (q, k'), rows read (q,). See kernels/rescore.py.");
  m.def("rescore_half", &rescore_as<uint16_t>, nb::arg("values"), nb::arg("queries"), nb::arg("rows"),
        nb::arg("coarse").none(), nb::arg("k"), nb::arg("first"), nb::arg("margin"), nb::arg("threads"),
        "The same for vectors in half precision, as uint16.");
  m.def("rescore_bytes", &rescore_as<int8_t>, nb::arg("values"), nb::arg("queries"), nb::arg("rows"),
        nb::arg("coarse").none(), nb::arg("k"), nb::arg("first"), nb::arg("margin"), nb::arg("threads"),
        "The same for int8 vectors.");
  m.def("multiply", &multiply, nb::arg("queries"), nb::arg("rows"), nb::arg("threads"),
        "queries @ rows.T, in the calling thread where there is little to do.");
}
