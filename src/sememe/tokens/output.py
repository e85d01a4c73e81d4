"""The output side of a language model: the tied table, the projection that regularises an untied one, and its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import TiedHead
from sememe.tokens.base import TokenEmbedding

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="an output layer") from None


@register(
    "tied-output",
    room="tokens",
    kind="output layer",
    summary="logits by the vectors of the input layer: no parameters of its own",
    paper=Paper("Using the Output Embedding to Improve Language Models", 2016, "1608.05859"),
    claim="Tying input and output lowers perplexity with far fewer parameters; output rows are better word vectors.",
)
class TiedOutput(nn.Module):  # type: ignore[misc]
    """Logits ``h E'`` by the vectors ``E`` of the input layer.

    For an ordinary table these are its rows, as in the paper. For any other token layer they are what the layer says of
    every symbol, worked out anew in each call with its gradient: such a layer then serves both sides with the same few
    parameters, at the price of ``v`` vectors a batch. An encoder and a decoder that are both given the same layer are
    tied three ways.

    Parameters
    ----------
    embedding : nn.Module
        A `TokenEmbedding`, ``nn.Embedding`` or another module with a ``weight`` of shape ``(v, d)``. It is not
        registered here, so its parameters are counted and saved once.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        known = isinstance(embedding, TokenEmbedding)
        self._plain = None if known else TiedHead(embedding)
        self._layer = [embedding]

    @property
    def out_features(self) -> int:
        """Symbols ``v``."""
        layer = self._layer[0]
        return int(layer.num_embeddings if isinstance(layer, TokenEmbedding) else layer.weight.shape[0])

    @property
    def weight(self) -> Any:
        """The vectors ``(v, d)``, with gradient."""
        layer = self._layer[0]
        if self._plain is not None:
            return layer.weight
        device = next((p.device for p in layer.parameters()), None)
        return layer.vectors(torch.arange(self.out_features, device=device))

    def forward(self, x: Any) -> Any:
        """``(..., d)`` to ``(..., v)``."""
        return self._plain(x) if self._plain is not None else F.linear(x, self.weight)


@register(
    "projected-output",
    room="tokens",
    kind="output layer",
    summary="an untied output table behind a square projection whose norm is punished",
    paper=Paper("Using the Output Embedding to Improve Language Models", 2016, "1608.05859"),
    claim="Where tables are not tied, a regularised projection before the output lowers perplexity, too.",
)
class ProjectionRegularizer(nn.Module):  # type: ignore[misc]
    """Logits ``V P h`` with the punishment ``strength |P|_2`` on top of the loss.

    The paper writes ``|P|_2``; this is the Euclidean norm of all entries, not squared, as in the authors' description
    of it as a regularisation term. ``P`` begins as the identity, so that the model begins as one without it.

    Parameters
    ----------
    vocabulary, dim : int
    strength : float
        The paper's 0.15.
    """

    def __init__(self, vocabulary: int, dim: int, strength: float = 0.15) -> None:
        super().__init__()
        if vocabulary < 1 or dim < 1 or strength < 0:
            raise InputError(f"vocabulary={vocabulary}, dim={dim}, strength={strength}", fix="give positive numbers")
        self.strength, self.out_features = strength, vocabulary
        self.projection = nn.Parameter(torch.eye(dim))
        self.weight = nn.Parameter(0.02 * torch.randn(vocabulary, dim))

    def forward(self, x: Any) -> Any:
        """``(..., d)`` to ``(..., v)``."""
        return F.linear(F.linear(x, self.projection), self.weight)

    def penalty(self) -> Any:
        """What is added to the mean loss, in nats."""
        return self.strength * self.projection.norm()


class Penalised(nn.Module):  # type: ignore[misc]
    """A model whose head has a ``penalty``: it is added in training, and is no part of any score.

    Parameters
    ----------
    model : SmallLM or another module with ``nll``, ``head`` and ``context``
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def context(self) -> int:
        """The model's."""
        return int(self.model.context)

    @property
    def vocabulary(self) -> Any:
        """The model's."""
        return self.model.vocabulary

    def nll(self, ids: Any) -> Any:
        """The model's, and in training the penalty on each symbol (so that the mean carries it once)."""
        nats = self.model.nll(ids)
        return nats + self.model.head.penalty() if self.training else nats


def output_vectors(source: Any, side: str = "output") -> Vectors:
    """Rows of an output (or input) table as word vectors, float32 ``(v, d)``, for the measures of `sememe.measure`.

    Parameters
    ----------
    source : str, path, ModelFolder, or a model of `sememe.lab`
        Of a folder with one tied table, both sides are that table.
    side : {"output", "input"}
    """
    if side not in ("output", "input"):
        raise InputError(f"there is no side {side!r}", fix="use output or input")
    if isinstance(source, nn.Module):
        source = getattr(source, "model", source)
        layer = source.head if side == "output" else source.embedding
        table = layer.table() if isinstance(layer, TokenEmbedding) else _table_of(layer)
        if table is None:
            raise InputError(f"{type(layer).__name__} has no rows of symbols", fix="ask for the other side")
        return np.ascontiguousarray(table.detach().float().cpu().numpy())
    from sememe.vocab.folder import ModelFolder

    folder = source if isinstance(source, ModelFolder) else ModelFolder.open(source)
    return folder.read(side if side in folder.tables else "input")


def _table_of(layer: Any) -> Any:
    if isinstance(layer, TiedHead):
        layer = layer._table[0]
    return getattr(layer, "weight", None)
