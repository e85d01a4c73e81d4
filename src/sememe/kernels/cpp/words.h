// Words met before, each with its pieces: a cache of fixed size, as a processor's.
//
// A word's hash names a set of four entries. A hit moves one place to the front and a new word takes the last place, so
// what is frequent stays, and what occurs once displaces only the like.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace sememe {

class Words {
 public:
  static constexpr int kLongest = 31;  // bytes of a word that can be kept
  static constexpr int kMost = 15;     // and its pieces

  // Up to 31 bytes, and their number plus one in the last.
  struct Key {
    uint64_t part[4];
    bool operator==(const Key& other) const {
      return ((part[0] ^ other.part[0]) | (part[1] ^ other.part[1]) | (part[2] ^ other.part[2]) |
              (part[3] ^ other.part[3])) == 0;
    }
  };

  struct Entry {
    Key key;         // all zero: no word
    uint16_t count;  // at least one where there is a word
    uint16_t pieces[kMost];
  };
  static_assert(sizeof(Entry) == 64, "an entry is a cache line");

  // 2^bits sets of four entries.
  explicit Words(int bits)
      : shift_(64 - bits), memory_(std::calloc((size_t{kWays} << bits) + 1, sizeof(Entry)), &std::free) {
    if (!memory_) throw std::bad_alloc();
    const uintptr_t start = reinterpret_cast<uintptr_t>(memory_.get());
    entries_ = reinterpret_cast<Entry*>((start + sizeof(Entry) - 1) / sizeof(Entry) * sizeof(Entry));
#if defined(__linux__)
    // Large pages, where they can be had: words lie anywhere, and each small page would cost a fault.
    const uintptr_t page = uintptr_t{2} << 20, end = start + (sizeof(Entry) * kWays << bits);
    const uintptr_t first = (start + page - 1) / page * page;
    if (first + page <= end) madvise(reinterpret_cast<void*>(first), (end - first) / page * page, MADV_HUGEPAGE);
#endif
  }

  // The key of `length` <= 31 bytes; 32 bytes at `word` must be readable.
  static Key key(const uint8_t* word, int64_t length) {
    static constexpr uint8_t kMask[64] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                          255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    Key key, mask;
    std::memcpy(key.part, word, sizeof key.part);
    std::memcpy(mask.part, kMask + 32 - length, sizeof mask.part);
    for (int i = 0; i < 4; ++i) key.part[i] &= mask.part[i];
    key.part[3] |= static_cast<uint64_t>(length + 1) << 56;
    return key;
  }

  Entry* set(const Key& key) const {
    uint64_t mix = (key.part[0] ^ (key.part[1] * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    mix ^= (key.part[3] ^ (key.part[2] * 0x9E3779B97F4A7C15u)) * 0xA0761D6478BD642Fu;
    return entries_ + kWays * (((mix ^ (mix >> 32)) * 0xD6E8FEB86659FD93u) >> shift_);
  }

  // The entry of a word in its set, or null.
  static const Entry* find(Entry* set, const Key& key) {
    if (set[0].key == key) return set;
    for (int way = 1; way < kWays; ++way)
      if (set[way].key == key) {
        std::swap(set[way], set[way - 1]);
        return set + way - 1;
      }
    return nullptr;
  }

  // The entry of a word, or null; moves nothing, so that any number of threads may look.
  const Entry* peek(const Key& key) const {
    const Entry* set = this->set(key);
    for (int way = 0; way < kWays; ++way)
      if (set[way].key == key) return set + way;
    return nullptr;
  }

  // Remembers a word that is not in its set: in the first free place, else in the last.
  static void keep(Entry* set, const Key& key, const uint16_t* pieces, size_t count) {
    int way = 0;
    while (way < kWays - 1 && set[way].count) ++way;
    set[way].key = key;
    set[way].count = static_cast<uint16_t>(count);
    std::memcpy(set[way].pieces, pieces, count * sizeof *pieces);
  }

 private:
  static constexpr int kWays = 4;

  int shift_;
  std::unique_ptr<void, void (*)(void*)> memory_;  // zeros of the system, which are no memory until they are used
  Entry* entries_;                                 // at the start of a cache line
};

}  // namespace sememe
