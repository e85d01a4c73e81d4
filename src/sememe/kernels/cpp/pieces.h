// Byte-pair encoding of one word, as the `tokenizers` library does it for a vocabulary of characters with byte fallback:
// of all neighbours that may merge, the pair of lowest rank merges first, the leftmost of equals.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sememe {

class Pieces {
 public:
  // What a split works in; kept by the caller, so that memory is asked for once.
  struct Scratch {
    std::vector<uint16_t> ids;  // after `split`: the pieces
    std::vector<uint32_t> next, before, rank;
    std::vector<uint64_t> waiting;  // a heap of rank << 32 | position
  };

  // tokens: the vocabulary by number, at most 65,536, with all of <0x00> to <0xFF>; merges: "left right", best first.
  // Throws std::invalid_argument where they do not fit together.
  Pieces(const std::vector<std::string>& tokens, const std::vector<std::string>& merges);

  // The pieces of a word, into scratch.ids; `begins`: it follows a space, whose piece or part of a piece comes first. The
  // word is valid UTF-8 without U+2581; its own spaces stand for that character too.
  void split(std::string_view word, bool begins, Scratch& scratch) const;

  // The length of the shortest beginning of a word such that no merge reaches across its end, or of the whole word.
  size_t head(std::string_view word) const {
    size_t length = 1;
    while (length < word.size()) {
      const unsigned char a = word[length - 1], b = word[length];
      if (a < 128 && b < 128 && apart_[a][b]) break;
      ++length;
    }
    return length < word.size() ? length : word.size();
  }

  size_t size() const { return size_; }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint16_t kNoToken = 0xFFFF;

  struct Merge {
    uint32_t pair, rank;
  };

  uint32_t find(uint16_t left, uint16_t right) const {
    const uint32_t pair = static_cast<uint32_t>(left) << 16 | right;
    for (uint32_t slot = (pair * 0x9E3779B1u) >> shift_;; slot = (slot + 1) & mask_) {
      const Merge& merge = merges_[slot];
      if (merge.rank == kNone || merge.pair == pair) return merge.rank;
    }
  }

  void begin(std::string_view word, bool begins, std::vector<uint16_t>& ids) const;
  void merge_short(std::vector<uint16_t>& ids) const;
  void merge_long(Scratch& scratch) const;

  size_t size_;
  uint16_t space_;
  uint16_t bytes_[256];
  std::vector<uint16_t> characters_;  // by code point
  bool apart_[128][128];              // no merge has a left side that ends so and a right side that begins so
  std::vector<Merge> merges_;         // open addressing
  std::vector<uint16_t> made_;        // by rank
  uint32_t mask_;
  int shift_;
};

}  // namespace sememe
