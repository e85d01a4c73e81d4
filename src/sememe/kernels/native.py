"""The compiled core, where it was built: is it there, at which level, with how many threads.

``SEMEME_NATIVE`` set to ``0`` switches it off, or to a level (``plain``, ``avx2``, ``avx512``, ``neon``) chooses that
one. ``SEMEME_THREADS`` limits its threads; the default is one for each core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from sememe.errors import InputError

_off = 0
_most: ContextVar[int | None] = ContextVar("threads", default=None)


@cache
def _load() -> Any:
    wanted = os.environ.get("SEMEME_NATIVE", "")
    if wanted == "0":
        return None
    try:
        from sememe.kernels import _native  # type: ignore[attr-defined]
    except ImportError:
        return None
    if wanted and not _native.use(wanted):
        raise InputError(
            f"SEMEME_NATIVE={wanted!r} is no level of this machine",
            fix=f"use 0 or one of {', '.join(_native.levels())}",
        )
    return _native


def core() -> Any:
    """The extension module, or None where it was not built or is switched off."""
    return None if _off else _load()


def level() -> str:
    """The dispatch level in use; ``numpy`` without the native core."""
    native = core()
    return "numpy" if native is None else str(native.level())


def levels() -> list[str]:
    """Every level that can run here, ``numpy`` first."""
    native = core()
    return ["numpy", *([] if native is None else native.levels())]


@contextmanager
def using(name: str) -> Iterator[None]:
    """Run a block at another level, for tests and benchmarks. Not for several threads at a time."""
    global _off
    native = _load()
    before = None if native is None else native.level()
    if name == "numpy":
        _off += 1
    elif native is None or not native.use(name):
        raise InputError(f"there is no level {name!r} here", fix=f"use one of {', '.join(levels())}")
    try:
        yield
    finally:
        if name == "numpy":
            _off -= 1
        else:
            native.use(before)


@contextmanager
def limited(count: int | None) -> Iterator[None]:
    """Let loops use at most ``count`` threads in a block; None leaves that as it is."""
    if count is None:
        yield
        return
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"threads={count!r} is not a number of threads", fix="give 1 or more")
    token = _most.set(count)
    try:
        yield
    finally:
        _most.reset(token)


def threads() -> int:
    """How many threads a loop may use."""
    most = _most.get()
    if most is not None:
        return most
    limit = os.environ.get("SEMEME_THREADS", "")
    if limit:
        if not limit.isdigit() or int(limit) < 1:
            raise InputError(f"SEMEME_THREADS={limit!r} is not a number of threads", fix="give 1 or more")
        return int(limit)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
