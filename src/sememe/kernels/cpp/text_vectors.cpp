// Reading vectors written as text, a word and its numbers a line, straight from a mapped file into a matrix.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::numpy, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

inline bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// One number at `at`; where it ends, or null. Short decimals are exact in a double and one division rounds them
// correctly; everything else goes to the library.
const char* number(const char* at, const char* end, float* out) {
  const char* p = at;
  const bool minus = p < end && *p == '-';
  if (minus || (p < end && *p == '+')) ++p;
  uint64_t digits = 0;
  int count = 0, fraction = 0;
  while (p < end && static_cast<unsigned>(*p - '0') < 10) digits = digits * 10 + (*p++ - '0'), ++count;
  if (p < end && *p == '.') {
    const char* dot = ++p;
    while (p < end && static_cast<unsigned>(*p - '0') < 10) digits = digits * 10 + (*p++ - '0');
    fraction = static_cast<int>(std::min<int64_t>(p - dot, 1000));
    count += fraction;
  }
  if (count == 0) return nullptr;
  int power = -fraction;
  if (p < end && (*p == 'e' || *p == 'E')) {
    const char* q = p + 1;
    const bool down = q < end && *q == '-';
    if (down || (q < end && *q == '+')) ++q;
    int exponent = 0, places = 0;
    for (; q < end && static_cast<unsigned>(*q - '0') < 10; ++q, ++places)
      if (exponent < 100000) exponent = exponent * 10 + (*q - '0');
    if (places == 0) return nullptr;
    power += down ? -exponent : exponent;
    p = q;
  }
  double value;
  if (count <= 19 && digits < (uint64_t{1} << 53) && power >= -22 && power <= 22) {
    value = power < 0 ? static_cast<double>(digits) / kPowers[-power] : static_cast<double>(digits) * kPowers[power];
    if (minus) value = -value;
  } else {
    const char* from = *at == '+' ? at + 1 : at;
    const auto result = std::from_chars(from, p, value);
    if (result.ec == std::errc::result_out_of_range && power + count < 0)
      value = 0.0;
    else if (result.ec != std::errc() || result.ptr != p)
      return nullptr;
  }
  *out = static_cast<float>(value);
  return std::isfinite(*out) ? p : nullptr;
}

// A line into `row`; the length of its key, or -1. The key is what stands before the last `d` fields.
int64_t line_into(const char* line, const char* end, int64_t d, float* row) {
  if (blank(*line)) return -1;
  while (end > line && blank(end[-1])) --end;
  const char* p = static_cast<const char*>(std::memchr(line, ' ', end - line));
  const char* tab = static_cast<const char*>(std::memchr(line, '\t', (p ? p : end) - line));
  if (tab) p = tab;
  if (!p) return -1;
  const char* key_end = p;
  int64_t j = 0;
  for (; j < d; ++j) {
    while (p < end && blank(*p)) ++p;
    p = number(p, end, row + j);
    if (!p || (p < end && !blank(*p))) break;
  }
  if (j == d && p == end) return key_end - line;
  // A key with blanks in it: find where the last d fields begin.
  p = end;
  for (j = 0; j < d; ++j) {
    while (p > line && blank(p[-1])) --p;
    const char* stop = p;
    while (p > line && !blank(p[-1])) --p;
    if (p == stop || p == line) return -1;
  }
  key_end = p;
  while (key_end > line && blank(key_end[-1])) --key_end;
  if (key_end == line) return -1;
  for (j = 0; j < d; ++j) {
    while (p < end && blank(*p)) ++p;
    p = number(p, end, row + j);
    if (!p || (p < end && !blank(*p))) return -1;
  }
  return p == end ? key_end - line : -1;
}

// Lines of `data` from byte `start` on into `vectors` (n, d) and `spans` (n, 2): start and length of each key. Returns
// (lines read, byte offset of a bad line or -1, its number). Blank lines are passed over.
nb::tuple parse_text_vectors(Bytes data, int64_t start, nb::ndarray<float, nb::numpy, nb::ndim<2>, nb::c_contig> vectors,
                             nb::ndarray<int64_t, nb::numpy, nb::ndim<2>, nb::c_contig> spans, int threads) {
  const char* base = reinterpret_cast<const char*>(data.data());
  const int64_t size = data.shape(0), n = vectors.shape(0), d = vectors.shape(1);
  if (start < 0 || start > size || static_cast<int64_t>(spans.shape(0)) != n || spans.shape(1) != 2 || d < 1)
    throw std::invalid_argument("arguments of parse_text_vectors do not fit together");
  struct Part {
    int64_t first, last, lines = 0, bad = -1, bad_line = 0, read = 0;
  };
  const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, (size - start) >> 20)));
  std::vector<Part> cut(parts);
  int64_t total = 0;
  {
    nb::gil_scoped_release release;
    for (int i = 0; i < parts; ++i) {
      int64_t at = start + (size - start) * (i + 1) / parts;
      if (i + 1 < parts) {
        const void* next = std::memchr(base + at, '\n', size - at);
        at = next ? static_cast<const char*>(next) - base + 1 : size;
      } else {
        at = size;
      }
      cut[i].first = i ? cut[i - 1].last : start;
      cut[i].last = std::max(at, cut[i].first);
    }
    auto each_line = [&](const Part& part, auto&& visit) {
      int64_t at = part.first;
      while (at < part.last) {
        const void* next = std::memchr(base + at, '\n', part.last - at);
        const int64_t end = next ? static_cast<const char*>(next) - base : part.last;
        int64_t last = end;
        while (last > at && blank(base[last - 1])) --last;
        if (last > at && !visit(at, end)) return;
        at = end + 1;
      }
    };
    parallel(parts, parts, [&](int, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) each_line(cut[i], [&](int64_t, int64_t) { return ++cut[i].lines, true; });
    });
    std::vector<int64_t> begin(parts + 1, 0);
    for (int i = 0; i < parts; ++i) begin[i + 1] = begin[i] + cut[i].lines;
    total = begin[parts];
    if (total <= n)
      parallel(parts, parts, [&](int, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          int64_t row = begin[i];
          each_line(cut[i], [&](int64_t at, int64_t end) {
            const int64_t length = line_into(base + at, base + end, d, vectors.data() + row * d);
            if (length <= 0) {
              cut[i].bad = at;
              cut[i].bad_line = row;
              return false;
            }
            spans.data()[2 * row] = at;
            spans.data()[2 * row + 1] = length;
            ++row;
            return true;
          });
        }
      });
  }
  for (const Part& part : cut)
    if (part.bad >= 0) return nb::make_tuple(total, part.bad, part.bad_line);
  return nb::make_tuple(total, int64_t{-1}, int64_t{0});
}

}  // namespace

void bind_text_vectors(nb::module_& m) {
  m.def("parse_text_vectors", &parse_text_vectors, nb::arg("data"), nb::arg("start"), nb::arg("vectors"),
        nb::arg("spans"), nb::arg("threads"), "Words and their numbers, a line each. See kernels/text_vectors.py.");
}
