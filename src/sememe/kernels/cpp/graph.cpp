// The binding of graph search: queries to walks, pools to answers.
#include "graph.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "answer.h"
#include "graph_scratch.h"
#include "parallel.h"
#include "ranking.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

// A query as int8 weights, padded with zeros; their sum.
int32_t narrow(const double* weights, int64_t d, std::vector<int8_t>& out) {
  double largest = 0;
  for (int64_t j = 0; j < d; ++j) largest = std::max(largest, std::fabs(weights[j]));
  const double scale = largest > 0 ? 127 / largest : 0;
  int32_t sum = 0;
  for (int64_t j = 0; j < d; ++j) {
    out[j] = static_cast<int8_t>(std::nearbyint(std::isfinite(scale) ? weights[j] * scale : weights[j] / largest * 127));
    sum += out[j];
  }
  return sum;
}

constexpr int64_t kSeeds = 64;

// Rows that pass, evenly spread among those that do: kSeeds of them, or all where there are fewer.
std::vector<uint32_t> spread(const uint64_t* bits, int64_t words) {
  int64_t passing = 0;
  for (int64_t w = 0; w < words; ++w) passing += __builtin_popcountll(bits[w]);
  const int64_t count = std::min(kSeeds, passing);
  std::vector<uint32_t> rows;
  int64_t before = 0;
  for (int64_t w = 0; w < words && static_cast<int64_t>(rows.size()) < count; ++w) {
    const int64_t here = __builtin_popcountll(bits[w]);
    while (static_cast<int64_t>(rows.size()) < count) {
      int64_t rank = static_cast<int64_t>(rows.size()) * passing / count - before;
      if (rank >= here) break;
      uint64_t word = bits[w];
      for (; rank > 0; --rank) word &= word - 1;
      rows.push_back(static_cast<uint32_t>(64 * w + __builtin_ctzll(word)));
    }
    before += here;
  }
  return rows;
}

// How many times as wide a walk must be where the rows that pass lie far from the query, and nearly equally so: 1 to 4,
// by how many standard deviations the mean score of some of them lies below that of rows at large.
double stretch(const LinkedRows& graph, const int8_t* query, int32_t sum, const uint32_t* starts, int64_t count,
               const std::vector<uint32_t>& seeds, std::vector<int32_t>& scores) {
  auto dots = SEMEME_PICK(graph_dots);
  scores.resize(std::max<size_t>(count, seeds.size()));
  const auto moments = [&](const uint32_t* rows, int64_t m, double& mean, double& variance) {
    dots(graph, query, sum, nullptr, rows, m, scores.data());
    mean = variance = 0;
    for (int64_t i = 0; i < m; ++i) mean += scores[i];
    mean /= static_cast<double>(m);
    for (int64_t i = 0; i < m; ++i) variance += (scores[i] - mean) * (scores[i] - mean);
    variance /= static_cast<double>(m);
  };
  double all, spread, passing, ignored;
  moments(starts, count, all, spread);
  moments(seeds.data(), static_cast<int64_t>(seeds.size()), passing, ignored);
  const double below = spread > 0 ? (all - passing) / std::sqrt(spread) : 0;
  return 1 + 3 * std::clamp((below - 0.3) / 0.4, 0.0, 1.0);
}

// Rows and scores, exact where `constants` are given, of the best of each walk. Where a walk
// among the rows of a filter would have to be wider than `widest`, its line stays empty.
nb::tuple graph_search(Array<uint8_t, 2> rows, Array<uint32_t, 2> links, Array<uint32_t, 1> starts,
                       Array<double, 2> weights, std::optional<Array<double, 1>> constants, int64_t most, int64_t k,
                       std::optional<Array<uint64_t, 1>> allow, int64_t widest, int threads) {
  const int64_t n = rows.shape(0), d = weights.shape(1), queries = weights.shape(0), degree = links.shape(1);
  if (n < 1 || n >= int64_t{1} << 31 || static_cast<int64_t>(links.shape(0)) != n || degree < 1 || d < 1 ||
      d > 65536 || d > static_cast<int64_t>(rows.shape(1)) || k < 1 || most < k || starts.shape(0) < 1 ||
      (constants && static_cast<int64_t>(constants->shape(0)) != queries) ||
      (allow && static_cast<int64_t>(allow->shape(0)) != (n + 63) / 64))
    throw std::invalid_argument("arguments of graph_search do not fit together");
  const int64_t count = starts.shape(0);
  if (std::any_of(starts.data(), starts.data() + count, [&](uint32_t row) { return row >= n; }) ||
      (allow && n % 64 && allow->data()[n / 64] >> (n % 64)))
    throw std::out_of_range("a row that is named is not there");
  const int64_t kept = std::min(most, n);  // there are no more, however many are asked for
  const LinkedRows graph{rows.data(), static_cast<int64_t>(rows.shape(1)), d, links.data(), degree, n};
  Answer answer(queries, std::min(k, n));
  {
    nb::gil_scoped_release release;
    std::vector<uint32_t> seeds;
    if (allow) seeds = spread(allow->data(), (n + 63) / 64);
    auto free_walk = SEMEME_PICK(graph_walk);
    auto fenced_walk = SEMEME_PICK(graph_walk_allowed);
    auto exact = SEMEME_PICK(exact_bytes);
    const int parts = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(threads, queries / 2), 1, 256));
    const bool any = !allow || !seeds.empty();
    parallel(any ? queries : 0, parts, [&](int, int64_t first, int64_t last) {
      std::vector<int8_t> query((d + kLine - 1) / kLine * kLine, 0);
      std::vector<Candidate> best;
      std::vector<int32_t> scores;
      Walk& walk = Scratch::mine().walk(n, degree, allow ? 4 * kept : kept);
      for (int64_t q = first; q < last; ++q) {
        const double* wide = weights.data() + q * d;
        const int32_t sum = narrow(wide, d, query);
        bool whole = true;
        if (allow) {
          const double wider = stretch(graph, query.data(), sum, starts.data(), count, seeds, scores);
          const double wanted = static_cast<double>(most) * wider;
          whole = wanted < static_cast<double>(widest) + 1;
          walk.most = static_cast<int64_t>(std::min(wanted, static_cast<double>(4 * kept)));
          if (whole) fenced_walk(graph, query.data(), sum, allow->data(), seeds.data(), static_cast<int64_t>(seeds.size()),
                                 walk);
        } else {
          free_walk(graph, query.data(), sum, nullptr, starts.data(), count, walk);
        }
        best.clear();
        for (int64_t i = 0; whole && i < walk.size; ++i) {
          const uint32_t row = row_of(walk.pool[i]);
          const double score = constants ? constants->data()[q] + exact(wide, graph.rows + row * graph.stride, d)
                                         : static_cast<double>(score_of(walk.pool[i]));
          best.push_back({static_cast<float>(score), row});
        }
        keep_best(best, k);
        answer.put(q, best);
      }
    });
  }
  return answer.arrays();
}

}  // namespace

void bind_graph_build(nb::module_& m);

void bind_graph(nb::module_& m) {
  m.def("graph_search", &graph_search, nb::arg("rows"), nb::arg("links"), nb::arg("starts"), nb::arg("weights"),
        nb::arg("constants").none(), nb::arg("most"), nb::arg("k"), nb::arg("allow").none(), nb::arg("widest"),
        nb::arg("threads"), "The best rows that a walk finds for each query. See kernels/graph.py.");
  bind_graph_build(m);
}
