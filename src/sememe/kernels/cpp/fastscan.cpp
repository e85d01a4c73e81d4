// The binding of the 4-bit table scan: makes tables of bytes, walks over blocks, keeps the best.
#include "fastscan.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

constexpr int64_t kChunk = 16 << 10;  // bytes of codes that all queries see before the next ones: half of a first cache
constexpr int64_t kMost = 64;           // blocks at a time, however small
constexpr int64_t kSample = 32;       // one block of so many is looked at first, to guess the threshold
constexpr int64_t kWorth = 8 << 20;   // look-ups that are worth a thread: it starts in the time of a fifth of them
constexpr int64_t kShare = 32;        // queries whose tables, or whose lists, are worth a thread

// Zeroed bytes that begin at a cache line: a load that straddles two lines counts as two.
class Lines {
 public:
  explicit Lines(int64_t size) : raw_(size + 64, 0) {}
  uint8_t* data() { return raw_.data() + (-reinterpret_cast<uintptr_t>(raw_.data()) & 63); }

 private:
  std::vector<uint8_t> raw_;
};

// Byte tables of the queries: score = bias + unit * sum.
struct Tables {
  Lines bytes;  // (count, width, kWordTable)
  std::vector<double> bias, unit;
};

// numbers: places a row; queries: (count, places * depth); centres: (places, 16, depth).
Tables make_tables(const float* queries, const float* centres, int64_t count, int64_t places, int64_t depth,
                   int64_t width, int threads) {
  const int64_t length = (places + 1) / 2;  // bytes a row: place p < length in a low half, the others in high halves
  Tables out{Lines(count * width * kWordTable), std::vector<double>(count), std::vector<double>(count)};
  std::vector<float> turned(places * depth * 16);
  for (int64_t p = 0; p < places; ++p)  // the 16 centres side by side, so that they are worked on together
    for (int64_t c = 0; c < 16; ++c)
      for (int64_t j = 0; j < depth; ++j) turned[(p * depth + j) * 16 + c] = centres[(p * 16 + c) * depth + j];
  const int parts = static_cast<int>(std::clamp<int64_t>(count / kShare, 1, threads));
  parallel(count, parts, [&](int, int64_t first, int64_t last) {
    std::vector<float> values(places * 16), low(places);
    for (int64_t q = first; q < last; ++q) {
      float widest = 0;
      double bias = 0;
      for (int64_t p = 0; p < places; ++p) {
        const float* x = queries + (q * places + p) * depth;
        const float* centre = turned.data() + p * depth * 16;
        float* to = values.data() + p * 16;
        for (int c = 0; c < 16; ++c) to[c] = x[0] * centre[c];
        for (int64_t j = 1; j < depth; ++j)
          for (int c = 0; c < 16; ++c) to[c] += x[j] * centre[j * 16 + c];
        float least[8], most[8];
        for (int c = 0; c < 8; ++c) {
          least[c] = std::min(to[c], to[c + 8]);
          most[c] = std::max(to[c], to[c + 8]);
        }
        for (int half = 4; half; half /= 2)
          for (int c = 0; c < half; ++c) {
            least[c] = std::min(least[c], least[c + half]);
            most[c] = std::max(most[c], most[c + half]);
          }
        low[p] = least[0];
        bias += least[0];
        widest = std::max(widest, most[0] - least[0]);
      }
      const double unit = widest > 0 ? static_cast<double>(widest) / kTop : 1.0;
      const float factor = static_cast<float>(1 / unit);
      uint8_t* table = out.bytes.data() + q * width * kWordTable;
      for (int64_t p = 0; p < places; ++p) {
        const int64_t byte = p < length ? p : p - length;
        uint8_t* to = table + byte / 4 * kWordTable + (p < length ? 0 : 64) + byte % 4 * 16;
        // Rounded half up: cheap and the same everywhere.
        for (int c = 0; c < 16; ++c)
          to[c] = static_cast<uint8_t>(
              static_cast<int32_t>(std::min(static_cast<float>(kTop), (values[p * 16 + c] - low[p]) * factor + 0.5f)));
      }
      out.bias[q] = bias;
      out.unit[q] = unit;
    }
  });
  return out;
}

