"""MaxSim over MiniLM's token vectors, over their codes, and over a quarter of them, against NumPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import codec
from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, interleaved
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.bench.race import K, recall
from sememe.contracts import Codes, Ragged
from sememe.errors import MissingDependency
from sememe.index.pooling import pool
from sememe.kernels import native
from sememe.kernels.maxsim import best_sums, maxsim

SIZE = 300  # passages
CELLS = 256  # centres of the residual codes
_QUERIES = 16


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """One table; nothing where MiniLM is not installed."""
    from sememe.encode import make

    try:
        encoder: Any = make("minilm")
        passages = encoder.encode_tokens(texts.passages()[: settings.size or SIZE])
        queries = encoder.encode_tokens(texts.sentences(_QUERIES), kind="query")
    except MissingDependency as missing:
        note(f"nothing is measured: {missing}")
        return []
    # Unit rows, as every index of token vectors keeps them.
    passages, queries = pool(passages, 0, "ward"), pool(queries, 0, "ward")
    return [_measure(passages, pool(passages, 0.25, "ward"), queries, settings, limits)]


def _measure(whole: Ragged, quarter: Ragged, Q: Ragged, settings: Settings, limits: Limits) -> Table:
    n, k = len(whole.offsets) - 1, min(K, len(whole.offsets) - 1)
    calls: dict[str, Callable[[], Any]] = {
        "sememe, all vectors": lambda: maxsim(Q.values, Q.offsets, whole.values, whole.offsets),
        "sememe, a quarter (ward)": lambda: maxsim(Q.values, Q.offsets, quarter.values, quarter.offsets),
        "NumPy, passage by passage": lambda: _plain(Q, whole),
    }
    torch = peer("torch")
    if torch is not None:
        torch.set_num_threads(settings.threads)
        calls["PyTorch, padded"] = _padded(torch, Q, whole)
    sizes = {"sememe, a quarter (ward)": quarter.values.nbytes}
    for name, quantizer in (("residual:2", codec.Residual(2, CELLS)), ("int8", codec.Int8())):
        quantizer.fit(whole.values)
        codes = quantizer.encode(whole.values)
        sizes[f"sememe, {name}"] = codes.nbytes
        calls[f"sememe, {name}"] = partial(_coded, quantizer, codes, Q, whole.offsets)
    truth = _best(calls["NumPy, passage by passage"](), k)
    found = {name: recall(_best(call(), k), truth) for name, call in calls.items()}
    times = interleaved(calls, settings.rounds)
    seconds = {name: spent.seconds(settings.threads) / (len(Q.offsets) - 1) for name, spent in times.items()}
    rival = min(s for name, s in seconds.items() if not name.startswith("sememe"))
    columns = [Column("what"), Column("B/passage", ",.0f"), Column(f"recall@{k}", ".3f"), Column("ms a query", ".2f")]
    columns += [Column("of multiply-adds", ".0%"), Column("x best peer", ".2f")]
    about = f"{n:,} passages with {len(whole.values) / n:.0f} vectors of {whole.values.shape[1]}"
    table = Table(f"{about}, queries with {len(Q.values) / (len(Q.offsets) - 1):.0f}, all scored", columns)
    for name, taken in seconds.items():
        size = sizes.get(name, whole.values.nbytes)
        vectors = quarter.values if "quarter" in name else whole.values
        work = vectors.size * len(Q.values) / (len(Q.offsets) - 1) / taken / limits.multiply_adds
        ours = name.startswith("sememe")
        table.rows.append([name, size / n, found[name], taken * 1e3, work, rival / taken if ours else None])
    return table


def _coded(quantizer: Any, codes: Codes, Q: Ragged, offsets: NDArray[np.int64]) -> Any:
    """What an index does, codes and all; the queries are prepared anew each time."""
    prepared = quantizer.native_maxsim(Q.values) if native.core() is not None else None
    if prepared is None:
        return best_sums(quantizer.scores(Q.values, codes), Q.offsets, offsets)
    return prepared.scores(codes, Q.offsets, offsets[:-1], offsets[1:])


def _best(scores: Any, k: int) -> Any:
    return np.argpartition(-np.asarray(scores), k - 1, axis=1)[:, :k]


def _plain(Q: Ragged, whole: Ragged) -> Any:
    out = np.empty((len(Q.offsets) - 1, len(whole.offsets) - 1), dtype=np.float32)
    for column, (start, stop) in enumerate(zip(whole.offsets[:-1], whole.offsets[1:])):
        best = (Q.values @ whole.values[start:stop].T).max(axis=1)
        out[:, column] = np.add.reduceat(best, Q.offsets[:-1])
    return out


def _padded(torch: Any, Q: Ragged, whole: Ragged) -> Callable[[], Any]:
    """The usual way: passages padded to the longest, products masked."""
    counts = np.diff(whole.offsets)
    table = np.zeros((len(counts), counts.max(), whole.values.shape[1]), dtype=np.float32)
    inside = np.arange(counts.max()) < counts[:, None]
    table[inside] = whole.values
    documents, mask, queries = torch.from_numpy(table), torch.from_numpy(inside), torch.from_numpy(Q.values)
    parts = np.diff(Q.offsets).tolist()

    def score() -> Any:
        out = []
        for query in queries.split(parts):
            products = torch.einsum("md,ntd->nmt", query, documents).masked_fill(~mask[:, None], -torch.inf)
            out.append(products.amax(dim=2).sum(dim=1))
        return torch.stack(out).numpy()

    return score
