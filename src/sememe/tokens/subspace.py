"""Vectors side by side from a few small tables: each token is a tuple of row numbers."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.compositional import radix_codes
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_ROUNDS = 12  # of k-means
_FEWEST = 8  # rows of each part that are worth their codes
_BLOCK = 4_096  # rows whose distances are worked out at once


@register(
    "subspace",
    room="tokens",
    kind="layer",
    summary="a token's vector is several short rows side by side, shared with related tokens",
    paper=Paper("Lightweight Adaptation of Neural Language Models via Subspace Embedding", 2023, "2308.08688"),
    claim="Input tables are 99.8 % smaller, within 4 points of accuracy.",
)
class SubspaceEmbedding(TokenEmbedding):
    """``parts`` tables of ``rows`` short rows; a token has one of each, ``v(t) = [T_1[a_1], ..., T_f[a_f]]``.

    ``cartesian``: the tuple is the token's number written in base ``rows``; tuples differ if ``rows ** parts`` reaches
    the vocabulary, and say nothing about the tokens. ``cluster``: the tuples come from k-means over the slices of a
    given table (`fit`), so that tokens with similar slices share rows; until then they are the Cartesian ones. These
    tuples are stored: ``v parts`` bytes (two each above 256 rows). Two tokens may then have one tuple.

    Parameters: ``rows dim``, whatever the number of parts.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : int
        Of each table, at most 65,536.
    parts : int
        Tables.
    assignment : {"cluster", "cartesian"}
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        rows: int = 256,
        parts: int = 3,
        assignment: Literal["cluster", "cartesian"] = "cluster",
    ) -> None:
        super().__init__(vocabulary, dim)
        if assignment not in ("cluster", "cartesian"):
            raise InputError(f"assignment={assignment!r}", where="subspace", fix="use cluster or cartesian")
        if not 1 <= rows <= 1 << 16 or not 1 <= parts <= dim:
            raise InputError(f"rows={rows}, parts={parts}", where="subspace", fix=f"up to 65,536 rows, {dim} parts")
        if assignment == "cartesian" and rows**parts < len(vocabulary):
            raise InputError(
                f"{parts} digits of {rows} do not number {len(vocabulary):,} symbols",
                where="subspace",
                fix="give more rows or parts",
            )
        self.rows, self.parts, self.assignment = rows, parts, assignment
        self.part_widths = [len(part) for part in np.array_split(np.arange(dim), parts)]
        # the last digit takes what is left, so that every number of symbols has digits
        codes = radix_codes(len(vocabulary), [rows] * parts) % rows
        kind = np.uint8 if rows <= 256 else np.uint16
        stored = assignment == "cluster"
        self.register_buffer("codes", torch.from_numpy(codes.astype(kind)), persistent=stored)
        self.tables = nn.ParameterList(nn.Parameter(0.02 * torch.randn(rows, width)) for width in self.part_widths)

    def vectors(self, ids: Any) -> Any:
        """Short rows, side by side."""
        codes = F.embedding(ids, self.codes.long()) if ids.numel() > len(self.codes) else self.codes[ids].long()
        return torch.cat([F.embedding(codes[:, place], table) for place, table in enumerate(self.tables)], dim=1)

    @property
    def multiply_adds(self) -> int:
        """None: rows are gathered."""
        return 0

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """Three parts where the codes leave room for as many tuples as there are symbols, else two, or fewer tuples."""
        count = len(vocabulary)

        def size(rows: int, parts: int) -> float:
            return rows * dim + count * parts * (1 if rows <= 256 else 2) / 4

        apart = (f for f in (3, 2) if f <= dim and size(math.ceil(count ** (1 / f)), f) <= budget)
        few = (f for f in (3, 2, 1) if f <= dim and size(_FEWEST, f) <= budget)  # tuples are then shared
        parts = next(apart, 0) or next(few, 1)
        return {"rows": largest(lambda rows: size(rows, parts), budget, 1, min(max(count, 1), 1 << 16)), "parts": parts}

    def _learn(self, table: Any, weights: Any) -> None:
        """K-means of each slice, or means of the slices that share a row."""
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 31, ())))
        start = 0
        for place, width in enumerate(self.part_widths):
            part = table[:, start : start + width]
            start += width
            with torch.no_grad():
                if self.assignment == "cluster":
                    codes = cluster(part, self.rows, weights, generator)
                    self.codes[:, place] = codes.to(self.codes.dtype)
                rows = _means(part, self.codes[:, place].long(), self.rows, weights, self.tables[place])
                self.tables[place].copy_(rows)


def cluster(points: Any, count: int, weights: Any, generator: Any) -> Any:
    """K-means: the number of the nearest of ``count`` centres for each point, int64 ``(n,)``.

    Centres begin at points drawn by weight; one that loses all its points moves to the point that is worst served.
    """
    chance = torch.ones(len(points)) if weights is None else weights + 0.01 * weights.mean() + 1e-12
    if count >= len(points):
        return torch.arange(len(points))
    centres = points[torch.multinomial(chance, count, generator=generator)]
    near = torch.zeros(len(points), dtype=torch.int64)
    for _ in range(_ROUNDS):
        near, far = _nearest(points, centres)
        used = torch.bincount(near, minlength=count) > 0
        if not used.all():
            worst = torch.topk(far * chance, int((~used).sum())).indices
            near[worst] = torch.nonzero(~used)[:, 0]
        centres = _means(points, near, count, weights, centres)
    return _nearest(points, centres)[0]


def _nearest(points: Any, centres: Any) -> tuple[Any, Any]:
    """Number of the nearest centre and the squared distance to it, each ``(n,)``."""
    near, far = [], []
    half = centres.square().sum(1) / 2
    for block in points.split(_BLOCK):
        score, place = (block @ centres.T - half).max(1)
        near.append(place)
        far.append((block.square().sum(1) - 2 * score).clamp_min(0))
    return torch.cat(near), torch.cat(far)


def _means(points: Any, near: Any, count: int, weights: Any, fallback: Any) -> Any:
    """(Weighted) means of the points of each centre; those without any stay as in ``fallback``."""
    weight = torch.ones(len(points), 1) if weights is None else weights[:, None] + 1e-9 * weights.max() + 1e-30
    total = torch.zeros(count, 1).index_add_(0, near, weight)
    sums = torch.zeros(count, points.shape[1]).index_add_(0, near, weight * points)
    return torch.where(total > 0, sums / total.clamp_min(1e-38), fallback.detach())
