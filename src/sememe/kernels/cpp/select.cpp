// The binding of selection: a mask over rows to bits or to row numbers, and the best of few such rows by exact scores.
#include "select.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
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
  if (!bits_fit(words.data(), count, n)) throw std::invalid_argument("the bits do not fit the rows");
  const int64_t found = SEMEME_PICK(count_bits)(words.data(), count);
  if (found > most) return nb::make_tuple(found, words, nb::none());
  return nb::make_tuple(found, words, rows_of(words.data(), count, found));
}

// Whether every block of `block` bytes that holds a byte of one of the rows is marked.
bool marked(const Array<uint8_t>& marks, const int64_t* rows, int64_t found, int64_t width, int64_t block) {
  const int64_t count = marks.shape(0);
  for (int64_t i = 0; i < found; ++i) {
    const int64_t row = rows[i];
    if (row < 0 || row > count * block / width) return false;
    for (int64_t at = row * width / block, last = (row * width + width - 1) / block; at <= last; ++at)
      if (at >= count || !marks.data()[at]) return false;
  }
  return true;
}

bool all_marked(Array<uint8_t> marks, Array<int64_t> rows, int64_t width, int64_t block) {
  if (width < 1 || block < 1) throw std::invalid_argument("arguments of all_marked do not fit together");
  return marked(marks, rows.data(), rows.shape(0), width, block);
}

struct Best {
  float score;
  int64_t row;
  bool operator<(const Best& other) const {
    return score > other.score || (score == other.score && row < other.row);
  }
};

// Bits and row numbers of a filter, a stretch at a time; the vectors of the first rows are asked for meanwhile.
class Picked {
 public:
  // With a mask the words are written, without one they are read; how many rows pass, and no exact number where they
  // are more than `most` and the words are there already. Rows are listed up to `most`.
  int64_t pick(const uint8_t* mask, uint64_t* words, int64_t n, int64_t most, const uint8_t* values, int64_t bytes) {
    rows_.reset(new int64_t[std::min(n, most) + 8]);
    int64_t found = 0;
    for (int64_t start = 0; start < n; start += kStretch) {
      const int64_t length = std::min(kStretch, n - start), count = (length + 63) / 64;
      uint64_t* here = words + start / 64;
      int64_t some = 0;
      if (mask)
        some = SEMEME_PICK(pack_mask)(mask + start, length, here);
      else
        some = SEMEME_PICK(count_bits)(here, count);
      if (some && found + some <= most) {
        int64_t* rows = rows_.get() + found;
        SEMEME_PICK(select_bits)(here, count, rows);
        for (int64_t i = 0; i < some; ++i) {
          rows[i] += start;
          if (found + i < kEarly)
            for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(values + rows[i] * bytes + at, 0, 2);
        }
      }
      found += some;
      if (found > most && !mask) break;
    }
    return found;
  }

  const int64_t* rows() const { return rows_.get(); }

 private:
  static constexpr int64_t kStretch = 8192;  // rows
  static constexpr int64_t kEarly = 128;     // vectors that certainly find room in a second cache
  std::unique_ptr<int64_t[]> rows_;
};

