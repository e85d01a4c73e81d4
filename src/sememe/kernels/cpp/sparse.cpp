// The binding of exact search over inverted lists: walks over blocks of passages, keeps candidates, scores them exactly.
#include "sparse.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "ranking.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
using Bytes = Array<uint8_t, 1>;

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
const uint32_t* first_from(const uint32_t* at, const uint32_t* end, uint32_t row) {
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

// starts (v + 1): where each list begins; numbers (t): the list of each term asked for, -1 for none; queries (q + 1):
// the terms of each query.
nb::tuple search_lists(Array<uint32_t, 1> rows, Bytes values, int kind, Array<uint32_t, 1> starts,
                       Array<int64_t, 1> numbers, Array<double, 1> weights, std::optional<Array<float, 1>> scales, Array<int64_t, 1> queries,
                       int64_t passages, std::optional<Bytes> allowed, std::optional<Array<float, 1>> norms,
                       std::optional<Array<uint32_t, 1>> lengths, double k1, double b, double mean, int64_t k,
                       int threads) {
  Lists lists{rows.data(), values.data(), static_cast<Values>(kind), passages, allowed ? allowed->data() : nullptr,
              norms ? norms->data() : nullptr, lengths ? lengths->data() : nullptr, k1, b, mean};
  const int64_t count = static_cast<int64_t>(queries.shape(0)) - 1, terms = static_cast<int64_t>(numbers.shape(0));
  const int64_t postings = static_cast<int64_t>(rows.shape(0));
  const int64_t known = static_cast<int64_t>(starts.shape(0)) - 1;
  const bool counted = kind >= 2;
  if (kind < 0 || kind > 3 || count < 0 || k < 1 || passages < 0 || known < 0 ||
      static_cast<int64_t>(values.shape(0)) != lists.width() * postings ||
      static_cast<int64_t>(weights.shape(0)) != terms || (scales && static_cast<int64_t>(scales->shape(0)) != terms) ||
      (allowed && static_cast<int64_t>(allowed->shape(0)) * 8 < passages) || counted != norms.has_value() ||
      counted != lengths.has_value() || (kind == 0) != scales.has_value() ||
      (counted && (static_cast<int64_t>(norms->shape(0)) != passages ||
                   static_cast<int64_t>(lengths->shape(0)) != passages)) ||
      queries.data()[0] != 0 || queries.data()[count] != terms)
    throw std::invalid_argument("arguments of search_lists do not fit together");
  int64_t work = 0;
  for (int64_t t = 0; t < terms; ++t) {
    const int64_t number = numbers.data()[t];
    if (number < -1 || number >= known) throw std::out_of_range("there is no such list");
    if (number < 0) continue;
    const int64_t start = starts.data()[number], stop = starts.data()[number + 1];
    if (stop < start || stop > postings) throw std::out_of_range("a list lies outside the postings");
    work += stop - start;
  }
  for (int64_t q = 0; q < count; ++q)
    if (queries.data()[q] > queries.data()[q + 1]) throw std::invalid_argument("queries must not overlap");
  Answer answer(count, std::min(k, passages));
  if (answer.width() > 0) {
    nb::gil_scoped_release release;
    // A thread is worth its start only for some hundred microseconds of work.
    const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, work >> 18)));
    parallel(count, parts, [&](int, int64_t first, int64_t last) {
      Search search(lists, answer.width());
      std::vector<Term> asked;
      for (int64_t q = first; q < last; ++q) {
        asked.clear();
        for (int64_t t = queries.data()[q]; t < queries.data()[q + 1]; ++t)
          if (const int64_t number = numbers.data()[t]; number >= 0)
            asked.push_back({starts.data()[number], starts.data()[number + 1], weights.data()[t],
                             scales ? scales->data()[t] : 1.0f, 0, 0});
        answer.put(q, search.run(asked));
      }
    });
  }
  return answer.arrays();
}

// The text as UTF-8 that also carries lone surrogates.
std::string utf8(nb::handle text) {
  Py_ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size)) return std::string(data, size);
  PyErr_Clear();
  const nb::object bytes = nb::steal(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogatepass"));
  if (!bytes.is_valid()) throw nb::python_error();
  return std::string(PyBytes_AsString(bytes.ptr()), PyBytes_Size(bytes.ptr()));
}

// The number of each term among sorted strings (bytes of `data` between `offsets`); -1 where it is not there.
nb::object find_terms(Bytes data, Array<uint32_t, 1> offsets, nb::list terms) {
  const int64_t count = static_cast<int64_t>(offsets.shape(0)) - 1, wanted = static_cast<int64_t>(nb::len(terms));
  const char* text = reinterpret_cast<const char*>(data.data());
  const uint32_t* ends = offsets.data();
  int64_t* numbers = new int64_t[wanted + 1];
  nb::capsule keep(numbers, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  for (int64_t i = 0; i < wanted; ++i) {
    const std::string name = utf8(terms[i]);
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const uint32_t from = ends[middle], to = ends[middle + 1];
      if (to < from || to > data.shape(0)) throw std::out_of_range("a term lies outside the vocabulary");
      const int order = std::string_view(text + from, to - from).compare(name);
      if (order == 0) {
        low = middle;
        break;
      }
      if (order < 0)
        low = middle + 1;
      else
        high = middle;
    }
    numbers[i] = low < high ? low : -1;
  }
  const size_t shape[1] = {static_cast<size_t>(wanted)};
  return nb::cast(nb::ndarray<nb::numpy, int64_t>(numbers, 1, shape, keep));
}

}  // namespace

void bind_sparse(nb::module_& m) {
  m.def("search_lists", &search_lists, nb::arg("rows"), nb::arg("values"), nb::arg("kind"), nb::arg("starts"),
        nb::arg("numbers"), nb::arg("weights"), nb::arg("scales").none(), nb::arg("queries"), nb::arg("passages"),
        nb::arg("allowed").none(), nb::arg("norms").none(), nb::arg("lengths").none(), nb::arg("k1"), nb::arg("b"),
        nb::arg("mean"), nb::arg("k"), nb::arg("threads"),
        "The k best passages for each query: scores (q, k'), rows (q, k'). See kernels/sparse.py.");
  m.def("find_terms", &find_terms, nb::arg("data"), nb::arg("offsets"), nb::arg("terms"),
        "The number of each term among sorted strings, -1 for none.");
}
