"""Byte-pair encoding for streams of any events, by the same learner that serves bytes (`sememe.vocab.byte_bpe`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.vocab.merging import MergeList, learn
from sememe.vocab.pairs import Ids, flat

FORMAT = "sememe-bpe"
VERSION = 1


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What a learned vocabulary does to some streams.

    Attributes
    ----------
    events, symbols : int
        Lengths before and after.
    reduction : float
        ``1 - symbols / events``.
    vocabulary : int
    used : int
        Symbols that occur.
    evenness : float
        Entropy of the symbols' frequencies over that of equally frequent ones, 0 to 1.
    mean_length : float
        Events in a symbol, over the symbols that occur.
    isotropy : float or None
        Of the rows of the table that was given, see `isotropy`.
    cosine : float or None
        Mean cosine of two different rows of it; near 0 where directions are used evenly.
    """

    events: int
    symbols: int
    reduction: float
    vocabulary: int
    used: int
    evenness: float
    mean_length: float
    isotropy: float | None
    cosine: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


@register(
    "sequence-bpe",
    room="vocab",
    kind="tokenizer",
    summary="byte-pair encoding over any integer events, with places and symbols that no merge may cross",
    paper=Paper("Byte Pair Encoding for Symbolic Music", 2023, "2301.11975"),
    claim="Shorter sequences, better generation and classification, and a more even use of the embedding space.",
)
class SequenceBPE(Estimator):
    """Joins frequent neighbours of an event stream into symbols of their own; every symbol spells base events.

    Parameters
    ----------
    size : int
        Symbols in the end, the base events included.
    base : int
        Base events are ``0 .. base - 1``; 0 takes the largest event of the streams plus one.
    isolated : tuple of int
        Events that never merge, for example bar lines.
    least : int
        Smallest count that is worth a symbol.
    longest : int
        Most base events in a symbol; 0 is no limit.

    Attributes
    ----------
    merges_ : ndarray of shape (m, 3)
        int64: left, right and made symbol, in the order learned.
    base_ : int
    """

    def __init__(
        self, size: int = 1024, base: int = 0, isolated: tuple[int, ...] = (), least: int = 2, longest: int = 0
    ) -> None:
        self.size = size
        self.base = base
        self.isolated = isolated
        self.least = least
        self.longest = longest

    def fit(self, sequences: Sequence[ArrayLike], *, cuts: Sequence[ArrayLike] | None = None) -> Self:
        """Learn merges.

        Parameters
        ----------
        sequences : sequence of int array-likes
            Streams; merges stay inside one.
        cuts : sequence of int array-likes, optional
            For each stream, the places that no merge may cross: ``[5]`` keeps event 4 and event 5 apart.
        """
        arrays = _events(sequences)
        most = max((int(array.max()) for array in arrays if len(array)), default=-1)
        if most < 0:
            raise InputError("there are no events to learn from", fix="give at least one stream that is not empty")
        base = self.base or most + 1
        if most >= base:
            raise InputError(f"event {most} is outside a base of {base}", fix="raise base, or number events from 0")
        symbols, _, offsets = self._segments(arrays, cuts)
        found = learn(symbols, offsets, None, base=base, size=self.size, least=max(1, self.least), longest=self.longest)
        return self._take(found)

    def _take(self, merges: MergeList) -> Self:
        self.base_, self.merges_ = merges.base, merges.merges
        self.__dict__.pop("merge_list", None)
        return self

    @cached_property
    def merge_list(self) -> MergeList:
        """The learned merges, ready to be applied."""
        self._check_fitted()
        return MergeList(int(self.base_), self.merges_)

    @property
    def vocabulary(self) -> int:
        """Symbols that there are: ``size``, or fewer where the streams gave no more."""
        return self.merge_list.size

    def encode_batch(self, sequences: Sequence[ArrayLike], *, cuts: Sequence[ArrayLike] | None = None) -> list[Ids]:
        """Symbols of each stream, int64; ``cuts`` as in `fit`."""
        merges, arrays = self.merge_list, _events(sequences)
        for number, array in enumerate(arrays):
            if len(array) and array.max() >= merges.base:
                raise InputError(f"stream {number} holds event {array.max()}, and the base is {merges.base}")
        symbols, starts, offsets = self._segments(arrays, cuts)
        merged, ends = merges.apply(symbols, offsets)
        where = ends[np.searchsorted(offsets, starts)]
        return [merged[a:b] for a, b in zip(where[:-1].tolist(), where[1:].tolist())]

    def encode(self, sequence: ArrayLike, *, cuts: ArrayLike | None = None) -> Ids:
        """Symbols of one stream, int64."""
        return self.encode_batch([sequence], cuts=None if cuts is None else [cuts])[0]

    def decode(self, symbols: ArrayLike) -> Ids:
        """The base events of a symbol sequence, int64: exactly what was encoded."""
        return self.merge_list.expand(np.asarray(symbols, dtype=np.int64).reshape(-1))

    def expand(self, symbol: int) -> tuple[int, ...]:
        """The base events that one symbol spells."""
        if not 0 <= symbol < self.vocabulary:
            raise InputError(f"there is no symbol {symbol} in a vocabulary of {self.vocabulary}")
        return self.merge_list.spelled[symbol]

    def _segments(self, arrays: list[Ids], cuts: Sequence[ArrayLike] | None) -> tuple[Ids, Ids, Ids]:
        """All events, where each stream begins, and where each stretch begins that merges stay in."""
        events, starts = flat(arrays)
        begins = np.zeros(len(events) + 1, dtype=bool)
        begins[starts] = True
        if cuts is not None:
            if len(cuts) != len(arrays):
                raise InputError(
                    f"{len(arrays)} streams and cuts for {len(cuts)}", fix="give one list of cuts a stream"
                )
            for number, places in enumerate(cuts):
                at = np.asarray(places, dtype=np.int64).reshape(-1)
                if len(at) and not 0 <= at.min() <= at.max() <= len(arrays[number]):
                    raise InputError(f"a cut of stream {number} lies outside its {len(arrays[number])} events")
                begins[starts[number] + at] = True
        if self.isolated:
            alone = np.flatnonzero(np.isin(events, self.isolated))
            begins[alone] = begins[alone + 1] = True
        begins[-1] = True
        return events, starts, np.flatnonzero(begins)

    def report(
        self, sequences: Sequence[ArrayLike], *, table: ArrayLike | None = None, cuts: Sequence[ArrayLike] | None = None
    ) -> StreamReport:
        """Length reduction and vocabulary use on some streams; with a ``(v, d)`` table of vectors, its isotropy too."""
        arrays = _events(sequences)
        events = sum(map(len, arrays))
        coded = np.concatenate([np.zeros(0, dtype=np.int64), *self.encode_batch(arrays, cuts=cuts)])
        if not events:
            raise InputError("there are no events to report on")
        counts = np.bincount(coded, minlength=self.vocabulary)
        seen = counts[counts > 0] / len(coded)
        lengths = np.array([len(self.merge_list.spelled[symbol]) for symbol in np.flatnonzero(counts)])
        even = float(-(seen * np.log(seen)).sum() / np.log(self.vocabulary)) if self.vocabulary > 1 else 1.0
        return StreamReport(
            events=events,
            symbols=len(coded),
            reduction=1 - len(coded) / events,
            vocabulary=self.vocabulary,
            used=len(seen),
            evenness=abs(even),
            mean_length=float(lengths.mean()),
            isotropy=None if table is None else isotropy(np.asarray(table)),
            cosine=None if table is None else mean_cosine(np.asarray(table)),
        )

    def save(self, path: str | Path) -> Path:
        """Write the learned vocabulary as JSON."""
        return save_merges(path, "events", self.merge_list, self.get_params())

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read what `save` wrote; anything else is an InputError."""
        merges, params = open_merges(path, "events")
        params["isolated"] = tuple(params.get("isolated", ()))
        return _made(cls, params, path)._take(merges)


def isotropy(table: NDArray[Any]) -> float:
    """How evenly rows point everywhere, 0 to 1: the partition function at its least over that at its greatest.

    ``Z(c) = sum_i exp(c . w_i)`` over the eigenvectors ``c`` of ``W'W``, both signs; rows are scaled to unit mean norm.
    Mu and Viswanath, "All-but-the-Top: Simple and Effective Postprocessing for Word Representations", 2018, arXiv
    1702.01417.
    """
    rows = np.asarray(table, dtype=np.float64)
    norm = float(np.linalg.norm(rows, axis=1).mean())
    if not norm:
        raise InputError("all rows of the table are zero, they have no directions")
    rows = rows / norm
    axes = np.linalg.eigh(rows.T @ rows)[1]
    reach = rows @ axes
    sums = np.concatenate((np.exp(reach).sum(0), np.exp(-reach).sum(0)))
    return float(sums.min() / sums.max())


def mean_cosine(table: NDArray[Any]) -> float:
    """Mean cosine of two different rows; zero rows count as orthogonal to all."""
    rows = np.asarray(table, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    n = len(rows)
    if n < 2:
        raise InputError("a mean cosine needs at least two rows")
    return float((np.square(unit.sum(0)).sum() - np.square(unit).sum()) / (n * (n - 1)))


def _events(sequences: Sequence[ArrayLike]) -> list[Ids]:
    arrays = []
    for number, sequence in enumerate(sequences):
        array = np.asarray(sequence)
        if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
            raise InputError(f"stream {number} is not a list of integers", fix="number the events from 0")
        if len(array) and array.min() < 0:
            raise InputError(f"stream {number} holds the negative event {array.min()}", fix="number the events from 0")
        arrays.append(array.astype(np.int64))
    return arrays


def save_merges(path: str | Path, kind: str, merges: MergeList, params: dict[str, Any]) -> Path:
    """Write merges and constructor arguments as JSON: whole, or not at all."""
    path = Path(path)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "base": merges.base,
        "merges": merges.merges[:, :2].tolist(),
        "parameters": params,
    }
    staged = path.with_name(path.name + ".part")
    try:
        staged.write_text(json.dumps(content) + "\n", encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise InputError(f"cannot write this vocabulary ({error.strerror})", where=str(path)) from None
    return path


def open_merges(path: str | Path, kind: str) -> tuple[MergeList, dict[str, Any]]:
    """Read what `save_merges` wrote: the merges, checked, and the constructor arguments."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read this vocabulary ({error})", where=str(path)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") != kind:
        raise InputError(f"this is not a {FORMAT} file of {kind}", where=str(path))
    if content.get("version") != VERSION:
        raise InputError(f"version {content.get('version')!r} is unknown here", where=str(path), fix="update sememe")
    base, pairs, params = content.get("base"), content.get("merges"), content.get("parameters")
    plain = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(symbol) is int for symbol in pair) for pair in pairs
    )
    if type(base) is not int or not 0 < base <= 2**31 or not plain or not isinstance(params, dict):
        raise InputError(
            "this vocabulary is damaged: base, merges or parameters are not what they should be", where=str(path)
        )
    assert isinstance(pairs, list)
    return MergeList.of_pairs(base, pairs, where=str(path)), params


def _made(cls: Any, params: dict[str, Any], path: str | Path) -> Any:
    try:
        return cls(**params)
    except TypeError as error:
        raise InputError(f"this vocabulary has unknown parameters ({error})", where=str(path)) from None
