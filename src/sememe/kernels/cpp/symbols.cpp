// The binding of the symbol scan: prepares queries, walks over rows, keeps candidates, scores them exactly.
#include "symbols.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "select.h"
#include "shortlist.h"
#include "symbols_prepare.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kAhead = 2048;  // bytes asked for in advance: the machine's own prefetcher stops at every page
constexpr int64_t kScratch = 8 << 10;  // bytes of unpacked rows at a time: they stay in the first cache
constexpr double kDense = 2.0 / 3;  // where such a share of rows passes, reading all in order beats picking
constexpr int64_t kStretch = 4096;  // rows whose bits are looked at together
constexpr int64_t kTogether = 256;  // queries whose sums are kept

float scale_of(const SymbolCode& code, const uint8_t* row) {
  const uint8_t* at = row + code.tail_offset;
  switch (code.tail) {
    case Tail::bfloat16: {
      uint16_t narrow;
      std::memcpy(&narrow, at, 2);
      const uint32_t wide = static_cast<uint32_t>(narrow) << 16;
      float value;
      std::memcpy(&value, &wide, 4);
      return value;
    }
    case Tail::half: {
      uint16_t narrow;
      std::memcpy(&narrow, at, 2);
      uint32_t wide = (static_cast<uint32_t>(narrow & 0x7FFF) << 13) | (static_cast<uint32_t>(narrow & 0x8000) << 16);
      float value;
      std::memcpy(&value, &wide, 4);
      return value * 0x1p112f;  // exact for finite numbers, subnormal ones included
    }
    case Tail::table:
      return code.scales[*at];
    case Tail::single: {
      float value;
      std::memcpy(&value, at, 4);
      return value;
    }
    default:
      return 1.0f;
  }
}

void read_scales(const SymbolCode& code, const uint8_t* codes, const int64_t* pick, int64_t count, float* out) {
  auto each = [&](auto read) {
    for (int64_t r = 0; r < count; ++r) out[r] = read(codes + (pick ? pick[r] : r) * code.stride + code.tail_offset);
  };
  if (code.tail == Tail::bfloat16)
    each([](const uint8_t* at) {
      const uint32_t wide = (static_cast<uint32_t>(at[0]) << 16) | (static_cast<uint32_t>(at[1]) << 24);
      float value;
      std::memcpy(&value, &wide, 4);
      return value;
    });
  else if (code.tail == Tail::table)
    each([&](const uint8_t* at) { return code.scales[*at]; });
  else
    for (int64_t r = 0; r < count; ++r) out[r] = scale_of(code, codes + (pick ? pick[r] : r) * code.stride);
}

struct Job {
  SymbolCode code;
  const uint8_t* codes;
  const double* weights;
  const double* constants;
  const double* inner;
  int64_t queries, n, k;
  const int64_t* pick;    // row numbers, or null
  const uint64_t* allow;  // a bit a row, or null; not both

  // The bits of the sixteen rows from `row` on, a multiple of sixteen.
  uint32_t allowed(int64_t row) const {
    return static_cast<uint32_t>(allow[row / 64] >> (row & 63)) & 0xFFFF;
  }
};

// Scratch of one thread.
struct Work {
  Work(const Job& job, const Prepared& ready)
      : block(ready.ordered.empty() ? std::max<int64_t>(kTile, kScratch / ready.padded / kTile * kTile) : kStretch),
        scales(job.code.tail == Tail::none ? 0 : kTile, 1.0f),
        sums(std::min<int64_t>(job.queries, kTogether) * kTile),
        masks(std::min<int64_t>(job.queries, kTogether)),
        least(job.queries),
        unpacked(ready.ordered.empty() ? (block + kTile) * ready.padded : 0) {}

  int64_t block;  // rows unpacked at a time
  std::vector<float> scales;
  std::vector<int32_t> sums;
  std::vector<uint16_t> masks;
  std::vector<float> least;  // what a query's score must reach
  std::vector<uint8_t> unpacked;  // and a tile of scratch
};

