"""The semantic cache: exact nearest entries, calibration, expiry, eviction, threads, what a killed writer leaves."""

import threading

import numpy as np
import pytest
from faulty_fs import KillAt, Killed, NoSync

from sememe.contracts import unit_rows
from sememe.errors import CorruptIndex, FormatError, InputError, StorageError
from sememe.index import SemanticCache
from sememe.index.nearest import GrowingTable
from sememe.index.storage import Store
from sememe.testing import clustered_vectors


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def filled(n=40, d=16, **settings):
    rows = clustered_vectors(n, d, clusters=n)
    cache = SemanticCache(d, **settings)
    cache.put_many(rows, [f"answer {i}" for i in range(n)])
    return cache, rows


@pytest.mark.parametrize("d", [8, 64, 200])
@pytest.mark.parametrize("at_least", [-1.0, 0.3, 0.8])
def test_nearest_rows_are_exact_while_the_table_grows(d, at_least):
    rows = clustered_vectors(3000, d, clusters=30)
    rows[2000:2300] += 3 * rows[0]  # crowded, so that many bounds are close
    rows = unit_rows(rows)
    table = GrowingTable(d)
    for start in range(0, 3000, 500):
        table.append(rows[start : start + 500])
        here = rows[: start + 500]
        for query in (*rows[::701], *clustered_vectors(3, d, seed=4)):
            cosines = here.astype(np.float64) @ query
            allowed = np.arange(len(here)) % 3 > 0
            for mask, scores in ((None, cosines), (allowed, np.where(allowed, cosines, -2))):
                expected = [float(s) for s in np.sort(scores)[::-1][:5] if s >= at_least]
                found = table.view.nearest(query, at_least, 5, mask)
                if expected and min(abs(np.sort(scores)[::-1][:6] - at_least)) > 1e-5:
                    assert [s for _, s in found] == pytest.approx(expected, abs=2e-6)
                for row, score in found:
                    assert scores[row] == pytest.approx(score, abs=2e-6)
    np.testing.assert_allclose(table.rows(), rows, atol=2e-6)


def test_the_bound_spares_most_rows():
    """On text-like vectors few rows reach the exact comparison, and the answer is the same."""
    rows = clustered_vectors(4000, 256, clusters=200)
    table = GrowingTable(256)
    table.append(rows)
    view = table.view
    turned = view.axes @ rows[7]
    bound = view.head[:4000] @ turned[:64] + np.linalg.norm(turned[64:]) * view.rest[:4000]
    assert (bound >= 0.8).mean() < 0.2
    assert view.best(rows[7], 0.8)[0] == 7


def test_hits_misses_and_replacement():
    cache, rows = filled(threshold=0.95)
    hit = cache.get(rows[3])
    assert hit.answer == "answer 3" and hit.cosine == pytest.approx(1)
    near = unit_rows((rows[3] + 0.05 * rows[9])[None])[0]
    assert cache.get(near).answer == "answer 3" and 0.95 < cache.get(near).cosine < 1
    assert cache.get(7.5 * near).cosine == pytest.approx(cache.get(near).cosine)  # length does not matter
    far = np.zeros(16)
    far[-1] = 1
    assert cache.get(far) is None and cache.get(far, at_least=-1.0) is not None
    cache.put(rows[3], "another")
    assert cache.get(rows[3]).answer == "another" and len(cache) == 40
    assert cache.forget(rows[3]) and not cache.forget(rows[3])
    assert cache.get(rows[3]) is None
    assert cache.counts.hits == 7 and cache.counts.misses == 2


def test_entries_expire():
    clock = Clock()
    cache, rows = filled(threshold=0.99, ttl=60, clock=clock)
    cache.put(rows[0], "lasting", ttl=1000)
    clock.now += 59
    assert cache.get(rows[5]).age == 59
    clock.now += 1
    assert cache.get(rows[5]) is None and cache.get(rows[0]).answer == "lasting"
    near = unit_rows((rows[5] + 0.01 * rows[9])[None])[0]
    assert cache.get(near) is None
    assert len(cache) == 40 and cache.purge() == 39 and len(cache) == 1
    assert cache.counts.expired == 39


