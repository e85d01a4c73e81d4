// Building a graph of neighbours, in portions: the rows of a portion look for their neighbours in what is there, all
// at once, and then are linked to from there. So the graph does not depend on the number of threads.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "graph.h"
#include "graph_scratch.h"
#include "parallel.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::numpy, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

struct Near {
  int32_t distance;  // squared
  uint32_t row;
  bool operator<(const Near& other) const {
    return distance < other.distance || (distance == other.distance && row < other.row);
  }
};

class Builder {
 public:
  Builder(const Array<int8_t, 2>& table, const Array<uint32_t, 1>& order, int64_t degree, int64_t most, int64_t slack,
          int64_t starts, int threads)
      : n_(table.shape(0)), d_(table.shape(1)), stride_((d_ + kLine - 1) / kLine * kLine), degree_(degree),
        room_(degree + degree / 2 + 1), most_(most), slack_(slack), starts_(std::min(starts, n_)), threads_(threads),
        order_(order.data()), rows_(n_ * stride_, 0), sums_(n_), norms_(n_), links_(n_ * room_), counts_(n_, 0) {
    parallel(n_, threads_, [&](int, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int8_t* row = table.data() + i * d_;
        memcpy(rows_.data() + i * stride_, row, d_);
        for (int64_t j = 0; j < d_; ++j) sums_[i] += row[j], norms_[i] += row[j] * row[j];
        links_[i * room_] = static_cast<uint32_t>(i);
      }
    });
    graph_ = {rows_.data(), stride_, stride_, links_.data(), room_, n_};
    dots_ = SEMEME_PICK(graph_dots);
    walk_ = SEMEME_PICK(graph_walk);
  }

  void run() {
    const int64_t portion = std::max<int64_t>(1, n_ / kPortions);
    for (int64_t done = 1; done < n_;) {
      const int64_t size = std::min({n_ - done, done, portion});
      insert(done, size);
      done += size;
    }
    parallel(n_, threads_, [&](int, int64_t first, int64_t last) {
      std::vector<Near> list;
      for (int64_t i = first; i < last; ++i)
        if (counts_[i] > degree_) {
          measure(static_cast<uint32_t>(i), links_.data() + i * room_, counts_[i], list);
          put(static_cast<uint32_t>(i), list);
        }
    });
    connect();
  }

  // Links (n, degree); a link of a row to itself ends a list.
  void copy(uint32_t* out) const {
    for (int64_t i = 0; i < n_; ++i) {
      std::copy_n(links_.data() + i * room_, counts_[i], out + i * degree_);
      std::fill(out + i * degree_ + counts_[i], out + (i + 1) * degree_, static_cast<uint32_t>(i));
    }
  }

 private:
  static constexpr int64_t kPortions = 64;

  const int8_t* at(uint32_t row) const { return reinterpret_cast<const int8_t*>(rows_.data() + row * stride_); }

  // The nearest rows that a walk finds, nearest first.
  void find(uint32_t row, int64_t done, std::vector<Near>& found) {
    Walk& walk = Scratch::mine().walk(n_, room_, most_);
    walk_(graph_, at(row), sums_[row], norms_.data(), order_, std::min(starts_, done), walk);
    found.clear();
    for (int64_t i = 0; i < walk.size; ++i)
      if (row_of(walk.pool[i]) != row)
        found.push_back({norms_[row] - score_of(walk.pool[i]), row_of(walk.pool[i])});
  }

  // Rows with their distances from `row`, nearest first.
  void measure(uint32_t row, const uint32_t* others, int64_t count, std::vector<Near>& list) const {
    std::vector<int32_t> scores(count);
    dots_(graph_, at(row), sums_[row], norms_.data(), others, count, scores.data());
    list.resize(count);
    for (int64_t i = 0; i < count; ++i) list[i] = {norms_[row] - scores[i], others[i]};
    std::sort(list.begin(), list.end());
  }

  // Keep the nearest, and of the others those that no kept one is much nearer to: `degree` at most.
  void thin(std::vector<Near>& list) const {
    std::vector<Near> left(list);
    std::vector<uint32_t> rows;
    std::vector<int32_t> scores;
    list.clear();
    while (!left.empty()) {
      const Near kept = left.front();
      list.push_back(kept);
      if (static_cast<int64_t>(list.size()) == degree_) return;
      rows.clear();
      for (size_t i = 1; i < left.size(); ++i) rows.push_back(left[i].row);
      scores.resize(rows.size());
      dots_(graph_, at(kept.row), sums_[kept.row], norms_.data(), rows.data(), static_cast<int64_t>(rows.size()),
            scores.data());
      size_t stay = 0;
      for (size_t i = 1; i < left.size(); ++i) {
        const int64_t between = norms_[kept.row] - scores[i - 1];
        if (between * slack_ > static_cast<int64_t>(left[i].distance) * 64) left[stay++] = left[i];
      }
      left.resize(stay);
    }
  }

  // Make the thinned list the links of a row.
  void put(uint32_t row, std::vector<Near>& list) {
    thin(list);
    uint32_t* links = links_.data() + row * room_;
    for (size_t i = 0; i < list.size(); ++i) links[i] = list[i].row;
    counts_[row] = static_cast<int32_t>(list.size());
    if (counts_[row] < room_) links[counts_[row]] = row;
  }

  void insert(int64_t done, int64_t size) {
    parallel(size, threads_, [&](int, int64_t first, int64_t last) {
      std::vector<Near> found;
      for (int64_t i = first; i < last; ++i) {  // nobody links to these rows yet, so nobody reads what is put
        find(order_[done + i], done, found);
        put(order_[done + i], found);
      }
    });
    std::vector<uint64_t> pairs;
    for (int64_t i = 0; i < size; ++i) {
      const uint32_t row = order_[done + i];
      for (int64_t j = 0; j < counts_[row]; ++j)
        pairs.push_back(static_cast<uint64_t>(links_[row * room_ + j]) << 32 | row);
    }
    std::sort(pairs.begin(), pairs.end());
    std::vector<int64_t> groups;
    for (size_t i = 0; i < pairs.size(); ++i)
      if (i == 0 || pairs[i] >> 32 != pairs[i - 1] >> 32) groups.push_back(static_cast<int64_t>(i));
    const int64_t count = static_cast<int64_t>(groups.size());
    groups.push_back(static_cast<int64_t>(pairs.size()));
    parallel(count, threads_, [&](int, int64_t first, int64_t last) {
      std::vector<Near> list;
      std::vector<uint32_t> both;
      for (int64_t g = first; g < last; ++g) {
        const uint32_t row = static_cast<uint32_t>(pairs[groups[g]] >> 32);
        uint32_t* links = links_.data() + row * room_;
        const int64_t added = groups[g + 1] - groups[g];
        if (counts_[row] + added <= room_) {
          for (int64_t i = groups[g]; i < groups[g + 1]; ++i) links[counts_[row]++] = static_cast<uint32_t>(pairs[i]);
          if (counts_[row] < room_) links[counts_[row]] = row;
          continue;
        }
        both.assign(links, links + counts_[row]);
        for (int64_t i = groups[g]; i < groups[g + 1]; ++i) both.push_back(static_cast<uint32_t>(pairs[i]));
        measure(row, both.data(), static_cast<int64_t>(both.size()), list);
        put(row, list);
      }
    });
  }

  // Every row can be reached from the starts: one that cannot is linked to from near it.
  void connect() {
    std::vector<bool> reached(n_, false);
    std::vector<uint32_t> stack;
    const auto flood = [&](uint32_t from) {
      if (reached[from]) return;
      reached[from] = true;
      stack.push_back(from);
      while (!stack.empty()) {
        const uint32_t row = stack.back();
        stack.pop_back();
        for (int64_t j = 0; j < counts_[row]; ++j) {
          const uint32_t next = links_[row * room_ + j];
          if (!reached[next]) reached[next] = true, stack.push_back(next);
        }
      }
    };
    for (int64_t i = 0; i < starts_; ++i) flood(order_[i]);
    std::vector<Near> found;
    for (int64_t i = 0; i < n_; ++i) {
      const uint32_t row = order_[i];
      if (reached[row]) continue;
      find(row, n_, found);  // a walk meets reachable rows only
      auto host = std::find_if(found.begin(), found.end(), [&](const Near& near) { return counts_[near.row] < degree_; });
      if (host == found.end()) {  // the last link of the nearest gives way, and is reached through this row instead
        host = found.begin();
        uint32_t& last = links_[host->row * room_ + counts_[host->row] - 1];
        link(row, last);
        last = row;
      } else {
        link(host->row, row);
      }
      flood(row);
    }
  }

  // One more link, in the place of the last one where there is no room.
  void link(uint32_t from, uint32_t to) {
    const int64_t place = std::min<int64_t>(counts_[from], degree_ - 1);
    links_[from * room_ + place] = to;
    counts_[from] = static_cast<int32_t>(place + 1);
    if (counts_[from] < room_) links_[from * room_ + counts_[from]] = from;
  }

  int64_t n_, d_, stride_, degree_, room_, most_, slack_, starts_;
  int threads_;
  const uint32_t* order_;
  std::vector<uint8_t> rows_;
  std::vector<int32_t> sums_, norms_;
  std::vector<uint32_t> links_;
  std::vector<int32_t> counts_;
  LinkedRows graph_;
  decltype(&plain::graph_dots) dots_;
  decltype(&plain::graph_walk) walk_;
};

