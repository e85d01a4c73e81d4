"""Which chunk size answers best: a sweep at equal amounts of retrieved text.

After "Rethinking Chunk Size For Long-Document Retrieval: A Multi-Dataset Analysis" (2025, arXiv 2505.21700). Comparing
sizes at equal ``k`` favours large chunks, which simply return more text; here every size may return the same number of
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sememe import catalog
from sememe.catalog import Paper, register
from sememe.contracts import Chunker, Encoder, Span
from sememe.errors import InputError
from sememe.measure.stats import Estimate, bootstrap_mean, paired_bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_PAPER = Paper("Rethinking Chunk Size For Long-Document Retrieval: A Multi-Dataset Analysis", 2025, "2505.21700")


@dataclass(frozen=True, slots=True)
class SizeResult:
    """One chunk size: per-query values, and what they cost.

    Attributes
    ----------
    size : int
        Tokens a chunk.
    chunks : int
        Chunks of the whole collection: vectors to store.
    coverage : float64 ndarray of shape (q,)
        Share of the answer's characters inside the text retrieved within the token budget.
    first : float64 ndarray of shape (q,)
        1 where the best chunk touches the answer (the paper's recall@1).
    """

    size: int
    chunks: int
    coverage: NDArray[np.float64]
    first: NDArray[np.float64]

    @property
    def recall(self) -> Estimate:
        """Mean coverage with its interval."""
        return bootstrap_mean(self.coverage)


@register(
    "chunk-size",
    room="measure",
    kind="measure",
    summary="sweep of chunk sizes at equal retrieved tokens; recommends the largest one that is not worse",
    paper=CHUNK_PAPER,
    claim="64 to 128 tokens are best for short facts, 512 to 1024 where the answer needs broad context",
)
class ChunkSizeSweep:
    """Chunk, encode and search a collection at several sizes.

    Parameters
    ----------
    sizes : sequence of int
        Tokens a chunk, as the ``tokens`` chunker counts them.
    overlap : float
        Share of a chunk that repeats in the next, in [0, 1).
    budget : int
        Tokens of text that may be retrieved for a query.
    """

    def __init__(
        self, sizes: Sequence[int] = (64, 128, 256, 512, 1024), *, overlap: float = 0.0, budget: int = 512
    ) -> None:
        if not sizes or min(sizes) < 1 or not 0 <= overlap < 1 or budget < 1:
            raise InputError(
                f"need sizes and budget of at least 1 and overlap in [0, 1), got {sizes}, {budget}, {overlap}"
            )
        self.sizes, self.overlap, self.budget = tuple(sizes), overlap, budget

    def run(
        self,
        encoder: Encoder,
        documents: Mapping[str, str],
        queries: Mapping[str, str],
        answers: Mapping[str, tuple[str, Span]],
        *,
        embed: Callable[[str, Sequence[Span]], NDArray[np.float32]] | None = None,
    ) -> dict[int, SizeResult]:
        """Measure every size.

        Parameters
        ----------
        encoder : Encoder
            Of queries and chunks.
        documents : mapping of id to text
        queries : mapping of id to text
            Those without an answer are left out.
        answers : mapping of query id to (document id, Span)
            Where the answer stands.
        embed : callable, optional
            Vectors ``(spans, d)`` of the chunks of one text, in place of encoding each chunk by itself: late chunking.
        """
        asked = [query for query in queries if query in answers]
        if not asked:
            raise InputError("no query has an answer", fix="check that queries and answers use the same ids")
        for query in asked:
            if answers[query][0] not in documents:
                raise InputError(f"the answer lies in {answers[query][0]!r}, which is not a document", where=query)
        vectors = encoder.encode([queries[query] for query in asked], kind="query")
        wanted = [answers[query] for query in asked]
        return {size: self._measure(size, encoder, documents, vectors, wanted, embed) for size in self.sizes}

    def _measure(
        self,
        size: int,
        encoder: Encoder,
        documents: Mapping[str, str],
        queries: NDArray[np.float32],
        wanted: Sequence[tuple[str, Span]],
        embed: Callable[[str, Sequence[Span]], NDArray[np.float32]] | None,
    ) -> SizeResult:
        chunker: Chunker = catalog.find("tokens", kind="chunker").make(size, int(size * self.overlap))
        single: Chunker = catalog.find("tokens", kind="chunker").make(1)
        owners: list[str] = []
        spans: list[Span] = []
        lengths: list[int] = []
        tables = []
        for name, text in documents.items():
            cut = chunker.spans(text)
            if not cut:
                continue
            starts = np.array([token.start for token in single.spans(text)])
            owners += [name] * len(cut)
            spans += cut
            lengths += [int(np.subtract(*np.searchsorted(starts, [span.stop, span.start]))) for span in cut]
            tables.append(embed(text, cut) if embed else encoder.encode([text[span.start : span.stop] for span in cut]))
        ranked = np.argsort(-(queries @ np.concatenate(tables).T), axis=1, kind="stable")
        coverage = np.zeros(len(wanted))
        first = np.zeros(len(wanted))
        for row, (document, answer) in enumerate(wanted):
            covered = np.zeros(answer.stop - answer.start, dtype=bool)
            left = self.budget
            for place, chunk in enumerate(ranked[row]):
                if left <= 0:
                    break
                # a chunk larger than what is left is read as far as the budget goes
                share = min(1.0, left / max(lengths[chunk], 1))
                left -= lengths[chunk]
                if owners[chunk] != document:
                    continue
                start = spans[chunk].start
                stop = start + round((spans[chunk].stop - start) * share)
                covered[max(start - answer.start, 0) : max(stop - answer.start, 0)] = True
                if place == 0:
                    first[row] = float(covered.any())
            coverage[row] = covered.mean()
        return SizeResult(size, len(spans), coverage, first)


def recommend(results: Mapping[int, SizeResult], *, prefer: Literal["coverage", "first"] = "coverage") -> int:
    """The largest size, so the fewest vectors, that is not significantly worse than the best mean.

    Significantly worse means that the paired 95 % interval of the difference lies below zero.
    """
    if not results:
        raise InputError("there is no result to choose from")
    values = {size: getattr(result, prefer) for size, result in results.items()}
    best = max(values, key=lambda size: (float(values[size].mean()), size))
    return max(size for size in values if size == best or paired_bootstrap(values[size], values[best]).high >= 0)