// Rows `first` to `last` of the codes, or of the list `pick`; with `allow` only those whose bit is set.
void scan_rows(const Job& job, const Prepared& ready, const int64_t* list, bool masked, int64_t first, int64_t last,
               Work& work, std::vector<Shortlist>& lists) {
  const int64_t padded = ready.padded, block = work.block;
  auto unpack = SEMEME_PICK(unpack_tiles);
  auto match = SEMEME_PICK(match_symbols);
  auto pass = SEMEME_PICK(passing);
  auto multiply_in_place = SEMEME_PICK(multiply_packed);
  const bool packed = !ready.ordered.empty();
  int32_t* sums = work.sums.data();
  for (int64_t q = 0; q < job.queries; ++q) work.least[q] = lists[q].least();
  const uint8_t *lying[kTile], *later[kTile];
  for (int64_t start = first; start < last; start += block) {
    const int64_t count = std::min(block, last - start);
    const uint8_t* codes = list ? job.codes : job.codes + start * job.code.stride;
    const int64_t* pick = list ? list + start : nullptr;
    uint8_t* unpacked = work.unpacked.data();
    if (!packed) unpack(job.code, codes, pick, count, padded, unpacked + block * padded, unpacked);
    for (int64_t tile = 0; tile < count; tile += kTile) {
      const int64_t here = std::min<int64_t>(kTile, count - tile);
      const uint32_t valid = ((1u << here) - 1) & (masked ? job.allowed(start + tile) : 0xFFFF);
      if (!valid) continue;
      const float* scale = work.scales.empty() ? nullptr : work.scales.data();
      auto read = [&] {
        if (scale)
          read_scales(job.code, pick ? codes : codes + tile * job.code.stride, pick ? pick + tile : nullptr, here,
                      work.scales.data());
      };
      if (packed) {
        for (int64_t r = 0; r < kTile; ++r) {
          const int64_t row = tile + std::min(r, here - 1);
          lying[r] = codes + (pick ? pick[row] : row) * job.code.stride;
          later[r] = pick ? codes + pick[std::min(row + 3 * kTile, count - 1)] * job.code.stride : lying[r] + kAhead;
        }
        for (int64_t q = 0; q < job.queries; ++q)
          multiply_in_place(job.code, ready.direct, lying, later, ready.ordered.data() + q * ready.ordered_bytes,
                            sums + q * kTile);
      }
      read();  // after the products, where rows are multiplied as they lie: by now they are in the cache
      for (int64_t q0 = 0; q0 < job.queries; q0 += kTogether) {
        const int64_t some = std::min(kTogether, job.queries - q0);
        if (packed)
          for (int64_t q = 0; q < some; ++q)
            work.masks[q] = static_cast<uint16_t>(pass(sums + q * kTile, ready.more[q], scale, work.least[q]));
        else
          match(unpacked + tile * padded, ready.turned.data() + q0 * padded, some, padded,
                ready.more.data() + q0, scale, work.least.data() + q0, sums, work.masks.data());
        for (int64_t q = 0; q < some; ++q) {
          uint32_t mask = valid & work.masks[q];
          if (!mask) continue;
          const float shift = ready.shift[q0 + q], margin = ready.margin[q0 + q];
          Shortlist& best = lists[q0 + q];
          for (; mask; mask &= mask - 1) {
            const int r = __builtin_ctz(mask);
            const float factor = scale ? scale[r] : 1.0f;
            const float middle = static_cast<float>(sums[q * kTile + r]) + shift;
            const float high = (middle + margin) * factor;
            if (high < best.least()) continue;
            best.offer((middle - margin) * factor, high, pick ? pick[tile + r] : start + tile + r);
          }
          work.least[q0 + q] = best.least();
        }
      }
    }
  }
}

// A thread's share: rows, entries of the list, or with bits stretches of rows. Where few of a stretch pass they are
// listed, and lists of neighbouring stretches are scanned together; no list is longer than a few stretches.
void scan(const Job& job, const Prepared& ready, int64_t first, int64_t last, std::vector<Shortlist>& lists) {
  Work work(job, ready);
  if (!job.allow) {
    scan_rows(job, ready, job.pick, false, first, last, work, lists);
    return;
  }
  std::unique_ptr<int64_t[]> list(new int64_t[2 * kStretch + 8]);
  int64_t listed = 0;
  auto flush = [&] {
    scan_rows(job, ready, list.get(), false, 0, listed, work, lists);
    listed = 0;
  };
  for (int64_t stretch = first; stretch < last; ++stretch) {
    const int64_t start = stretch * kStretch, stop = std::min(job.n, start + kStretch);
    const int64_t count = (stop - start + 63) / 64;
    const uint64_t* words = job.allow + start / 64;
    const int64_t found = SEMEME_PICK(count_bits)(words, count);
    if (static_cast<double>(found) >= kDense * static_cast<double>(stop - start)) {
      scan_rows(job, ready, nullptr, true, start, stop, work, lists);
      continue;
    }
    if (!found) continue;
    SEMEME_PICK(select_bits)(words, count, list.get() + listed);
    for (int64_t i = listed; i < listed + found; ++i) list[i] += start;
    listed += found;
    if (listed >= kStretch) flush();
  }
  flush();
}

