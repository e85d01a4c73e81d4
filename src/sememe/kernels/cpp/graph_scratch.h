// Memory of one walk, kept by its thread: a search that lasts microseconds cannot wait for fresh pages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "graph.h"

namespace sememe {

class Scratch {
 public:
  // Ready for walks over n rows with `degree` links that keep `most` keys. Bits are zero, and walks leave them so.
  Walk& walk(int64_t n, int64_t degree, int64_t most) {
    const int64_t reach = std::max<int64_t>(2 * degree, 64);
    const int64_t words = (n + 63) / 64, room = words / 4 + 64;
    if (static_cast<int64_t>(seen_.size()) < words) seen_.resize(words, 0);
    if (static_cast<int64_t>(trail_.size()) < room) trail_.resize(room);
    if (static_cast<int64_t>(pool_.size()) < most + 1) pool_.resize(most + 1);
    if (static_cast<int64_t>(fresh_.size()) < reach) fresh_.resize(reach), sums_.resize(reach);
    walk_ = {pool_.data(), 0,     most,         seen_.data(), trail_.data(), room,
             0,            fresh_.data(), sums_.data(), reach};
    return walk_;
  }

  static Scratch& mine() {
    thread_local Scratch scratch;
    return scratch;
  }

 private:
  Walk walk_{};
  std::vector<uint64_t> pool_, seen_;
  std::vector<uint32_t> trail_, fresh_;
  std::vector<int32_t> sums_;
};

}  // namespace sememe
