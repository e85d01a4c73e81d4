"""Patches of bytes that begin where the next byte is hard to foresee."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, NotFittedError
from sememe.estimator import Estimator
from sememe.vocab.pairs import Ids

Reals = NDArray[np.float64]
STARTS = 256  # added to a byte that begins a patch, see `marked`
_PAPER = Paper("Byte Latent Transformer: Patches Scale Better Than Tokens", 2024, "2412.09871")


@register(
    "entropy-patches",
    room="vocab",
    kind="patcher",
    summary="patches of bytes that begin where a small byte model is unsure, at any mean size",
    paper=_PAPER,
    claim="A byte model over such patches matches models over tokens, and scales better.",
)
class EntropyPatcher(Estimator):
    """Cuts texts into patches by the entropy of the next byte under a small model.

    Byte ``t`` begins a patch where ``H_t``, the entropy of byte ``t`` given those before it, is above a threshold; or,
    with ``monotonic``, where ``H_t - H_(t - 1)`` is. Both depend on earlier bytes only, so a model can cut while it
    writes. The first byte of a text always begins a patch.

    Parameters
    ----------
    size : float
        Mean bytes in a patch that the threshold is set for, on the texts of `fit`.
    monotonic : bool
        Compare the rise of the entropy, which does not drift within long texts, instead of the entropy.
    longest : int
        Most bytes in a patch; 0 is no limit.
    model : optional
        A trained byte model, ``forward(ids (b, l)) -> logits (b, l + 1, 256)`` as a `sememe.lab.SmallLM`. One is
        trained by `fit` when not given.
    steps, dim : int
        Of the training of that model: batches of 8 x 128 bytes, and its width.
    seed : int

    Attributes
    ----------
    threshold_ : float
        In nats.
    """

    def __init__(
        self,
        size: float = 4.5,
        monotonic: bool = False,
        longest: int = 0,
        model: Any = None,
        steps: int = 300,
        dim: int = 64,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.monotonic = monotonic
        self.longest = longest
        self.model = model
        self.steps = steps
        self.dim = dim
        self.seed = seed

    def fit(self, texts: Sequence[str | bytes], y: object = None) -> Self:
        """Train the byte model where none was given, and set the threshold to the mean size that is asked for."""
        raws = [_bytes(text) for text in texts]
        if not any(map(len, raws)):
            raise InputError("there is no text to learn from", fix="give at least one text that is not empty")
        if self.size < 1 or (self.longest and self.longest < self.size):
            raise InputError(
                f"patches of {self.size} bytes on average, at most {self.longest}, are not possible",
                fix="give a size of at least 1 and not above longest",
            )
        self._model = byte_model(raws, self.steps, self.dim, self.seed) if self.model is None else self.model
        self.threshold_ = threshold([self._rise(raw) for raw in raws], self.size, self.longest)
        return self

    def entropies(self, text: str | bytes) -> Reals:
        """Entropy of each byte given those before it, in nats, ``(l,)``."""
        if not hasattr(self, "_model"):
            raise NotFittedError("this EntropyPatcher is not fitted yet", fix="call fit with texts first")
        return next_byte_entropies(self._model, _bytes(text))

    def starts(self, text: str | bytes) -> NDArray[np.bool_]:
        """Which bytes begin a patch, ``(l,)``."""
        rise = self._rise(_bytes(text))
        self._check_fitted()
        return cut(rise, float(self.threshold_), self.longest)

    def patches(self, text: str | bytes) -> list[bytes]:
        """The patches; joined, they are the text."""
        raw = _bytes(text).tobytes()
        places = [*np.flatnonzero(self.starts(raw)).tolist(), len(raw)]
        return [raw[a:b] for a, b in pairwise(places)]

    def _rise(self, raw: NDArray[np.uint8]) -> Reals:
        entropies = self.entropies(raw.tobytes())
        return np.diff(entropies, prepend=entropies[:1]) if self.monotonic else entropies


def marked(text: str | bytes, starts: NDArray[np.bool_]) -> Ids:
    """Bytes with 256 added where a patch begins: how `sememe.lab.patches.PatchLM` is fed, int64 ``(l,)``."""
    return _bytes(text).astype(np.int64) + STARTS * starts


def strided(length: int, size: float) -> NDArray[np.bool_]:
    """Patch beginnings at a fixed mean distance: every ``size`` bytes, rounded to whole ones."""
    starts = np.zeros(length, dtype=bool)
    starts[np.floor(np.arange(0, length, size)).astype(np.int64)] = True
    return starts


def cut(rise: Reals, threshold: float, longest: int = 0) -> NDArray[np.bool_]:
    """Beginnings of patches: the first byte, those above the threshold, and where a patch would become too long."""
    starts = rise > threshold
    starts[:1] = True
    if longest and len(starts):
        at = np.flatnonzero(starts)
        lengths = np.diff(np.append(at, len(starts)))
        extra = (lengths - 1) // longest  # a long patch is cut every `longest` bytes from its beginning
        number = np.arange(extra.sum()) - np.repeat(np.cumsum(extra) - extra, extra) + 1
        starts[np.repeat(at, extra) + longest * number] = True
    return starts


def threshold(rises: Sequence[Reals], size: float, longest: int = 0) -> float:
    """The threshold at which patches have ``size`` bytes on average over all texts, by bisection over the values."""
    values = np.unique(np.concatenate([rise[1:] for rise in rises] + [np.zeros(1)]))
    total = sum(map(len, rises))
    low, high = -1, len(values) - 1  # places in `values`; -1 stands below them all, where patches are smallest
    while high - low > 1:
        middle = (low + high) // 2
        if total / sum(int(cut(rise, float(values[middle]), longest).sum()) for rise in rises) < size:
            low = middle
        else:
            high = middle
    return float(values[high])


def next_byte_entropies(model: Any, raw: NDArray[np.uint8]) -> Reals:
    """Entropy of each byte given those before it, in nats; long texts in windows that overlap by half."""
    import torch

    context = int(model.context)
    stride = max(1, context // 2)
    found = np.zeros(len(raw))
    begins = range(0, max(len(raw) - context + stride, 1), stride)
    ids = torch.from_numpy(raw.astype(np.int64))
    full = [begin for begin in begins if begin + context <= len(raw)]
    groups = [full[at : at + 32] for at in range(0, len(full), 32)] + [[b] for b in begins if b + context > len(raw)]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for group in filter(None, groups):
            block = torch.stack([ids[begin : begin + context] for begin in group])
            if not block.shape[1]:
                continue
            logs = model(block[:, :-1]).double().log_softmax(-1)
            entropies = -(logs.exp() * logs).sum(-1).numpy()
            for begin, row in zip(group, entropies):
                paid = context - stride if begin else 0
                found[begin + paid : begin + len(row)] = row[paid:]
    model.train(was_training)
    return found


def byte_model(raws: Sequence[NDArray[np.uint8]], steps: int, dim: int, seed: int) -> Any:
    """A small causal model over the 256 bytes, trained on texts."""
    from sememe.lab.data import batches, stream_of
    from sememe.lab.model import Shape, SmallLM, seeded, table
    from sememe.lab.train import Recipe, train

    shape = Shape(dim=dim, layers=2, heads=4, context=128)
    stream = stream_of(None, raws)
    with seeded(seed):
        model = SmallLM(table(256, dim), shape=shape)
    rows = min(8, max(1, len(stream.ids) // shape.context))
    train(
        model,
        batches(stream, rows, min(shape.context, len(stream.ids)), seed=seed),
        Recipe(steps=steps),
        label="byte model",
    )
    return model


def _bytes(text: str | bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(text, np.ndarray):
        return text
    if not isinstance(text, (str, bytes)):
        raise InputError(f"a text must be str or bytes, got {type(text).__name__}", fix="pass a list of texts")
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return np.frombuffer(raw, dtype=np.uint8)
