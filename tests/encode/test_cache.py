from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from sememe.contracts import Encoder
from sememe.encode.cache import Cached, VectorCache
from sememe.errors import InputError
from sememe.testing import HashingEncoder


class Counting(HashingEncoder):
    """Counts what it is asked to encode."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__(dim)
        self.asked: list[str] = []

    def encode(self, texts, *, kind="passage", batch_size=64, progress=False):
        self.asked += texts
        return super().encode(texts, kind=kind)


TEXTS = [f"passage number {n} about rooks and yeast" for n in range(50)]


def _files(root, name):
    return next(root.glob(f"*/{name}"))


def test_each_text_is_encoded_once_ever(tmp_path):
    encoder = Counting()
    cached = Cached(encoder, VectorCache(tmp_path))
    expected = HashingEncoder(16).encode([*TEXTS, TEXTS[3]])
    np.testing.assert_array_equal(cached.encode([*TEXTS, TEXTS[3]]), expected)
    assert encoder.asked == TEXTS
    again = Counting()
    reopened = Cached(again, VectorCache(tmp_path))
    np.testing.assert_array_equal(reopened.encode([TEXTS[3], *TEXTS[::-1]]), expected[[3, *range(49, -1, -1)]])
    assert again.asked == []
    assert isinstance(reopened, Encoder)


def test_the_rest_of_the_encoder_shines_through(tmp_path):
    cached = Cached(Counting(), VectorCache(tmp_path))
    assert (cached.name, cached.dim, cached.digest) == ("hashing", 16, "testing-hashing-16-0")
    assert len(cached.encode_tokens(["rook bishop"])[0]) == 2
    with pytest.raises(AttributeError):
        _ = cached.encode_sparse
    assert cached.encode([]).shape == (0, 16)


def test_other_digests_do_not_mix(tmp_path):
    cache = VectorCache(tmp_path)
    Cached(Counting(16), cache).encode(TEXTS)
    other = Counting(8)
    Cached(other, cache).encode(TEXTS)
    assert other.asked == TEXTS


def test_queries_are_kept_apart_only_where_the_encoder_tells_them_apart(tmp_path):
    same, different = Counting(), Counting()
    different.asymmetric, different.digest = True, "asymmetric"
    for encoder in (same, different):
        cached = Cached(encoder, VectorCache(tmp_path))
        cached.encode(["who"], kind="query")
        cached.encode(["who"], kind="passage")
    assert same.asked == ["who"]
    assert different.asked == ["who", "who"]


def test_lone_surrogates_and_empty_texts(tmp_path):
    cached = Cached(Counting(), VectorCache(tmp_path))
    assert cached.encode(["\ud800", "", "\x00"]).shape == (3, 16)
    with pytest.raises(InputError, match="not a string"):
        cached.encode([None])


@pytest.mark.parametrize(
    ("name", "drop"), [("keys", 1), ("keys", 24), ("keys", 30), ("rows", 1), ("rows", 64), ("rows", 70)]
)
def test_a_torn_tail_is_dropped_and_written_again(tmp_path, name, drop):
    Cached(Counting(), VectorCache(tmp_path)).encode(TEXTS)
    path = _files(tmp_path, name)
    os.truncate(path, path.stat().st_size - drop)
    lost = -(-drop // {"keys": 24, "rows": 64}[name])
    encoder = Counting()
    cached = Cached(encoder, VectorCache(tmp_path))
    np.testing.assert_array_equal(cached.encode(TEXTS), HashingEncoder(16).encode(TEXTS))
    assert encoder.asked == TEXTS[-lost:]
    whole = Counting()
    np.testing.assert_array_equal(Cached(whole, VectorCache(tmp_path)).encode(TEXTS), HashingEncoder(16).encode(TEXTS))
    assert whole.asked == []


@pytest.mark.parametrize("name", ["keys", "rows"])
def test_no_flipped_byte_gives_a_wrong_vector(tmp_path, name):
    Cached(Counting(), VectorCache(tmp_path)).encode(TEXTS)
    path = _files(tmp_path, name)
    original = path.read_bytes()
    expected = HashingEncoder(16).encode(TEXTS)
    for position in np.random.default_rng(0).integers(len(original), size=60):
        damaged = bytearray(original)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        encoder = Counting()
        np.testing.assert_array_equal(Cached(encoder, VectorCache(tmp_path)).encode(TEXTS), expected)
        assert len(encoder.asked) == 1
        # It was written again behind the damaged one, and is found from now on.
        after = Counting()
        Cached(after, VectorCache(tmp_path)).encode(TEXTS)
        assert after.asked == []
        for file, width in (("keys", 24), ("rows", 64)):
            os.truncate(_files(tmp_path, file), 50 * width)
        path.write_bytes(original)


KILLED = """
import sys, time
from sememe.encode.cache import Cached, VectorCache
from sememe.testing import HashingEncoder

