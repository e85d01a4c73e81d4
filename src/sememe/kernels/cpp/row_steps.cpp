// The binding of row-wise optimiser steps: ids are sorted once, so that each row is touched once.
#include "row_steps.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

using Floats = nb::ndarray<float, nb::numpy, nb::c_contig, nb::device::cpu>;
using Gradients = nb::ndarray<const float, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int64_t, nb::numpy, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Places of a batch in the order of their ids; equal ids keep the order they came in.
struct Groups {
  std::vector<int64_t> order, ids, starts;

  Groups(const int64_t* given, int64_t count, int64_t rows) : order(count) {
    constexpr int kBits = 11;
    std::vector<int64_t> spare(count);
    for (int64_t i = 0; i < count; ++i) order[i] = i;
    for (int shift = 0; rows >> shift; shift += kBits) {
      int64_t places[1 << kBits] = {0};
      for (int64_t i = 0; i < count; ++i) ++places[(given[i] >> shift) & ((1 << kBits) - 1)];
      int64_t sum = 0;
      for (int64_t& place : places) sum += std::exchange(place, sum);
      for (int64_t at : order) spare[places[(given[at] >> shift) & ((1 << kBits) - 1)]++] = at;
      order.swap(spare);
    }
    for (int64_t i = 0; i < count; ++i)
      if (!i || given[order[i]] != given[order[i - 1]]) {
        ids.push_back(given[order[i]]);
        starts.push_back(i);
      }
    starts.push_back(count);
  }
};

void step(Floats weight, std::optional<Floats> first, Floats second, Ids ids, Gradients gradients, float keep_first,
          float keep_second, float add_second, float rate, float eps, int threads) {
  const int64_t count = ids.shape(0);
  if (weight.ndim() != 2 || gradients.shape(1) != weight.shape(1) || gradients.shape(0) != ids.shape(0))
    throw std::invalid_argument("arguments of step_rows do not fit together");
  const int64_t rows = weight.shape(0), d = weight.shape(1), all = rows * d;
  const int64_t seconds = second.size();
  const bool by_row = second.ndim() == 1;
  if ((by_row ? seconds != rows : seconds != all) || (first && static_cast<int64_t>(first->size()) != all))
    throw std::invalid_argument("the moments do not fit the table");
  for (int64_t i = 0; i < count; ++i)
    if (ids.data()[i] < 0 || ids.data()[i] >= rows) throw std::invalid_argument("an id lies outside the table");
  const RowStep how{weight.data(), first ? first->data() : nullptr, second.data(), d, by_row, keep_first, keep_second,
                    add_second, rate, eps};
  nb::gil_scoped_release release;
  const Groups groups(ids.data(), count, rows);
  const int64_t distinct = static_cast<int64_t>(groups.ids.size());
  auto loop = SEMEME_PICK(step_rows);
  const int64_t work = distinct * d / (1 << 18);  // a thread is worth its start for some 100 microseconds
  const int parts = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(threads, work), 1, 256));
  parallel(distinct, parts, [&](int, int64_t from, int64_t to) {
    std::vector<float> scratch(d);
    loop(how, groups.ids.data() + from, groups.starts.data() + from, groups.order.data(), gradients.data(), to - from,
         scratch.data());
  });
}

}  // namespace

void bind_row_steps(nb::module_& m) {
  m.def("step_rows", &step, nb::arg("weight"), nb::arg("first").none(), nb::arg("second"), nb::arg("ids"),
        nb::arg("gradients"), nb::arg("keep_first"), nb::arg("keep_second"), nb::arg("add_second"), nb::arg("rate"),
        nb::arg("eps"), nb::arg("threads"), "Move the rows of a table that a batch used. See kernels/row_steps.py.");
}
