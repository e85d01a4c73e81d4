// The binding of the symbol scan: prepares queries, walks over rows, keeps candidates, scores them exactly.
#include "symbols.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "parallel.h"
#include "select.h"
#include "shortlist.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kAhead = 2048;  // bytes asked for in advance: the machine's own prefetcher stops at every page
constexpr int64_t kScratch = 32 << 10;  // bytes of unpacked rows at a time: they stay in the first cache
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

struct Prepared {
  std::vector<uint8_t> narrow_levels;
  bool fine = false;             // weights of 16 bits
  std::vector<int16_t> wide;     // weights as whole numbers
  std::vector<int8_t> narrow;    // the same, where one byte will do
  std::vector<int8_t> ordered;  // in the order of packed bytes, where rows are multiplied as they lie
  Direct direct{0, 1, 0};
  int64_t ordered_bytes = 0;  // of one query
  std::vector<float> shift, margin;
  int64_t padded;
};

// Whether the level of symbol s is levels[0] + s * step with a positive step: then the symbols themselves will do.
bool even_levels(const double* levels, int symbols) {
  const double step = (levels[symbols - 1] - levels[0]) / (symbols - 1);
  for (int s = 0; s < symbols; ++s)
    if (std::abs(levels[s] - (levels[0] + s * step)) > 1e-12 * (std::abs(step) * symbols)) return false;
  return step > 0;
}

// Weights as whole numbers and levels as uint8, with the most that both roundings can add up to in a score.
Prepared prepare(const SymbolCode& code, const double* weights, const double* inner, int64_t count, int symbols, bool fine) {
  Prepared out;
  out.fine = fine;
  const double peak = fine ? 127 * 256 : 127;
  out.padded = (code.d + 63) / 64 * 64;
  const double low = *std::min_element(code.levels, code.levels + symbols);
  const double high = *std::max_element(code.levels, code.levels + symbols);
  const bool whole = even_levels(code.levels, symbols);
  double step = (code.levels[symbols - 1] - code.levels[0]) / (symbols - 1), base = code.levels[0], off = 0.0;
  if (!whole) {
    step = high > low ? (high - low) / 255 : 1.0;
    base = low;
    out.narrow_levels.assign(256, 0);
    for (int s = 0; s < symbols; ++s) {
      const double exact = (code.levels[s] - low) / step, rounded = std::nearbyint(exact);
      off = std::max(off, std::abs(exact - rounded));
      out.narrow_levels[s] = static_cast<uint8_t>(rounded);
    }
  }
  const double reach = whole ? (symbols - 1) / 2.0 : 127.5;  // half the range of the narrow levels
  out.wide.assign(count * out.padded, 0);
  out.shift.resize(count);
  out.margin.resize(count);
  for (int64_t q = 0; q < count; ++q) {
    const double* w = weights + q * code.d;
    double most = 0, sum = 0, size = 0, error = 0, slip = 0;
    for (int64_t j = 0; j < code.d; ++j) most = std::max(most, std::abs(w[j]));
    const double unit = most > 0 ? most / peak : 1.0;
    for (int64_t j = 0; j < code.d; ++j) {
      const double scaled = w[j] / unit, rounded = std::nearbyint(scaled);
      out.wide[q * out.padded + j] = static_cast<int16_t>(rounded);
      sum += scaled;
      size += std::abs(scaled);
      error += std::abs(scaled - rounded);
      slip += scaled - rounded;
    }
    // What a row's scale multiplies, over unit * step, is integers + slip * reach + fixed, give or take the margin (at
    // least one, which also covers rounding to float32).
    const double fixed = sum * base / step + inner[q] / (unit * step);
    out.shift[q] = static_cast<float>(slip * reach + fixed);
    out.margin[q] = static_cast<float>(error * reach + size * off + (fine ? 8.0 : 1.0) + 4e-7 * std::abs(fixed));
  }
  if (!fine) out.narrow.assign(out.wide.begin(), out.wide.end());
  return out;
}

constexpr int64_t kFew = 3;  // from this many queries on, unpacking a row once is cheaper

// Whether so few queries multiply packed rows where they lie.
bool in_place(const SymbolCode& code, int64_t count, bool mapped) {
  if (count > kFew || !SEMEME_PICK(direct_symbols)()) return false;
  return code.bits == 4 || code.bits == 2 || (!mapped && (code.bits == 8 || code.bits == 1));
}

