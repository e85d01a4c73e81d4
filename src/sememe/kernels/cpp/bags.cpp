// The binding of bags of pieces: texts are cut into words, words are looked up or split into pieces, rows are summed.
#include "bags.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.h"
#include "pieces.h"
#include "words.h"

namespace nb = nanobind;
using namespace sememe;

namespace {

using Halves = nb::ndarray<const uint16_t, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int kSlack = 64;  // bytes after a text that may be read, and places after its pieces
constexpr int kTurn = 32;   // texts that a thread takes at a time
constexpr int64_t kLarge = 1 << 18;  // characters of a text whose working memory is not kept

// The characters of a Python string, which stay where they are while the string lives.
struct Text {
  const void* data;
  int64_t length;  // code points
  int kind;        // bytes of a code point; 0: ASCII
};

// A list of one's own with the same strings: another thread may change the one that was given meanwhile.
nb::list held(const nb::list& list) {
  nb::object own = nb::steal(PyList_GetSlice(list.ptr(), 0, PyList_GET_SIZE(list.ptr())));
  if (!own.is_valid()) throw nb::python_error();
  return nb::borrow<nb::list>(own);
}

std::vector<Text> texts_of(const nb::list& list) {
  std::vector<Text> texts;
  texts.reserve(nb::len(list));
  for (nb::handle item : list) {
    PyObject* text = item.ptr();
    if (!PyUnicode_Check(text)) throw nb::type_error("texts must be strings");
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) < 0) throw nb::python_error();
#endif
    texts.push_back({PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text),
                     PyUnicode_IS_ASCII(text) ? 0 : static_cast<int>(PyUnicode_KIND(text))});
  }
  return texts;
}