struct Scan {
  const uint32_t* words;
  int64_t width;
  const uint8_t* tables;
  int64_t count, k;
  int64_t first, last;    // rows
  const uint64_t* allow;  // a word of bits a block, or null

  // Blocks that are scanned for all queries before the next ones.
  int64_t chunk() const { return std::clamp<int64_t>(kChunk / (width * kBlock * 4), 1, kMost); }

  // The rows of a block that count.
  uint64_t live(int64_t block) const {
    uint64_t mask = allow ? allow[block] : ~uint64_t{0};
    if (block * kBlock < first) mask &= ~uint64_t{0} << (first - block * kBlock);
    if ((block + 1) * kBlock > last) mask &= ~uint64_t{0} >> ((block + 1) * kBlock - last);
    return mask;
  }
};

// Picks the k best of a list; of equal sums those of the lowest rows.
class Picker {
 public:
  // The k-th highest sum, and how many of that very sum belong to the k best.
  std::pair<int32_t, int64_t> edge(const int32_t* sums, int64_t count, int64_t k) {
    const auto [low, high] = std::minmax_element(sums, sums + count);
    const int64_t range = static_cast<int64_t>(*high) - *low + 1;
    if (range > std::max<int64_t>(4 * count, 4096)) {
      copy_.assign(sums, sums + count);
      std::nth_element(copy_.begin(), copy_.begin() + (k - 1), copy_.end(), std::greater<int32_t>());
      const int32_t at = copy_[k - 1];
      return {at, k - std::count_if(sums, sums + count, [at](int32_t sum) { return sum > at; })};
    }
    // Sums are small whole numbers and close together: counting them beats comparing them.
    copy_.assign(range, 0);
    for (int64_t i = 0; i < count; ++i) ++copy_[*high - sums[i]];
    int64_t above = 0, bin = 0;
    for (; above + copy_[bin] < k; ++bin) above += copy_[bin];
    return {static_cast<int32_t>(*high - bin), k - above};
  }

  // Shorten a list of more than k to its k best; the k-th sum.
  int32_t shorten(int32_t* sums, int32_t* rows, int64_t count, int64_t k) {
    const auto [at, equal] = edge(sums, count, k);
    copy_.clear();
    for (int64_t i = 0; i < count; ++i)
      if (sums[i] == at) copy_.push_back(rows[i]);
    std::nth_element(copy_.begin(), copy_.begin() + (equal - 1), copy_.end());
    const int32_t last = copy_[equal - 1];
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      const bool keep = sums[i] > at || (sums[i] == at && rows[i] <= last);
      sums[kept] = sums[i];
      rows[kept] = rows[i];
      kept += keep;
    }
    return at;
  }

 private:
  std::vector<int32_t> copy_;
};

// The best rows of every query over a range of blocks.
class Lists {
 public:
  Lists(int64_t count, int64_t k, int64_t room) : k_(k), limit_(2 * k + 128), room_(limit_ + room + 16) {
    memory_.reset(new int32_t[2 * count * room_]);  // left as it is: most of it is never touched
    for (int64_t q = 0; q < count; ++q)
      hits_.push_back({-1, 0, memory_.get() + 2 * q * room_, memory_.get() + (2 * q + 1) * room_});
  }

  Hits* hits() { return hits_.data(); }
  int64_t count() const { return static_cast<int64_t>(hits_.size()); }

  // After every call of the loop: brings long lists back to k. Rows come in ascending order, so one that equals the
  // last of k is worse.
  void trim() {
    for (Hits& list : hits_)
      if (list.count >= limit_) shorten(list);
  }

  // For each query a threshold that those pass that are as good as the k-th so far.
  std::vector<int32_t> thresholds() {
    std::vector<int32_t> out;
    for (const Hits& list : hits_)
      out.push_back(list.count >= k_ ? picker_.edge(list.sums, list.count, k_).first - 1 : -1);
    return out;
  }

  void start(const std::vector<int32_t>& least) {
    for (int64_t q = 0; q < count(); ++q) hits_[q].least = least[q];
  }

  void finish() {
    for (Hits& list : hits_)
      if (list.count > k_) shorten(list);
  }

 private:
  void shorten(Hits& list) {
    list.least = picker_.shorten(list.sums, list.rows, list.count, k_);
    list.count = static_cast<int32_t>(k_);
  }

