"""Input and output tables of different widths: a narrow one that is kept, and a wide one that training throws away."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import checked_ids
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a decoupled embedding") from None


class WideOutput(nn.Module):  # type: ignore[misc]
    """Logits by a table of ``width`` dimensions behind a projection from the model's ``dim``.

    Parameters
    ----------
    vocabulary, dim, width : int
    """

    def __init__(self, vocabulary: int, dim: int, width: int) -> None:
        super().__init__()
        if min(vocabulary, dim, width) < 1:
            raise InputError(f"vocabulary={vocabulary}, dim={dim}, width={width}", fix="give positive numbers")
        self.out_features = vocabulary
        self.projection = nn.Linear(dim, width, bias=False)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)
        self.weight = nn.Parameter(0.02 * torch.randn(vocabulary, width))

    def forward(self, x: Any) -> Any:
        """``(..., dim)`` to ``(..., v)``."""
        return F.linear(self.projection(x), self.weight)


class NarrowInput(nn.Module):  # type: ignore[misc]
    """A table of ``width`` dimensions behind a projection up to the model's ``dim``.

    Parameters
    ----------
    vocabulary, dim, width : int
    """

    def __init__(self, vocabulary: int, dim: int, width: int) -> None:
        super().__init__()
        if min(vocabulary, dim, width) < 1:
            raise InputError(f"vocabulary={vocabulary}, dim={dim}, width={width}", fix="give positive numbers")
        self.num_embeddings, self.embedding_dim = vocabulary, dim
        self.rows = nn.Parameter(0.02 * torch.randn(vocabulary, width))
        self.projection = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def forward(self, ids: Any) -> Any:
        """``(...)`` to ``(..., dim)``."""
        return self.projection(F.embedding(checked_ids(ids, len(self.rows)), self.rows))


@register(
    "decoupled",
    room="tokens",
    kind="output layer",
    summary="a narrow input table, a wide output table that is dropped after training, and a converter of tied models",
    paper=Paper("Rethinking embedding coupling in pre-trained language models", 2020, "2010.12821"),
    claim="Narrow input and wide output tables, the savings spent on layers, give better transfer at equal size.",
)
class DecoupledEmbedding(nn.Module):  # type: ignore[misc]
    """Two tables, each with its own width: ``input`` (kept) and ``output`` (for training only).

    A model is given both: ``SmallEncoder(tables.input, tables.output, ...)``. What a user of the trained encoder needs
    is ``kept()``; the output table, usually the largest tensor of all, stays behind.

    Parameters
    ----------
    vocabulary : int
        Symbols ``v``.
    dim : int
        Width of the model.
    input_width, output_width : int
        ``E_in`` and ``E_out``; the paper finds a small one and a large one best.
    """

    def __init__(self, vocabulary: int, dim: int, input_width: int = 64, output_width: int = 512) -> None:
        super().__init__()
        self.input = NarrowInput(vocabulary, dim, input_width)
        self.output = WideOutput(vocabulary, dim, output_width)

    @property
    def fine_tuning_parameters(self) -> int:
        """Numbers of the part that is kept."""
        return sum(parameter.numel() for parameter in self.input.parameters())

    def kept(self) -> dict[str, Any]:
        """State of the part that is kept, without the output table."""
        return {f"input.{name}": value for name, value in self.input.state_dict().items()}

    @classmethod
    def from_tied(
        cls, source: Any, *, input_width: int, output_width: int | None = None, counts: Any = None
    ) -> DecoupledEmbedding:
        """Split the tied table of a model folder.

        The input side is the best rank-``input_width`` approximation of the table (truncated SVD, rows weighted by
        ``counts`` where given). The output side gives exactly the logits of the old head where ``output_width`` is at
        least the model's width: the projection is the identity above random rows, and the columns that meet these begin
        as zeros. A narrower one is the best approximation, too.

        Parameters
        ----------
        source : ModelFolder, path, or float array of shape (v, d)
        input_width : int
            At most the model's width.
        output_width : int, optional
            The model's width when not given.
        counts : array-like of shape (v,), optional

        Raises
        ------
        InputError
            A folder whose tables are not tied.
        """
        table = torch.from_numpy(_tied_table(source))
        v, d = table.shape
        if not 1 <= input_width <= d:
            raise InputError(f"input_width={input_width} of a model of width {d}", fix=f"give 1 to {d}")
        made = cls(v, d, input_width, output_width or d)
        with torch.no_grad():
            rows, up = _low_rank(table, input_width, counts)
            made.input.rows.copy_(rows)
            made.input.projection.weight.copy_(up.T)
            wide = made.output.weight.shape[1]
            if wide >= d:
                made.output.projection.weight[:d] = torch.eye(d)
                made.output.weight.zero_()
                made.output.weight[:, :d] = table
            else:
                rows, up = _low_rank(table, wide, counts)
                made.output.weight.copy_(rows)
                made.output.projection.weight.copy_(up)
        return made


def _tied_table(source: Any) -> Vectors:
    if isinstance(source, (np.ndarray, torch.Tensor)):
        found = np.asarray(source, dtype=np.float32)
        if found.ndim != 2 or not np.isfinite(found).all():
            raise InputError(f"a table of shape {found.shape}", fix="give finite numbers (v, d)")
        return found
    from sememe.vocab.folder import ModelFolder

    folder = source if isinstance(source, ModelFolder) else ModelFolder.open(os.fspath(source))
    if not folder.tied:
        raise InputError("this model's tables are not tied", where=str(folder.path), fix="give one with tied tables")
    return folder.read("input")


def _low_rank(table: Any, width: int, counts: Any) -> tuple[Any, Any]:
    """Rows ``(v, width)`` and a basis ``(width, d)`` whose product is nearest to the table, rows weighted by counts."""
    wanted = table.double()
    weighted = wanted
    if counts is not None:
        weight = torch.as_tensor(np.asarray(Vocabulary(len(table) * [b""], counts=counts).counts))
        weighted = wanted * weight.clamp_min(1e-6 * float(weight.max()) or 1.0).sqrt()[:, None]
    values, vectors = torch.linalg.eigh(weighted.T @ weighted)
    basis = vectors[:, values.argsort(descending=True)[:width]]
    scale = float((wanted @ basis).std()) / 0.02  # rows as large as fresh ones, so that later training is the usual
    return (wanted @ basis / scale).float(), (basis.T * scale).float()
