"""Tables for categorical features: what click-through models look values up in, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sememe.catalog import register
from sememe.errors import BudgetError, InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a feature table") from None

_SIGN = (1 << 63) - 1
_FACTORS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of SplitMix64, as signed numbers


class FeatureTable(nn.Module):  # type: ignore[misc]
    """Ids ``(b, f)``, one a field, to vectors ``(b, sum of widths)``.

    Ids are those of a joint numbering: field ``f`` owns ``sizes[f]`` of them, behind those of the fields before it.

    Parameters
    ----------
    sizes : sequence of int
        Values of each field.
    widths : sequence of int
        Width of each field's vectors.
    """

    def __init__(self, sizes: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.sizes, self.field_widths = tuple(map(int, sizes)), tuple(map(int, widths))
        if not self.sizes or len(self.sizes) != len(self.field_widths) or min(*self.sizes, *self.field_widths, 1) < 1:
            raise InputError(f"{len(self.sizes)} fields with {len(self.field_widths)} widths", fix="one each, positive")
        ends = torch.tensor(self.sizes).cumsum(0)
        self.register_buffer("first", torch.cat((torch.zeros(1, dtype=torch.int64), ends[:-1])), persistent=False)

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def num_bytes(self) -> int:
        """Bytes of the state dict."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state_dict().values())

    @property
    def size(self) -> float:
        """What a budget counts: bytes of the state dict, in float32 parameters."""
        return self.num_bytes / 4

    def local(self, ids: Any) -> Any:
        """Checked ids ``(b, f)``, counted from each field's first; one of another field is an InputError."""
        if ids.dim() != 2 or ids.shape[1] != len(self.sizes) or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(
                f"ids of shape {tuple(ids.shape)} and type {ids.dtype}",
                fix=f"give integers of shape (b, {len(self.sizes)}), a column a field",
            )
        local = ids.long() - self.first
        sizes = torch.tensor(self.sizes, device=ids.device)
        if not torch.compiler.is_compiling() and bool(((local < 0) | (local >= sizes)).any()):
            row, field = torch.nonzero((local < 0) | (local >= sizes))[0].tolist()
            first = int(self.first[field])
            raise InputError(
                f"id {int(ids[row, field])} in column {field}, whose ids are {first} to "
                f"{first + self.sizes[field] - 1}",
                where="ids",
            )
        return local


def mixed(values: Any, seed: int) -> Any:
    """SplitMix64's finaliser of int64 values: well-spread numbers from 0 to 2^63 - 1, of the same shape."""
    x = values * _FACTORS[0] + seed * 0x9E3779B9 + 0x7F4A7C15
    for shift, factor in ((30, _FACTORS[1]), (27, _FACTORS[2])):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return (x ^ ((x >> 31) & ((1 << 33) - 1))) & _SIGN


@register(
    "field-tables",
    room="tokens",
    kind="feature table",
    summary="a table of its own for each field, hashed where it has fewer rows than the field has values",
)
class FieldTables(FeatureTable):
    """The usual way: field ``f`` has ``rows[f]`` rows; with as many as it has values each value has its own.

    Parameters
    ----------
    sizes : sequence of int
        Values of each field.
    dim : int
    rows : sequence of int, optional
        Rows of each field's table; a row a value when not given.
    seed : int
        Of the hash.
    """

    def __init__(self, sizes: Sequence[int], dim: int, rows: Sequence[int] | None = None, seed: int = 0) -> None:
        super().__init__(sizes, (dim,) * len(sizes))
        self.dim, self.seed = dim, seed
        self.rows = tuple(min(size, int(own)) for size, own in zip(self.sizes, rows or self.sizes))
        if len(self.rows) != len(self.sizes) or min(self.rows) < 1:
            raise InputError(f"rows={rows} for {len(self.sizes)} fields", fix="at least one row each")
        self.weight = nn.Parameter(0.02 * torch.randn(sum(self.rows), dim))
        place, start = [], 0
        for size, own in zip(self.sizes, self.rows):
            values = torch.arange(size)
            place.append(start + (values if own == size else mixed(values + 1_000_003 * start, seed) % own))
            start += own
        self.register_buffer("place", torch.cat(place), persistent=False)

    def forward(self, ids: Any) -> Any:
        """Rows of each field's table, side by side."""
        self.local(ids)
        return F.embedding(self.place[ids], self.weight).flatten(1)

    @staticmethod
    def equal_rows(sizes: Sequence[int], total: int) -> list[int]:
        """``total`` rows shared equally by the fields, and what small fields do not need by the others."""
        rows = [0] * len(sizes)
        left, order = total, sorted(range(len(sizes)), key=lambda field: sizes[field])
        if total < len(sizes):
            raise BudgetError(f"{total} rows for {len(sizes)} fields", fix="give at least one each")
        for place, field in enumerate(order):
            rows[field] = min(sizes[field], left // (len(order) - place))
            left -= rows[field]
        return rows

    @staticmethod
    def proportional_rows(sizes: Sequence[int], total: int) -> list[int]:
        """``total`` rows shared in proportion to the fields' values, at least one each."""
        if total < len(sizes):
            raise BudgetError(f"{total} rows for {len(sizes)} fields", fix="give at least one each")
        spare, values = total - len(sizes), sum(sizes)
        rows = [min(size, 1 + spare * size // values) for size in sizes]
        for field in sorted(range(len(sizes)), key=lambda field: -sizes[field]):  # what rounding left
            rows[field] += min(sizes[field] - rows[field], max(0, total - sum(rows)))
        return rows