def test_the_least_recently_used_go_first():
    cache, rows = filled(10, max_entries=10, threshold=0.99)
    assert cache.get(rows[0]) is not None
    more = clustered_vectors(3, 16, seed=50)
    cache.put_many(more, ["x", "y", "z"])
    assert [cache.get(row) is not None for row in rows] == [True, False, False, False, *[True] * 6]
    assert len(cache) == 10 and cache.counts.evicted == 3


def test_bytes_are_limited():
    row = 4 * 17 + 32  # vector, key and times
    cache = SemanticCache(16, max_bytes=5 * (row + 10))
    rows = clustered_vectors(30, 16)
    for number, query in enumerate(rows):
        cache.put(query, "x" * 10)
        assert cache.nbytes == len(cache) * (row + 10) <= 5 * (row + 10)
        assert len(cache) == min(number + 1, 5)
    with pytest.raises(InputError, match="more than max_bytes"):
        cache.put(rows[0], "x" * 5000)
    assert len(cache) == 5


def test_gaps_are_closed_and_nothing_is_lost():
    rows = clustered_vectors(6000, 16, clusters=500, seed=2)
    cache = SemanticCache(16, threshold=0.9999, max_entries=500)
    cache.put_many(rows, [str(i) for i in range(6000)])
    assert cache._book.table.view.count == 500  # not 6,000: the rows of forgotten entries are gone
    assert [cache.get(row).answer for row in rows[5500:]] == [str(i) for i in range(5500, 6000)]
    assert all(cache.get(row, at_least=1 - 1e-7) is None for row in rows[:20])


def test_calibration_on_what_the_cache_meets():
    generator = np.random.default_rng(0)
    rows = clustered_vectors(300, 32, clusters=300)
    cache = SemanticCache(32)
    cache.put_many(rows, [str(i) for i in range(300)])
    which = generator.integers(300, size=2000)
    noise = generator.random(2000)[:, None] * 1.5
    asked = unit_rows((rows[which] + noise * clustered_vectors(2000, 32, seed=7)).astype(np.float32))
    truth = [str(i) for i in which]
    cosines, right = cache.observe(asked[:1000], truth[:1000])
    exact = asked[:1000] @ rows.T
    np.testing.assert_allclose(cosines, exact.max(axis=1), atol=2e-6)
    np.testing.assert_array_equal(right, exact.argmax(axis=1) == which[:1000])
    assert cache.counts.hits == cache.counts.misses == 0
    found = cache.calibrate(cosines, right, precision=0.9)
    assert cache.threshold == found.threshold and cache.calibration == found
    answers = [cache.get(row) for row in asked[1000:]]
    hits = [(hit.answer == want) for hit, want in zip(answers, truth[1000:]) if hit is not None]
    assert len(hits) > 300 and np.mean(hits) >= 0.9


def test_lookups_while_others_write():
    rows = clustered_vectors(400, 16, clusters=400)
    cache = SemanticCache(16, threshold=0.9999, max_entries=150)
    cache.put_many(rows[:50], [str(i) for i in range(50)])
    wrong, stop = [], threading.Event()

    def read(seed):
        generator = np.random.default_rng(seed)
        while not stop.is_set():
            row = int(generator.integers(400))
            hit = cache.get(rows[row])
            if hit is not None and hit.answer != str(row):
                wrong.append((row, hit))

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(12):
        for start in range(0, 400, 50):
            cache.put_many(rows[start : start + 50], [str(i) for i in range(start, start + 50)])
        cache.forget(rows[turn])
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong and len(cache) <= 150


def test_saved_and_opened(tmp_path):
    clock = Clock()
    cache, rows = filled(threshold=0.97, ttl=60, max_entries=40, identity="toy", clock=clock)
    cache.put(rows[1], "naïve \ud800 text", ttl=500)
    assert cache.get(rows[0]) is not None
    cache.calibrate(np.linspace(1, 0.5, 400), np.ones(400, dtype=bool))
    cache.save(tmp_path / "cache", fs=NoSync())
    again = SemanticCache.open(tmp_path / "cache", identity="toy", clock=clock)
    assert (len(again), again.nbytes) == (len(cache), cache.nbytes)
    assert again.threshold == cache.threshold and again.calibration == cache.calibration
    assert (again.ttl, again.max_entries, again.max_bytes) == (60, 40, None)
    for row in rows:
        assert again.get(row, at_least=0.9) == cache.get(row, at_least=0.9)
    clock.now += 61
    assert again.get(rows[1], at_least=0.9).answer == "naïve \ud800 text"
    assert again.get(rows[2], at_least=0.999) is None
    again.put(rows[3], "later")
    again.save(tmp_path / "cache", fs=NoSync())
    third = SemanticCache.open(tmp_path / "cache", clock=clock)
    assert len(third) == 2 and third.get(rows[3]).answer == "later"
    with pytest.raises(InputError, match="vectors of 'toy', not of 'other'"):
        SemanticCache.open(tmp_path / "cache", identity="other")


