// The binding of exact search over inverted lists: by numbers of lists, or from words to passages in one call.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "answer.h"
#include "parallel.h"
#include "sparse_search.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
using Bytes = Array<uint8_t, 1>;

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

// The place of a name among `count` sorted strings (bytes of `text` between `ends`), -1 where it is not there.
int64_t find_term(const char* text, int64_t size, const uint32_t* ends, int64_t count, std::string_view name) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const uint32_t from = ends[middle], to = ends[middle + 1];
    if (to < from || to > size) throw std::out_of_range("a term lies outside the vocabulary");
    const int order = std::string_view(text + from, to - from).compare(name);
    if (order == 0) return middle;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

// The number of each term among sorted strings (bytes of `data` between `offsets`); -1 where it is not there.
nb::object find_terms(Bytes data, Array<uint32_t, 1> offsets, nb::list terms) {
  const int64_t count = static_cast<int64_t>(offsets.shape(0)) - 1, wanted = static_cast<int64_t>(nb::len(terms));
  const char* text = reinterpret_cast<const char*>(data.data());
  int64_t* numbers = new int64_t[wanted + 1];
  nb::capsule keep(numbers, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  for (int64_t i = 0; i < wanted; ++i) {
    numbers[i] = find_term(text, data.shape(0), offsets.data(), count, utf8(terms[i]));
  }
  const size_t shape[1] = {static_cast<size_t>(wanted)};
  return nb::cast(nb::ndarray<nb::numpy, int64_t>(numbers, 1, shape, keep));
}

// The words of one segment with nothing deleted, for BM25 from words to passages in one call: a query of a few words
// takes less time than the handling of its arrays would.
class Words {
 public:
  Words(Bytes data, Array<uint32_t, 1> offsets, Bytes checked, Array<uint32_t, 1> rows, Bytes values, bool wide,
        Array<uint32_t, 1> starts, Array<float, 1> norms, Array<uint32_t, 1> lengths, double k1, double b, double mean)
      : data_(data), offsets_(offsets), checked_(checked), rows_(rows), values_(values), starts_(starts),
        norms_(norms), lengths_(lengths), count_(static_cast<int64_t>(starts.shape(0)) - 1),
        lists_{rows.data(), values.data(), wide ? Values::wide_counts : Values::counts,
               static_cast<int64_t>(lengths.shape(0)), nullptr, norms.data(), lengths.data(), k1, b, mean} {
    const int64_t postings = static_cast<int64_t>(rows.shape(0));
    if (count_ < 0 || static_cast<int64_t>(offsets.shape(0)) != count_ + 1 || norms.shape(0) != lengths.shape(0) ||
        static_cast<int64_t>(checked.shape(0)) < count_ ||
        static_cast<int64_t>(values.shape(0)) != lists_.width() * postings)
      throw std::invalid_argument("arguments of Words do not fit together");
    for (int64_t t = 0; t < count_; ++t)
      if (starts.data()[t + 1] < starts.data()[t] || starts.data()[t + 1] > postings)
        throw std::out_of_range("a list lies outside the postings");
  }

  // None where a list has not been checked yet, or a query is too long for this.
  nb::object search(nb::list queries, std::optional<Bytes> allowed, int64_t k, int threads) const {
    Lists lists = lists_;
    lists.allowed = allowed ? allowed->data() : nullptr;
    if (k < 1 || (allowed && static_cast<int64_t>(allowed->shape(0)) * 8 < lists.passages))
      throw std::invalid_argument("arguments of Words.search do not fit together");
    const int64_t count = static_cast<int64_t>(nb::len(queries));
    std::vector<Term> terms;
    std::vector<int64_t> bounds{0}, numbers, times;
    int64_t work = 0;
    for (nb::handle query : queries) {
      numbers.clear();
      times.clear();
      for (nb::handle word : query) {
        const int64_t number = place(word);
        if (number < 0) continue;
        if (!checked_.data()[number]) return nb::none();
        const auto same = std::find(numbers.begin(), numbers.end(), number);
        if (same != numbers.end()) {
          ++times[same - numbers.begin()];
          continue;
        }
        if (numbers.size() == kMost) return nb::none();
        numbers.push_back(number);
        times.push_back(1);
      }
      for (size_t i = 0; i < numbers.size(); ++i) {
        const int64_t start = starts_.data()[numbers[i]], stop = starts_.data()[numbers[i] + 1];
        const double have = static_cast<double>(stop - start);
        const double weight = std::log1p((static_cast<double>(lists.passages) - have + 0.5) / (have + 0.5));
        terms.push_back({start, stop, static_cast<double>(times[i]) * weight, 1.0f, 0, 0});
        work += stop - start;
      }
      bounds.push_back(static_cast<int64_t>(terms.size()));
    }
    Answer answer(count, std::min(k, lists.passages));
    if (answer.width() > 0) {
      nb::gil_scoped_release release;
      const int parts = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, work >> 18)));
      parallel(count, parts, [&](int, int64_t first, int64_t last) {
        Search search(lists, answer.width());
        std::vector<Term> asked;
        for (int64_t q = first; q < last; ++q) {
          asked.assign(terms.begin() + bounds[q], terms.begin() + bounds[q + 1]);
          answer.put(q, search.run(asked));
        }
      });
    }
    return answer.arrays();
  }

 private:
  static constexpr size_t kMost = 64;  // different words of a query: they are looked for one after another

  int64_t place(nb::handle word) const {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_Check(word.ptr()) ? PyUnicode_AsUTF8AndSize(word.ptr(), &size) : nullptr;
    const auto find = [&](std::string_view name) {
      return find_term(reinterpret_cast<const char*>(data_.data()), data_.shape(0), offsets_.data(), count_, name);
    };
    if (text) return find({text, static_cast<size_t>(size)});
    PyErr_Clear();
    return find(utf8(word));
  }

  Bytes data_;
  Array<uint32_t, 1> offsets_;
  Bytes checked_;
  Array<uint32_t, 1> rows_;
  Bytes values_;
  Array<uint32_t, 1> starts_;
  Array<float, 1> norms_;
  Array<uint32_t, 1> lengths_;
  int64_t count_;
  Lists lists_;
};

}  // namespace