  int64_t k_, limit_, room_;
  std::unique_ptr<int32_t[]> memory_;
  std::vector<Hits> hits_;
  Picker picker_;
};

using Loop = decltype(SEMEME_PICK(scan_nibbles));

// Ask for memory that will be read soon. The machine's own prefetching does not look past a pause of many queries.
void request(const void* at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(at) + i, 0, 2);
}

void walk(const Scan& scan, Loop loop, const uint8_t* tables, int64_t first, int64_t last, Lists& lists) {
  const int64_t bytes = scan.width * kBlock * 4, chunk = scan.chunk();
  uint64_t live[kMost];
  for (int64_t b = first; b < last; b += chunk) {
    const int64_t some = std::min(chunk, last - b);
    uint64_t any = 0;
    for (int64_t i = 0; i < some; ++i) any |= live[i] = scan.live(b + i);
    if (!any) continue;
    const uint32_t* words = scan.words + b * scan.width * kBlock;
    if (lists.count() > 4) request(words + some * scan.width * kBlock, std::min(chunk, last - b - some) * bytes);
    loop(words, scan.width, tables, lists.count(), some, static_cast<int32_t>(b * kBlock), live, lists.hits());
    lists.trim();
  }
}

// Looks at every kSample-th block for thresholds that about k rows pass.
std::vector<int32_t> guess(const Scan& scan, Loop loop, int64_t first, int64_t last, int parts) {
  std::vector<int32_t> least(scan.count, -1);
  if ((last - first) * kBlock < 8 * scan.k || last - first < 8 * kSample) return least;
  const double share = static_cast<double>(scan.k) / kSample;
  const int64_t bytes = scan.width * kBlock * 4, fours = (scan.count + 3) / 4;  // the loop takes four queries at a time
  parallel(fours, parts, [&](int, int64_t from, int64_t to) {
    const int64_t query = 4 * from, queries = std::min(4 * to, scan.count) - query;
    Lists sample(queries, static_cast<int64_t>(share + 2.5 * std::sqrt(share) + 4), kBlock);
    for (int64_t b = first + kSample / 2; b < last; b += kSample) {
      if (b + kSample < last) request(scan.words + (b + kSample) * scan.width * kBlock, bytes);
      const uint64_t live = scan.live(b);
      if (!live) continue;
      loop(scan.words + b * scan.width * kBlock, scan.width, scan.tables + query * scan.width * kWordTable, queries, 1,
           static_cast<int32_t>(b * kBlock), &live, sample.hits());
      sample.trim();
    }
    const std::vector<int32_t> found = sample.thresholds();
    std::copy(found.begin(), found.end(), least.begin() + query);
  });
  return least;
}

// At least the k best rows of each query in blocks [first, last), or all where there are fewer: calls
// take(query, sums, rows), for different queries from different threads.
template <class Take>
void search(const Scan& scan, int64_t first, int64_t last, int parts, Take take) {
  const Loop loop = SEMEME_PICK(scan_nibbles);
  const int64_t room = scan.chunk() * kBlock;
  const std::vector<int32_t> least = guess(scan, loop, first, last, parts);
  std::vector<std::unique_ptr<Lists>> found(parts);
  // Threads fetch pieces, so that one that is held up does not hold up the others.
  const int64_t piece = parts == 1 ? last - first : std::max((last - first) / (16 * parts), scan.chunk());
  std::atomic<int64_t> next{first};
  parallel(parts, parts, [&](int part, int64_t, int64_t) {
    found[part] = std::make_unique<Lists>(scan.count, scan.k, room);
    found[part]->start(least);
    for (int64_t b; (b = next.fetch_add(piece)) < last;)
      walk(scan, loop, scan.tables, b, std::min(b + piece, last), *found[part]);
    found[part]->finish();
  });
  const int shares = static_cast<int>(std::clamp<int64_t>(scan.count / kShare, 1, parts));
  parallel(scan.count, shares, [&](int, int64_t from, int64_t to) {
    std::vector<int32_t> sums, rows;
    for (int64_t q = from; q < to; ++q) {
      sums.clear();
      rows.clear();
      for (const auto& lists : found) {
        const Hits& list = lists->hits()[q];
        sums.insert(sums.end(), list.sums, list.sums + list.count);
        rows.insert(rows.end(), list.rows, list.rows + list.count);
      }
      if (static_cast<int64_t>(rows.size()) < scan.k) {  // the guess was too high: once more, without one
        Lists again(1, scan.k, room);
        walk(scan, loop, scan.tables + q * scan.width * kWordTable, first, last, again);
        const Hits& list = again.hits()[0];
        sums.assign(list.sums, list.sums + list.count);
        rows.assign(list.rows, list.rows + list.count);
      }
      take(q, sums, rows);
    }
  });
}

