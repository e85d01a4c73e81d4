from __future__ import annotations

import threading
import time

import pytest

from sememe.encode.parallel import cores, spread, spread_torch


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(workers, count):
    def slow_first(n):
        time.sleep(0.002 if n % 7 == 0 else 0)
        return n * n

    assert list(spread(slow_first, iter(range(count)), workers)) == [(n, n * n) for n in range(count)]


def test_little_is_computed_ahead_and_nothing_after_the_end():
    done = []
    found = spread(lambda n: done.append(n), range(1000), 2)
    next(found)
    found.close()
    assert len(done) <= 8


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(spread(lambda n: 1 // (n - 20), range(40), 3))


def test_several_threads_work_and_one_item_stays_here():
    seen = set()
    barrier = threading.Barrier(2, timeout=10)

    def meet(n):
        barrier.wait()
        seen.add(threading.get_ident())

    list(spread(meet, range(4), 2))
    assert len(seen) == 2
    assert list(spread(lambda n: threading.get_ident(), [1], 8)) == [(1, threading.get_ident())]


def test_the_threads_of_torch_are_put_back():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        inside = [threads for _, threads in spread_torch(lambda n: torch.get_num_threads(), range(9))]
        assert inside == [1] * 9
        assert torch.get_num_threads() == 3
        abandoned = spread_torch(lambda n: n, range(9))
        next(abandoned)
        abandoned.close()
        assert torch.get_num_threads() == 3
        assert [t for _, t in spread_torch(lambda n: torch.get_num_threads(), range(9), on_cpu=False)] == [3] * 9
    finally:
        torch.set_num_threads(before)


def test_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cores() >= 1
