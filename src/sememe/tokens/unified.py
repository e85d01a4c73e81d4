"""One table for all features: every value of every feature looks up chunks in it by hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import BudgetError, InputError, MissingDependency
from sememe.tokens.features import mixed

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a feature table") from None


@register(
    "unified",
    room="tokens",
    kind="feature table",
    summary="one shared table for all features; a value is a few rows of it, found by hash, side by side",
    paper=Paper(
        "Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML Systems", 2023, "2305.12102"
    ),
    claim="Better accuracy for the same number of parameters than a table for each feature.",
)
class UnifiedEmbedding(nn.Module):  # type: ignore[misc]
    """Value ``v`` of feature ``f`` is rows ``h(f, j, v) mod rows``, ``j = 0 .. chunks[f] - 1``, side by side.

    Values are any int64 numbers (ids, or hashes of texts): no numbering of values is kept, so new values and new
    features (`add_feature`) change nothing that is stored. Values of different features that share a row are told
    apart by what comes after: it weighs each feature's chunks by weights of its own, and as training makes these
    nearly orthogonal (`overlap` measures it) such collisions cost less than those within a feature. With two chunks or
    more, two values are confused completely only where all their rows collide.

    The paper hashes a feature's chunks into the one table and leaves the hash open; here it is SplitMix64 of the value,
    the feature's place and the chunk's, in this order.

    Parameters
    ----------
    rows : int
        Rows of the table.
    width : int
        Dimensions of a row.
    chunks : sequence of int
        Rows looked up for each feature; its width is ``chunks[f] * width``.
    seed : int
        Of the hash.
    """

    def __init__(self, rows: int, width: int, chunks: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        if rows < 1 or width < 1 or not len(chunks) or min(chunks) < 1:
            raise InputError(f"rows={rows}, width={width}, chunks={list(chunks)}", where="unified", fix="all positive")
        self.rows, self.width, self.seed = rows, width, seed
        self.chunks: tuple[int, ...] = tuple(map(int, chunks))
        self.weight = nn.Parameter(0.02 * torch.randn(rows, width))
        self._number()

    def _number(self) -> None:
        feature = [f for f, count in enumerate(self.chunks) for _ in range(count)]
        chunk = [j for count in self.chunks for j in range(count)]
        self.register_buffer("feature", torch.tensor(feature), persistent=False)
        self.register_buffer("salt", torch.tensor(feature) * 1_000 + torch.tensor(chunk), persistent=False)

    @classmethod
    def for_budget(cls, budget: int, width: int, chunks: Sequence[int], seed: int = 0) -> UnifiedEmbedding:
        """As many rows as so many parameters pay for."""
        if budget < width:
            raise BudgetError(f"{budget:,} parameters are less than a row of {width}", fix=f"give at least {width}")
        return cls(budget // width, width, chunks, seed)

    @property
    def field_widths(self) -> tuple[int, ...]:
        """Width of each feature's vectors."""
        return tuple(count * self.width for count in self.chunks)

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained."""
        return int(self.weight.numel())

    @property
    def num_bytes(self) -> int:
        """Bytes of the state dict."""
        return int(self.weight.numel() * self.weight.element_size())

    @property
    def size(self) -> float:
        """What a budget counts: bytes of the state dict, in float32 parameters."""
        return self.num_bytes / 4

    def add_feature(self, chunks: int) -> int:
        """One more column, with so many chunks; the table stays as it is. Returns its place."""
        if chunks < 1:
            raise InputError(f"a feature of {chunks} chunks", fix="give at least one")
        self.chunks = (*self.chunks, chunks)
        self._number()
        return len(self.chunks) - 1

    def places(self, values: Any) -> Any:
        """Rows of the table that values ``(b, f)`` look up, ``(b, sum of chunks)``."""
        if values.dim() != 2 or values.shape[1] != len(self.chunks) or values.dtype not in (torch.int64, torch.int32):
            raise InputError(
                f"values of shape {tuple(values.shape)} and type {values.dtype}",
                fix=f"give integers of shape (b, {len(self.chunks)}), a column a feature",
            )
        return mixed(mixed(values.long()[:, self.feature], self.seed) ^ self.salt, self.seed + 1) % self.rows

    def forward(self, values: Any) -> Any:
        """Vectors ``(b, sum of widths)`` of values ``(b, f)``, feature by feature."""
        return F.embedding(self.places(values), self.weight).flatten(1)

    def collisions(self, values: Any) -> dict[str, float]:
        """Shares of the look-ups of distinct values that share their row with another of the same, or another, feature.

        Parameters
        ----------
        values : int64 Tensor of shape (b, f)
            Rows of a log; each distinct value of a feature counts once.

        Returns
        -------
        dict
            ``within`` and ``between``: shares of (value, chunk) pairs; ``confused``: values all of whose rows are those
            of another value of their feature, chunk by chunk.
        """
        places = self.places(values)
        owners, rows = [], []
        same = total = 0
        start = 0
        for feature, count in enumerate(self.chunks):
            found, back = torch.unique(values[:, feature], return_inverse=True)
            row = torch.empty(len(found), count, dtype=torch.int64)
            row[back] = places[:, start : start + count]
            start += count
            _, group, size = torch.unique(row, dim=0, return_inverse=True, return_counts=True)
            same, total = same + int((size[group] > 1).sum()), total + len(found)
            rows.append(row.flatten())
            owners.append(torch.full((row.numel(),), feature))
        row, owner = torch.cat(rows), torch.cat(owners)
        key = owner * self.rows + row
        _, group, alike = torch.unique(key, return_inverse=True, return_counts=True)
        here = torch.bincount(row, minlength=self.rows)[row]
        own = alike[group]
        return {
            "within": float((own > 1).float().mean()),
            "between": float((here > own).float().mean()),
            "confused": same / total,
        }


def overlap(weight: Any, widths: Sequence[int]) -> Any:
    """How far from orthogonal the features' projections are: cosines ``(f, f)`` between 0 and 1.

    Parameters
    ----------
    weight : Tensor of shape (h, sum of widths)
        The first layer's weights, behind the table.
    widths : sequence of int

    Returns
    -------
    Tensor of shape (f, f)
        Root mean square over columns of two features of the cosine between them: 1 where two features of one column
        are weighed alike, about ``h^-1/2`` where their weights are drawn independently.
    """
    blocks = F.normalize(weight.detach().double(), dim=0).split(list(widths), dim=1)
    return torch.stack([torch.stack([(a.T @ b).square().mean().sqrt() for b in blocks]) for a in blocks])