// The k best of the rows listed, for each query.
nb::tuple best_of(const Rows& table, const Table<float>& queries, const int64_t* rows, int64_t found, int64_t k,
                  int threads) {
  const int64_t count = queries.shape(0), wide = std::min(k, found);
  float* scores = new float[count * wide + 1];
  nb::capsule keep_scores(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  int64_t* best = new int64_t[count * wide + 1];
  nb::capsule keep_best(best, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  {
    nb::gil_scoped_release release;
    auto dots = SEMEME_PICK(dot_rows);
    const int64_t work = count * found * table.d / (4 << 20);  // a thread is worth its start for some 100 microseconds
    const int parts = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>({threads, work, count}), 1, 256));
    parallel(count, parts, [&](int, int64_t first, int64_t last) {
      std::vector<float> exact(found);
      std::vector<Best> list(found);
      for (int64_t q = first; q < last; ++q) {
        dots(table, queries.data() + q * table.d, rows, found, exact.data());
        for (int64_t i = 0; i < found; ++i)  // sorting must not meet what has no order
          list[i] = {std::isnan(exact[i]) ? -std::numeric_limits<float>::infinity() : exact[i], rows[i]};
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
nb::tuple best_selected(Table<T> values, Table<float> queries, std::optional<Array<uint8_t>> mask,
                        std::optional<Array<uint64_t>> given, std::optional<Array<uint8_t>> marks, int64_t block,
                        int64_t k, int64_t most, int threads) {
  const int64_t n = values.shape(0), d = values.shape(1), count = (n + 63) / 64;
  if (mask.has_value() == given.has_value() || (mask && static_cast<int64_t>(mask->shape(0)) != n) ||
      (given && !bits_fit(given->data(), given->shape(0), n)) || static_cast<int64_t>(queries.shape(1)) != d || k < 1 ||
      block < 1 || (marks && d < 1))
    throw std::invalid_argument("arguments of best_selected do not fit together");
  const int64_t width = d * static_cast<int64_t>(sizeof(T));
  // Words that were given are only read.
  uint64_t* words = given ? const_cast<uint64_t*>(given->data()) : new uint64_t[count + 1];
  nb::object bits = given ? nb::none() : nb::cast(owned(words, count));
  Picked picked;
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  const int64_t found = picked.pick(mask ? mask->data() : nullptr, words, n, most, bytes, width);
  if (found > most) return nb::make_tuple(bits, nb::none(), nb::none());
  if (marks && !marked(*marks, picked.rows(), found, width, block)) {
    int64_t* rows = new int64_t[found + 1];
    std::copy(picked.rows(), picked.rows() + found, rows);
    return nb::make_tuple(bits, nb::none(), nb::cast(owned(rows, found)));
  }
  return nb::make_tuple(bits, best_of({values.data(), d, sizeof(T)}, queries, picked.rows(), found, k, threads),
                        nb::none());
}

}  // namespace

void bind_select(nb::module_& m) {
  m.def("select_mask", &select_mask, nb::arg("mask"), nb::arg("most"),
        "How many bytes are not zero, a bit for each, and their numbers (None: over `most`). See kernels/select.py.");
  m.def("select_words", &select_words, nb::arg("words"), nb::arg("n"), nb::arg("most"), "The same from bits.");
  m.def("all_marked", &all_marked, nb::arg("marks"), nb::arg("rows"), nb::arg("width"), nb::arg("block"),
        "Whether all blocks under some rows are marked; not for rows that lie outside.");
  m.def("best_selected_single", &best_selected<float>, nb::arg("values"), nb::arg("queries"),
        nb::arg("mask").none(), nb::arg("words").none(), nb::arg("marks").none(), nb::arg("block"), nb::arg("k"),
        nb::arg("most"), nb::arg("threads"),
        "Bits of the mask (None: they were given); scores and rows (q, k') of the best (None: more than `most` pass, or a block of `block` bytes "
        "under one of them is not marked: then the rows themselves follow).");
  m.def("best_selected_half", &best_selected<uint16_t>, nb::arg("values"), nb::arg("queries"),
        nb::arg("mask").none(), nb::arg("words").none(), nb::arg("marks").none(), nb::arg("block"), nb::arg("k"),
        nb::arg("most"), nb::arg("threads"),
        "The same for vectors in half precision, as uint16.");
  m.def("best_selected_bytes", &best_selected<int8_t>, nb::arg("values"), nb::arg("queries"),
        nb::arg("mask").none(), nb::arg("words").none(), nb::arg("marks").none(), nb::arg("block"), nb::arg("k"),
        nb::arg("most"), nb::arg("threads"),
        "The same for int8 vectors.");
}
