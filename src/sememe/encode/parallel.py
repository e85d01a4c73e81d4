"""Batches side by side: a core each, instead of all cores on one batch.

A small transformer spends much of its time waiting at the end of each operation for the slowest of its threads, above
all where other work runs on the machine. Batches have nothing to wait for: each is computed by one thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_users = 0
_threads_before = 1


def cores() -> int:
    """Cores that this process may use: OMP_NUM_THREADS where that is set."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in order, computed by ``workers`` threads; a single item in this thread.

    No more than two items a worker are computed ahead of the one that is asked for.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) < 2 or workers < 2:
        for item in chain(first, items):
            yield item, function(item)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sememe")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in chain(first, items):
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def one_thread_each(torch: Any) -> Iterator[None]:
    """PyTorch with one thread an operation while batches run side by side; what was set before comes back after."""
    global _users, _threads_before
    with _lock:
        if _users == 0:
            _threads_before = torch.get_num_threads()
            torch.set_num_threads(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                torch.set_num_threads(_threads_before)


def spread_torch(
    function: Callable[[Item], Result], items: Iterable[Item], *, on_cpu: bool = True
) -> Iterator[tuple[Item, Result]]:
    """``spread`` for functions that compute with PyTorch: as many workers as PyTorch has threads."""
    import torch

    items = iter(items)
    first = list(islice(items, 2))
    with _lock:
        workers = _threads_before if _users else torch.get_num_threads()
    if len(first) < 2 or workers < 2 or not on_cpu:
        yield from spread(function, chain(first, items), 1)
        return
    with one_thread_each(torch):
        yield from spread(function, chain(first, items), workers)
