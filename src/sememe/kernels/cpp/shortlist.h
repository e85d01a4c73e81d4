// The rows of a scan that may be among the best, where a score is only known to lie between two bounds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace sememe {

// The rows that may be among the k best of one query, given for each the least and the most its score can be.
class Shortlist {
 public:
  explicit Shortlist(int64_t k) : k_(k), limit_(4 * k + 256) {}

  float least() const { return least_; }

  void offer(float low, float high, int64_t row) {
    rows_.push_back({high, row});
    if (static_cast<int64_t>(lows_.size()) < k_) {
      lows_.push_back(low);
      std::push_heap(lows_.begin(), lows_.end(), std::greater<float>());
      if (static_cast<int64_t>(lows_.size()) == k_) least_ = lows_.front();
    } else if (low > lows_.front()) {
      std::pop_heap(lows_.begin(), lows_.end(), std::greater<float>());
      lows_.back() = low;
      std::push_heap(lows_.begin(), lows_.end(), std::greater<float>());
      least_ = lows_.front();
    }
    if (static_cast<int64_t>(rows_.size()) >= limit_) {
      prune();
      limit_ = std::max<int64_t>(4 * k_ + 256, 2 * static_cast<int64_t>(rows_.size()));
    }
  }

  void merge(const Shortlist& other) {
    for (float low : other.lows_) {
      if (static_cast<int64_t>(lows_.size()) < k_) {
        lows_.push_back(low);
        std::push_heap(lows_.begin(), lows_.end(), std::greater<float>());
      } else if (low > lows_.front()) {
        std::pop_heap(lows_.begin(), lows_.end(), std::greater<float>());
        lows_.back() = low;
        std::push_heap(lows_.begin(), lows_.end(), std::greater<float>());
      }
    }
    if (static_cast<int64_t>(lows_.size()) == k_) least_ = lows_.front();
    rows_.insert(rows_.end(), other.rows_.begin(), other.rows_.end());
  }

  void prune() {
    rows_.erase(std::remove_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.high < least_; }), rows_.end());
  }

  struct Row {
    float high;
    int64_t row;
  };
  const std::vector<Row>& rows() const { return rows_; }

 private:
  int64_t k_, limit_;
  float least_ = -std::numeric_limits<float>::infinity();
  std::vector<float> lows_;  // a heap: the k highest of the least scores
  std::vector<Row> rows_;
};

}  // namespace sememe
