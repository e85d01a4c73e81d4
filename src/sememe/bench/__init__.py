"""Benchmarks that a user can run: Sememe beside its peers, in one run, turn about, with the same threads.

One file a bench; each has ``run(settings) -> Result``. ``harness`` takes the time, ``machine`` measures what the
machine can do, ``peers`` knows how other packages are installed, ``texts`` finds real text.
"""

from __future__ import annotations

from sememe.bench.harness import Settings
from sememe.bench.report import Result

BENCHES = {
    "codec": "recall at equal bytes, against faiss and turbovec",
    "scan": "flat search, against faiss, turbovec, numkong, usearch, sqlite-vec and lancedb",
    "filter": "search under filters of many selectivities, against faiss, sqlite-vec and lancedb",
    "graph": "graph search at equal recall, against faiss, hnswlib and usearch",
    "sparse": "BM25 and learned sparse search, against bm25s, tantivy and pyseismic-lsr",
    "multivector": "scores of token vectors, against PyTorch and NumPy",
    "static": "static encoding from raw text, against wordllama and model2vec",
    "keyed": "keyed vectors, against gensim",
}
__all__ = ["BENCHES", "Result", "Settings", "run"]


def run(name: str, settings: Settings) -> Result:
    """Run one bench.

    Parameters
    ----------
    name : str
        A key of ``BENCHES``.
    settings : Settings

    Raises
    ------
    UsageError
        Where there is no bench of that name.
    """
    import importlib
    import time

    from sememe.bench import machine, peers, texts
    from sememe.errors import UsageError

    if name not in BENCHES:
        raise UsageError(f"there is no bench {name!r}", fix=f"use one of {', '.join(BENCHES)}")
    module = importlib.import_module(f"sememe.bench.{name}")
    with peers.gathered() as notes, texts.folder(settings.data):
        started = time.perf_counter()
        limits = machine.limits(settings.threads)
        tables = module.tables(settings, limits)
        taken = time.perf_counter() - started
    return Result(name, settings, machine.describe(), limits, tables, list(notes), taken)
