"""A frozen causal model as a function of the rows of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a language model") from None


def frozen(model: Any) -> Any:
    """A causal model as it is, or loaded from its folder in float32."""
    if not isinstance(model, (str, Path)):
        return model
    from sememe.vocab.folder import ModelFolder
    from sememe.vocab.token_law import load_model

    names = ModelFolder.open(model).config.get("architectures") or [""]
    if not str(names[0]).endswith(("CausalLM", "LMHeadModel")):
        raise InputError(f"{names[0] or 'this'} is no causal language model", where=str(model), fix="use morph")
    return load_model(str(model)).eval()


def tables_of(model: Any, size: int) -> list[Vectors]:
    """The first ``size`` rows of a model's input and output table, float32; of one where it is both."""
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    if into is None or out is None or not hasattr(model, "base_model"):
        raise InputError(f"{type(model).__name__} is no causal language model", fix="give one of transformers")
    tables = [into.weight] if out.weight is into.weight else [into.weight, out.weight]
    return [np.ascontiguousarray(table.detach()[:size].float().numpy()) for table in tables]


def tables_in(model: Any, size: int) -> list[Vectors]:
    """The same of a model, or of a folder, which is then not loaded whole."""
    if not isinstance(model, (str, Path)):
        return tables_of(model, size)
    from sememe.vocab.folder import ModelFolder

    folder = ModelFolder.open(model)
    return [np.ascontiguousarray(folder.read(role)[:size]) for role in folder.tables]


class ModelLoss:
    """Nats a token of a frozen model that reads and predicts with given rows.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Causal.
    batch, length : int
        Sequences, and their most tokens.
    """

    def __init__(self, model: Any, batch: int, length: int) -> None:
        most = getattr(model.config, "max_position_embeddings", None)
        if most and length > most:
            raise InputError(f"{length} tokens are more than the model's {most}", fix="give a smaller length")
        self._model = model
        self.batch, self.length = batch, length

    def __call__(self, into: Any, out: Any, ids: Any) -> Any:
        """Mean loss of every token but the first of each sequence.

        Parameters
        ----------
        into, out : tensors of shape (m, d)
            Rows that a gradient goes to; the model's own parameters get none.
        ids : int64 ndarray of shape (b, l)
            Below ``m``.
        """
        numbers = torch.from_numpy(np.ascontiguousarray(ids))
        with without_gradients(self._model):
            states = self._model.base_model(inputs_embeds=into[numbers], use_cache=False).last_hidden_state
        logits = states[:, :-1] @ out.T
        return F.cross_entropy(logits.flatten(0, 1), numbers[:, 1:].flatten())


class without_gradients:
    """Within a block a model's parameters need no gradient, and dropout is off."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._needed = [p for p in self._model.parameters() if p.requires_grad]
        self._training = self._model.training
        self._model.requires_grad_(False)
        self._model.eval()

    def __exit__(self, *error: object) -> None:
        for parameter in self._needed:
            parameter.requires_grad_(True)
        self._model.train(self._training)
