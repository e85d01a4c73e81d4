"""The compiled parser of text vectors against the Python one, and against what the numbers are."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sememe.kernels import native, text_vectors

needs_core = pytest.mark.skipif(native.core() is None, reason="the native core was not built here")


def parsed(data: bytes, d: int, n: int | None = None):
    return text_vectors.parse(np.frombuffer(data, dtype=np.uint8), 0, d, n)


def same(data: bytes, d: int) -> None:
    fast = parsed(data, d)
    with native.using("numpy"):
        slow = parsed(data, d)
    assert fast[2] == slow[2]
    if fast[2] is None:
        np.testing.assert_array_equal(fast[0], slow[0])
        np.testing.assert_array_equal(fast[1], slow[1])


numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-9, max_value=9).map(str),
    st.sampled_from(
        ["0", "-0", "1.", ".5", "+3", "1e5", "1E-3", "-2.5e+2", "1e-400", "12345678901234567890.5", "7e0003"]
    ),
)


@needs_core
@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.lists(numbers, min_size=3, max_size=3)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_words_and_numbers(rows):
    words = [word.encode("utf-8", "surrogatepass").translate(None, b"\n\r\t ") or b"x" for word, _ in rows]
    text = b"".join(word + b" " + " ".join(line).encode() + b"\n" for word, (_, line) in zip(words, rows))
    same(text, 3)
    if parsed(text, 3)[2] is None:
        want = np.array([[np.float32(float(value)) for value in line] for _, line in rows]).reshape(-1, 3)
        np.testing.assert_array_equal(parsed(text, 3)[0], want.astype(np.float32))


@needs_core
@given(
    st.lists(
        st.sampled_from([b"a", b"1", b" ", b"\t", b"\r", b"\n", b".", b"-", b"e", b"2.5", b"nan", b"\x0b"]), max_size=40
    )
)
@example([b"a", b" ", b"1", b" ", b"2.5", b" ", b"\r", b"\n"])
@example([b" ", b"a", b" ", b"1", b" ", b"1"])
@settings(max_examples=400, deadline=None)
def test_any_bytes(pieces):
    same(b"".join(pieces), 2)


@needs_core
def test_keys_with_blanks_and_a_wrong_guess_of_the_lines():
    text = b"New York 1 2\n. . . 3 4 \n\nplain\t5\t6\r\nlast 7 8"
    for guess in (None, 0, 1, 4, 9):
        vectors, spans, bad = parsed(text, 2, guess)
        assert bad is None
        assert [text[a : a + b] for a, b in spans.tolist()] == [b"New York", b". . .", b"plain", b"last"]
        np.testing.assert_array_equal(vectors, np.arange(1, 9, dtype=np.float32).reshape(4, 2))


@needs_core
def test_large_files_are_cut_at_lines(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60_000, 4)).astype(np.float32)
    text = b"".join(f"w{i} {' '.join(map(repr, row))}\n".encode() for i, row in enumerate(rows.astype(float).tolist()))
    assert len(text) > 4 << 20
    for threads in ("1", "3"):
        monkeypatch.setenv("SEMEME_THREADS", threads)
        vectors, spans, bad = parsed(text, 4)
        assert bad is None and len(spans) == len(rows)
        np.testing.assert_array_equal(vectors, rows)
    broken = text[: len(text) // 2] + b"\nhere is no vector\n" + text[len(text) // 2 :]
    assert parsed(broken, 4)[2] is not None
