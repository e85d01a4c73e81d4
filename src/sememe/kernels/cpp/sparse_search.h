// Exact search over inverted lists: walks over blocks of passages, keeps candidates, scores them exactly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "ranking.h"
#include "sparse.h"

namespace sememe {

enum class Values : int { bytes = 0, halves = 1, counts = 2, wide_counts = 3 };

// The inverted lists of one segment.
struct Lists {
  const uint32_t* rows;
  const uint8_t* values;
  Values kind;
  int64_t passages;
  const uint8_t* allowed;   // a bit for each passage, or null
  const float* norms;       // for counts: k1 * (1 - b + b * length / mean), roughly
  const uint32_t* lengths;  // and what they are made of, for the exact score
  double k1, b, mean;

  int width() const { return kind == Values::halves || kind == Values::wide_counts ? 2 : 1; }

  bool may(int64_t row) const { return !allowed || (allowed[row / 8] >> (row % 8) & 1); }

  double value(int64_t at, float scale) const {
    if (width() == 1) return kind == Values::bytes ? values[at] * scale : values[at];
    uint16_t narrow;
    std::memcpy(&narrow, values + 2 * at, 2);
    if (kind == Values::wide_counts) return narrow;
    const uint32_t wide = (static_cast<uint32_t>(narrow & 0x7FFF) << 13) | (static_cast<uint32_t>(narrow & 0x8000) << 16);
    float value;
    std::memcpy(&value, &wide, 4);
    return value * 0x1p112f;  // exact for finite numbers
  }

  // What one posting adds to a score, by the formula.
  double part(int64_t at, double weight, float scale) const {
    const double here = value(at, scale);
    if (kind == Values::bytes || kind == Values::halves) return weight * here;
    const double norm = k1 * (1.0 - b + b * static_cast<double>(lengths[rows[at]]) / mean);
    return weight * here / (here + norm);
  }
};

// A term of a query: its list is [start, stop), of which [from, to) lies in the block at hand.
struct Term {
  int64_t start, stop;
  double weight;
  float scale;
  int64_t from, to;
};

// The first of [at, end) that is not below `row`, without branches to mispredict; at < end.
inline const uint32_t* first_from(const uint32_t* at, const uint32_t* end, uint32_t row) {
  int64_t n = end - at;
  while (n > 1) {
    const int64_t half = n / 2;
    at += at[half - 1] < row ? half : 0;
    n -= half;
  }
  return at + (*at < row);
}

class Search {
 public:
  Search(const Lists& lists, int64_t k)
      : lists_(lists), k_(k), totals_(kept()) {}

  // The best passages of one query, best first: at most k, those with a score above zero.
  const std::vector<Candidate>& run(std::vector<Term>& terms) {
    // Every part of a sum is at least zero, so the error of a float sum is relative to the sum.
    candidates_.start(k_, 1.0f - static_cast<float>((terms.size() + 8) * 4e-7), 0.0f);
    for (Term& term : terms) term.to = term.start;
    for (int64_t base = 0; base < lists_.passages; base += kSparseBlock) {
      const int64_t size = std::min(kSparseBlock, lists_.passages - base);
      int64_t touched = 0;
      for (Term& term : terms) {
        term.from = term.to;
        term.to = term.stop;
        if (base + size < lists_.passages && term.from < term.stop)
          term.to = first_from(lists_.rows + term.from, lists_.rows + term.stop, static_cast<uint32_t>(base + size)) -
                    lists_.rows;
        if (term.to > term.from) add(term, static_cast<uint32_t>(base));
        touched += term.to - term.from;
      }
      if (touched * 8 < size)
        visit(terms, base);
      else
        sweep(base, size);
    }
    rescore(terms, candidates_.settle());
    return best_;
  }

 private:
  static constexpr int64_t kStretch = 1024;
  static constexpr float kAbove = std::numeric_limits<float>::denorm_min();  // the least score above zero

  static float* kept() {
    thread_local std::vector<float> totals(kSparseBlock, 0.0f);  // left zero after every query
    return totals.data();
  }

  void add(const Term& term, uint32_t base) {
    const int64_t n = term.to - term.from;
    const uint32_t* rows = lists_.rows + term.from;
    const uint8_t* values = lists_.values + lists_.width() * term.from;
    const float weight = static_cast<float>(term.weight);
    if (lists_.kind == Values::bytes)
      SEMEME_PICK(add_bytes)(rows, values, n, weight * term.scale, base, totals_);
    else if (lists_.kind == Values::halves)
      SEMEME_PICK(add_halves)(rows, reinterpret_cast<const uint16_t*>(values), n, weight, base, totals_);
    else
      SEMEME_PICK(add_counts)
      (rows, values, lists_.kind == Values::wide_counts, n, weight, lists_.norms, base, totals_);
  }

  // Few postings: look at their passages only.
  void visit(const std::vector<Term>& terms, int64_t base) {
    float* const totals = totals_ - base;
    float least = std::max(candidates_.floor(), kAbove);
    for (const Term& term : terms) {
      const uint32_t* const end = lists_.rows + term.to;
      for (const uint32_t* at = lists_.rows + term.from; at < end; ++at) {
        const float total = totals[*at];
        totals[*at] = 0.0f;
        if (total < least) continue;
        if (lists_.may(*at)) candidates_.offer(total, *at);
        least = std::max(candidates_.floor(), kAbove);
      }
    }
  }

  // Many: look at all totals, some at a time so that the floor rises between.
  void sweep(int64_t base, int64_t size) {
    auto take = SEMEME_PICK(take_totals);
    found_.resize(kStretch);
    scores_.resize(kStretch);
    for (int64_t start = 0; start < size; start += kStretch) {
      const uint8_t* allowed = lists_.allowed ? lists_.allowed + (base + start) / 8 : nullptr;
      const int64_t count = take(totals_ + start, std::min(kStretch, size - start), candidates_.floor(), allowed,
                                 found_.data(), scores_.data());
      for (int64_t i = 0; i < count; ++i)
        if (scores_[i] >= candidates_.floor()) candidates_.offer(scores_[i], base + start + found_[i]);
    }
  }

  // Term by term in the query's order, as a loop over one passage would add them.
  void rescore(const std::vector<Term>& terms, const std::vector<Candidate>& candidates) {
    sums_.assign(candidates.size(), 0.0);
    for (const Term& term : terms) {
      const uint32_t *at = lists_.rows + term.start, *end = lists_.rows + term.stop;
      for (size_t i = 0; i < candidates.size() && at < end; ++i) {
        at = first_from(at, end, static_cast<uint32_t>(candidates[i].row));
        if (at < end && *at == candidates[i].row) sums_[i] += lists_.part(at - lists_.rows, term.weight, term.scale);
      }
    }
    best_.clear();
    for (size_t i = 0; i < candidates.size(); ++i)
      if (sums_[i] > 0) best_.push_back({static_cast<float>(sums_[i]), candidates[i].row});
    keep_best(best_, k_);
  }

  const Lists& lists_;
  int64_t k_;
  float* totals_;
  Candidates candidates_;
  std::vector<uint32_t> found_;
  std::vector<float> scores_;
  std::vector<double> sums_;
  std::vector<Candidate> best_;
};

}  // namespace sememe
