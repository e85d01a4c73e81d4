"""What every token layer is: a drop-in for ``torch.nn.Embedding`` that knows its size and can be fitted to a table."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sememe.errors import BudgetError, InputError, MissingDependency
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_ROWS = 8_192  # of the table that are made at once


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a layer rebuilds the table it was fitted to.

    Attributes
    ----------
    error : float
        Squared error over the squared length of the table's rows about their mean: 0 is exact, 1 is the mean row.
    cosine, lowest : float
        Mean, and 1st percentile, of the cosine between a row and its reconstruction, over rows that are not zero.
    seconds : float
    """

    error: float
    cosine: float
    lowest: float
    seconds: float

    def as_json(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def between(cls, table: Any, rebuilt: Any, seconds: float = 0.0) -> Fit:
        """Compare a table ``(v, d)`` with its reconstruction."""
        table, rebuilt = table.double(), rebuilt.double()
        spread = (table - table.mean(0)).square().sum().item()
        error = (table - rebuilt).square().sum().item() / max(spread, 1e-300)
        there = table.norm(dim=1) > 0
        cosine = F.cosine_similarity(table[there], rebuilt[there], dim=1)
        low = torch.quantile(cosine, 0.01).item() if len(cosine) else 1.0
        return cls(error, cosine.mean().item() if len(cosine) else 1.0, low, seconds)


class TokenEmbedding(nn.Module):  # type: ignore[misc]
    """Ids to vectors.

    A subclass makes its parameters in the constructor, whose first arguments are ``vocabulary`` and ``dim``, whose
    others are stored under their own names and can be written as JSON; it gives `vectors` and `multiply_adds`. What
    can be derived again from the vocabulary and the arguments is a buffer with ``persistent=False``; what is learned
    or drawn is saved, and counts.

    Parameters
    ----------
    vocabulary : Vocabulary
        The symbols; `Vocabulary.of` reads any tokenizer.
    dim : int
        Width ``d`` of the vectors.

    Attributes
    ----------
    fit_ : Fit or None
        Of the last `fit`.
    """

    distinct: ClassVar[bool] = False  # whether each distinct id of a batch is worked out once (costly layers)
    counted: bool = False  # whether how often symbols occur decides what the layer is
    metrics: ClassVar[bool] = False  # whether a fit makes use of what errors in each direction cost
    fit_: Fit | None = None

    def __init__(self, vocabulary: Vocabulary, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"vectors of {dim} dimensions are not possible", fix="give a positive dim")
        self.vocabulary, self.embedding_dim = vocabulary, dim

    # What a subclass gives

    def vectors(self, ids: Any) -> Any:
        """Vectors ``(n, d)`` of checked ids ``(n,)``."""
        raise InputError(f"{type(self).__name__} gives no vectors")

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that one token costs (additions alone count as one; gathering costs none)."""
        raise InputError(f"{type(self).__name__} does not say what it costs")

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """Options whose layer comes as near to ``budget`` parameters as it can (`size` of it says how near)."""
        return {}

    # What every layer has

    @property
    def num_embeddings(self) -> int:
        """Symbols ``v``."""
        return len(self.vocabulary)

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def num_bytes(self) -> int:
        """Bytes of the state dict: what a checkpoint holds of this layer."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state_dict().values())

    @property
    def size(self) -> float:
        """What a budget counts: bytes of the state dict, in float32 parameters."""
        return self.num_bytes / 4

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments after ``vocabulary`` and ``dim``, by name."""
        return {name: getattr(self, name) for name in list(inspect.signature(type(self)).parameters)[2:]}

    def forward(self, ids: Any) -> Any:
        """Vectors ``(..., d)`` of integer ids ``(...)``; an id that does not exist is an InputError."""
        flat = self.checked(ids).reshape(-1)
        if not flat.numel():
            return self._empty(ids.shape)
        if self.distinct and flat.numel() > 1:
            found, place = torch.unique(flat, return_inverse=True)
            out = F.embedding(place, self.vectors(found))
        else:
            out = self.vectors(flat)
        return out.view(*ids.shape, self.embedding_dim)

    def checked(self, ids: Any) -> Any:
        """The ids, or an InputError where they are no ids of this vocabulary."""
        return checked_ids(ids, self.num_embeddings)

    def _empty(self, shape: Any) -> Any:
        parameter = next(self.parameters(), None)
        kind = {} if parameter is None else {"dtype": parameter.dtype, "device": parameter.device}
        return torch.zeros(*shape, self.embedding_dim, **kind)

    def table(self) -> Any:
        """All vectors, ``(v, d)`` without gradient: the plain table that does the same."""
        with torch.no_grad():
            ids = torch.arange(self.num_embeddings, device=self._empty((0,)).device)
            return torch.cat([self.vectors(part) for part in ids.split(_ROWS)])

    # Fitting to a table

    def fit(self, table: Any, *, weights: Any = None, metric: Any = None, seed: int = 0) -> Self:
        """Make the layer's vectors as near to those of a table as it can.

        Parameters
        ----------
        table : array-like of shape (v, d)
        weights : array-like of shape (v,), optional
            How much each row matters, for example how often it occurs.
        metric : array-like of shape (d, d), optional
            How much an error in each direction matters: what an error ``e`` costs is ``e M e'``. Layers that have no
            use for it (``metrics`` is False) leave it out.
        seed : int

        Raises
        ------
        InputError
            A table of another shape, or with numbers that are not finite.
        """
        began = time.perf_counter()
        wanted = torch.as_tensor(np.asarray(table), dtype=torch.float32)
        if wanted.shape != (self.num_embeddings, self.embedding_dim):
            raise InputError(
                f"a table of shape {tuple(wanted.shape)}",
                fix=f"this layer needs ({self.num_embeddings}, {self.embedding_dim})",
            )
        if not torch.isfinite(wanted).all():
            raise InputError("a table with numbers that are not finite", fix="repair the model first")
        weight = None
        if weights is not None:
            weight = torch.as_tensor(np.asarray(weights), dtype=torch.float32)
            if weight.shape != (self.num_embeddings,) or not (torch.isfinite(weight) & (weight >= 0)).all():
                raise InputError(f"weights of shape {tuple(weight.shape)}", fix="one a row, not negative")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.metrics and metric is not None:
                self._learn_for(wanted, weight, _symmetric(metric, self.embedding_dim))
            else:
                self._learn(wanted, weight)
        self.fit_ = Fit.between(wanted, self.table(), time.perf_counter() - began)
        return self

    def _learn(self, table: Any, weights: Any) -> None:
        """Fit to a checked float32 table ``(v, d)``; by gradient descent where there is nothing better."""
        from sememe.tokens.distill import distill

        distill(self, table, weights)

    def _learn_for(self, table: Any, weights: Any, metric: NDArray[np.float64]) -> None:
        """The same for a checked metric, where ``metrics`` is True."""
        self._learn(table, weights)

    @classmethod
    def from_pretrained(
        cls,
        table: Any,
        tokenizer: Any,
        *,
        budget: int | float | str | None = None,
        weights: Any = None,
        metric: Any = None,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """A layer of this kind, fitted to a table; ``fit_`` says how well.

        Parameters
        ----------
        table : array-like of shape (v, d)
        tokenizer
            As for `Vocabulary.of`.
        budget, options
            As for `sememe.tokens.build`.
        weights, metric
            As for `fit`; the vocabulary's counts weigh rows where no weights are given.
        seed : int
        """
        from sememe.tokens.factory import sized_layer

        vocabulary = Vocabulary.of(tokenizer)
        if np.ndim(table) != 2:
            raise InputError(f"a table of shape {np.shape(table)}", fix="give a row for each symbol: (v, d)")
        dim = int(np.shape(table)[1])
        layer = sized_layer(cls, vocabulary, dim, budget, seed, options)
        layer.fit(table, weights=vocabulary.counts if weights is None else weights, metric=metric, seed=seed)
        return layer  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the usual ones."""
        signature = inspect.signature(type(self)).parameters
        given = [f"{name}={value!r}" for name, value in self.options.items() if signature[name].default != value]
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *given])


