// The binding of selection: a mask over rows to bits or to row numbers, and the best of few such rows by exact scores.
#include "select.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "parallel.h"
#include "rescore.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Table = nb::ndarray<const T, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Result = nb::ndarray<nb::numpy, T>;

template <class T>
Result<T> owned(T* data, int64_t size) {
  nb::capsule keep(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  const size_t shape[1] = {static_cast<size_t>(size)};
  return Result<T>(data, 1, shape, keep);
}

Result<int64_t> rows_of(const uint64_t* words, int64_t count, int64_t found) {
  int64_t* rows = new int64_t[found + 8];
  SEMEME_PICK(select_bits)(words, count, rows);
  return owned(rows, found);
}

// None instead of the rows where there are more than `most`; the bits come in any case.
nb::tuple select_mask(Array<uint8_t> mask, int64_t most) {
  const int64_t n = mask.shape(0), count = (n + 63) / 64;
  uint64_t* words = new uint64_t[count + 1];
  Result<uint64_t> bits = owned(words, count);
  const int64_t found = SEMEME_PICK(pack_mask)(mask.data(), n, words);
  if (found > most) return nb::make_tuple(found, bits, nb::none());
  return nb::make_tuple(found, bits, rows_of(words, count, found));
}

nb::tuple select_words(Array<uint64_t> words, int64_t n, int64_t most) {
  const int64_t count = words.shape(0);
  if (n < 0 || count != (n + 63) / 64 || (n % 64 && words.data()[count - 1] >> (n % 64)))
    throw std::invalid_argument("the bits do not fit the rows");
  int64_t found = 0;
  for (int64_t w = 0; w < count; ++w) found += __builtin_popcountll(words.data()[w]);
  if (found > most) return nb::make_tuple(found, words, nb::none());
  return nb::make_tuple(found, words, rows_of(words.data(), count, found));
}

struct Best {
  float score;
  int64_t row;
  bool operator<(const Best& other) const {
    return score > other.score || (score == other.score && row < other.row);
  }
};

// The k best of the rows that the bits name, for each query.
nb::tuple best_of(const Rows& table, int64_t n, const Table<float>& queries, const uint64_t* words, int64_t found,
                  int64_t k, int threads) {
  const int64_t count = queries.shape(0), wide = std::min(k, found);
  float* scores = new float[count * wide + 1];
  nb::capsule keep_scores(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  int64_t* best = new int64_t[count * wide + 1];
  nb::capsule keep_best(best, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  {
    nb::gil_scoped_release release;
    std::unique_ptr<int64_t[]> rows(new int64_t[found + 8]);
    SEMEME_PICK(select_bits)(words, (n + 63) / 64, rows.get());
    auto dots = SEMEME_PICK(dot_rows);
    const int64_t work = count * found * table.d / (4 << 20);  // a thread is worth its start for some 100 microseconds
    const int parts = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>({threads, work, count}), 1, 256));
    parallel(count, parts, [&](int, int64_t first, int64_t last) {
      std::vector<float> exact(found);
      std::vector<Best> list(found);
      for (int64_t q = first; q < last; ++q) {
        dots(table, queries.data() + q * table.d, rows.get(), found, exact.data());
        for (int64_t i = 0; i < found; ++i) list[i] = {exact[i], rows[i]};
        std::partial_sort(list.begin(), list.begin() + wide, list.end());
        for (int64_t i = 0; i < wide; ++i) {
          scores[q * wide + i] = list[i].score;
          best[q * wide + i] = list[i].row;
        }
      }
    });
  }
  const size_t shape[2] = {static_cast<size_t>(count), static_cast<size_t>(wide)};
  return nb::make_tuple(nb::ndarray<nb::numpy, float>(scores, 2, shape, keep_scores),
                        nb::ndarray<nb::numpy, int64_t>(best, 2, shape, keep_best));
}

template <class T>
nb::tuple best_selected(Table<T> values, Table<float> queries, Array<uint8_t> mask, int64_t k, int64_t most,
                        int threads) {
  const int64_t n = values.shape(0), count = (n + 63) / 64;
  if (static_cast<int64_t>(mask.shape(0)) != n || queries.shape(1) != values.shape(1) || k < 1)
    throw std::invalid_argument("arguments of best_selected do not fit together");
  uint64_t* words = new uint64_t[count + 1];
  Result<uint64_t> bits = owned(words, count);
  const int64_t found = SEMEME_PICK(pack_mask)(mask.data(), n, words);
  if (found > most) return nb::make_tuple(bits, nb::none());
  const Rows table{values.data(), static_cast<int64_t>(values.shape(1)), sizeof(T) == 2};
  return nb::make_tuple(bits, best_of(table, n, queries, words, found, k, threads));
}

}  // namespace

void bind_select(nb::module_& m) {
  m.def("select_mask", &select_mask, nb::arg("mask"), nb::arg("most"),
        "How many bytes are not zero, a bit for each, and their numbers (None: more than `most`). See kernels/select.py.");
  m.def("select_words", &select_words, nb::arg("words"), nb::arg("n"), nb::arg("most"), "The same from bits.");
  m.def("best_selected_single", &best_selected<float>, nb::arg("values"), nb::arg("queries"), nb::arg("mask"),
        nb::arg("k"), nb::arg("most"), nb::arg("threads"),
        "Bits of the mask, and scores and rows (q, k') of the best (None: more than `most` pass).");
  m.def("best_selected_half", &best_selected<uint16_t>, nb::arg("values"), nb::arg("queries"), nb::arg("mask"),
        nb::arg("k"), nb::arg("most"), nb::arg("threads"), "The same for vectors in half precision, as uint16.");
}
