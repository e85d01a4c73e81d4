// The answer to a batch of queries as two NumPy arrays: scores and rows, best first.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "ranking.h"

namespace sememe {

class Answer {
 public:
  Answer(int64_t queries, int64_t width)
      : queries_(queries), width_(width), found_(queries), scores_(new float[queries * width + 1]),
        rows_(new int64_t[queries * width + 1]) {}
  ~Answer() {
    delete[] scores_;
    delete[] rows_;
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  int64_t width() const { return width_; }

  // One line; different threads may put different lines.
  void put(int64_t query, const std::vector<Candidate>& best) {
    found_[query] = std::min<int64_t>(width_, static_cast<int64_t>(best.size()));
    for (int64_t i = 0; i < found_[query]; ++i) {
      scores_[query * width_ + i] = best[i].score;
      rows_[query * width_ + i] = best[i].row;
    }
  }

  // Scores and rows (q, k'), where k' is the most that any query found; shorter lines end in -inf and -1.
  nanobind::tuple arrays() {
    const int64_t most = found_.empty() ? 0 : *std::max_element(found_.begin(), found_.end());
    for (int64_t q = 0; q < queries_; ++q) {
      std::copy(scores_ + q * width_, scores_ + q * width_ + found_[q], scores_ + q * most);
      std::copy(rows_ + q * width_, rows_ + q * width_ + found_[q], rows_ + q * most);
      std::fill(scores_ + q * most + found_[q], scores_ + (q + 1) * most, -std::numeric_limits<float>::infinity());
      std::fill(rows_ + q * most + found_[q], rows_ + (q + 1) * most, -1);
    }
    const size_t shape[2] = {static_cast<size_t>(queries_), static_cast<size_t>(most)};
    nanobind::capsule keep_scores(scores_, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    nanobind::ndarray<nanobind::numpy, float> scores(scores_, 2, shape, keep_scores);
    scores_ = nullptr;
    nanobind::capsule keep_rows(rows_, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
    nanobind::ndarray<nanobind::numpy, int64_t> rows(rows_, 2, shape, keep_rows);
    rows_ = nullptr;
    return nanobind::make_tuple(scores, rows);
  }

 private:
  int64_t queries_, width_;
  std::vector<int64_t> found_;
  float* scores_;
  int64_t* rows_;
};

}  // namespace sememe
