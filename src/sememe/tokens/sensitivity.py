"""What an error in a row of a model's table costs, by its direction: measured on text, with one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.encode.folder import loading
from sememe.errors import InputError, MissingDependency
from sememe.vocab.folder import ModelFolder
from sememe.vocab.subject import Subject, kind_of

_LONGEST = 128  # symbols of a text that are read
_SHARE = 0.15  # of the symbols that are hidden from a masked model
_DRAWS = 4  # directions of an encoder's vector, for each text
_ENOUGH = 4_096  # symbols
_ALIKE = 0.05  # of a symbol's worth of all directions alike, for each direction

F64 = NDArray[np.float64]


def sensitivity(folder: ModelFolder, texts: Sequence[str], *, symbols: int = _ENOUGH, seed: int = 0) -> F64:
    """A metric ``M``: an error ``e`` in the row of a symbol costs about ``e M e'`` each time the symbol occurs.

    On the input side of a language model ``M`` is half the second moment of the loss's gradient with respect to the
    vectors that the table gave (the Fisher information, which near a trained model is the curvature of its loss). Where
    the output table is the same one, an error also moves a logit by ``h . e``; the curvature of the softmax adds half
    the second moment of the last states ``h``, each weighed with ``1 - sum p^2``: in both cases the unit is nats a
    symbol. Of an encoder the cost is the squared change of a text's unit vector, through random directions of it.

    Parameters
    ----------
    folder : ModelFolder
    texts : sequence of str
        What the model reads; enough of them for ``symbols``.
    symbols : int
        How many are read.
    seed : int
        Of what is hidden, and of the directions.

    Returns
    -------
    ndarray of shape (d, d)

    Raises
    ------
    InputError
        Texts without symbols, or a model that transformers does not load.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependency(error.name or "torch", extra="torch", need="the gradients of a model") from None
    try:
        kind = kind_of(folder)
        model = Subject(folder).model
    except InputError:
        kind = "encoder"
        with loading(str(folder.inner)):
            model = transformers.AutoModel.from_pretrained(
                str(folder.inner), dtype=torch.float32, local_files_only=True
            )
    model = model.eval().requires_grad_(False)
    tokenizer = folder.tokenizer()
    rows, total = [], 0
    for found in tokenizer.encode_batch(list(texts), special=kind != "causal"):
        ids = [number for number in found[:_LONGEST] if number < folder.size]
        if len(ids) > 2 and total < symbols:
            rows.append(ids)
            total += len(ids)
    if not rows:
        raise InputError("no text has symbols enough to measure a model with", fix="give longer texts")
    probe = _Probe(model, folder.size if kind != "encoder" and folder.tied else 0)
    generator = torch.Generator().manual_seed(seed)
    mask = tokenizer.roles.get("mask")
    try:
        with progress.task("what errors cost", total=len(rows), unit="texts") as step:
            for row in rows:
                ids = torch.tensor(row)[None]
                if kind == "encoder":
                    probe.encoder(ids, generator)
                elif kind == "causal":
                    probe.language_model(ids, ids[0, 1:], slice(0, -1))
                elif mask is not None:
                    hidden = torch.rand(len(row), generator=generator) < _SHARE
                    hidden[1] |= not bool(hidden.any())
                    probe.language_model(ids.masked_fill(hidden[None], mask), ids[0][hidden], hidden)
                step()
    finally:
        probe.close()
    return probe.metric()


class _Probe:
    """Gradients at what the input table gives, and states that the output table meets, while a model reads."""

    def __init__(self, model: Any, symbols: int) -> None:
        import torch

        self._model, self._count = model, 0
        width = model.get_input_embeddings().weight.shape[1]
        self._moment = torch.zeros(width, width, dtype=torch.float64)
        self._given: Any = None
        self._scale = 1.0
        self._met: Any = None
        self._handles = [model.get_input_embeddings().register_forward_hook(self._take)]
        if symbols:
            self._handles.append(model.get_output_embeddings().register_forward_pre_hook(self._meet))

    def _take(self, module: Any, arguments: Any, given: Any) -> Any:
        self._given = given.detach().requires_grad_(True)
        rows = module.weight.detach()[arguments[0]]  # some models multiply rows by the root of their width
        self._scale = float(given.detach().norm() / rows.norm().clamp_min(1e-30))
        return self._given

    def _meet(self, module: Any, arguments: Any) -> None:
        self._met = arguments[0].detach()

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def language_model(self, ids: Any, wanted: Any, where: Any) -> None:
        """Add one text: the loss of ``wanted`` at ``where``."""
        import torch

        logits = self._model(input_ids=ids).logits[0, where]
        loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, self._given)
        self._add(self._scale * gradient[0], 0.5)
        if self._met is not None:
            sure = logits.detach().softmax(-1).square().sum(-1, keepdim=True)
            self._add(self._met[0, where] * (1 - sure).clamp_min(0).sqrt(), 0.5)
        self._count += len(wanted)

    def encoder(self, ids: Any, generator: Any) -> None:
        """Add one text: the squared change of its unit vector, as a mean over directions."""
        import torch

        states = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vector = torch.nn.functional.normalize(states.mean(1), dim=-1)[0]
        for number in range(_DRAWS):
            direction = torch.randn(len(vector), generator=generator)
            (gradient,) = torch.autograd.grad(vector @ direction, self._given, retain_graph=number < _DRAWS - 1)
            # errors of a text's symbols are independent, so what they cost adds up: not divided by their number
            self._add(self._scale * gradient[0], 1 / _DRAWS)
        self._count += ids.shape[1]

    def _add(self, rows: Any, share: float) -> None:
        wide = rows.double()
        self._moment += share * (wide.T @ wide)

    def metric(self) -> F64:
        """The mean; the fewer symbols were read, the nearer it is to all directions alike."""
        found = np.asarray((self._moment / max(self._count, 1)).numpy())
        return found + _ALIKE * np.trace(found) / max(self._count, 1) * np.eye(len(found))
