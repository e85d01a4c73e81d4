"""One table for text and for the symbols of other modalities: new rows beside a frozen model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a joint table") from None

TEXT = "text"


@register(
    "joint-table",
    room="tokens",
    kind="context layer",
    summary="rows for the codes of images or sound beside the frozen table of a language model",
    paper=Paper("TEAL: Tokenize and Embed ALL for Multi-modal Large Language Models", 2023, "2311.04589"),
    claim="A frozen language model understands and writes other modalities through new rows of its tables.",
)
class JointModalityTable(nn.Module):  # type: ignore[misc]
    """A language model's input layer, and behind its ids a block of rows for each other modality.

    A block begins with two markers, where a stretch of that modality starts and where it ends; its codes follow. Text
    ids stay what they were. Only the new rows are trained: they are free, or a learned projection of the vectors of the
    codebook that the codes come from, where these are given (then similar codes begin similar).

    Parameters
    ----------
    embedding : nn.Module
        The model's input layer, ``num_embeddings`` or ``vocabulary`` symbols; its parameters are frozen.
    codes : dict of name to int
        Codes of each modality.
    dim : int
    codebooks : dict of name to array of shape (codes, e), optional
    """

    def __init__(
        self, embedding: Any, codes: Mapping[str, int], dim: int, codebooks: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        books = dict(codebooks or {})
        if TEXT in codes or any(number < 1 for number in codes.values()) or set(books) - set(codes):
            raise InputError(
                f"modalities {dict(codes)} with codebooks of {sorted(books)}", fix="a positive number each"
            )
        self.embedding = embedding.requires_grad_(False)
        self.size, self.embedding_dim = int(embedding.num_embeddings), dim
        self.blocks: dict[str, tuple[int, int]] = {TEXT: (0, self.size)}
        start = self.size
        for name, number in codes.items():
            self.blocks[name] = (start, start + number + 2)
            start += number + 2
        self.num_embeddings = start
        self.rows = nn.Parameter(0.02 * torch.randn(start - self.size, dim))
        self.projections = nn.ModuleDict()
        for name, book in books.items():
            vectors = torch.as_tensor(np.asarray(book), dtype=torch.float32)
            if vectors.ndim != 2 or len(vectors) != codes[name]:
                raise InputError(f"a codebook of shape {tuple(vectors.shape)} for {codes[name]} codes", where=name)
            self.register_buffer(f"codebook_{name}", vectors)
            self.projections[name] = nn.Linear(vectors.shape[1], dim, bias=False)
            nn.init.normal_(self.projections[name].weight, std=0.02 / float(vectors.square().sum(1).mean()) ** 0.5)

    def markers(self, name: str) -> tuple[int, int]:
        """Ids that begin and end a stretch of a modality."""
        start, _ = self._block(name, other=True)
        return start, start + 1

    def ids(self, name: str, codes: Any) -> Any:
        """Ids of codes ``(...)`` of a modality."""
        start, stop = self._block(name, other=True)
        found = torch.as_tensor(np.asarray(codes), dtype=torch.int64)
        if found.numel() and (int(found.min()) < 0 or int(found.max()) >= stop - start - 2):
            raise InputError(f"codes from {int(found.min())} to {int(found.max())} of {stop - start - 2}", where=name)
        return found + start + 2

    def codes(self, name: str, ids: Any) -> Any:
        """Codes of ids ``(...)`` of a modality, as `ids` gave them."""
        start, stop = self._block(name, other=True)
        if ids.numel() and (int(ids.min()) < start + 2 or int(ids.max()) >= stop):
            raise InputError(f"ids that are no codes of {name}", where="ids")
        return ids - start - 2

    def _block(self, name: str, other: bool = False) -> tuple[int, int]:
        if name not in self.blocks or (other and name == TEXT):
            raise InputError(f"there is no modality {name!r}", fix=f"known: {', '.join(self.blocks)}")
        return self.blocks[name]

    @property
    def new_rows(self) -> Any:
        """Vectors of all ids behind the text's, ``(n, d)``, with gradient."""
        if not self.projections:
            return self.rows
        added = torch.zeros_like(self.rows)
        for name, projection in self.projections.items():
            start, stop = self.blocks[name]
            projected = projection(getattr(self, f"codebook_{name}"))
            added = added + F.pad(projected, (0, 0, start + 2 - self.size, self.num_embeddings - stop))
        return self.rows + added

    def forward(self, ids: Any) -> Any:
        """``(...)`` to ``(..., d)``; text and other ids in any order."""
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.num_embeddings):
            raise InputError(f"ids outside of 0 to {self.num_embeddings - 1}", where="ids")
        text = ids < self.size
        known = self.embedding(torch.where(text, ids, 0))
        other = F.embedding(torch.where(text, 0, ids - self.size), self.new_rows)
        return torch.where(text[..., None], known, other)