nb::tuple scan_symbols(Array<uint8_t, 2> codes, int64_t d, int bits, int flip, int64_t first_byte, int tail,
                       int64_t tail_offset, Array<float, 1> scales, Array<double, 1> levels, Array<double, 2> weights,
                       Array<double, 1> constants, Array<double, 1> inner, int64_t k,
                       std::optional<Array<int64_t, 1>> rows, std::optional<Array<uint8_t, 1>> mask,
                       std::optional<Array<uint64_t, 1>> allow, int threads) {
  const int symbols = bits == 0 ? 3 : 1 << bits;
  const int64_t packed = packed_bytes(d, bits);
  const int64_t tail_bytes = tail == 0 ? 0 : tail == 3 ? 4 : tail == 4 ? 1 : 2;
  if (bits < 0 || bits > 8 || d < 1 || d > 65536 || k < 1 || static_cast<int64_t>(levels.shape(0)) != symbols ||
      first_byte < 0 || first_byte + packed > static_cast<int64_t>(codes.shape(1)) || tail < 0 || tail > 4 ||
      (tail == 4 && scales.shape(0) != 256) || inner.shape(0) != weights.shape(0) || tail_offset < 0 ||
      tail_offset + tail_bytes > static_cast<int64_t>(codes.shape(1)) ||
      static_cast<int64_t>(weights.shape(1)) != d || constants.shape(0) != weights.shape(0) ||
      rows.has_value() + mask.has_value() + allow.has_value() > 1 ||
      (mask && mask->shape(0) != codes.shape(0)) ||
      (allow && !bits_fit(allow->data(), allow->shape(0), codes.shape(0))))
    throw std::invalid_argument("arguments of scan_symbols do not fit together");
  std::vector<double> all(256, 0.0);
  std::copy(levels.data(), levels.data() + symbols, all.begin());
  Job job{{static_cast<int64_t>(codes.shape(1)), d, bits, flip, static_cast<Tail>(tail), tail_offset,
           first_byte, nullptr, all.data(), scales.data()},
          codes.data(), weights.data(), constants.data(), inner.data(), static_cast<int64_t>(weights.shape(0)),
          rows ? static_cast<int64_t>(rows->shape(0)) : static_cast<int64_t>(codes.shape(0)), k,
          rows ? rows->data() : nullptr, nullptr};
  if (rows)
    for (int64_t i = 0; i < job.n; ++i)
      if (job.pick[i] < 0 || job.pick[i] >= static_cast<int64_t>(codes.shape(0)))
        throw std::out_of_range("a row number lies outside the codes");
  std::unique_ptr<uint64_t[]> packed_mask;
  int64_t passing = job.n;
  const int64_t words = (job.n + 63) / 64;
  if (mask) {
    packed_mask.reset(new uint64_t[words]);
    passing = SEMEME_PICK(pack_mask)(mask->data(), job.n, packed_mask.get());
    job.allow = packed_mask.get();
  } else if (allow) {
    passing = SEMEME_PICK(count_bits)(allow->data(), words);
    job.allow = allow->data();
  }
  const int64_t width = std::min(k, passing), count = job.queries;
  Answer answer(count, width);
  if (width > 0) {
    nb::gil_scoped_release release;
    const bool mapped = !even_levels(job.code.levels, symbols);
    const bool lying = in_place(job.code, count, mapped);
    Prepared ready = prepare(job.code, job.weights, job.inner, count, symbols, lying && bits == 1);
    if (mapped) job.code.narrow = ready.narrow_levels.data();
    if (lying) {
      order_weights(job.code, count, ready);
    } else {
      ready.turned.resize(ready.narrow.size());
      for (int64_t q = 0; q < count; q += kTogether)
        SEMEME_PICK(order_queries)(ready.narrow.data() + q * ready.padded, std::min(kTogether, count - q), ready.padded,
                                   ready.turned.data() + q * ready.padded);
    }
    // A thread is worth its start only for some hundred microseconds of work.
    const int64_t work = passing * d * std::max<int64_t>(1, count / 4) / (8 << 20);
    const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, work)));
    std::vector<std::vector<Shortlist>> lists(parts, std::vector<Shortlist>(count, Shortlist(width)));
    const int64_t slices = job.allow ? (job.n + kStretch - 1) / kStretch : job.n;
    parallel(slices, parts, [&](int part, int64_t first, int64_t last) { scan(job, ready, first, last, lists[part]); });
    auto exact = SEMEME_PICK(exact_symbols);
    parallel(count, std::min<int>(parts, static_cast<int>(count)), [&](int, int64_t first, int64_t last) {
      std::vector<uint8_t> scratch(d);
      std::vector<Candidate> best;
      for (int64_t q = first; q < last; ++q) {
        Shortlist& list = lists[0][q];
        for (int part = 1; part < parts; ++part) list.merge(lists[part][q]);
        list.prune();
        best.clear();
        for (const auto& row : list.rows()) {
          const uint8_t* at = job.codes + row.row * job.code.stride;
          const double sum = exact(job.code, job.weights + q * d, at, scratch.data());
          const double score = job.constants[q] + scale_of(job.code, at) * (job.inner[q] + sum);
          // What has no order is not found; of a damaged scale, or a query that overflowed, there may be less than k.
          if (score > -std::numeric_limits<double>::infinity()) best.push_back({static_cast<float>(score), row.row});
        }
        keep_best(best, width);
        answer.put(q, best);
      }
    });
  }
  return answer.arrays();
}

}  // namespace

void bind_symbols(nb::module_& m) {
  m.def("scan_symbols", &scan_symbols, nb::arg("codes"), nb::arg("d"), nb::arg("bits"), nb::arg("flip"),
        nb::arg("first_byte"), nb::arg("tail"), nb::arg("tail_offset"), nb::arg("scales"), nb::arg("levels"),
        nb::arg("weights"), nb::arg("constants"), nb::arg("inner"), nb::arg("k"), nb::arg("rows").none(),
        nb::arg("mask").none(), nb::arg("allow").none(), nb::arg("threads"),
        "The k best rows for each query: scores (q, k'), rows (q, k'). See kernels/symbols.py.");
}
