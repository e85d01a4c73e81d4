// The binding of orthogonal matching pursuit: a few targets at a time walk through their steps together, so that the
// atoms' bytes are read once a step for all of them.
#include "pursuit.h"

#include <math.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

using Table = nb::ndarray<const float, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kTogether = 48;  // targets that walk together

int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// A row in bytes; returns its scale. `bytes` gets `width` values; lengths of the rounded row and of what was lost.
template <class T>
float to_bytes(const T* row, int64_t width, int8_t* bytes, float* kept, float* lost) {
  double top = 0, kept_square = 0, lost_square = 0;
  for (int64_t j = 0; j < width; ++j) top = std::max<double>(top, fabs(static_cast<double>(row[j])));
  const float scale = static_cast<float>(top / 127);
  if (!(scale > 1e-30f)) {  // nothing, or too little to be rounded to bytes: everything is lost
    for (int64_t j = 0; j < width; ++j) lost_square += static_cast<double>(row[j]) * row[j];
    std::fill(bytes, bytes + width, static_cast<int8_t>(0));
    *kept = 0;
    *lost = static_cast<float>(sqrt(lost_square) * 1.000001);
    return 0;
  }
  const double inverse = 1 / static_cast<double>(scale);
  for (int64_t j = 0; j < width; ++j) {
    const double whole = std::clamp(nearbyint(row[j] * inverse), -127.0, 127.0), value = whole * scale;
    bytes[j] = static_cast<int8_t>(whole);
    kept_square += value * value;
    lost_square += (row[j] - value) * (row[j] - value);
  }
  *kept = static_cast<float>(sqrt(kept_square) * 1.000001);
  *lost = static_cast<float>(sqrt(lost_square) * 1.000001);
  return scale;
}

// Zeros on large pages, where they can be had: atoms are looked at in no order, and each small page would cost a miss.
template <class T>
class Spread {
 public:
  explicit Spread(int64_t count) : memory_(std::calloc(count * sizeof(T) + kPage, 1), &std::free) {
    if (!memory_) throw std::bad_alloc();
    const uintptr_t start = (reinterpret_cast<uintptr_t>(memory_.get()) + kPage - 1) / kPage * kPage;
    data_ = reinterpret_cast<T*>(start);
#if defined(__linux__)
    if (count * sizeof(T) >= kPage) madvise(data_, count * sizeof(T) / kPage * kPage, MADV_HUGEPAGE);
#endif
  }
  T* data() const { return data_; }

 private:
  static constexpr uintptr_t kPage = uintptr_t{2} << 20;
  std::unique_ptr<void, void (*)(void*)> memory_;
  T* data_;
};

// The atoms, padded, and once more as bytes in blocks.
struct Atoms {
  int64_t n, width, quads, spans;
  Spread<float> rows;
  Spread<uint8_t> packed;
  std::vector<float> scale, norm, lost;
  std::vector<double> square;

  Atoms(const float* from, int64_t n, int64_t d)
      : n(n), width(rounded_up(d, kLane)), quads(width / 4), spans((n + kSpan - 1) / kSpan), rows(n * width),
        packed(spans * kSpan * width), scale(spans * kSpan), norm(spans * kSpan), lost(spans * kSpan), square(n) {
    auto dot = SEMEME_PICK(dot_rows);
    std::fill(packed.data(), packed.data() + spans * kSpan * width, uint8_t{128});
    std::vector<int8_t> bytes(width);
    for (int64_t i = 0; i < n; ++i) {
      float* row = rows.data() + i * width;
      std::copy(from + i * d, from + (i + 1) * d, row);
      float kept;
      scale[i] = to_bytes(row, width, bytes.data(), &kept, &lost[i]);
      square[i] = dot(row, row, width, row);
      norm[i] = static_cast<float>(sqrt(square[i]) * 1.000001);
      uint8_t* block = packed.data() + i / kSide * kSide * width;
      for (int64_t j = 0; j < width; ++j)
        block[(j / 4 * kSide + i % kSide) * 4 + j % 4] = static_cast<uint8_t>(bytes[j] + 128);
    }
  }
  const float* row(int64_t i) const { return rows.data() + i * width; }
};

// One target on its way.
struct Walk {
  int64_t target, steps;
  double square;  // of the target's length
  std::vector<double> vector, residual, factor, projected, weights, inner;
  int32_t* chosen;

  void begin(int64_t number, const float* from, int64_t d, int64_t width, int64_t k, int32_t* place) {
    target = number;
    steps = 0;
    chosen = place;
    vector.assign(width, 0);
    std::copy(from, from + d, vector.begin());
    residual = vector;
    square = 0;
    for (double value : vector) square += value * value;
    factor.resize(k * k);
    projected.resize(k);
    weights.resize(k);
    inner.resize(k);
  }

  // weights: the solution of (factor factor^T) weights = factor values, that is, of factor^T weights = values.
  void solve(const double* values, int64_t k, double* out) const {
    for (int64_t i = steps; i-- > 0;) {
      double sum = values[i];
      for (int64_t s = i + 1; s < steps; ++s) sum -= factor[s * k + i] * out[s];
      out[i] = sum / factor[i * k + i];
    }
  }
};

