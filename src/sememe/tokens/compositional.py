"""One vector for each of many ids from a few small tables: complementary partitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_SWEEPS = 30  # of the alternating least squares
_FEW = 64  # networks that are applied one after the other; more of them at once, with padding


def radix_codes(count: int, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Digits of ``0 .. count - 1`` in the mixed radix of ``sizes``, lowest first, ``(count, k)``."""
    rest, digits = np.arange(count), []
    for size in sizes:
        digits.append(rest % size)
        rest = rest // size
    return np.stack(digits, axis=1)


def remainder_codes(count: int, sizes: Sequence[int]) -> NDArray[np.int64]:
    """``0 .. count - 1`` modulo each size, ``(count, k)``: all different where the sizes share no factor."""
    return np.arange(count)[:, None] % np.array(sizes)


def radix_sizes(count: int, parts: int) -> list[int]:
    """The smallest equal sizes, ``parts`` of them, whose product reaches ``count``."""
    size = max(2, round(count ** (1 / parts)))
    while size**parts < count:
        size += 1
    while size > 2 and (size - 1) ** parts >= count:
        size -= 1
    return [size] * (parts - 1) + [max(1, -(-count // size ** (parts - 1)))]


def coprime_sizes(least: int, parts: int) -> list[int]:
    """The first ``parts`` numbers from ``least`` on that share no factor with those before."""
    found: list[int] = []
    number = max(least, 2)
    while len(found) < parts:
        if all(math.gcd(number, other) == 1 for other in found):
            found.append(number)
        number += 1
    return found


@register(
    "quotient-remainder",
    room="tokens",
    kind="layer",
    summary="rows of a few small tables combined: by quotient and remainder of the id, or any complementary partitions",
    paper=Paper(
        "Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation Systems",
        2019,
        "1909.02107",
    ),
    claim="Tables are about four times smaller, with less loss of quality than by the hashing trick.",
)
class QuotientRemainder(TokenEmbedding):
    """A unique vector for each of ``n`` ids out of ``k`` tables whose sizes multiply to at least ``n``.

    ``radix``: the digits of the id in the mixed radix of ``sizes``, lowest first; with two sizes ``(m, ceil(n / m))``
    these are ``i mod m`` and ``i // m``. ``remainders``: the id modulo each of ``sizes``, which share no factor
    (Chinese remainder theorem). In both no two ids have all their rows in common. Rows are combined by their product,
    their sum, or side by side, each table then ``d / k`` wide.

    Parameters: ``sum(sizes) d`` (``sum(sizes) d / k`` side by side). Not smaller than about ``2 sqrt(n) d`` with two
    tables; more tables go further. A vocabulary of at most ``threshold`` ids gets an ordinary table.

    Rows that are shared are shared by ids that have nothing to do with each other; which ids those are depends on the
    numbering, here that of the vocabulary, as in the paper.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : int
        Of all tables together; 0 takes a quarter of the symbols. The fewest tables that can have so few are used.
    sizes : sequence of int, optional
        Of the tables, instead of ``rows``.
    scheme : {"radix", "remainders"}
    combine : {"product", "sum", "concat"}
    threshold : int
        Ids up to which the table is an ordinary one.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        rows: int = 0,
        sizes: Sequence[int] | None = None,
        scheme: Literal["radix", "remainders"] = "radix",
        combine: Literal["product", "sum", "concat"] = "product",
        threshold: int = 0,
    ) -> None:
        super().__init__(vocabulary, dim)
        self.rows, self.sizes = rows, None if sizes is None else [int(size) for size in sizes]
        self.scheme, self.combine, self.threshold = scheme, combine, threshold
        if scheme not in ("radix", "remainders") or combine not in ("product", "sum", "concat"):
            raise InputError(f"scheme={scheme!r}, combine={combine!r}", where="quotient-remainder", fix="see its help")
        if rows < 0 or threshold < 0:
            raise InputError(f"rows={rows}, threshold={threshold}", where="quotient-remainder", fix="not negative")
        used = self.used_sizes
        widths = [dim] * len(used)
        if combine == "concat":
            widths = [len(part) for part in np.array_split(np.arange(dim), len(used))]
        codes = (radix_codes if scheme == "radix" else remainder_codes)(len(vocabulary), used)
        self.register_buffer("codes", torch.from_numpy(codes), persistent=False)
        spread = {"product": 0.02 ** (1 / len(used)), "sum": 0.02 * len(used) ** -0.5, "concat": 0.02}[combine]
        self.tables = nn.ParameterList(
            nn.Parameter(spread * torch.randn(size, width)) for size, width in zip(used, widths, strict=True)
        )

    @property
    def used_sizes(self) -> list[int]:
        """Sizes of the tables that there are."""
        count = len(self.vocabulary)
        if count <= self.threshold:
            return [count]
        sizes = self.sizes
        if sizes is None:
            choose = sizes_for if self.scheme == "radix" else coprime_sizes_for
            sizes = choose(count, self.rows or -(-count // 4))
        shared = self.scheme == "remainders" and math.lcm(*sizes) != math.prod(sizes)
        if not sizes or min(sizes) < 1 or math.prod(sizes) < count or shared or len(sizes) > self.embedding_dim:
            raise InputError(
                f"tables of {sizes} rows do not tell {count:,} symbols apart",
                where="quotient-remainder",
                fix="give sizes whose product is at least that, without common factors for remainders",
            )
        return sizes

    def vectors(self, ids: Any) -> Any:
        """Rows, combined."""
        rows = [F.embedding(self.codes[ids, place], table) for place, table in enumerate(self.tables)]
        if self.combine == "concat":
            return torch.cat(rows, dim=1)
        out = rows[0]
        for row in rows[1:]:
            out = out * row if self.combine == "product" else out + row
        return out

    @property
    def multiply_adds(self) -> int:
        """Of combining; none side by side."""
        return 0 if self.combine == "concat" else (len(self.tables) - 1) * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int, **given: Any) -> dict[str, Any]:
        """Two tables where they can be as small as the budget, else three, and so on: all but the first equal.

        Side by side a row is narrower the more tables there are, so as many rows more are had for the same budget.
        """
        if given.get("combine") != "concat" or "sizes" in given:
            return {"rows": max(1, round(budget / dim))}
        count, split = len(vocabulary), split_radix if given.get("scheme", "radix") == "radix" else split_coprime
        if budget >= count * dim:
            return {"rows": count}
        for parts in range(2, min(8, dim) + 1):
            sizes = split(count, parts, parts * budget // dim)
            if sizes is not None:
                break
        return {} if sizes is None else {"sizes": sizes}

    def _learn(self, table: Any, weights: Any) -> None:
        """Exact for sums and side by side; alternating least squares, each step exact, for products."""
        if self.combine == "sum" and len(self.tables) > 1:
            _fit_sums(self, table, weights)
        elif self.combine == "concat":
            starts = np.cumsum([0, *(part.shape[1] for part in self.tables)])
            ones = torch.ones_like(table)
            for place, part in enumerate(self.tables):
                span = slice(int(starts[place]), int(starts[place + 1]))
                _fit_rows(part, self.codes[:, place], table[:, span], ones[:, span], weights)
        else:
            self._alternate(table, weights)

    def _alternate(self, table: Any, weights: Any) -> None:
        # begins at the mean row times ones with a little noise: products of zero-mean rows have no direction to go
        with torch.no_grad():
            for part in list(self.tables)[1:]:
                part.copy_(1 + 0.1 * torch.randn_like(part))
            for _ in range(_SWEEPS if len(self.tables) > 1 else 1):
                for place, part in enumerate(self.tables):
                    others = torch.ones_like(table)
                    for other, rows in enumerate(self.tables):
                        if other != place:
                            others = others * rows[self.codes[:, other]]
                    _fit_rows(part, self.codes[:, place], table, others, weights)


def _fit_rows(part: Any, rows: Any, wanted: Any, factors: Any, weights: Any) -> None:
    """Each number of a table to what ``number x factor`` should be, by (weighted) least squares."""
    weight = torch.ones(len(rows), 1) if weights is None else weights[:, None]
    above = torch.zeros_like(part).index_add_(0, rows, weight * wanted * factors)
    below = torch.zeros_like(part).index_add_(0, rows, weight * factors.square())
    shift = 1e-6 * below.mean().clamp_min(1e-30)
    with torch.no_grad():
        part.copy_(above / (below + shift))


def _fit_sums(layer: QuotientRemainder, table: Any, weights: Any) -> None:
    """Least squares over the rows of all tables together."""
    from sememe.tokens.least_squares import solve_sparse

    starts = torch.tensor(np.cumsum([0, *layer.used_sizes]))
    columns = layer.codes + starts[:-1]
    owner = torch.arange(len(table))[:, None].expand_as(columns)
    index = torch.stack((owner.reshape(-1), columns.reshape(-1)))
    found = solve_sparse(index, torch.ones(index.shape[1]), (len(table), int(starts[-1])), table, weights)
    with torch.no_grad():
        for place, part in enumerate(layer.tables):
            part.copy_(found[starts[place] : starts[place + 1]])


def sizes_for(count: int, rows: int) -> list[int]:
    """Sizes in mixed radix with about ``rows`` rows in all; the fewest tables that can have so few.

    The first takes all rows that the others can spare: fewer ids share each of its rows.
    """
    for parts in range(1, 9):
        least = [count] if parts == 1 else radix_sizes(count, parts)
        if sum(least) <= rows or (parts > 1 and min(least) <= 2):
            break
    return least if parts == 1 else split_radix(count, parts, rows) or radix_sizes(count, parts)


def split_radix(count: int, parts: int, rows: int) -> list[int] | None:
    """Sizes in mixed radix of so many tables with about ``rows`` rows in all; None where they cannot have so few."""
    least = radix_sizes(count, parts)
    others = least[1:]
    if sum(least) > rows and min(least) > 2:
        return None

    def sizes(first: int) -> list[int]:
        rest = -(-count // first)
        tail = [rest] if parts == 2 else radix_sizes(max(rest, 2), parts - 1)
        return [first, *tail]

    low = max(2, -(-count // math.prod(others)))
    first = largest(lambda n: sum(sizes(n)), rows, low, max(count, low))
    return sizes(first)


def coprime_sizes_for(count: int, rows: int) -> list[int]:
    """Sizes without common factors, about equal, of about ``rows`` rows in all; the fewest tables that can do."""
    if rows >= count:
        return [count]
    for parts in range(2, 9):
        sizes = split_coprime(count, parts, rows)
        if sizes is not None:
            return sizes
    return coprime_sizes(max(2, math.ceil(count ** (1 / 8))), 8)


def split_coprime(count: int, parts: int, rows: int) -> list[int] | None:
    """So many sizes without common factors of about ``rows`` rows in all; None where those tell too few apart."""
    least = max(rows // parts - 1, 2)
    sizes = coprime_sizes(least, parts)
    while sum(sizes) > rows and least > 2:  # numbers without common factors grow faster than one by one
        least -= 1
        sizes = coprime_sizes(least, parts)
    return sizes if math.prod(sizes) >= count else None


@register(
    "quotient-path",
    room="tokens",
    kind="layer",
    summary="a row by the id's remainder, passed through a small network that its quotient chooses",
    paper=Paper(
        "Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation Systems",
        2019,
        "1909.02107",
    ),
)
class PathEmbedding(TokenEmbedding):
    """The path-based variant: ``v(i) = f_q(E[i mod m])`` with ``q = i // m``, a network of its own for each quotient.

    Each network is ``d -> hidden -> d`` with a GELU between (a ReLU could make two rows of a path equal):
    ``ceil(n / m) (2 d hidden + hidden + d)`` parameters beside the ``m d`` of the table. Few quotients are needed for
    it to be small, so it pays where ``m`` is a good part of ``n``.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : int
        Of the table, ``m``; 0 takes a quarter of the symbols.
    hidden : int
        Width inside the networks.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, rows: int = 0, hidden: int = 16) -> None:
        super().__init__(vocabulary, dim)
        if rows < 0 or hidden < 1:
            raise InputError(f"rows={rows}, hidden={hidden}", where="quotient-path", fix="give positive numbers")
        self.rows, self.hidden = rows, hidden
        self.buckets = min(rows or -(-len(vocabulary) // 4), len(vocabulary))
        paths = -(-len(vocabulary) // self.buckets)
        self.weight = nn.Parameter(torch.randn(self.buckets, dim))
        self.up = nn.Parameter((2 / dim) ** 0.5 * torch.randn(paths, dim, hidden))
        self.up_bias = nn.Parameter(torch.zeros(paths, 1, hidden))
        self.down = nn.Parameter(0.02 * hidden**-0.5 * torch.randn(paths, hidden, dim))
        self.down_bias = nn.Parameter(torch.zeros(paths, 1, dim))

    def vectors(self, ids: Any) -> Any:
        """Rows through their networks; ids of one quotient share a product."""
        quotient = ids // self.buckets
        rows = F.embedding(ids % self.buckets, self.weight)
        order = torch.argsort(quotient, stable=True)
        counts = torch.bincount(quotient, minlength=len(self.up))
        back = torch.empty_like(order)
        back[order] = torch.arange(len(ids), device=ids.device)
        if len(self.up) <= _FEW:
            parts = []
            for path, part in enumerate(F.embedding(order, rows).split(counts.tolist())):  # networks, not tokens
                if len(part):
                    inner = F.gelu(torch.addmm(self.up_bias[path], part, self.up[path]))
                    parts.append(torch.addmm(self.down_bias[path], inner, self.down[path]))
            return F.embedding(back, torch.cat(parts))
        # rows of each path stand side by side, padded to the longest: one batched product for all paths
        paths = torch.nonzero(counts)[:, 0]
        place = torch.searchsorted(paths, quotient)
        slot = back - (counts.cumsum(0) - counts)[quotient]
        grid = rows.new_zeros(len(paths), int(counts.max()), self.embedding_dim).index_put((place, slot), rows)
        inner = F.gelu(torch.baddbmm(self.up_bias[paths], grid, self.up[paths]))
        return torch.baddbmm(self.down_bias[paths], inner, self.down[paths])[place, slot]

    @property
    def multiply_adds(self) -> int:
        """Of one network."""
        return 2 * self.embedding_dim * self.hidden

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As many rows, and so as few networks, as the budget pays for; networks of the widest of 32, 16, 8, 4, 2, 1.

        Rows are what most symbols have of their own; a network costs as much as some ``2 hidden`` of them.
        """
        count, found = len(vocabulary), []
        for hidden in (32, 16, 8, 4, 2, 1):
            each = 2 * dim * hidden + hidden + dim
            paths = np.arange(1, min(count, 4_096) + 1)
            # what is left beside so many networks, if these are as many as such rows need
            rows = np.clip((budget - paths * each) // dim, -(-count // paths), count)
            size = rows * dim + -(-count // rows) * each
            best = int(np.abs(size - budget).argmin())
            found.append((abs(int(size[best]) - budget), int(rows[best]), hidden))
        near = [entry for entry in found if entry[0] <= 0.02 * budget] or [min(found)]
        return {"rows": near[0][1], "hidden": near[0][2]}
