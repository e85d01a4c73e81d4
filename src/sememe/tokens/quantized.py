"""A trained table in codes: each row in a few bytes, decoded when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import register
from sememe.errors import BudgetError, InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest, roots
from sememe.tokens.row_code import RowCode, shared_bits
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_CLASSES = 8  # of rows by weight, each half as large as the next
_STATE = "state_{}_{}"


@register(
    "codes",
    room="tokens",
    kind="fitted layer",
    summary="the rows of a trained table in transform codes of any number of bytes, decoded when asked for",
)
class CodedTable(TokenEmbedding):
    """Transform codes of the rows of a table: bits go to the axes, and to the rows, where an error costs most.

    It is fitted to a table that exists and has nothing to train: what it saves costs similarity and no time. Rows are
    turned to the principal axes of the table, as `sememe.codec.KLT` does, with two additions. A ``metric`` (see `fit`)
    says what an error in each direction costs: rows are stretched by its root before axes are chosen and squeezed
    after, so what is made small is the cost and not the error. With ``weights`` rows fall into classes, the heaviest
    ``1 / 128`` first, then as many again, and so on; all classes share the axes, and every next bit of an octet of axes
    goes to the class and octet where it lowers the weighted cost most. Rows shrink to the mean row of their class by
    least squares.

    A row of float32 takes ``4 d`` bytes, its code ``size`` on average; the axes are stored once, in float16, and count.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    size : int
        Bytes a row, 2 to ``8 ceil(d / 8) + 1``; 0 takes half a byte a dimension.
    """

    metrics = True

    def __init__(self, vocabulary: Vocabulary, dim: int, size: int = 0) -> None:
        super().__init__(vocabulary, dim)
        self.size_given = size or max(2, dim // 2)
        most = 8 * -(-dim // 8) + 1
        if not 2 <= self.size_given <= most:
            raise InputError(f"size={size}", where="codes", fix=f"give 2 to {most} bytes a row of {dim} dimensions")
        self._codes: list[RowCode] = []
        self._names: list[str] = []
        self.register_buffer("codes", torch.zeros(0, dtype=torch.uint8))  # of all rows, class after class
        self.register_buffer("kind", torch.zeros(0, dtype=torch.uint8))  # class of each row; none where there is one
        self.register_buffer("axes", torch.zeros(0, dim, dtype=torch.float16))
        self.register_buffer("centre", torch.zeros(dim))

    @property
    def options(self) -> dict[str, Any]:
        """The mean size of a row."""
        return {"size": self.size_given}

    def vectors(self, ids: Any) -> Any:
        """Decoded rows; before `fit`, zeros."""
        if not self._codes:
            return torch.zeros(len(ids), self.embedding_dim)
        asked = ids.numpy()
        kind, place = self._where
        turned = np.zeros((len(asked), len(self.axes)), dtype=np.float32)
        for number, code in enumerate(self._codes):  # classes, not tokens
            mine = np.flatnonzero(kind[asked] == number)
            if len(mine):
                begin = self._begins[number]
                block = self.codes.numpy()[begin : self._begins[number + 1]].reshape(-1, code.code_bytes_)
                turned[mine] = code.rebuilt(block[place[asked[mine]]])[:, : turned.shape[1]]
        return self.centre + (torch.from_numpy(turned) @ self._wide).to(self.centre.dtype)

    @property
    def multiply_adds(self) -> int:
        """Turning back to the dimensions: at most ``d^2``, fewer where axes got no bits."""
        axes = len(self.axes) if self._codes else self.embedding_dim
        return (axes + 1) * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """Bytes a row that the budget leaves after the axes."""
        most = 8 * -(-dim // 8) + 1
        if 4 * budget < 2 * len(vocabulary):
            raise BudgetError(
                f"{budget:,} parameters are less than two bytes for each of {len(vocabulary):,} symbols",
                fix=f"the nearest that codes can have is {_expected(len(vocabulary), dim, 2):,.0f}",
            )
        return {"size": largest(lambda size: _expected(len(vocabulary), dim, size), budget, 2, most)}

    @property
    def size(self) -> float:
        """What a budget counts; before `fit`, what is expected of it."""
        return super().size if self._codes else _expected(self.num_embeddings, self.embedding_dim, self.size_given)

    def _learn(self, table: Any, weights: Any) -> None:
        self._learn_for(table, weights, None)

    def _learn_for(self, table: Any, weights: Any, metric: Any) -> None:
        rows = table.numpy().astype(np.float64)
        weight = np.ones(len(rows)) if weights is None or not float(weights.sum()) else weights.numpy().astype(float)
        weight = np.maximum(weight / weight.mean(), 1e-9)
        centre = np.average(rows, axis=0, weights=weight)
        stretch, squeeze = roots(metric, rows.shape[1])
        moved = (rows - centre) @ stretch
        axes = np.linalg.eigh((moved * weight[:, None]).T @ moved)[1][:, ::-1]
        turned = (moved @ axes).astype(np.float32)
        kind = _classes(weight, self.size_given, rows.shape[1])
        members = [np.flatnonzero(kind == number) for number in range(int(kind.max()) + 1)]
        bits = self._bits(turned, weight, members)
        self._codes = [RowCode(own_bits.tolist()).fit(turned[own]) for own, own_bits in zip(members, bits)]
        kept = 8 * max(len(code.bits) for code in self._codes)
        parts = [code.encode(turned[own]).reshape(-1) for own, code in zip(members, self._codes)]
        self.codes = torch.from_numpy(np.concatenate(parts))
        self.kind = torch.from_numpy(kind if len(members) > 1 else kind[:0])
        self.axes = torch.from_numpy((axes.T @ squeeze)[:kept].astype(np.float16))
        self.centre = torch.from_numpy(centre.astype(np.float32))
        states = [code.state() for code in self._codes]
        self._hold({_STATE.format(n, key): value for n, state in enumerate(states) for key, value in state.items()})
        self._settle()

    def _bits(self, turned: Any, weight: NDArray[np.float64], members: list[Any]) -> list[NDArray[np.int64]]:
        """Bits of each class, as many as the promised size has room for beside the axes that they turn out to need."""
        dim, many = turned.shape[1], len(members)
        promised = 4 * _expected(len(turned), dim, self.size_given)
        about = [turned[own].var(axis=0) for own in members], [float(weight[own].mean()) for own in members]
        sizes, octets = [len(own) for own in members], -(-dim // 8)
        for _ in range(3):
            side = 16 * octets * dim + 4 * dim + many * _side(dim, octets) + (len(turned) if many > 1 else 0)
            bits = shared_bits(*about, sizes, promised - side)
            octets = max(len(own) for own in bits)
        return bits

    def _hold(self, state: dict[str, Any]) -> None:
        for name in self._names:
            delattr(self, name)
        self._names = sorted(state)
        for name in self._names:
            self.register_buffer(name, torch.from_numpy(np.array(state[name])))

    def _settle(self) -> None:
        """What follows from the state: where the code of each row is, and the axes in float32."""
        kind = self.kind.numpy() if len(self.kind) else np.zeros(self.num_embeddings, dtype=np.uint8)
        counts = np.bincount(kind, minlength=len(self._codes))
        order = np.argsort(kind, kind="stable")
        place = np.empty(len(kind), dtype=np.int64)
        place[order] = np.arange(len(kind)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._where = kind, place
        self._begins = np.concatenate(([0], np.cumsum(counts * [code.code_bytes_ for code in self._codes])))
        self._wide = self.axes.float()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        begin = f"{prefix}state_"
        held = {key.removeprefix(prefix): value.numpy() for key, value in state_dict.items() if key.startswith(begin)}
        self._hold(held)
        for name in ("codes", "kind", "axes"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        numbers = sorted({int(name.split("_")[1]) for name in held})
        self._codes = [
            RowCode.restored({k.split("_", 2)[2]: v for k, v in held.items() if int(k.split("_")[1]) == number})
            for number in numbers
        ]
        if self._codes:
            self._settle()


def _classes(weight: NDArray[np.float64], size: int, dim: int) -> NDArray[np.uint8]:
    """Class of each row by falling weight: the first 1 / 128, as many again, twice as many, and so on.

    One class for all where there is little to win, or where what classes take would be more than 8 % of the codes.
    """
    count = len(weight)
    kind = np.zeros(count, dtype=np.uint8)
    if 0.08 * count * size < _CLASSES * _side(dim, -(-dim // 8)) or weight.max() < 2 * weight.min():
        return kind
    order = np.argsort(-weight, kind="stable")
    ends = [count >> shift for shift in range(_CLASSES - 1, -1, -1)]
    kind[order] = np.repeat(np.arange(_CLASSES), np.diff([0, *ends])).astype(np.uint8)
    return kind


def _side(dim: int, octets: int) -> int:
    """Bytes that a class takes beside its codes: factors, mean, steps, bits."""
    return 1_100 + 4 * dim + 33 * octets


def _expected(rows: int, dim: int, size: int) -> float:
    """Parameters that codes of ``size`` bytes take, with their axes (eight need a byte of each code) and levels."""
    octets = min(size - 1, -(-dim // 8))
    return (rows * size + 16 * octets * dim + 4 * dim + _side(dim, octets)) / 4