class JointHead(nn.Module):  # type: ignore[misc]
    """A model's frozen head, and new output rows for the other modalities.

    `block` gives the logits of one modality alone. Of text these are, bit for bit, what the model gave before.

    Parameters
    ----------
    head : nn.Module
        ``(..., d) -> (..., v)``; frozen.
    table : JointModalityTable
    """

    def __init__(self, head: nn.Module, table: JointModalityTable) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        self.blocks, self.size, self.out_features = table.blocks, table.size, table.num_embeddings
        self.rows = nn.Parameter(0.02 * torch.randn(table.num_embeddings - table.size, table.embedding_dim))

    def forward(self, x: Any) -> Any:
        """Logits of everything, ``(..., d)`` to ``(..., v + new)``."""
        return torch.cat((self.head(x), F.linear(x, self.rows)), dim=-1)

    def block(self, x: Any, name: str) -> Any:
        """Logits of one modality, markers first: ``(..., d)`` to ``(..., codes + 2)``, or ``(..., v)`` of text."""
        if name not in self.blocks:
            raise InputError(f"there is no modality {name!r}", fix=f"known: {', '.join(self.blocks)}")
        if name == TEXT:
            return self.head(x)
        start, stop = self.blocks[name]
        return F.linear(x, self.rows[start - self.size : stop - self.size])


class BlockwiseLM(nn.Module):  # type: ignore[misc]
    """A model with `JointHead` whose every symbol is predicted among those of its own modality.

    What comes next is of a known modality nearly always (text until a marker, codes until the other), and text keeps
    the losses that it had without the others, bit for bit.

    Parameters
    ----------
    model : SmallLM
        After `add_modalities`.
    weights : dict of name to float, optional
        How much the symbols of a modality count in training; 1 where not given.
    """

    def __init__(self, model: Any, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.model, self.weights = model, dict(weights or {})
        for name in self.weights:
            if name not in model.head.blocks:
                raise InputError(f"there is no modality {name!r}", fix=f"known: {', '.join(model.head.blocks)}")

    @property
    def context(self) -> int:
        """The model's."""
        return int(self.model.context)

    @property
    def vocabulary(self) -> int:
        """Symbols of all modalities."""
        return int(self.model.head.out_features)

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each symbol among its modality's, ``(b, l)``, weighted in training."""
        states = self.model.states(ids[:, :-1])
        out = torch.zeros(ids.shape, dtype=states.dtype, device=states.device)
        for name, (start, stop) in self.model.head.blocks.items():
            there = (ids >= start) & (ids < stop)
            if there.any():
                logits = self.model.head.block(states[there], name)
                weight = self.weights.get(name, 1.0) if self.training else 1.0
                out[there] = weight * F.cross_entropy(logits, ids[there] - start, reduction="none")
        return out


def add_modalities(model: Any, codes: Mapping[str, int], codebooks: Mapping[str, Any] | None = None) -> Any:
    """Give a trained `SmallLM` rows for other modalities, and freeze all else; the same model."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    table = JointModalityTable(model.embedding, codes, model.trunk.shape.dim, codebooks)
    model.head = JointHead(model.head, table)
    model.embedding = table
    model.vocabulary = table.num_embeddings
    return model
