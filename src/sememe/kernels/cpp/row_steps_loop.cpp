#include "row_steps.h"

#include <math.h>

namespace sememe {
namespace SEMEME_LEVEL {
namespace {

constexpr int kLanes = 16;  // sums of squares are kept in so many parts at every level, so that all levels agree
constexpr int kAhead = 6;   // rows that are fetched before they are needed

inline void fetch(const float* row, int64_t d) {
  for (int64_t at = 0; at < d; at += 16) __builtin_prefetch(row + at, 1, 3);
}

inline float mean_square(const float* __restrict__ g, int64_t d) {
  float part[kLanes] = {0};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) part[lane] += g[i + lane] * g[i + lane];
  for (int lane = 0; i < d; ++i, ++lane) part[lane] += g[i] * g[i];
  for (int half = kLanes / 2; half; half /= 2)
    for (int lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
  return part[0] / static_cast<float>(d);
}

// The gradient of a row becomes what is divided by the root of the second moment.
inline const float* smoothed(float* __restrict__ first, const float* __restrict__ g, int64_t d, float keep) {
  if (!first) return g;
  const float add = 1.0f - keep;
  for (int64_t i = 0; i < d; ++i) first[i] += add * (g[i] - first[i]);
  return first;
}

inline void move_row(const RowStep& step, int64_t id, const float* __restrict__ g) {
  const int64_t d = step.d;
  float* __restrict__ w = step.weight + id * d;
  if (step.by_row) {
    float* second = step.second + id;
    *second = step.keep_second * *second + step.add_second * mean_square(g, d);
    const float scale = step.rate / (sqrtf(*second) + step.eps);
    const float* m = smoothed(step.first ? step.first + id * d : nullptr, g, d, step.keep_first);
    for (int64_t i = 0; i < d; ++i) w[i] -= scale * m[i];
    return;
  }
  float* __restrict__ second = step.second + id * d;
  const float* m = smoothed(step.first ? step.first + id * d : nullptr, g, d, step.keep_first);
  for (int64_t i = 0; i < d; ++i) {
    const float v = step.keep_second * second[i] + step.add_second * (g[i] * g[i]);
    second[i] = v;
    w[i] -= step.rate * (m[i] / (sqrtf(v) + step.eps));
  }
}

}  // namespace

void step_rows(const RowStep& step, const int64_t* ids, const int64_t* starts, const int64_t* order,
               const float* gradients, int64_t count, float* scratch) {
  const int64_t d = step.d;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      const int64_t next = ids[i + kAhead];
      fetch(step.weight + next * d, d);
      if (step.first) fetch(step.first + next * d, d);
      if (step.by_row)
        __builtin_prefetch(step.second + next, 1, 3);
      else
        fetch(step.second + next * d, d);
    }
    const int64_t from = starts[i], to = starts[i + 1];
    const float* g = gradients + order[from] * d;
    if (to - from > 1) {
      for (int64_t j = 0; j < d; ++j) scratch[j] = g[j];
      for (int64_t k = from + 1; k < to; ++k) {
        const float* more = gradients + order[k] * d;
        for (int64_t j = 0; j < d; ++j) scratch[j] += more[j];
      }
      g = scratch;
    }
    move_row(step, ids[i], g);
  }
}

}  // namespace SEMEME_LEVEL
}  // namespace sememe
