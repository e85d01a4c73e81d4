// The binding of additive encoding. A tile of rows takes each place in turn, so that the products of that place's centres
// with the others stay in a near cache while all rows of the tile look them up.
#include "additive.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kTile = 64;

struct Job {
  const float* unary;  // (n, m, 256)
  const float* cross;  // (m, m, 256, 256)
  const uint8_t* held;  // (n, m)
  const int64_t* places;
  int64_t m, searched, beam;
  std::vector<int64_t> fixed;  // places that are held
  uint8_t* codes;              // (n, m)

  const float* product(int64_t place, int64_t other, int64_t number) const {
    return cross + ((place * m + other) * kChoices + number) * kChoices;
  }
};

// What one row of a tile has found so far: the numbers at the places passed, and their cost, best first.
struct Beams {
  std::vector<uint8_t> numbers, next;  // (beam, searched)
  std::vector<float> cost;             // (beam,)
  int64_t count = 1;
  float before = 0;  // the cost of what the row held
};

void search_tile(const Job& job, int64_t first, int64_t rows, std::vector<Beams>& tile) {
  auto add = SEMEME_PICK(add_rows);
  auto keep = SEMEME_PICK(keep_least);
  std::vector<const float*> added(job.m);
  std::vector<float> cost(job.beam);
  std::vector<int32_t> which(job.beam);
  alignas(64) float shared[kChoices], sums[kChoices];
  for (int64_t r = 0; r < rows; ++r) tile[r].count = 1, tile[r].cost[0] = 0, tile[r].before = 0;
  for (int64_t step = 0; step < job.searched; ++step) {
    const int64_t place = job.places[step];
    for (int64_t r = 0; r < rows; ++r) {
      Beams& beams = tile[r];
      const uint8_t* held = job.held + (first + r) * job.m;
      const float* unary = job.unary + ((first + r) * job.m + place) * kChoices;
      for (size_t f = 0; f < job.fixed.size(); ++f) added[f] = job.product(place, job.fixed[f], held[job.fixed[f]]);
      if (!job.fixed.empty()) {
        add(unary, added.data(), static_cast<int64_t>(job.fixed.size()), 0.0f, shared);
        unary = shared;
      }
      beams.before += unary[held[place]];
      for (int64_t s = 0; s < step; ++s)
        beams.before += job.product(place, job.places[s], held[job.places[s]])[held[place]];
      int64_t found = 0;
      for (int64_t b = 0; b < beams.count; ++b) {
        const uint8_t* numbers = beams.numbers.data() + b * job.searched;
        for (int64_t s = 0; s < step; ++s) added[s] = job.product(place, job.places[s], numbers[s]);
        add(unary, added.data(), step, beams.cost[b], sums);
        found = keep(sums, static_cast<int32_t>(b * kChoices), job.beam, found, cost.data(), which.data());
      }
      for (int64_t b = 0; b < found; ++b) {
        uint8_t* to = beams.next.data() + b * job.searched;
        std::memcpy(to, beams.numbers.data() + which[b] / kChoices * job.searched, step);
        to[step] = static_cast<uint8_t>(which[b] % kChoices);
      }
      std::swap(beams.numbers, beams.next);
      std::copy(cost.begin(), cost.begin() + found, beams.cost.begin());
      beams.count = found;
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    uint8_t* code = job.codes + (first + r) * job.m;
    std::memcpy(code, job.held + (first + r) * job.m, job.m);
    if (!job.fixed.empty() && !(tile[r].cost[0] < tile[r].before)) continue;
    for (int64_t s = 0; s < job.searched; ++s) code[job.places[s]] = tile[r].numbers[s];
  }
}

nb::ndarray<nb::numpy, uint8_t> search_sums(Array<float, 3> unary, Array<float, 4> cross, Array<uint8_t, 2> held,
                                            Array<int64_t, 1> places, int64_t beam, int threads) {
  const int64_t n = unary.shape(0), m = unary.shape(1), searched = places.shape(0);
  bool fits = static_cast<int64_t>(unary.shape(2)) == kChoices && static_cast<int64_t>(cross.shape(0)) == m &&
              static_cast<int64_t>(cross.shape(1)) == m && static_cast<int64_t>(cross.shape(2)) == kChoices &&
              static_cast<int64_t>(cross.shape(3)) == kChoices && static_cast<int64_t>(held.shape(0)) == n &&
              static_cast<int64_t>(held.shape(1)) == m && beam >= 1 && beam <= 1 << 16 && m <= 1 << 12;
  std::vector<bool> taken(fits ? m : 0);
  for (int64_t s = 0; fits && s < searched; ++s) {
    const int64_t place = places.data()[s];
    fits = place >= 0 && place < m && !taken[place];
    if (fits) taken[place] = true;
  }
  if (!fits) throw std::invalid_argument("arguments of search_sums do not fit together");
  uint8_t* codes = new uint8_t[n * m + 1];
  nb::capsule keep(codes, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
  {
    nb::gil_scoped_release release;
    Job job{unary.data(), cross.data(), held.data(), places.data(), m, searched, beam, {}, codes};
    for (int64_t place = 0; place < m; ++place)
      if (!taken[place]) job.fixed.push_back(place);
    const int64_t tiles = (n + kTile - 1) / kTile;
    parallel(tiles, static_cast<int>(std::clamp<int64_t>(threads, 1, 256)), [&](int, int64_t begin, int64_t end) {
      std::vector<Beams> tile(kTile);
      for (Beams& beams : tile) {
        beams.numbers.resize(beam * searched);
        beams.next.resize(beam * searched);
        beams.cost.resize(beam);
      }
      for (int64_t t = begin; t < end; ++t)
        search_tile(job, t * kTile, std::min(kTile, n - t * kTile), tile);
    });
  }
  const size_t shape[2] = {static_cast<size_t>(n), static_cast<size_t>(m)};
  return nb::ndarray<nb::numpy, uint8_t>(codes, 2, shape, keep);
}

}  // namespace

void bind_additive(nb::module_& m) {
  m.def("search_sums", &search_sums, nb::arg("unary"), nb::arg("cross"), nb::arg("held"), nb::arg("places"),
        nb::arg("beam"), nb::arg("threads"), "Codes by beam search, uint8 (n, m). See kernels/additive.py.");
}
