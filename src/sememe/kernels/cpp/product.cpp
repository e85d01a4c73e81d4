// The binding of product encoding: turns rows into columns a few at a time and writes a byte a sub-space.
#include "product.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kRows = 1 << 10;  // rows for which a sub-space's centres stay in the first cache

// `rows` rows of `depth` values into columns of kTogether.
void turn(const float* from, int64_t stride, int64_t rows, int64_t depth, float* columns) {
  int64_t r = 0;
#if defined(__SSE2__)
  for (; r + 4 <= rows; r += 4) {
    const float* at = from + r * stride;
    int64_t j = 0;
    for (; j + 4 <= depth; j += 4) {
      __m128 a = _mm_loadu_ps(at + j), b = _mm_loadu_ps(at + stride + j), c = _mm_loadu_ps(at + 2 * stride + j),
             e = _mm_loadu_ps(at + 3 * stride + j);
      _MM_TRANSPOSE4_PS(a, b, c, e);
      _mm_store_ps(columns + j * kTogether + r, a);
      _mm_store_ps(columns + (j + 1) * kTogether + r, b);
      _mm_store_ps(columns + (j + 2) * kTogether + r, c);
      _mm_store_ps(columns + (j + 3) * kTogether + r, e);
    }
    for (; j < depth; ++j)
      for (int64_t i = 0; i < 4; ++i) columns[j * kTogether + r + i] = at[i * stride + j];
  }
#endif
  for (; r < rows; ++r)
    for (int64_t j = 0; j < depth; ++j) columns[j * kTogether + r] = from[r * stride + j];
}

// edges: sub-space g is dimensions edges[g] to edges[g + 1]; centres: (m, count, widest), as wide as the widest.
nb::ndarray<nb::numpy, uint8_t> encode_subspaces(Array<float, 2> X, Array<int64_t, 1> edges, Array<float, 3> centres,
                                                 Array<float, 2> half, int threads) {
  const int64_t n = X.shape(0), d = X.shape(1), m = centres.shape(0), count = centres.shape(1), wide = centres.shape(2);
  bool fits = static_cast<int64_t>(edges.shape(0)) == m + 1 && count >= 1 && count <= 256 &&
              static_cast<int64_t>(half.shape(0)) == m && static_cast<int64_t>(half.shape(1)) == count;
  for (int64_t g = 0; fits && g < m; ++g)
    fits = edges.data()[g] >= 0 && edges.data()[g] < edges.data()[g + 1] && edges.data()[g + 1] <= d &&
           edges.data()[g + 1] - edges.data()[g] <= wide;
  if (!fits) throw std::invalid_argument("arguments of encode_subspaces do not fit together");
  uint8_t* codes = new uint8_t[n * m + 1];
  nb::capsule keep(codes, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
  {
    nb::gil_scoped_release release;
    auto nearest = SEMEME_PICK(nearest_centres);
    std::vector<float> packed;  // the centres, negated, without the padding of narrow sub-spaces
    std::vector<int64_t> start;
    for (int64_t g = 0; g < m; ++g) {
      start.push_back(static_cast<int64_t>(packed.size()));
      for (int64_t c = 0; c < count; ++c) {
        const float* from = centres.data() + (g * count + c) * wide;
        for (int64_t j = 0; j < edges.data()[g + 1] - edges.data()[g]; ++j) packed.push_back(-from[j]);
      }
    }
    const int64_t tiles = (n + kTogether - 1) / kTogether, work = n * d * count / (16 << 20);
    parallel(tiles, static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(threads, work), 1, 256)),
             [&](int, int64_t begin, int64_t end) {
               std::vector<float> memory(wide * kTogether + 16);
               float* columns = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
               int32_t numbers[kTogether];
               for (int64_t first = begin * kTogether; first < end * kTogether; first += kRows)
                 for (int64_t g = 0; g < m; ++g) {
                   const int64_t from = edges.data()[g], depth = edges.data()[g + 1] - from;
                   for (int64_t row = first; row < std::min({first + kRows, end * kTogether, n}); row += kTogether) {
                     const int64_t some = std::min(kTogether, n - row);
                     turn(X.data() + row * d + from, d, some, depth, columns);
                     nearest(columns, depth, packed.data() + start[g], half.data() + g * count, count, numbers);
                     for (int64_t r = 0; r < some; ++r) codes[(row + r) * m + g] = static_cast<uint8_t>(numbers[r]);
                   }
                 }
             });
  }
  const size_t shape[2] = {static_cast<size_t>(n), static_cast<size_t>(m)};
  return nb::ndarray<nb::numpy, uint8_t>(codes, 2, shape, keep);
}

}  // namespace

void bind_product(nb::module_& m) {
  m.def("encode_subspaces", &encode_subspaces, nb::arg("X"), nb::arg("edges"), nb::arg("centres"), nb::arg("half"),
        nb::arg("threads"), "Numbers of the nearest centres, uint8 (n, m). See kernels/product.py.");
}