nb::ndarray<nb::numpy, uint32_t> graph_build(Array<int8_t, 2> table, Array<uint32_t, 1> order, int64_t degree,
                                             int64_t most, int64_t slack, int64_t starts, int threads) {
  const int64_t n = table.shape(0), d = table.shape(1);
  std::vector<bool> met(n, false);
  bool sound = n >= 1 && n < int64_t{1} << 31 && d >= 1 && d <= 16384 && static_cast<int64_t>(order.shape(0)) == n &&
               degree >= 2 && degree <= 4096 && most >= 1 && most <= 65536 && slack >= 64 && slack <= 256 &&
               starts >= 1 && threads >= 1;
  for (int64_t i = 0; sound && i < n; ++i) {
    sound = order.data()[i] < n && !met[order.data()[i]];
    if (sound) met[order.data()[i]] = true;
  }
  if (!sound) throw std::invalid_argument("arguments of graph_build do not fit together");
  uint32_t* links = new uint32_t[n * degree];
  nb::capsule keep(links, [](void* p) noexcept { delete[] static_cast<uint32_t*>(p); });
  {
    nb::gil_scoped_release release;
    Builder builder(table, order, degree, most, slack, starts, threads);
    builder.run();
    builder.copy(links);
  }
  const size_t shape[2] = {static_cast<size_t>(n), static_cast<size_t>(degree)};
  return nb::ndarray<nb::numpy, uint32_t>(links, 2, shape, keep);
}

}  // namespace

void bind_graph_build(nb::module_& m) {
  m.def("graph_build", &graph_build, nb::arg("table"), nb::arg("order"), nb::arg("degree"), nb::arg("most"),
        nb::arg("slack"), nb::arg("starts"), nb::arg("threads"),
        "Links (n, degree) between the rows of an int8 table. See kernels/graph.py.");
}