nb::tuple scan_nibble_codes(Array<uint32_t, 3> words, int64_t n, Array<float, 2> queries, Array<float, 3> centres,
                            int64_t k, std::optional<Array<uint64_t, 1>> allow, int64_t first, int64_t last,
                            bool ordered, int threads) {
  const int64_t blocks = words.shape(0), width = words.shape(1), count = queries.shape(0);
  const int64_t places = centres.shape(0), depth = centres.shape(2);
  if (words.shape(2) != static_cast<size_t>(kBlock) || n > blocks * kBlock || n > INT32_MAX - kBlock || k < 1 ||
      places < 1 || depth < 1 || centres.shape(1) != 16 || width > 65536 ||
      static_cast<int64_t>(queries.shape(1)) != places * depth || ((places + 1) / 2 + 3) / 4 != width ||
      (allow && static_cast<int64_t>(allow->shape(0)) != blocks) || first < 0 || first > last || last > n)
    throw std::invalid_argument("arguments of scan_nibble_codes do not fit together");
  Scan scan{words.data(), width, nullptr, count, k, first, last, allow ? allow->data() : nullptr};
  const int64_t begin = first / kBlock, end = (last + kBlock - 1) / kBlock;
  int64_t passing = last - first;
  if (scan.allow) {
    passing = 0;
    for (int64_t b = begin; b < end; ++b) passing += __builtin_popcountll(scan.live(b));
  }
  scan.k = std::min(k, passing);
  const int64_t wide = scan.k;
  float* scores = new float[count * wide + 1];
  nb::capsule keep_scores(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  int64_t* found = new int64_t[count * wide + 1];
  nb::capsule keep_found(found, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  if (wide > 0 && count > 0) {
    nb::gil_scoped_release release;
    const double look_ups = static_cast<double>(end - begin) * kBlock * static_cast<double>(8 * width * count);
    const int parts = static_cast<int>(std::clamp<double>(look_ups / kWorth, 1, std::min(threads, 256)));
    Tables tables = make_tables(queries.data(), centres.data(), count, places, depth, width, parts);
    scan.tables = tables.bytes.data();
    search(scan, begin, end, parts, [&](int64_t q, std::vector<int32_t>& sums, std::vector<int32_t>& rows) {
      const int64_t all = static_cast<int64_t>(sums.size());
      if (all > wide) Picker().shorten(sums.data(), rows.data(), all, wide);
      std::vector<int64_t> order(wide);
      std::iota(order.begin(), order.end(), 0);
      if (ordered)
        std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
          return sums[a] > sums[b] || (sums[a] == sums[b] && rows[a] < rows[b]);
        });
      for (int64_t i = 0; i < wide; ++i) {
        scores[q * wide + i] = static_cast<float>(tables.bias[q] + tables.unit[q] * sums[order[i]]);
        found[q * wide + i] = rows[order[i]];
      }
    });
  }
  const size_t shape[2] = {static_cast<size_t>(count), static_cast<size_t>(wide)};
  return nb::make_tuple(nb::ndarray<nb::numpy, float>(scores, 2, shape, keep_scores),
                        nb::ndarray<nb::numpy, int64_t>(found, 2, shape, keep_found));
}

}  // namespace

void bind_fastscan(nb::module_& m) {
  m.def("scan_nibble_codes", &scan_nibble_codes, nb::arg("words"), nb::arg("n"), nb::arg("queries"),
        nb::arg("centres"), nb::arg("k"), nb::arg("allow").none(), nb::arg("first"), nb::arg("last"),
        nb::arg("ordered"), nb::arg("threads"),
        "The k best rows for each query: scores (q, k'), rows (q, k'). See kernels/fastscan.py.");
}
