"""``sememe bench``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sememe.cli import shared

EXAMPLE = "sememe bench scan --threads 1 --rounds 5"
_PAGE = "docs/benchmarks.md"
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS",
    "LANCE_CPU_THREADS", "SEMEME_THREADS",
)  # fmt: skip


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("name", nargs="?", help="the bench; all are listed without it")
    verb.add_argument("--rounds", type=shared.positive, default=5, help="rounds that count (default 5)")
    verb.add_argument("--threads", type=shared.positive, default=1, help="of every contender (default 1)")
    verb.add_argument("--size", type=shared.positive, help="vectors, texts or words (default: the bench's own)")
    verb.add_argument("--data", help="folder of evaluation data (default: $SEMEME_DATA)")
    verb.add_argument(
        "--vectors", help="vectors to search instead of those of real text made here (for sparse a .npz of SciPy)"
    )
    verb.add_argument("--queries", help="query vectors that belong to --vectors")
    verb.add_argument(
        "--write", nargs="?", const=_PAGE, metavar="PAGE", help=f"put the tables into this page (default {_PAGE})"
    )


def run(given: argparse.Namespace) -> int:
    """Run one bench and show its tables."""
    if given.name is None:
        return _list(given.json)
    with _threads(given.threads), _chatter_aside():  # before any library starts its own
        from sememe import bench
        from sememe.bench.report import write

        data, vectors, queries = (Path(path) if path else None for path in (given.data, given.vectors, given.queries))
        settings = bench.Settings(given.rounds, given.threads, given.size, data, vectors, queries)
        result = bench.run(given.name, settings)
    if given.write:
        write(result, Path(given.write))
    if given.json:
        shared.print_json(result.as_json())
        return 0
    shared.say(*result.text())
    if given.write:
        shared.say(f"written: {given.write}")
    return 0


def _list(as_json: bool) -> int:
    from sememe.bench import BENCHES

    if as_json:
        shared.print_json(BENCHES)
    else:
        shared.say(*(f"{name:12} {summary}" for name, summary in BENCHES.items()))
    return 0


@contextmanager
def _chatter_aside() -> Iterator[None]:
    """Send what compiled libraries print to standard error, so that standard output is the answer alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit the threads of every library that is loaded from here on; what the environment said comes back after."""
    before = {name: os.environ.get(name) for name in (*_THREADS, "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE")}
    os.environ.update(dict.fromkeys(_THREADS, str(count)))
    os.environ.update(TOKENIZERS_PARALLELISM="true" if count > 1 else "false", HF_HUB_OFFLINE="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
