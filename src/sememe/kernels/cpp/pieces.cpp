#include "pieces.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <unordered_map>

namespace sememe {
namespace {

constexpr uint32_t kSpace = 0x2581;  // the character that stands for a space
constexpr uint32_t kEnd = 0xFFFFFFFF;
constexpr size_t kShort = 32;  // symbols of a word for which a heap costs more than it saves

// The code point at `at` of valid UTF-8, and how many bytes it takes.
inline uint32_t decode(const unsigned char* at, int& length) {
  if (at[0] < 0x80) return length = 1, at[0];
  if (at[0] < 0xE0) return length = 2, (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu);
  if (at[0] < 0xF0) return length = 3, (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
  return length = 4, (at[0] & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
}

}  // namespace

Pieces::Pieces(const std::vector<std::string>& tokens, const std::vector<std::string>& merges) : size_(tokens.size()) {
  if (tokens.size() >= kNoToken) throw std::invalid_argument("a vocabulary of 65,535 tokens or more");
  std::unordered_map<std::string_view, uint16_t> number;
  number.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) number.emplace(tokens[i], static_cast<uint16_t>(i));
  const auto known = [&](std::string_view token) {
    const auto at = number.find(token);
    if (at == number.end()) throw std::invalid_argument("a merge or a byte names a token that is not there");
    return at->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    bytes_[byte] = known(name);
  }
  space_ = known("\xE2\x96\x81");
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) continue;
    int length = 0;
    const uint32_t point = decode(reinterpret_cast<const unsigned char*>(tokens[i].c_str()), length);
    if (static_cast<size_t>(length) != tokens[i].size()) continue;
    if (characters_.size() <= point) characters_.resize(point + 1, kNoToken);
    characters_[point] = static_cast<uint16_t>(i);
  }
  // A character without a token is there as bytes, and a space as U+2581: nothing is said of those.
  const auto own = [&](int point) {
    return point != ' ' && static_cast<size_t>(point) < characters_.size() && characters_[point] != kNoToken;
  };
  for (int a = 0; a < 128; ++a)
    for (int b = 0; b < 128; ++b) apart_[a][b] = own(a) && own(b);
  int bits = 1;
  while ((size_t{1} << bits) < 2 * merges.size() + 1) ++bits;
  mask_ = (1u << bits) - 1;
  shift_ = 32 - bits;
  merges_.assign(size_t{1} << bits, Merge{0, kNone});
  std::string whole;
  for (const std::string& merge : merges) {
    const size_t cut = merge.find(' ');
    if (cut == std::string::npos || cut == 0 || cut + 1 == merge.size())
      throw std::invalid_argument("a merge is not two tokens with a space between");
    const uint16_t left = known(std::string_view(merge).substr(0, cut));
    const uint16_t right = known(std::string_view(merge).substr(cut + 1));
    whole.assign(merge, 0, cut).append(merge, cut + 1, std::string::npos);
    const unsigned char last = tokens[left].back(), first = tokens[right].front();
    if (last < 128 && first < 128) apart_[last][first] = false;
    const uint32_t pair = static_cast<uint32_t>(left) << 16 | right;
    uint32_t slot = (pair * 0x9E3779B1u) >> shift_;
    while (merges_[slot].rank != kNone && merges_[slot].pair != pair) slot = (slot + 1) & mask_;
    if (merges_[slot].rank != kNone) throw std::invalid_argument("a merge occurs twice");
    merges_[slot] = {pair, static_cast<uint32_t>(made_.size())};
    made_.push_back(known(whole));
  }
}

void Pieces::begin(std::string_view word, bool begins, std::vector<uint16_t>& ids) const {
  ids.clear();
  if (begins) ids.push_back(space_);
  const auto* at = reinterpret_cast<const unsigned char*>(word.data());
  const auto* end = at + word.size();
  while (at < end) {
    int length;
    uint32_t point = decode(at, length);
    if (point == ' ') point = kSpace;
    const uint16_t id = point < characters_.size() ? characters_[point] : kNoToken;
    if (id != kNoToken)
      ids.push_back(id);
    else
      for (int i = 0; i < length; ++i) ids.push_back(bytes_[at[i]]);
    at += length;
  }
}

void Pieces::split(std::string_view word, bool begins, Scratch& scratch) const {
  begin(word, begins, scratch.ids);
  if (scratch.ids.size() <= kShort)
    merge_short(scratch.ids);
  else
    merge_long(scratch);
}

// Looks through all pairs for each merge.
void Pieces::merge_short(std::vector<uint16_t>& ids) const {
  uint32_t rank[kShort];
  size_t n = ids.size();
  for (size_t i = 0; i + 1 < n; ++i) rank[i] = find(ids[i], ids[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) best = rank[i] < rank[best] ? i : best;
    if (rank[best] == kNone) break;
    ids[best] = made_[rank[best]];
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      ids[i] = ids[i + 1];
      rank[i - 1] = rank[i];
    }
    if (best + 1 < n) rank[best] = find(ids[best], ids[best + 1]);
    if (best > 0) rank[best - 1] = find(ids[best - 1], ids[best]);
  }
  ids.resize(n);
}

// Keeps a heap of the pairs that may merge.
void Pieces::merge_long(Scratch& scratch) const {
  auto& [ids, next, before, rank, waiting] = scratch;
  const uint32_t n = static_cast<uint32_t>(ids.size());
  next.resize(n);
  before.resize(n);
  rank.resize(n);
  waiting.clear();
  const auto offer = [&](uint32_t position) {
    if (rank[position] != kNone) {
      waiting.push_back(static_cast<uint64_t>(rank[position]) << 32 | position);
      std::push_heap(waiting.begin(), waiting.end(), std::greater<uint64_t>());
    }
  };
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1 < n ? i + 1 : kEnd;
    before[i] = i ? i - 1 : kEnd;
    rank[i] = i + 1 < n ? find(ids[i], ids[i + 1]) : kNone;
    if (rank[i] != kNone) waiting.push_back(static_cast<uint64_t>(rank[i]) << 32 | i);
  }
  std::make_heap(waiting.begin(), waiting.end(), std::greater<uint64_t>());
  while (!waiting.empty()) {
    std::pop_heap(waiting.begin(), waiting.end(), std::greater<uint64_t>());
    const uint32_t best = static_cast<uint32_t>(waiting.back() >> 32), here = static_cast<uint32_t>(waiting.back());
    waiting.pop_back();
    if (rank[here] != best) continue;  // one of the two has merged with something else
    const uint32_t right = next[here], after = next[right];
    ids[here] = made_[best];
    rank[right] = kNone;
    next[here] = after;
    rank[here] = kNone;
    if (after != kEnd) {
      before[after] = here;
      rank[here] = find(ids[here], ids[after]);
      offer(here);
    }
    if (const uint32_t left = before[here]; left != kEnd) {
      rank[left] = find(ids[left], ids[here]);
      offer(left);
    }
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i != kEnd; i = next[i]) ids[kept++] = ids[i];
  ids.resize(kept);
}

}  // namespace sememe