struct Outcome {
  int32_t* chosen;
  double* weights;
  double* residual;
};

class Pursuit {
 public:
  Pursuit(const Atoms& atoms, const float* targets, int64_t d, int64_t k, double tolerance, Outcome out)
      : atoms_(atoms), targets_(targets), d_(d), k_(k), tolerance_(tolerance), out_(out), walks_(kTogether),
        bytes_(kTogether * atoms.width), products_(kTogether * kSpan), sieves_(kTogether),
        found_(kTogether * (atoms.spans * kSpan + kSide)), upper_(found_.size()) {}

  // The targets [first, last), at most kTogether.
  void run(int64_t first, int64_t last) {
    std::vector<int64_t> going;
    for (int64_t i = first; i < last; ++i) {
      walks_[i - first].begin(i, targets_ + i * d_, d_, atoms_.width, k_, out_.chosen + i * k_);
      if (walks_[i - first].square > 0) going.push_back(i - first);
    }
    for (int64_t step = 0; step < k_ && !going.empty(); ++step) {
      screen(going);
      size_t kept = 0;
      for (size_t g = 0; g < going.size(); ++g)
        if (advance(walks_[going[g]], sieves_[g])) going[kept++] = going[g];
      going.resize(kept);
    }
    for (int64_t i = first; i < last; ++i) end(walks_[i - first]);
  }

  int64_t examined() const { return examined_; }

 private:
  void screen(const std::vector<int64_t>& going) {
    const int64_t room = atoms_.spans * kSpan + kSide, count = static_cast<int64_t>(going.size());
    for (int64_t g = 0; g < count; ++g) {
      int8_t* bytes = bytes_.data() + g * atoms_.width;
      Sieve& sieve = sieves_[g];
      sieve.scale = to_bytes(walks_[going[g]].residual.data(), atoms_.width, bytes, &sieve.kept, &sieve.lost);
      int32_t sum = 0;
      for (int64_t j = 0; j < atoms_.width; ++j) sum += bytes[j];
      sieve.shift = 128 * sum;
      sieve.floor = 0;
      sieve.count = 0;
      sieve.atom = found_.data() + g * room;
      sieve.upper = upper_.data() + g * room;
    }
    for (int64_t s = 0; s < atoms_.spans; ++s) {
      products_of_(atoms_.packed.data() + s * kSpan * atoms_.width, atoms_.quads, bytes_.data(), count,
                   products_.data());
      for (int64_t g = 0; g < count; ++g)
        sift_(products_.data() + g * kSpan, atoms_.scale.data() + s * kSpan, atoms_.norm.data() + s * kSpan,
              atoms_.lost.data() + s * kSpan, s * kSpan, &sieves_[g]);
    }
  }

  // The atom whose inner product with the residual is largest in size, of equal ones the first; -1 where none is left.
  int64_t best(const Walk& walk, const Sieve& sieve, double* product) {
    int64_t which = -1;
    double size = 0;
    auto look = [&](int64_t atom, int64_t next) {
      if (std::find(walk.chosen, walk.chosen + walk.steps, static_cast<int32_t>(atom)) != walk.chosen + walk.steps)
        return;
      ++examined_;
      const double value = dot_(atoms_.row(atom), walk.residual.data(), atoms_.width, atoms_.row(next));
      const double at = fabs(value);
      if (at > size || (at == size && at > 0 && atom < which)) {
        size = at;
        which = atom;
        *product = value;
      }
    };
    int64_t start = -1, left = 0;  // the most promising first: it rules out most of the others
    for (int64_t c = 0; c < sieve.count; ++c)
      if (sieve.atom[c] < atoms_.n && sieve.upper[c] >= sieve.floor) {
        sieve.atom[left] = sieve.atom[c];
        sieve.upper[left] = sieve.upper[c];
        if (start < 0 || sieve.upper[left] > sieve.upper[start]) start = left;
        ++left;
      }
    if (start < 0) return -1;
    std::swap(sieve.atom[0], sieve.atom[start]);
    std::swap(sieve.upper[0], sieve.upper[start]);
    for (int64_t c = 0; c < left; ++c)
      if (sieve.upper[c] >= size) look(sieve.atom[c], sieve.atom[std::min(c + 1, left - 1)]);
    return which;
  }

  // One atom more; false where the walk ends.
  bool advance(Walk& walk, const Sieve& sieve) {
    double product = 0;
    const int64_t atom = best(walk, sieve, &product);
    // A product as small as rounding leaves: the target is met.
    if (atom < 0 || product * product <= 1e-20 * walk.square * atoms_.square[atom]) return false;
    const float* row = atoms_.row(atom);
    const int64_t t = walk.steps;
    double* line = walk.factor.data() + t * k_;
    double height = atoms_.square[atom];
    for (int64_t i = 0; i < t; ++i) {
      double value =
          dot_rows_(row, atoms_.row(walk.chosen[i]), atoms_.width, atoms_.row(walk.chosen[std::min(i + 1, t - 1)]));
      for (int64_t s = 0; s < i; ++s) value -= walk.factor[i * k_ + s] * line[s];
      line[i] = value / walk.factor[i * k_ + i];
      height -= line[i] * line[i];
    }
    if (height <= 1e-12 * atoms_.square[atom]) return false;  // it lies in the span of those chosen before
    line[t] = sqrt(height);
    walk.projected[t] = product / line[t];
    walk.chosen[t] = static_cast<int32_t>(atom);
    walk.steps = t + 1;
    walk.solve(walk.projected.data(), k_, walk.weights.data());
    return left_over(walk) > tolerance_ * tolerance_ * walk.square;
  }