void bind_sparse(nb::module_& m) {
  m.def("search_lists", &search_lists, nb::arg("rows"), nb::arg("values"), nb::arg("kind"), nb::arg("starts"),
        nb::arg("numbers"), nb::arg("weights"), nb::arg("scales").none(), nb::arg("queries"), nb::arg("passages"),
        nb::arg("allowed").none(), nb::arg("norms").none(), nb::arg("lengths").none(), nb::arg("k1"), nb::arg("b"),
        nb::arg("mean"), nb::arg("k"), nb::arg("threads"),
        "The k best passages for each query: scores (q, k'), rows (q, k'). See kernels/sparse.py.");
  m.def("find_terms", &find_terms, nb::arg("data"), nb::arg("offsets"), nb::arg("terms"),
        "The number of each term among sorted strings, -1 for none.");
  nb::class_<Words>(m, "Words", "Words, their lists of counts and lengths: BM25 in one call. See kernels/sparse.py.")
      .def(nb::init<Bytes, Array<uint32_t, 1>, Bytes, Array<uint32_t, 1>, Bytes, bool, Array<uint32_t, 1>,
                    Array<float, 1>, Array<uint32_t, 1>, double, double, double>(),
           nb::arg("data"), nb::arg("offsets"), nb::arg("checked"), nb::arg("rows"), nb::arg("values"),
           nb::arg("wide"), nb::arg("starts"), nb::arg("norms"), nb::arg("lengths"), nb::arg("k1"), nb::arg("b"),
           nb::arg("mean"))
      .def("search", &Words::search, nb::arg("queries"), nb::arg("allowed").none(), nb::arg("k"), nb::arg("threads"),
           "The k best passages for lists of words: scores and rows (q, k'); None where a list is not checked yet.");
}
