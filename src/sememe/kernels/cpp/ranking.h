// Keeping the best of many passages: first those that might be, by rough scores, then the answer by exact ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace sememe {

struct Candidate {
  float score;
  int64_t row;
};

// Candidates for the k best: all with a rough score of at least `share` of the k-th highest rough score, less `slip`.
class Candidates {
 public:
  // Forget the last query.
  void start(int64_t k, float share, float slip) {
    k_ = k, share_ = share, slip_ = slip, limit_ = 4 * k + 256;
    floor_ = -std::numeric_limits<float>::infinity();
    highest_.clear();
    rows_.clear();
  }

  // What a rough score must reach to matter.
  float floor() const { return floor_; }

  // Whether an exact score may still be among the k best (`share` 1, `slip` 0), where rows come in ascending order: one
  // that equals the k-th is worse. Without this the rows of a query that scores all alike would all be kept.
  bool wants(float score) const {
    return static_cast<int64_t>(highest_.size()) < k_ ? score >= floor_ : score > floor_;
  }

  void offer(float score, int64_t row) {
    rows_.push_back({score, row});
    if (static_cast<int64_t>(highest_.size()) < k_) {
      highest_.push_back(score);
      std::push_heap(highest_.begin(), highest_.end(), std::greater<float>());
    } else if (score > highest_.front()) {
      std::pop_heap(highest_.begin(), highest_.end(), std::greater<float>());
      highest_.back() = score;
      std::push_heap(highest_.begin(), highest_.end(), std::greater<float>());
    } else {
      return;
    }
    if (static_cast<int64_t>(highest_.size()) == k_) floor_ = share_ * highest_.front() - slip_;
    if (static_cast<int64_t>(rows_.size()) >= limit_) {
      prune();
      limit_ = std::max<int64_t>(4 * k_ + 256, 2 * static_cast<int64_t>(rows_.size()));
    }
  }

  // The candidates in order of rows.
  const std::vector<Candidate>& settle() {
    prune();
    std::sort(rows_.begin(), rows_.end(), [](const Candidate& a, const Candidate& b) { return a.row < b.row; });
    return rows_;
  }

 private:
  void prune() {
    rows_.erase(std::remove_if(rows_.begin(), rows_.end(), [&](const Candidate& c) { return c.score < floor_; }),
                rows_.end());
  }

  int64_t k_ = 0, limit_ = 0;
  float share_ = 1, slip_ = 0, floor_ = 0;
  std::vector<float> highest_;  // a heap: the k highest rough scores
  std::vector<Candidate> rows_;
};

// The k best by score, ties to the lower row, best first.
inline void keep_best(std::vector<Candidate>& all, int64_t k) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && a.row < b.row);
  };
  const int64_t n = std::min<int64_t>(k, static_cast<int64_t>(all.size()));
  std::partial_sort(all.begin(), all.begin() + n, all.end(), better);
  all.resize(n);
}

}  // namespace sememe