// UTF-8, with U+2581 as the space that it stands for and U+FFFD for half a surrogate pair.
template <class Unit>
uint8_t* to_utf8(const Unit* data, int64_t length, uint8_t* out) {
  for (int64_t i = 0; i < length; ++i) {
    uint32_t point = data[i];
    if (point == 0x2581) point = ' ';
    if (point >= 0xD800 && point < 0xE000) point = 0xFFFD;
    if (point < 0x80) {
      *out++ = static_cast<uint8_t>(point);
    } else if (point < 0x800) {
      *out++ = static_cast<uint8_t>(0xC0 | point >> 6);
      *out++ = static_cast<uint8_t>(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      *out++ = static_cast<uint8_t>(0xE0 | point >> 12);
      *out++ = static_cast<uint8_t>(0x80 | (point >> 6 & 0x3F));
      *out++ = static_cast<uint8_t>(0x80 | (point & 0x3F));
    } else {
      *out++ = static_cast<uint8_t>(0xF0 | point >> 18);
      *out++ = static_cast<uint8_t>(0x80 | (point >> 12 & 0x3F));
      *out++ = static_cast<uint8_t>(0x80 | (point >> 6 & 0x3F));
      *out++ = static_cast<uint8_t>(0x80 | (point & 0x3F));
    }
  }
  return out;
}

// A text as bytes, with slack behind.
class Bytes {
 public:
  void set(const Text& text) {
    const size_t most = text.length * (text.kind == 4 ? 4 : text.kind + 1) + kSlack;
    if (bytes_.size() < most) bytes_.resize(most + most / 4);
    uint8_t* end = bytes_.data();
    if (text.kind == 0)
      end = std::copy_n(static_cast<const uint8_t*>(text.data), text.length, end);
    else if (text.kind == 1)
      end = to_utf8(static_cast<const uint8_t*>(text.data), text.length, end);
    else if (text.kind == 2)
      end = to_utf8(static_cast<const uint16_t*>(text.data), text.length, end);
    else
      end = to_utf8(static_cast<const uint32_t*>(text.data), text.length, end);
    size_ = end - bytes_.data();
  }

  const uint8_t* data() const { return bytes_.data(); }
  int64_t size() const { return size_; }

 private:
  std::vector<uint8_t> bytes_;
  int64_t size_ = 0;
};

// A token that is found in the text as it stands, before anything else is done with it.
struct Marker {
  std::string text;
  uint16_t piece;
};

// What all threads read.
struct Model {
  PieceTable table;
  Pieces pieces;
  std::vector<Marker> markers;  // all begin with the same byte
  int64_t most = 0;             // pieces whose sum fits into 32 bits, whichever they are
  Words known{13};              // words that are one piece

  // Fills `known`: a token that stands for a word is not always what merging makes of that word.
  void learn(const std::vector<std::string>& tokens) {
    static const std::string kSpace = "\xE2\x96\x81";
    Pieces::Scratch scratch;
    uint8_t word[Words::kLongest + 1] = {};
    for (size_t i = 0; i < tokens.size(); ++i) {
      const size_t length = tokens[i].size() - kSpace.size();
      if (tokens[i].size() <= kSpace.size() || length > Words::kLongest || tokens[i].compare(0, 3, kSpace) != 0 ||
          tokens[i].find(kSpace, 3) != std::string::npos)
        continue;
      pieces.split({tokens[i].data() + kSpace.size(), length}, true, scratch);
      if (scratch.ids.size() != 1) continue;
      std::memcpy(word, tokens[i].data() + kSpace.size(), length);
      const Words::Key key = Words::key(word, length);
      Words::keep(known.set(key), key, scratch.ids.data(), 1);
    }
  }

  // The first marker at or after `at`; `at` becomes its place, or the end.
  const Marker* next_marker(const Bytes& text, int64_t& at) const {
    while (!markers.empty()) {
      const void* found = std::memchr(text.data() + at, markers[0].text[0], text.size() - at);
      if (!found) break;
      at = static_cast<const uint8_t*>(found) - text.data();
      for (const Marker& marker : markers)
        if (text.size() - at >= static_cast<int64_t>(marker.text.size()) &&
            std::memcmp(found, marker.text.data(), marker.text.size()) == 0)
          return &marker;
      ++at;
    }
    at = text.size();
    return nullptr;
  }
};

// What one thread at a time works in.
class Worker {
 public:
  Worker(const Model& model, int bits) : model_(model), words_(bits), total_(model.table.d) {}

  // The pieces of a text. They stay until the next one.
  const uint16_t* split(const Text& text, int64_t& count) {
    if (large_) {  // working memory for an ordinary text again
      bytes_ = {};
      spaces_ = {};
      pieces_ = {};
      scratch_ = {};
    }
    large_ = text.length > kLarge;
    bytes_.set(text);
    const size_t most = 2 * bytes_.size() + kSlack;  // a piece for every byte, and one for the space before each word
    if (pieces_.size() < most) pieces_.resize(most + most / 4);
    end_ = pieces_.data();
    for (int64_t start = 0, at = 0; start < bytes_.size(); start = at) {
      const Marker* marker = model_.next_marker(bytes_, at);
      if (at > start) cut(bytes_.data() + start, at - start);
      if (!marker) break;
      *end_++ = marker->piece;
      at += marker->text.size();
    }
    count = end_ - pieces_.data();
    return pieces_.data();
  }

  // Writes the row of a text.
  void encode(const Text& text, bool normalize, float* out) {
    int64_t count;
    const uint16_t* pieces = split(text, count);
    std::fill(total_.begin(), total_.end(), 0);
    SEMEME_PICK(add_pieces)(model_.table, pieces, count, model_.most, total_.data());
    SEMEME_PICK(finish_row)(total_.data(), model_.table.d, normalize ? 0 : std::max<int64_t>(1, count), out);
  }

 private:
  // Cuts a text without markers into words: before every space that follows something else. The tokenizer writes a
  // space in front of the whole, so that each word stands behind one.
  void cut(const uint8_t* text, int64_t size) {
    const int64_t blocks = (size + 63) / 64;
    if (static_cast<int64_t>(spaces_.size()) < blocks) spaces_.resize(blocks + blocks / 4);
    SEMEME_PICK(mark_spaces)(text, blocks, spaces_.data());
    spaces_[blocks - 1] &= ~uint64_t{0} >> (64 * blocks - size);
    int64_t start = 0;
    uint64_t carry = 1;
    for (int64_t block = 0; block < blocks; ++block) {
      const uint64_t here = spaces_[block];
      for (uint64_t ends = here & ~(here << 1 | carry); ends; ends &= ends - 1) {
        const int64_t end = 64 * block + __builtin_ctzll(ends);
        add(text + start, end - start);
        start = end + 1;
      }
      carry = here >> 63;
    }
    add(text + start, size - start);
  }

  void add(const uint8_t* word, int64_t length) {
    if (length > Words::kLongest) return add_new(word, length, true);
    const Words::Key key = Words::key(word, length);
    Words::Entry* set = words_.set(key);
    if (const Words::Entry* found = Words::find(set, key)) {
      std::memcpy(end_, found->pieces, sizeof found->pieces);
      end_ += found->count;
      return;
    }
    if (const Words::Entry* found = model_.known.peek(key)) {
      *end_++ = found->pieces[0];
      return Words::keep(set, key, found->pieces, 1);
    }
    // What goes before a comma may be known without it.
    const uint16_t* first = end_;
    const size_t head = model_.pieces.head({reinterpret_cast<const char*>(word), static_cast<size_t>(length)});
    if (static_cast<int64_t>(head) < length) {
      add(word, head);
      add_new(word + head, length - head, false);
    } else {
      add_new(word, length, true);
    }
    if (end_ - first <= Words::kMost) Words::keep(set, key, first, end_ - first);
  }

  void add_new(const uint8_t* word, int64_t length, bool begins) {
    model_.pieces.split({reinterpret_cast<const char*>(word), static_cast<size_t>(length)}, begins, scratch_);
    end_ = std::copy(scratch_.ids.begin(), scratch_.ids.end(), end_);
  }

  const Model& model_;
  Words words_;
  Bytes bytes_;
  std::vector<uint64_t> spaces_;  // a bit a byte
  std::vector<uint16_t> pieces_;
  uint16_t* end_ = nullptr;  // of the pieces so far
  Pieces::Scratch scratch_;
  std::vector<int64_t> total_;
  bool large_ = false;  // the last text was
};

class Bags {
 public:
  Bags(Halves table, int64_t d, const std::vector<std::string>& tokens, const std::vector<std::string>& merges,
       const std::vector<int>& markers, int bits, int workers)
      : table_(table),
        model_{{table.data(), static_cast<int64_t>(table.shape(1)), d}, {tokens, merges}, {}},
        bits_(bits),
        workers_(workers) {
    if (d < 1 || d > model_.table.stride || table.shape(0) < tokens.size() || bits < 1 || bits > 20 || workers < 1)
      throw std::invalid_argument("arguments of Bags do not fit together");
    for (int number : markers) {
      if (number < 0 || static_cast<size_t>(number) >= tokens.size() || tokens[number].empty() ||
          tokens[number][0] != tokens[markers[0]][0])
        throw std::invalid_argument("markers must be tokens that begin with the same byte");
      model_.markers.push_back({tokens[number], static_cast<uint16_t>(number)});
    }
    uint16_t most = 1;
    for (size_t row = 0; row < tokens.size(); ++row)
      for (int64_t j = 0; j < d; ++j)
        most = std::max<uint16_t>(most, table.data()[row * model_.table.stride + j] & 0x7FFF);
    if (most >= 0x5800) throw std::invalid_argument("the table holds a value of 128 or more, or none at all");
    const int64_t largest = most < 1024 ? most : int64_t{1024 | (most & 1023)} << ((most >> 10) - 1);
    model_.most = INT32_MAX / largest;
    idle_.reserve(workers);
    model_.learn(tokens);
  }

  // Rows (n, d).
  nb::ndarray<nb::numpy, float> encode(const nb::list& list, bool normalize, int threads) {
    const nb::list own = held(list);
    const std::vector<Text> texts = texts_of(own);
    const int64_t n = static_cast<int64_t>(texts.size()), d = model_.table.d;
    float* rows = new float[n * d + 1];
    nb::capsule keep(rows, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
      nb::gil_scoped_release release;
      int64_t characters = 0;
      for (const Text& text : texts) characters += text.length;
      // A thread is worth its start only for some hundred microseconds of work.
      const int parts = static_cast<int>(std::min<int64_t>({threads, workers_, 1 + characters / (64 << 10)}));
      std::atomic<int64_t> next{0};
      parallel(parts, parts, [&](int, int64_t, int64_t) {
        Borrowed worker(*this);
        for (int64_t first; (first = next.fetch_add(kTurn)) < n;)
          for (int64_t i = first; i < std::min(n, first + kTurn); ++i)
            worker->encode(texts[i], normalize, rows + i * d);
      });
    }
    const size_t shape[2] = {static_cast<size_t>(n), static_cast<size_t>(d)};
    return nb::ndarray<nb::numpy, float>(rows, 2, shape, keep);
  }

  // The pieces of each text.
  std::vector<std::vector<int>> tokenize(const nb::list& list) {
    const nb::list own = held(list);
    const std::vector<Text> texts = texts_of(own);
    std::vector<std::vector<int>> out(texts.size());
    nb::gil_scoped_release release;
    Borrowed worker(*this);
    for (size_t i = 0; i < texts.size(); ++i) {
      int64_t count;
      const uint16_t* pieces = worker->split(texts[i], count);
      out[i].assign(pieces, pieces + count);
    }
    return out;
  }

 private:
  // A worker for as long as this lives: an idle one, a new one while there are few, else the next that comes back.
  class Borrowed {
   public:
    explicit Borrowed(Bags& from) : from_(from) {
      std::unique_lock<std::mutex> lock(from_.mutex_);
      from_.returned_.wait(lock, [&] { return !from_.idle_.empty() || from_.made_ < from_.workers_; });
      if (from_.idle_.empty()) {
        worker_ = std::make_unique<Worker>(from_.model_, from_.bits_);
        ++from_.made_;
      } else {
        worker_ = std::move(from_.idle_.back());
        from_.idle_.pop_back();
      }
    }
    ~Borrowed() {
      {
        std::lock_guard<std::mutex> lock(from_.mutex_);
        from_.idle_.push_back(std::move(worker_));
      }
      from_.returned_.notify_one();
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    Worker* operator->() const { return worker_.get(); }

   private:
    Bags& from_;
    std::unique_ptr<Worker> worker_;
  };

  Halves table_;  // keeps the memory
  Model model_;
  int bits_, workers_, made_ = 0;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

}  // namespace

void bind_bags(nb::module_& m) {
  nb::class_<Bags>(m, "Bags", "Texts to rows by a table of pieces. See kernels/bags.py.")
      .def(nb::init<Halves, int64_t, const std::vector<std::string>&, const std::vector<std::string>&,
                    const std::vector<int>&, int, int>(),
           nb::arg("table"), nb::arg("d"), nb::arg("tokens"), nb::arg("merges"), nb::arg("markers"), nb::arg("bits"),
           nb::arg("workers"))
      .def("encode", &Bags::encode, nb::arg("texts"), nb::arg("normalize"), nb::arg("threads"),
           "Rows (n, d).")
      .def("tokenize", &Bags::tokenize, nb::arg("texts"), "The pieces of each text.");
}