// The weights in the order of packed bytes.
void order_weights(const SymbolCode& code, int64_t count, Prepared& ready) {
  const int64_t bytes = code.bits == 8 ? code.d : (code.d * code.bits + 7) / 8;
  const int64_t chunk = code.bits == 1 ? 8 : 64, slots = code.bits == 8 || code.bits == 1 ? 1 : 8 / code.bits;
  ready.direct.chunks = (bytes + chunk - 1) / chunk;
  ready.direct.slots = slots;
  const int64_t left = (bytes - (ready.direct.chunks - 1) * chunk) * (code.bits == 1 ? 8 : 1);
  ready.direct.last = left == 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
  ready.ordered_bytes = ready.direct.chunks * slots * 64 * (ready.fine ? 2 : 1);
  ready.ordered.assign(count * ready.ordered_bytes, 0);
  for (int64_t q = 0; q < count; ++q) {
    const int16_t* weights = ready.wide.data() + q * ready.padded;
    int8_t* to = ready.ordered.data() + q * ready.ordered_bytes;
    if (code.bits == 1) {  // in bytes, the first in the highest bit
      for (int64_t j = 0; j < code.d; ++j) {
        const int low = static_cast<int8_t>(weights[j] & 255);
        to[(j ^ 7) + (ready.fine ? ready.direct.chunks * 64 : 0)] = static_cast<int8_t>(low);
        if (ready.fine) to[j ^ 7] = static_cast<int8_t>((weights[j] - low) >> 8);
      }
      continue;
    }
    for (int64_t slot = 0; slot < slots; ++slot)  // symbol j in byte j % bytes, slot j / bytes
      for (int64_t byte = 0; byte < bytes && slot * bytes + byte < code.d; ++byte)
        to[((byte >> 6) * slots + slot) * 64 + (byte & 63)] = static_cast<int8_t>(weights[slot * bytes + byte]);
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
        unpacked(ready.ordered.empty() ? block * ready.padded : 0) {}

  int64_t block;  // rows unpacked at a time
  std::vector<float> scales;
  std::vector<int32_t> sums;
  std::vector<uint8_t> unpacked;
};

// Rows `first` to `last` of the codes, or of the list `pick`; with `allow` only those whose bit is set.
void scan_rows(const Job& job, const Prepared& ready, const int64_t* list, bool masked, int64_t first, int64_t last,
               Work& work, std::vector<Shortlist>& lists) {
  const int64_t padded = ready.padded, block = work.block;
  auto unpack = SEMEME_PICK(unpack_symbols);
  auto multiply = SEMEME_PICK(multiply_symbols);
  auto pass = SEMEME_PICK(passing);
  auto multiply_in_place = SEMEME_PICK(multiply_packed);
  const bool packed = !ready.ordered.empty();
  int32_t* sums = work.sums.data();
  const uint8_t *lying[kTile], *later[kTile];
  for (int64_t start = first; start < last; start += block) {
    const int64_t count = std::min(block, last - start);
    const uint8_t* codes = list ? job.codes : job.codes + start * job.code.stride;
    const int64_t* pick = list ? list + start : nullptr;
    if (!packed) unpack(job.code, codes, pick, count, padded, work.unpacked.data());
    for (int64_t tile = 0; tile < count; tile += kTile) {
      const int64_t here = std::min<int64_t>(kTile, count - tile);
      const uint32_t valid = ((1u << here) - 1) & (masked ? job.allowed(start + tile) : 0xFFFF);
      if (!valid) continue;
      const float* scale = nullptr;
      for (int64_t q0 = 0; q0 < job.queries; q0 += kTogether) {
        const int64_t some = std::min(kTogether, job.queries - q0);
        if (packed) {
          for (int64_t r = 0; r < kTile; ++r) {
            const int64_t row = tile + std::min(r, here - 1);
            lying[r] = codes + (pick ? pick[row] : row) * job.code.stride;
            later[r] = pick ? codes + pick[std::min(row + 3 * kTile, count - 1)] * job.code.stride : lying[r] + kAhead;
          }
          for (int64_t q = 0; q < some; ++q)
            multiply_in_place(job.code, ready.direct, lying, later, ready.ordered.data() + (q0 + q) * ready.ordered_bytes,
                              sums + q * kTile);
        } else {
          multiply(work.unpacked.data() + tile * padded, ready.narrow.data() + q0 * padded, some, padded, sums);
        }
        if (!work.scales.empty() && !scale) {  // after the products: by now the rows are in the cache
          read_scales(job.code, pick ? codes : codes + tile * job.code.stride, pick ? pick + tile : nullptr, here,
                      work.scales.data());
          scale = work.scales.data();
        }
        for (int64_t q = 0; q < some; ++q) {
          const float shift = ready.shift[q0 + q], margin = ready.margin[q0 + q];
          Shortlist& best = lists[q0 + q];
          uint32_t mask = valid & pass(sums + q * kTile, shift, scale, margin, best.least());
          for (; mask; mask &= mask - 1) {
            const int r = __builtin_ctz(mask);
            const float factor = scale ? scale[r] : 1.0f;
            const float middle = static_cast<float>(sums[q * kTile + r]) + shift;
            const float high = (middle + margin) * factor;
            if (high < best.least()) continue;
            best.offer((middle - margin) * factor, high, pick ? pick[tile + r] : start + tile + r);
          }
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
    const int64_t start = stretch * kStretch, stop = std::min(job.n, start + kStretch), count = (stop - start + 63) / 64;
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

int64_t packed_bytes(int64_t d, int bits) {
  if (bits == 0) return (d + 4) / 5;
  int64_t bytes = 0;
  for (int width : {8, 4, 2, 1})
    if (bits >= width) {
      bits -= width;
      bytes += (d * width + 7) / 8;
    }
  return bytes;
}

struct Best {
  float score;
  int64_t row;
  bool operator<(const Best& other) const {
    return score > other.score || (score == other.score && row < other.row);
  }
};

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
      static_cast<int64_t>(weights.shape(1)) != d || constants.shape(0) != weights.shape(0) || rows.has_value() + mask.has_value() + allow.has_value() > 1 ||
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
  float* scores = new float[count * width + 1];
  nb::capsule keep_scores(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  int64_t* found = new int64_t[count * width + 1];
  nb::capsule keep_found(found, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  if (width > 0) {
    nb::gil_scoped_release release;
    const bool mapped = !even_levels(job.code.levels, symbols);
    const bool lying = in_place(job.code, count, mapped);
    Prepared ready = prepare(job.code, job.weights, job.inner, count, symbols, lying && bits == 1);
    if (mapped) job.code.narrow = ready.narrow_levels.data();
    if (lying) order_weights(job.code, count, ready);
    // A thread is worth its start only for some hundred microseconds of work.
    const int64_t work = passing * d * std::max<int64_t>(1, count / 4) / (8 << 20);
    const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, work)));
    std::vector<std::vector<Shortlist>> lists(parts, std::vector<Shortlist>(count, Shortlist(width)));
    const int64_t slices = job.allow ? (job.n + kStretch - 1) / kStretch : job.n;
    parallel(slices, parts, [&](int part, int64_t first, int64_t last) { scan(job, ready, first, last, lists[part]); });
    auto exact = SEMEME_PICK(exact_symbols);
    parallel(count, std::min<int>(parts, static_cast<int>(count)), [&](int, int64_t first, int64_t last) {
      std::vector<uint8_t> scratch(d);
      std::vector<Best> best;
      for (int64_t q = first; q < last; ++q) {
        Shortlist& list = lists[0][q];
        for (int part = 1; part < parts; ++part) list.merge(lists[part][q]);
        list.prune();
        best.clear();
        for (const auto& row : list.rows()) {
          const uint8_t* at = job.codes + row.row * job.code.stride;
          const double sum = exact(job.code, job.weights + q * d, at, scratch.data());
          const double score = job.constants[q] + scale_of(job.code, at) * (job.inner[q] + sum);
          best.push_back({static_cast<float>(score), row.row});
        }
        std::partial_sort(best.begin(), best.begin() + width, best.end());
        for (int64_t i = 0; i < width; ++i) {
          scores[q * width + i] = best[i].score;
          found[q * width + i] = best[i].row;
        }
      }
    });
  }
  const size_t shape[2] = {static_cast<size_t>(count), static_cast<size_t>(width)};
  return nb::make_tuple(nb::ndarray<nb::numpy, float>(scores, 2, shape, keep_scores),
                        nb::ndarray<nb::numpy, int64_t>(found, 2, shape, keep_found));
}

}  // namespace

void bind_symbols(nb::module_& m) {
  m.def("scan_symbols", &scan_symbols, nb::arg("codes"), nb::arg("d"), nb::arg("bits"), nb::arg("flip"),
        nb::arg("first_byte"), nb::arg("tail"), nb::arg("tail_offset"), nb::arg("scales"), nb::arg("levels"),
        nb::arg("weights"), nb::arg("constants"), nb::arg("inner"), nb::arg("k"), nb::arg("rows").none(),
        nb::arg("mask").none(), nb::arg("allow").none(), nb::arg("threads"),
        "The k best rows for each query: scores (q, k'), rows (q, k'). See kernels/symbols.py.");
}
