"""Measuring one recipe: fit it on passages, rank with its codes, time it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.index.pipeline import kind_of
from sememe.index.structure import growth
from sememe.planner.lexical import fuse, records_of
from sememe.planner.multi import CodedTokens
from sememe.planner.view import DEPTH, Asked, View, best_first, by_record, fit_sample, query_blocks
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.codec.chain import Chain
    from sememe.contracts import Codes, Vectors
    from sememe.index.rerank import Hybrid

RESULTS = 10  # that are asked for


@dataclass
class Coded:
    """A recipe fitted to the passages of a view: its chain, its codes, and the finer tier where there is one."""

    recipe: Recipe
    chain: Chain
    codes: Codes
    seconds: float
    finer: Any = None
    rescore: Any = None
    finer_codes: Codes | None = None
    graph: Sought | None = None  # where the recipe does not scan all codes
    hybrid: Hybrid | None = None  # where the ranking is fused with that of BM25

    @property
    def wanted(self) -> int:
        """Passages that the dense side must give for ten results: more of them where they are fused."""
        return RESULTS if self.hybrid is None else max(RESULTS, self.hybrid.depth)

    @property
    def shortlist(self) -> int:
        """Passages that a rescorer sees."""
        return int(self.rescore.shortlist(self.wanted))

    @property
    def code_bytes(self) -> int:
        """Bytes a passage takes, the rescoring tier included."""
        return int(self.codes.shape[1]) + (int(self.finer_codes.shape[1]) if self.finer_codes is not None else 0)

    @property
    def side_bytes(self) -> int:
        """Bytes of learned state stored once."""
        return int(self.chain.side_bytes_) + (int(self.finer.side_bytes_) if self.finer is not None else 0)


@dataclass
class Listed:
    """A recipe of inverted lists: what they find, and how fast, stands with the queries (``Asked.words``)."""

    recipe: Recipe
    code_bytes: int = 0
    seconds: float = 0.0


@dataclass
class Fitted:
    """The chain of a recipe, fitted on passages, and how long that took."""

    chain: Chain
    seconds: float


def fit(recipe: Recipe, view: View, *, seed: int) -> Fitted:
    """Fit the recipe on (a sample of) the passages of ``view``."""
    from sememe.codec.chain import Chain

    started = time.perf_counter()
    chain = Chain.from_recipe(recipe).fit(fit_sample(view.passages, seed=seed))
    return Fitted(chain, time.perf_counter() - started)


def code(recipe: Recipe, view: View, *, seed: int, fitted: Fitted | None = None) -> Coded | Listed | CodedTokens:
    """Fit the recipe on the passages of ``view``, unless it is ``fitted``, and encode them.

    A recipe of inverted lists has nothing to fit.
    """
    kind = kind_of(recipe)
    if kind.sparse:
        return Listed(recipe)
    if getattr(kind, "multi", False):
        return CodedTokens.of(recipe, view, seed=seed)
    fitted = fitted or fit(recipe, view, seed=seed)
    started, chain = time.perf_counter(), fitted.chain
    codes = chain.encode(view.passages)
    finer = finer_codes = hybrid = rescore = None
    for stage in recipe.rerankers:
        if stage.name == "hybrid":
            hybrid = stage.make()
        if stage.name == "rescore":
            rescore, sample = stage.make(), fit_sample(view.passages, seed=seed)
            finer = rescore.make().fit(chain.project(sample))
            finer_codes = finer.encode(chain.project(view.passages))
    graph = Sought(recipe, chain, codes, view) if hasattr(kind, "reached") else None
    if graph is not None and not graph.is_used:
        graph = None
    seconds = fitted.seconds + time.perf_counter() - started
    return Coded(recipe, chain, codes, seconds, finer, rescore, finer_codes, graph, hybrid)


class Sought:
    """The structure of a recipe over the passages of a view, as the index would build it."""

    def __init__(self, recipe: Recipe, chain: Chain, codes: Codes, view: View) -> None:
        self.kind, self._chain, self._codes = kind_of(recipe), chain, codes
        n = len(view.passages)
        blocks = (chain.project(view.passages[at : at + 4096]) for at in range(0, n, 4096))
        made = self.kind.build(blocks, chain.dim_out_)
        self._opened = None if made is None else self.kind.open(made, n, chain.dim_out_)

    @property
    def is_used(self) -> bool:
        """Whether the index would search through it; few passages are scanned."""
        walks = getattr(self.kind, "walks", None)
        used = walks is None or bool(walks(len(self._codes), self._codes.shape[1], self._chain.dim_out_))
        return used and self._opened is not None

    def reached(self, projected: Vectors, wanted: int) -> NDArray[np.int64]:
        """Passages whose codes are read for each query, after the transforms: int64 (q, c), -1 where it found fewer."""
        quantizer = self._chain.quantizer
        found: NDArray[np.int64] = self.kind.reached(self._opened, quantizer, self._codes, projected, wanted)
        return found


def rank(coded: Coded | Listed | CodedTokens, view: View, asked: Asked) -> NDArray[np.int64]:
    """Records of the view, best first: int64 (q, min(DEPTH, r)), -1 where no more were found."""
    if isinstance(coded, CodedTokens):
        return coded.rank(view, asked)
    if isinstance(coded, Listed):
        assert asked.words is not None
        return records_of(asked.words.rows, view)
    ranked = []
    for block in query_blocks(len(asked), len(view.passages)):
        scores = coded.chain.scores(asked.vectors[block], coded.codes)
        if coded.graph is not None:
            scores = _walked(coded, asked.vectors[block], scores)
        if coded.finer is not None:
            scores = _rescored(coded, asked.vectors[block], scores)
        scores = _masked(scores, view, asked.left_out[block])
        if coded.hybrid is not None:
            assert asked.words is not None
            words = asked.words.take(np.arange(len(asked))[block])
            ranked.append(records_of(fuse(scores, words, coded.hybrid), view))
        else:
            ranked.append(best_first(by_record(scores, view), DEPTH))
    return np.concatenate(ranked) if ranked else np.zeros((0, 0), dtype=np.int64)


def _walked(coded: Coded, queries: Vectors, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of what the graph finds; all else cannot be returned."""
    assert coded.graph is not None
    found = coded.graph.reached(coded.chain.project(queries), coded.wanted if coded.finer is None else coded.shortlist)
    out = np.full_like(scores, -np.inf)
    row, place = np.nonzero(found >= 0)
    columns = found[row, place]
    out[row, columns] = scores[row, columns]
    return out


