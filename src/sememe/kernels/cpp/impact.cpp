// The binding of search over impact-ordered lists: chooses what to add up, keeps candidates, scores them in full.
#include "impact.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "ranking.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kMostTerms = 1 << 14;  // of a query: totals must not overflow

struct Impacts {
  const uint16_t* rows;     // within the block
  const uint8_t* codes;     // falling within a list
  const uint32_t* starts;   // of the list of term t in block b: starts[b * terms + t]
  const float* scales;      // what a step of a term's codes stands for
  int64_t terms, passages;
  const int64_t* first;     // the terms of passage p are first[p] to first[p + 1] of the forward lists
  const uint8_t* own;       // their numbers, two bytes each, or four
  bool wide;
  const uint8_t* own_codes;
  const uint8_t* allowed;   // a bit for each passage, or null

  uint32_t own_term(int64_t at) const {
    return wide ? reinterpret_cast<const uint32_t*>(own)[at] : reinterpret_cast<const uint16_t*>(own)[at];
  }
};

struct Term {
  int64_t number;
  double weight;
};

// What a thread keeps from call to call, because filling it costs as much as a query. All of it is left zero.
struct Kept {
  std::vector<uint16_t> totals;
  std::vector<uint32_t> asked;  // a bit for each term of the query at hand
  std::vector<double> weights;  // and its weight
};

Kept& kept(int64_t terms) {
  thread_local Kept kept;
  kept.totals.resize(kImpactBlock, 0);
  if (static_cast<int64_t>(kept.weights.size()) < terms) {
    kept.asked.resize(terms / 32 + 1, 0);
    kept.weights.resize(terms, 0.0);
  }
  return kept;
}

class Search {
 public:
  Search(const Impacts& impacts, int64_t k, float share, float slack)
      : impacts_(impacts), k_(k), share_(share), slack_(slack), totals_(kept(impacts.terms).totals.data()),
        asked_(kept(impacts.terms).asked.data()), weights_(kept(impacts.terms).weights.data()), found_(kStretch),
        scores_(kStretch) {}

  // The best passages of one query, best first: at most k, those with a score above zero.
  const std::vector<Candidate>& run(const std::vector<Term>& terms) {
    collect(terms, share_);
    if (share_ > 0 && static_cast<int64_t>(best_.size()) < k_) collect(terms, 0.0f);  // too few: leave nothing out
    return best_;
  }

 private:
  static constexpr int64_t kStretch = 1024;

  void collect(const std::vector<Term>& terms, float share) {
    double most = 0, sum = 0;
    for (const Term& term : terms) {
      const double top = 255 * term.weight * impacts_.scales[term.number];
      most = std::max(most, top);
      sum += top;
    }
    best_.clear();
    if (!(sum > 0)) return;
    const double unit = (65535 - 2.0 * static_cast<double>(terms.size())) / sum;
    // A part differs by less than one from what it stands for, and so a total by less than their number.
    const float slip = share > 0 ? 0.0f : 2.0f * static_cast<float>(terms.size()) + 2.0f;
    candidates_.start(k_, share > 0 ? slack_ : 1.0f, slip);
    const int64_t blocks = (impacts_.passages + kImpactBlock - 1) / kImpactBlock;
    for (int64_t block = 0; block < blocks; ++block) {
      bool touched = false;
      for (const Term& term : terms) {
        const uint32_t* start = impacts_.starts + block * impacts_.terms + term.number;
        const double step = term.weight * impacts_.scales[term.number];
        const double least = share > 0 ? std::ceil(share * most / step) : 0.0;
        if (start[0] == start[1] || !(step > 0) || least > 255) continue;
        const uint8_t *from = impacts_.codes + start[0], *to = impacts_.codes + start[1];
        const int64_t n = std::upper_bound(from, to, static_cast<uint8_t>(least), std::greater<uint8_t>()) - from;
        SEMEME_PICK(add_impacts)
        (impacts_.rows + start[0], from, n, static_cast<uint16_t>(256 * step * unit), totals_);
        touched = touched || n;
      }
      if (touched) sweep(block * kImpactBlock);
    }
    rescore(terms, candidates_.settle());
  }

  void sweep(int64_t base) {
    auto take = SEMEME_PICK(take_impacts);
    const int64_t size = std::min(kImpactBlock, impacts_.passages - base);
    for (int64_t start = 0; start < size; start += kStretch) {
      const uint8_t* allowed = impacts_.allowed ? impacts_.allowed + (base + start) / 8 : nullptr;
      const float least = std::ceil(std::max(1.0f, candidates_.floor()));
      const int64_t count = take(totals_ + start, std::min(kStretch, size - start), static_cast<uint16_t>(least),
                                 allowed, found_.data(), scores_.data());
      for (int64_t i = 0; i < count; ++i)
        if (scores_[i] >= candidates_.floor()) candidates_.offer(scores_[i], base + start + found_[i]);
    }
  }