def test_the_order_of_use_survives(tmp_path):
    cache, rows = filled(5, max_entries=5, threshold=0.999)
    cache.get(rows[0])
    cache.save(tmp_path / "cache", fs=NoSync())
    again = SemanticCache.open(tmp_path / "cache")
    again.put(clustered_vectors(1, 16, seed=90)[0], "new")
    assert again.get(rows[0]) is not None and again.get(rows[1]) is None


def test_an_empty_cache_is_a_cache(tmp_path):
    cache = SemanticCache(4)
    assert cache.get([1, 0, 0, 0]) is None
    cache.save(tmp_path / "cache", fs=NoSync())
    assert len(SemanticCache.open(tmp_path / "cache")) == 0
    assert cache.observe(np.eye(4), list("abcd"))[0].tolist() == [-1] * 4


@pytest.mark.parametrize("half", [False, True])
def test_a_killed_writer_leaves_a_readable_cache(tmp_path, half):
    old, rows = filled(6, threshold=0.999)
    new, _ = filled(6, threshold=0.999)
    new.put(rows[0], "changed")
    seen = set()
    for point in range(200):
        path = tmp_path / f"k{point}"
        old.save(path, fs=NoSync())
        try:
            new.save(path, fs=KillAt(point, half))
        except Killed:
            seen.add(SemanticCache.open(path).get(rows[0]).answer)
            new.save(path, fs=NoSync())
            assert SemanticCache.open(path).get(rows[0]).answer == "changed"
        else:
            break
    assert point > 10 and seen == {"answer 0", "changed"}


def test_damage_and_strangers_are_refused(tmp_path):
    cache, _ = filled()
    cache.save(tmp_path / "cache", fs=NoSync())
    for file in (tmp_path / "cache").glob("*.seg"):
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 16
        file.write_bytes(data)
        with pytest.raises(CorruptIndex):
            SemanticCache.open(tmp_path / "cache")
        data[len(data) // 3] ^= 16
        file.write_bytes(data)
    assert len(SemanticCache.open(tmp_path / "cache")) == 40
    with Store.create(tmp_path / "other", {"kind": "something"}, NoSync()) as store, store.begin() as transaction:
        transaction.commit(lambda manifest: manifest)
    for call in (SemanticCache.open, cache.save):
        with pytest.raises(FormatError, match="no semantic cache"):
            call(tmp_path / "other")
    with pytest.raises(StorageError):
        SemanticCache.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dim": 0}, "dim"), ({"ttl": 0}, "ttl"), ({"max_entries": -1}, "max_entries"), ({"threshold": 2}, "cosine")],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        SemanticCache(**{"dim": 4, **settings})


def test_vectors_and_answers_that_cannot_be_used():
    cache = SemanticCache(4)
    with pytest.raises(InputError, match="zero and has no direction"):
        cache.get(np.zeros(4))
    with pytest.raises(InputError, match="5 columns, expected 4"):
        cache.get(np.ones(5))
    with pytest.raises(InputError, match="NaN or infinity"):
        cache.put([1, 2, np.nan, 0], "x")
    with pytest.raises(InputError, match="not a string"):
        cache.put(np.ones(4), {"a": 1})
    with pytest.raises(InputError, match="2 query vectors and 1 answers"):
        cache.put_many(np.ones((2, 4)), ["x"])
    with pytest.raises(InputError, match="ttl must be more"):
        cache.put(np.ones(4), "x", ttl=-1)
    assert len(cache) == 0
    cache.put([1e30, 0, 0, 1e30], "large")
    assert cache.get([1e-30, 0, 0, 1e-30]).answer == "large"