class Slow(HashingEncoder):
    def encode(self, texts, **_):
        rows = super().encode(texts)
        time.sleep(0.05)
        print(len(texts), flush=True)
        return rows

Cached(Slow(16), VectorCache(sys.argv[1])).encode([f"text {n}" for n in range(100_000)], batch_size=256)
"""


def test_a_killed_process_keeps_what_it_had_encoded(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    counts = [int(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    texts = [f"text {n}" for n in range(4000)]
    encoder = Counting()
    vectors = Cached(encoder, VectorCache(tmp_path)).encode(texts)
    np.testing.assert_array_equal(vectors, HashingEncoder(16).encode(texts))
    # The portion in hand when the signal came may be lost; those before it are not.
    assert len(encoder.asked) <= len(texts) - sum(counts[:2])
    assert encoder.asked == texts[len(texts) - len(encoder.asked) :]


def test_an_encoder_that_fails_loses_nothing_that_was_done(tmp_path):
    class Failing(Counting):
        def encode(self, texts, **_):
            if len(self.asked) >= 256:
                raise KeyboardInterrupt
            return super().encode(texts)

    texts = [f"text {n}" for n in range(600)]
    failing = Failing()
    with pytest.raises(KeyboardInterrupt):
        Cached(failing, VectorCache(tmp_path)).encode(texts)
    done = len(failing.asked)
    assert 256 <= done < 600
    encoder = Counting()
    Cached(encoder, VectorCache(tmp_path)).encode(texts)
    assert encoder.asked == texts[done:]


def _write(root, start):
    Cached(HashingEncoder(16), VectorCache(root)).encode(
        [f"text {n}" for n in range(start, start + 600)], batch_size=256
    )


def test_processes_that_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path, start)) for start in (0, 300, 600)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    encoder = Counting()
    texts = [f"text {n}" for n in range(1200)]
    np.testing.assert_array_equal(
        Cached(encoder, VectorCache(tmp_path)).encode(texts), HashingEncoder(16).encode(texts)
    )
    assert encoder.asked == []


def test_an_open_cache_sees_what_another_wrote(tmp_path):
    first, second = Counting(), Counting()
    reader, writer = Cached(first, VectorCache(tmp_path)), Cached(second, VectorCache(tmp_path))
    reader.encode(TEXTS[:10])
    writer.encode(TEXTS)
    reader.encode(TEXTS)
    assert first.asked == TEXTS[:10]
    assert second.asked == TEXTS[10:]


def test_size_and_clear(tmp_path):
    cache = VectorCache(tmp_path / "vectors")
    assert cache.size() == 0
    cached = Cached(Counting(), cache)
    cached.encode(TEXTS)
    assert 50 * (64 + 24) <= cache.size() <= 50 * (64 + 24) + 1000
    cache.clear()
    assert cache.size() == 0
    cached.encode(TEXTS)
    assert len(cached.encoder.asked) == 100


def test_the_root_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMEME_CACHE", str(tmp_path))
    assert VectorCache().root == tmp_path / "vectors"
    monkeypatch.delenv("SEMEME_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert VectorCache().root == tmp_path / "xdg" / "sememe" / "vectors"


def test_a_root_that_cannot_be_written_costs_a_warning_and_no_vector(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cached = Cached(Counting(), VectorCache(blocked))
    with pytest.warns(RuntimeWarning, match="cannot be cached") as seen:
        np.testing.assert_array_equal(cached.encode(TEXTS), HashingEncoder(16).encode(TEXTS))
        cached.encode(TEXTS)
    assert len(seen) == 1


def test_vectors_that_are_not_numbers_are_not_kept(tmp_path):
    cache, encoder = VectorCache(tmp_path), Counting()
    with pytest.raises(InputError, match="NaN"):
        cache.put(encoder, ["a"], np.full((1, 16), np.nan, np.float32))
    with pytest.raises(InputError, match="1 texts and 2 vectors"):
        cache.put(encoder, ["a"], np.zeros((2, 16), np.float32))
    assert not cache.get(encoder, ["a"])[0].any()