def _symmetric(metric: Any, dim: int) -> NDArray[np.float64]:
    found = np.asarray(metric, dtype=np.float64)
    if found.shape != (dim, dim) or not np.isfinite(found).all():
        raise InputError(f"a metric of shape {found.shape}", fix=f"give finite numbers, ({dim}, {dim})")
    return (found + found.T) / 2


def checked_ids(ids: Any, count: int) -> Any:
    """Integer ids as they are, or an InputError where one is not below ``count`` (compiled code does not ask)."""
    if not isinstance(ids, torch.Tensor):
        raise InputError(f"ids in a {type(ids).__name__}", where="ids", fix="give a tensor of int64 or int32")
    if ids.dtype not in (torch.int64, torch.int32):
        raise InputError(f"ids of type {ids.dtype}", where="ids", fix="give int64 or int32")
    if ids.numel() and not torch.compiler.is_compiling():
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= count:
            bad = low if low < 0 else high
            raise InputError(
                f"id {bad} of a vocabulary with ids 0 to {count - 1}",
                where="ids",
                fix="use the tokenizer that this layer was built for",
            )
    return ids


def roots(metric: Any, dim: int, floor: float = 1e-3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root ``(d, d)`` of a metric whose mean eigenvalue is made 1, and the inverse of the root.

    ``floor`` is added to all eigenvalues: no direction is free. Without a metric both are the unit matrix.
    """
    if metric is None:
        return np.eye(dim), np.eye(dim)
    values, vectors = np.linalg.eigh(np.asarray(metric, dtype=np.float64))
    values = np.maximum(values, 0) / max(float(np.maximum(values, 0).mean()), 1e-300) + floor
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def largest(size: Callable[[int], float], budget: float, low: int, high: int) -> int:
    """The whole number in ``[low, high]`` whose ``size`` (which grows with it) is nearest to ``budget``.

    Raises
    ------
    BudgetError
        An empty range.
    """
    if low > high:
        raise BudgetError(f"there is no size between {low} and {high}")
    first, last = low, high
    while first < last:
        middle = (first + last + 1) // 2
        if size(middle) <= budget:
            first = middle
        else:
            last = middle - 1
    if first < high and abs(size(first + 1) - budget) < abs(size(first) - budget):
        return first + 1
    return first