  void rescore(const std::vector<Term>& terms, const std::vector<Candidate>& candidates) {
    for (const Term& term : terms) {
      asked_[term.number / 32] |= 1u << (term.number % 32);
      weights_[term.number] += term.weight;
    }
    auto match = SEMEME_PICK(match_terms);
    for (size_t c = 0; c < candidates.size(); ++c) {
      if (c + 4 < candidates.size()) fetch(candidates[c + 4].row);
      const int64_t row = candidates[c].row, first = impacts_.first[row], n = impacts_.first[row + 1] - first;
      if (static_cast<int64_t>(places_.size()) < n + 16) places_.resize(n + 16);
      const int64_t count =
          match(impacts_.own + (impacts_.wide ? 4 : 2) * first, impacts_.wide, n, asked_, places_.data());
      double sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = first + places_[i];
        const uint32_t term = impacts_.own_term(at);
        sum += weights_[term] * static_cast<double>(impacts_.own_codes[at] * impacts_.scales[term]);
      }
      if (sum > 0) best_.push_back({static_cast<float>(sum), row});
    }
    keep_best(best_, k_);
    for (const Term& term : terms) {
      asked_[term.number / 32] = 0;
      weights_[term.number] = 0.0;
    }
  }

  void fetch(int64_t row) const {
    const int64_t first = impacts_.first[row], last = impacts_.first[row + 1];
    const int width = impacts_.wide ? 4 : 2;
    for (int64_t at = first; at < last; at += 64 / width) __builtin_prefetch(impacts_.own + width * at);
    for (int64_t at = first; at < last; at += 64) __builtin_prefetch(impacts_.own_codes + at);
  }

  const Impacts& impacts_;
  int64_t k_;
  float share_, slack_;
  uint16_t* totals_;
  uint32_t* asked_;
  double* weights_;
  Candidates candidates_;
  std::vector<uint32_t> found_, places_;
  std::vector<uint16_t> scores_;
  std::vector<Candidate> best_;
};

nb::tuple search_impacts(Array<uint16_t, 1> rows, Array<uint8_t, 1> codes, Array<uint32_t, 1> starts,
                         Array<float, 1> scales, Array<int64_t, 1> first, Array<uint8_t, 1> own,
                         Array<uint8_t, 1> own_codes, Array<int64_t, 1> numbers, Array<double, 1> weights,
                         Array<int64_t, 1> queries, std::optional<Array<uint8_t, 1>> allowed, double share,
                         double slack, int64_t k, int threads) {
  const int64_t passages = static_cast<int64_t>(first.shape(0)) - 1, terms = static_cast<int64_t>(scales.shape(0));
  const int64_t postings = static_cast<int64_t>(rows.shape(0)), count = static_cast<int64_t>(queries.shape(0)) - 1;
  const int64_t blocks = (passages + kImpactBlock - 1) / kImpactBlock;
  const bool wide = terms > 1 << 16;
  const Impacts impacts{rows.data(), codes.data(), starts.data(), scales.data(), terms, passages, first.data(),
                        own.data(), wide, own_codes.data(), allowed ? allowed->data() : nullptr};
  if (passages < 0 || count < 0 || k < 1 || !(share >= 0) || !(slack >= 0) || slack > 1 ||
      static_cast<int64_t>(codes.shape(0)) != postings || static_cast<int64_t>(own_codes.shape(0)) != postings ||
      static_cast<int64_t>(own.shape(0)) != (wide ? 4 : 2) * postings || first.data()[passages] != postings ||
      static_cast<int64_t>(starts.shape(0)) != blocks * terms + 1 || weights.shape(0) != numbers.shape(0) ||
      (allowed && static_cast<int64_t>(allowed->shape(0)) * 8 < passages) || queries.data()[0] != 0 ||
      queries.data()[count] != static_cast<int64_t>(numbers.shape(0)))
    throw std::invalid_argument("arguments of search_impacts do not fit together");
  for (int64_t q = 0; q < count; ++q) {
    const int64_t from = queries.data()[q], to = queries.data()[q + 1];
    if (from > to || to - from > kMostTerms) throw std::invalid_argument("a query has too many terms");
    for (int64_t t = from; t < to; ++t)
      if (numbers.data()[t] < -1 || numbers.data()[t] >= terms) throw std::out_of_range("there is no such list");
  }
  Answer answer(count, std::min(k, passages));
  if (answer.width() > 0) {
    nb::gil_scoped_release release;
    const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, count / 8)));
    parallel(count, parts, [&](int, int64_t from, int64_t to) {
      Search search(impacts, answer.width(), static_cast<float>(share), static_cast<float>(slack));
      std::vector<Term> asked;
      for (int64_t q = from; q < to; ++q) {
        asked.clear();
        for (int64_t t = queries.data()[q]; t < queries.data()[q + 1]; ++t)
          if (numbers.data()[t] >= 0) asked.push_back({numbers.data()[t], weights.data()[t]});
        answer.put(q, search.run(asked));
      }
    });
  }
  return answer.arrays();
}

}  // namespace

void bind_impact(nb::module_& m) {
  m.def("search_impacts", &search_impacts, nb::arg("rows"), nb::arg("codes"), nb::arg("starts"), nb::arg("scales"),
        nb::arg("first"), nb::arg("own"), nb::arg("own_codes"), nb::arg("numbers"), nb::arg("weights"),
        nb::arg("queries"), nb::arg("allowed").none(), nb::arg("share"), nb::arg("slack"), nb::arg("k"),
        nb::arg("threads"), "The k best passages for each query: scores (q, k'), rows (q, k'). See kernels/impact.py.");
}
