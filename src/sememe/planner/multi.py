"""Token vectors as a way of searching the planner's views: pooled, coded and searched as a multi-vector index does.

Passages are searched through the index kind itself, over codes in memory, so what is ranked and timed here is what an
index will do: candidates through the code's centres where it has them, then MaxSim.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.contracts import Ragged, Vectors
from sememe.errors import InputError
from sememe.index.pipeline import kind_of
from sememe.index.pooling import pool
from sememe.index.ragged import RaggedTable, RaggedWriter, take
from sememe.index.structure import growth
from sememe.planner.lexical import records_of
from sememe.planner.view import DEPTH, Asked, View, fit_sample
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.codec.chain import Chain
    from sememe.contracts import Codes
    from sememe.planner.bench import Benches
    from sememe.planner.sweep import Bench

NAME = "multivector"  # the index kind, and what stands for it among the encoders
MOST_BYTES = 2 << 30  # of float32 token vectors held for a view
COMPARED = 128  # queries whose rankings are compared: MaxSim takes long
_BLOCK = 256  # passages encoded at a time
_RESULTS = 10
_PEERS, _ASKED = 200, 16  # passages and queries by which the error of the scores is measured


class Tokens:
    """The token vectors of a view's passages, and what pooling makes of them.

    Attributes
    ----------
    whole : Ragged
        Unit vectors, a ragged row a passage.
    """

    def __init__(self, whole: Ragged) -> None:
        self.whole = whole
        self._pooled: dict[tuple[Any, str], tuple[Ragged, float]] = {}

    def pooled(self, kind: Any) -> tuple[Ragged, float]:
        """The vectors that an index of this kind keeps, and the seconds that pooling takes; remembered."""
        if not kind.budget:
            return self.whole, 0.0
        key = (kind.budget, kind.pooling)
        if key not in self._pooled:
            started = time.perf_counter()
            self._pooled[key] = kind.pool(self.whole), time.perf_counter() - started
        return self._pooled[key]


@dataclass
class CodedTokens:
    """A recipe of several vectors a passage, fitted to a view: its chain, and a segment as an index has them."""

    recipe: Recipe
    chain: Chain
    codes: Codes
    kind: Any
    offsets: NDArray[np.int64]
    seconds: float

    @classmethod
    def of(cls, recipe: Recipe, view: View, *, seed: int) -> CodedTokens:
        """Pool, fit and encode the passages of a view that has token vectors."""
        from sememe.codec.chain import Chain

        assert view.tokens is not None
        kind = kind_of(recipe)
        kept, seconds = view.tokens.pooled(kind)
        started = time.perf_counter()
        chain = Chain.from_recipe(recipe).fit(fit_sample(kept.values, seed=seed))
        codes = chain.encode(kept.values)
        return cls(recipe, chain, codes, kind, kept.offsets, seconds + time.perf_counter() - started)

    @property
    def code_bytes(self) -> float:
        """Bytes a passage takes on average: its codes, and where they begin. Lists of centres are postings."""
        return self.codes.size / max(1, len(self.offsets) - 1) + 4

    @property
    def side_bytes(self) -> int:
        """Bytes of learned state stored once."""
        return int(self.chain.side_bytes_)

    @cached_property
    def _segment(self) -> Any:
        from sememe.index.arrays import Packed

        writer = RaggedWriter()
        writer.add_counts(np.diff(self.offsets))
        writer.add_codes(self.chain.quantizer, self.codes)
        passages = len(self.offsets) - 1
        table = RaggedTable(Packed.in_memory(writer.arrays()), passages, len(self.codes))
        return SimpleNamespace(passages=passages, ragged=table, codes=self.codes, ensure_codes=None)

    def _search(self, queries: Ragged, k: int) -> NDArray[np.int64]:
        projected = Ragged(self.chain.project(queries.values), queries.offsets)
        found: NDArray[np.int64] = self.kind.search(self._segment, self.chain.quantizer, projected, k, None, False)[1]
        return found

    def rank(self, view: View, asked: Asked) -> NDArray[np.int64]:
        """Records of the view, best first: int64 ``(q, min(DEPTH, r))``, -1 where no more were found.

        So many passages are asked for as the kind finds without looking at more candidates than for ten.
        """
        assert asked.tokens is not None
        sizes = np.diff(np.append(view.starts, len(self.offsets) - 1))
        left_out = asked.left_out >= 0
        more = int(sizes[asked.left_out[left_out]].max()) if left_out.any() else 0
        depth = min(DEPTH, max(_RESULTS, self.kind.candidates // 4))
        rows = self._search(asked.tokens, min(depth + more, len(self.offsets) - 1))
        for query in np.flatnonzero(left_out):
            start = view.starts[asked.left_out[query]]
            own = (rows[query] >= start) & (rows[query] < start + sizes[asked.left_out[query]])
            rows[query] = np.concatenate([rows[query][~own], np.full(own.sum(), -1)])
        return records_of(rows, view)

    def distortion(self, view: View, asked: Asked) -> float:
        """Share of the variance of the exact scores that pooling and codes lose, ``1 - r**2``."""
        from sememe.kernels.maxsim import maxsim

        assert view.tokens is not None and asked.tokens is not None
        count = len(self.offsets) - 1
        few = take(asked.tokens, np.arange(min(_ASKED, len(asked))))
        rows = np.linspace(0, count - 1, min(count, _PEERS)).astype(np.int64)
        whole = take(view.tokens.whole, rows)
        exact = maxsim(few.values, few.offsets, whole.values, whole.offsets).astype(np.float64)
        kept = take(Ragged(self.chain.decode(self.codes), self.offsets), rows)
        got = maxsim(self.chain.project(few.values), few.offsets, kept.values, kept.offsets).astype(np.float64)
        exact, got = exact - exact.mean(axis=1, keepdims=True), got - got.mean(axis=1, keepdims=True)
        norm = float((exact**2).sum() * (got**2).sum())
        return max(0.0, 1.0 - float((exact * got).sum()) ** 2 / norm) if norm > 0 else 0.0

    def milliseconds(self, asked: Asked, row: int, scale: float) -> float:
        """Searching for ten passages for the query ``row``, in a collection ``scale`` times as large."""
        assert asked.tokens is not None
        one = take(asked.tokens, np.array([row]))
        started = time.perf_counter()
        self._search(one, _RESULTS)
        return (time.perf_counter() - started) * 1e3 * growth(self.kind, len(self.codes), scale)


def token_recipes(bench: Bench) -> list[Recipe]:
    """What of token vectors is worth measuring: every code that says so, in every budget of the index kind."""
    from sememe.planner.space import token_tails

    assert bench.real.tokens is not None
    whole = bench.real.tokens.whole
    counts = np.diff(whole.offsets)
    head = str(bench.full_precision).rpartition(" | ")[0]
    tails = token_tails(whole.values.shape[1], vectors=len(whole.values), count=float(np.median(counts)))
    return [Recipe.parse(f"{head} | {tail}") for tail in tails]


def multi_benches(benches: Sequence[Bench], makers: Benches) -> list[Bench]:
    """For each of the (dense) ``benches`` whose encoder gives token vectors, a bench of those.

    Raises
    ------
    InputError
        No encoder gives any, or they do not fit in memory.
    """
    able = [bench for bench in benches if hasattr(makers.encoder(bench.encoder), "encode_tokens")]
    if not able:
        names = ", ".join(dict.fromkeys(bench.encoder for bench in benches))
        raise InputError(f"{names} gives no token vectors for {NAME}", fix="name static or minilm beside it")
    return [_bench(bench, makers) for bench in able]


def _bench(bench: Bench, makers: Benches) -> Bench:
    encoder: Any = makers.encoder(bench.encoder)
    started = time.perf_counter()
    real = _with_tokens(bench.real, encoder, bench.encoder)
    seconds = time.perf_counter() - started
    judged = real if bench.judged is bench.real else _with_tokens(bench.judged, encoder, bench.encoder)
    split, questions = makers.judgement.split, makers.judgement.questions
    few = np.arange(min(COMPARED, len(bench.agreement)))
    times: list[float] = []

    def ask(asked: Asked | None, texts: Sequence[str]) -> Asked | None:
        if asked is None:
            return None
        started = time.perf_counter()
        tokens = pool(encoder.encode_tokens(list(texts), kind="query"))
        times.append((time.perf_counter() - started) * 1e3 / max(1, len(texts)))
        return replace(asked, tokens=tokens)

    choose = ask(bench.choose, questions.take(split.choose).texts)
    report = ask(bench.report, questions.take(split.report).texts)
    agreement = ask(bench.agreement.take(few), makers.agreement()[0].take(few).texts)
    assert real.tokens is not None and agreement is not None
    makers.sizes.learn_tokens(bench.chunker, bench.encoder, np.diff(real.tokens.whole.offsets))
    return replace(
        bench,
        several=True,
        real=real,
        judged=judged,
        choose=choose,
        report=report,
        agreement=agreement,
        encode_ms=max(bench.encode_ms, max(times)),
        encode_seconds=seconds,
    )


def _with_tokens(view: View, encoder: Any, name: str) -> View:
    """The view with the token vectors of its passages."""
    texts = view.texts
    blocks: list[Vectors] = []
    counts: list[NDArray[np.int64]] = []
    done = vectors = 0
    with progress.task(f"encoding tokens with {name}", total=len(texts), unit="passages") as step:
        for at in range(0, len(texts), _BLOCK):
            some = texts[at : at + _BLOCK]
            tokens = pool(encoder.encode_tokens(some, kind="passage"))
            blocks.append(tokens.values)
            counts.append(np.diff(tokens.offsets))
            done += len(some)
            vectors += len(tokens.values)
            expected = 4 * tokens.values.shape[1] * vectors * len(texts) / done
            if expected > MOST_BYTES:
                fits = int(len(texts) * MOST_BYTES / expected)
                raise InputError(
                    f"token vectors of {len(texts):,} passages by {name} take about {expected / 2**30:.1f} GiB",
                    fix=f"measure on fewer, for example with --sample {max(100, fits // 100 * 100)}",
                )
            step(len(some))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return replace(view, tokens=Tokens(Ragged(np.ascontiguousarray(np.concatenate(blocks)), offsets)))
