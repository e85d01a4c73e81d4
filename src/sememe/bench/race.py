"""Searching contenders at a required recall: the same queries, in turn, one at a time and a hundred at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.bench.harness import Column, Settings, Table, interleaved
from sememe.bench.machine import Limits
from sememe.bench.peers import note
from sememe.contracts import Vectors

K = 10
BATCH = 100
_SINGLE = 20  # single queries in a row
SAFETY = 0.8  # of the loss that is allowed, used up where settings are chosen: other queries may do worse
_NONE = object()
_AS_MUCH = 0.002  # recall that counts as the same
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that searches.

    Attributes
    ----------
    name : str
    ours : bool
    size : float
        Bytes a vector that a search may touch.
    search : callable
        Of queries ``(q, d)`` and a setting; gives rows ``(q, 10)``.
    settings : sequence
        What it can be set to, cheapest first; what they mean is its own affair.
    read : float or None
        Bytes a vector that one query reads in order; None where it jumps about.
    batch : bool
        Whether it takes several queries in one call.
    """

    name: str
    ours: bool
    size: float
    search: Callable[[Vectors, Any], Rows]
    settings: Sequence[Any] = (None,)
    read: float | None = None
    batch: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """What a contender did: recall@10 on queries that did not set it, and seconds a query, alone and in a batch."""

    contender: Contender
    setting: Any
    recall: float
    one: float
    many: float | None


def exact(X: Vectors, Q: Vectors, k: int = K) -> Rows:
    """Rows of the ``k`` largest inner products, in no order, ``(q, k)``."""
    out = [np.argpartition(-(Q[i : i + 50] @ X.T), k - 1, axis=1)[:, :k] for i in range(0, len(Q), 50)]
    return np.concatenate(out).astype(np.int64)


def recall(found: Any, truth: Rows) -> float:
    """Mean share of the true rows that were found."""
    return sum(len({*a} & {*b}) for a, b in zip(np.asarray(found).tolist(), truth.tolist())) / truth.size


def race(
    title: str,
    contenders: Sequence[Contender],
    X: Vectors,
    Q: Vectors,
    settings: Settings,
    limits: Limits,
    *,
    required: float | None = None,
) -> Table:
    """Race all that reach the ``required`` recall@10; without it, all at their first setting.

    Settings are chosen on one half of the queries (the first whose loss there is at most 0.8 of the one allowed), and
    everything is measured on the other.
    """
    half = len(Q) // 2
    tune, test = np.ascontiguousarray(Q[:half]), np.ascontiguousarray(Q[half:])
    chosen: list[tuple[Contender, Any]] = []
    if required is None:
        chosen = [(each, each.settings[0]) for each in contenders]
    else:
        truth = exact(X, tune)
        for each in contenders:
            needed = 1 - SAFETY * (1 - required)
            fit = next((s for s in each.settings if recall(each.search(tune, s), truth) >= needed), _NONE)
            if fit is _NONE:
                note(f"{each.name} does not reach recall {required} with any setting that was tried")
            else:
                chosen.append((each, fit))
    truth = exact(X, test)
    times = interleaved(_calls(chosen, test), settings.rounds)
    placed = []
    for place, (each, setting) in enumerate(chosen):
        one = times[f"{place} one"].seconds(settings.threads) / _SINGLE
        many = times[f"{place} many"].seconds(settings.threads) / min(BATCH, len(test)) if each.batch else None
        placed.append(Placed(each, setting, recall(each.search(test, setting), truth), one, many))
    return _table(title, placed, len(X), X.shape[1], limits, tuned=required is not None)


def _calls(chosen: list[tuple[Contender, Any]], test: Vectors) -> dict[str, Callable[[], object]]:
    calls: dict[str, Callable[[], object]] = {}
    for place, (each, setting) in enumerate(chosen):

        def singles(each: Contender = each, setting: Any = setting) -> None:
            for number in range(_SINGLE):
                at = number % len(test)
                each.search(test[at : at + 1], setting)

        calls[f"{place} one"] = singles
        if each.batch:
            calls[f"{place} many"] = partial(each.search, test[:BATCH], setting)
    return calls


def _table(title: str, placed: list[Placed], n: int, d: int, limits: Limits, *, tuned: bool) -> Table:
    columns = [
        Column("what"), Column("B/vector", ".0f"), *([Column("setting")] if tuned else []), Column("recall@10", ".4f"),
        Column("ms, one query", ".3f"), Column("of bandwidth", ".0%"), Column("queries/s, 100 at once", ",.0f"),
        Column("of multiply-adds", ".0%"), Column("x best peer, one", ".2f"), Column("x best peer, 100", ".2f"),
    ]  # fmt: skip
    table = Table(
        title,
        columns,
        note="x best peer: how many times as fast as the fastest peer that finds as much (to .002 of recall). A share "
        "of bandwidth above 100 % means that the codes stay in a cache.",
    )
    for each in sorted(placed, key=lambda p: (not p.contender.ours, p.contender.name)):
        contender = each.contender
        rivals = [p for p in placed if not p.contender.ours and (tuned or p.recall >= each.recall - _AS_MUCH)]
        one = min((p.one for p in rivals), default=None)
        many = min((p.many for p in rivals if p.many is not None), default=None)
        read = contender.read
        table.rows.append([
            contender.name,
            contender.size,
            *([str(each.setting)] if tuned else []),
            each.recall,
            each.one * 1e3,
            None if read is None else read * n / each.one / limits.bandwidth,
            None if each.many is None else 1 / each.many,
            None if read is None or each.many is None else n * d / each.many / limits.multiply_adds,
            one / each.one if contender.ours and one else None,
            many / each.many if contender.ours and many and each.many else None,
        ])  # fmt: skip
    return table