def _rescored(coded: Coded, queries: Vectors, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coarse scores with those of the shortlist replaced by finer ones, all above the rest."""
    short = best_first(coarse, coded.shortlist)
    out = coarse - (coarse.max(initial=0.0) + 1e3)
    fine = coded.finer.scores(coded.chain.project(queries), coded.finer_codes)
    np.put_along_axis(out, short, np.take_along_axis(fine, short, axis=1), axis=1)
    return out


def _masked(scores: NDArray[np.float32], view: View, left_out: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores of passages (q, n) without those of the record that each query leaves out."""
    rows = np.flatnonzero(left_out >= 0)
    if len(rows):
        scores = scores.copy()
        stops = np.append(view.starts[1:], len(view.passages))
        for row in rows.tolist():
            scores[row, view.starts[left_out[row]] : stops[left_out[row]]] = -np.inf
    return scores


def distortion(coded: Coded | Listed | CodedTokens, view: View, asked: Asked) -> float:
    """Share of the variance of the exact scores that the codes lose: ``1 - r**2`` over queries and passages.

    Scores of the finer tier where there is one, since that is what orders the answers. Inverted lists lose nothing.
    """
    if isinstance(coded, Listed):
        return 0.0
    if isinstance(coded, CodedTokens):
        return coded.distortion(view, asked)
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


def latency(
    coded: Coded | Listed | CodedTokens, asked: Asked, *, encode_ms: float, scale: float, repeats: int = 24
) -> dict[str, float]:
    """Milliseconds of one query at a time: encoding, scanning all codes, rescoring, BM25 and fusion where there is one.

    p50 and p95 of ``repeats``. ``scale`` multiplies scans and inverted lists where they are those of a sample.
    """
    if isinstance(coded, Listed):
        spent = [] if asked.words is None else (encode_ms + asked.words.milliseconds * scale).tolist()
    else:
        search = coded.milliseconds if isinstance(coded, CodedTokens) else partial(_milliseconds, coded)
        spent = [encode_ms + search(asked, row, scale) for row in range(min(repeats, len(asked)))]
    spent = spent or [encode_ms]
    return {"p50": float(np.percentile(spent, 50)), "p95": float(np.percentile(spent, 95))}


def _milliseconds(coded: Coded, asked: Asked, row: int, scale: float) -> float:
    """Searching for the query ``row``."""
    from sememe.index.scan import topk

    query = asked.vectors[row : row + 1]
    started = time.perf_counter()
    if coded.graph is not None:
        projected = coded.chain.project(query)
        rows = np.sort(coded.graph.reached(projected, coded.wanted if coded.finer is None else coded.shortlist))
        rows = rows[:, rows[0] >= 0]
        scores = coded.chain.quantizer.scores(projected, coded.codes[rows[0]])
    else:
        scores, rows = topk(coded.chain, query, coded.codes, coded.wanted if coded.finer is None else coded.shortlist)
    scanned = time.perf_counter()
    if coded.finer is not None and coded.finer_codes is not None:
        rows = np.sort(rows)
        scores = coded.finer.scores(coded.chain.project(query), coded.finer_codes[rows[0]])
    lists = 0.0
    if coded.hybrid is not None and asked.words is not None:
        words = asked.words.take(np.array([row]))
        order = np.argsort(-scores, axis=1)[:, : coded.hybrid.depth]
        dense = (np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))
        coded.hybrid.fuse(dense, (words.scores, words.rows), RESULTS)
        lists = float(words.milliseconds[0]) * scale
    kind = None if coded.graph is None else coded.graph.kind
    return ((scanned - started) * growth(kind, len(coded.codes), scale) + (time.perf_counter() - scanned)) * 1e3 + lists