  // The residual of the weights at hand, and the square of its length.
  double left_over(Walk& walk) {
    walk.residual = walk.vector;
    for (int64_t i = 0; i < walk.steps; ++i)
      take_away_(walk.residual.data(), walk.weights[i], atoms_.row(walk.chosen[i]), atoms_.width);
    double square = 0;
    for (double value : walk.residual) square += value * value;
    return square;
  }

  // Least squares once more with the residual as the right side: what the factor's rounding lost comes back.
  void end(Walk& walk) {
    const int64_t k = k_;
    for (int64_t i = 0; i < walk.steps; ++i) {
      const float* row = atoms_.row(walk.chosen[i]);
      double value = dot_(row, walk.residual.data(), atoms_.width, row);
      for (int64_t s = 0; s < i; ++s) value -= walk.factor[i * k + s] * walk.inner[s];
      walk.inner[i] = value / walk.factor[i * k + i];
    }
    walk.solve(walk.inner.data(), k, walk.projected.data());
    for (int64_t i = 0; i < walk.steps; ++i) walk.weights[i] += walk.projected[i];
    out_.residual[walk.target] = sqrt(left_over(walk));
    for (int64_t i = 0; i < k; ++i) {
      out_.weights[walk.target * k + i] = i < walk.steps ? walk.weights[i] : 0;
      if (i >= walk.steps) walk.chosen[i] = -1;
    }
  }

  const Atoms& atoms_;
  const float* targets_;
  int64_t d_, k_;
  double tolerance_;
  Outcome out_;
  std::vector<Walk> walks_;
  std::vector<int8_t> bytes_;
  std::vector<int32_t> products_;
  std::vector<Sieve> sieves_;
  std::vector<int32_t> found_;
  std::vector<float> upper_;
  int64_t examined_ = 0;
  decltype(SEMEME_PICK(span_products)) products_of_ = SEMEME_PICK(span_products);
  decltype(SEMEME_PICK(sift)) sift_ = SEMEME_PICK(sift);
  decltype(SEMEME_PICK(dot_mixed)) dot_ = SEMEME_PICK(dot_mixed);
  decltype(SEMEME_PICK(dot_rows)) dot_rows_ = SEMEME_PICK(dot_rows);
  decltype(SEMEME_PICK(take_away)) take_away_ = SEMEME_PICK(take_away);
};

template <class T>
nb::ndarray<nb::numpy, T> owned(T* values, std::initializer_list<size_t> shape) {
  return nb::ndarray<nb::numpy, T>(values, shape, nb::capsule(values, [](void* p) noexcept {
                                     delete[] static_cast<T*>(p);
                                   }));
}

nb::tuple pursue(Table targets, Table atoms, int64_t k, double tolerance, int threads) {
  const int64_t b = targets.shape(0), d = targets.shape(1), n = atoms.shape(0);
  if (static_cast<int64_t>(atoms.shape(1)) != d || n < 1 || n > INT32_MAX - kSpan || d < 1 || d > 60000 || k < 1)
    throw std::invalid_argument("arguments of pursue do not fit together");
  Outcome out{new int32_t[b * k + 1], new double[b * k + 1], new double[b + 1]};
  auto chosen = owned(out.chosen, {static_cast<size_t>(b), static_cast<size_t>(k)});
  auto weights = owned(out.weights, {static_cast<size_t>(b), static_cast<size_t>(k)});
  auto residual = owned(out.residual, {static_cast<size_t>(b)});
  std::atomic<int64_t> examined{0};
  {
    nb::gil_scoped_release release;
    const Atoms table(atoms.data(), n, d);
    std::atomic<int64_t> next{0};
    const int64_t tiles = (b + kTogether - 1) / kTogether;
    parallel(tiles, std::clamp(threads, 1, 256), [&](int, int64_t, int64_t) {
      Pursuit pursuit(table, targets.data(), d, k, tolerance, out);
      for (int64_t tile; (tile = next++) < tiles;)
        pursuit.run(tile * kTogether, std::min((tile + 1) * kTogether, b));
      examined += pursuit.examined();
    });
  }
  return nb::make_tuple(chosen, weights, residual, examined.load());
}

}  // namespace

void bind_pursuit(nb::module_& m) {
  m.def("pursue", &pursue, nb::arg("targets"), nb::arg("atoms"), nb::arg("k"), nb::arg("tolerance"),
        nb::arg("threads"),
        "Orthogonal matching pursuit: atoms int32 (b, k), weights float64 (b, k), lengths of what is left (b,), and "
        "the number of inner products that were computed exactly. See kernels/pursuit.py.");
}
