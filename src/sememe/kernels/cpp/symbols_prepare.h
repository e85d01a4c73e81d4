// Queries of a symbol scan as whole numbers: weights of 8 or 16 bits, levels of 8, and what that may do to a score.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "symbols.h"

namespace sememe {

struct Prepared {
  std::vector<uint8_t> narrow_levels;
  bool fine = false;             // weights of 16 bits
  std::vector<int16_t> wide;     // weights as whole numbers
  std::vector<int8_t> narrow;    // the same, where one byte will do
  std::vector<int8_t> ordered;  // in the order of packed bytes, where rows are multiplied as they lie
  Direct direct{0, 1, 0};
  int64_t ordered_bytes = 0;  // of one query
  std::vector<int8_t> turned;  // `narrow` in the order of the level's loop
  std::vector<float> shift, margin, more;  // the last is the sum of the two
  int64_t padded;
};

// Whether the level of symbol s is levels[0] + s * step with a positive step: then the symbols themselves will do.
inline bool even_levels(const double* levels, int symbols) {
  const double step = (levels[symbols - 1] - levels[0]) / (symbols - 1);
  for (int s = 0; s < symbols; ++s)
    if (std::abs(levels[s] - (levels[0] + s * step)) > 1e-12 * (std::abs(step) * symbols)) return false;
  return step > 0;
}

// Weights as whole numbers and levels as uint8, with the most that both roundings can add up to in a score.
inline Prepared prepare(const SymbolCode& code, const double* weights, const double* inner, int64_t count, int symbols,
                        bool fine) {
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
  out.more.resize(count);
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
    out.more[q] = out.shift[q] + out.margin[q];
  }
  if (!fine) out.narrow.assign(out.wide.begin(), out.wide.end());
  return out;
}

constexpr int64_t kFew = 3;  // from this many queries on, unpacking a row once is cheaper

// Whether so few queries multiply packed rows where they lie.
inline bool in_place(const SymbolCode& code, int64_t count, bool mapped) {
  if (count > kFew || !SEMEME_PICK(direct_symbols)()) return false;
  return code.bits == 4 || code.bits == 2 || (!mapped && (code.bits == 8 || code.bits == 1));
}

// The weights in the order of packed bytes.
inline void order_weights(const SymbolCode& code, int64_t count, Prepared& ready) {
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

}  // namespace sememe
