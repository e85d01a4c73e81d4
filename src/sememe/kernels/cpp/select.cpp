// The binding of selection: a mask over rows to bits or to row numbers.
#include "select.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <stdexcept>

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
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

}  // namespace

void bind_select(nb::module_& m) {
  m.def("select_mask", &select_mask, nb::arg("mask"), nb::arg("most"),
        "How many bytes are not zero, a bit for each, and their numbers (None: more than `most`). See kernels/select.py.");
  m.def("select_words", &select_words, nb::arg("words"), nb::arg("n"), nb::arg("most"), "The same from bits.");
}
