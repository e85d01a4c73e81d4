"""Measuring one recipe: fit it on passages, rank with its codes, time it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.planner.view import DEPTH, Asked, View, best_first, by_record, query_blocks
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.codec.chain import Chain
    from sememe.contracts import Codes, Vectors

FIT_ROWS = 20_000
OVERSAMPLE = 4
SHORTLIST = 10 * OVERSAMPLE  # passages that a rescorer sees when ten results are asked for


@dataclass
class Coded:
    """A recipe fitted to the passages of a view: its chain, its codes, and the finer tier where there is one."""

    recipe: Recipe
    chain: Chain
    codes: Codes
    seconds: float
    finer: Any = None
    finer_codes: Codes | None = None
    graph: Any = None  # a ``Walk`` where the recipe searches through one

    @property
    def code_bytes(self) -> int:
        """Bytes a passage takes, the rescoring tier included."""
        return int(self.codes.shape[1]) + (int(self.finer_codes.shape[1]) if self.finer_codes is not None else 0)

    @property
    def side_bytes(self) -> int:
        """Bytes of learned state stored once."""
        return int(self.chain.side_bytes_) + (int(self.finer.side_bytes_) if self.finer is not None else 0)


def fit_sample(passages: Vectors, *, seed: int) -> Vectors:
    """At most ``FIT_ROWS`` rows of ``passages`` (n, d): what chains are fitted on. Never queries."""
    if len(passages) <= FIT_ROWS:
        return passages
    rows = np.random.default_rng([seed, 4]).choice(len(passages), FIT_ROWS, replace=False)
    return np.ascontiguousarray(passages[np.sort(rows)])


def code(recipe: Recipe, view: View, *, seed: int) -> Coded:
    """Fit the recipe on the passages of ``view`` and encode them."""
    from sememe.codec.chain import Chain

    started = time.perf_counter()
    sample = fit_sample(view.passages, seed=seed)
    chain = Chain.from_recipe(recipe).fit(sample)
    codes = chain.encode(view.passages)
    finer = finer_codes = None
    for stage in recipe.rerankers:
        if stage.name == "rescore":
            from sememe import catalog

            finer = catalog.find(str(stage.args[0]), kind="quantizer").make().fit(chain.project(sample))
            finer_codes = finer.encode(chain.project(view.passages))
    graph = Walk(recipe, chain, view) if recipe.index.name == "hnsw" else None
    return Coded(recipe, chain, codes, time.perf_counter() - started, finer, finer_codes, graph)


class Walk:
    """The graph of a recipe over the passages of a view, as the index would build it."""

    def __init__(self, recipe: Recipe, chain: Chain, view: View) -> None:
        self.kind = recipe.index.make()
        n = len(view.passages)
        blocks = (chain.project(view.passages[at : at + 4096]) for at in range(0, n, 4096))
        first = chain.project(view.passages[:1])
        self.bytes = self.kind.build(blocks, first.shape[1])
        self.index = self.kind.open(self.bytes, n, first.shape[1])

    def candidates(self, projected: Vectors) -> NDArray[np.int64]:
        """Passages the graph finds for each query: int64 (q, ef), -1 where it found fewer."""
        found = self.index.search(projected, self.kind.ef, threads=1)
        keys = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(keys), keys.shape[1])))
        return np.where(np.arange(keys.shape[1]) < counts[:, None], keys, -1)


def rank(coded: Coded, view: View, asked: Asked) -> NDArray[np.int64]:
    """Records of the view, best first: int64 (q, min(DEPTH, r))."""
    ranked = []
    for block in query_blocks(len(asked), len(view.passages)):
        scores = coded.chain.scores(asked.vectors[block], coded.codes)
        if coded.graph is not None:
            scores = _walked(coded, asked.vectors[block], scores)
        if coded.finer is not None:
            scores = _rescored(coded, asked.vectors[block], scores)
        ranked.append(best_first(_masked(by_record(scores, view), asked.left_out[block]), DEPTH))
    return np.concatenate(ranked) if ranked else np.zeros((0, 0), dtype=np.int64)


def _walked(coded: Coded, queries: Vectors, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of what the graph finds; all else cannot be returned."""
    found = coded.graph.candidates(coded.chain.project(queries))
    out = np.full_like(scores, -np.inf)
    row, place = np.nonzero(found >= 0)
    columns = found[row, place]
    out[row, columns] = scores[row, columns]
    return out


def _rescored(coded: Coded, queries: Vectors, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coarse scores with those of the shortlist replaced by finer ones, all above the rest."""
    short = best_first(coarse, SHORTLIST)
    out = coarse - (coarse.max(initial=0.0) + 1e3)
    fine = coded.finer.scores(coded.chain.project(queries), coded.finer_codes)
    np.put_along_axis(out, short, np.take_along_axis(fine, short, axis=1), axis=1)
    return out


def _masked(scores: NDArray[np.float32], left_out: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = np.flatnonzero(left_out >= 0)
    if len(rows):
        scores = scores.copy()
        scores[rows, left_out[rows]] = -np.inf
    return scores


def distortion(coded: Coded, view: View, asked: Asked) -> float:
    """Share of the variance of the exact scores that the codes lose: ``1 - r**2`` over queries and passages.

    Scores of the finer tier where there is one, since that is what orders the answers.
    """
    queries = asked.vectors[:64]
    rows = np.linspace(0, len(view.passages) - 1, min(len(view.passages), 2_000)).astype(np.int64)
    exact = (queries @ view.passages[rows].T).astype(np.float64)
    if coded.finer is not None and coded.finer_codes is not None:
        got = coded.finer.scores(coded.chain.project(queries), coded.finer_codes[rows])
    else:
        got = coded.chain.scores(queries, coded.codes[rows])
    got = got.astype(np.float64)
    exact, got = exact - exact.mean(axis=1, keepdims=True), got - got.mean(axis=1, keepdims=True)
    norm = float((exact**2).sum() * (got**2).sum())
    return max(0.0, 1.0 - float((exact * got).sum()) ** 2 / norm) if norm > 0 else 0.0


def latency(coded: Coded, asked: Asked, *, encode_ms: float, scale: float, repeats: int = 24) -> dict[str, float]:
    """Milliseconds of one query at a time: encoding, scanning all codes, rescoring. p50 and p95 of ``repeats``.

    ``scale`` multiplies the scan where the codes are those of a sample.
    """
    from sememe.index.scan import topk

    times = []
    for row in range(min(repeats, len(asked))):
        query = asked.vectors[row : row + 1]
        started = time.perf_counter()
        if coded.graph is not None:
            projected = coded.chain.project(query)
            rows = coded.graph.candidates(projected)
            coded.chain.quantizer.scores(projected, coded.codes[np.sort(rows[0][rows[0] >= 0])])
        else:
            _, rows = topk(coded.chain, query, coded.codes, SHORTLIST if coded.finer is not None else 10)
        scanned = time.perf_counter()
        if coded.finer is not None:
            shortlist = np.sort(rows[0])
            coded.finer.scores(coded.chain.project(query), coded.finer_codes[shortlist])  # type: ignore[index]
        # A scan grows with the collection; a walk hardly does.
        growth = scale if coded.graph is None else 1.0
        times.append((scanned - started) * growth + (time.perf_counter() - scanned))
    spent = np.array(times or [0.0]) * 1e3 + encode_ms
    return {"p50": float(np.percentile(spent, 50)), "p95": float(np.percentile(spent, 95))}
