"""Bits a byte on held-out documents, with an interval: the measure that no tokenizer can bend.

A text's bits are the sum over its symbols of ``-log2 p(symbol | symbols before it)``, and are divided by the UTF-8
bytes of the text, so models of different vocabularies are compared on the same scale. Every byte is paid for, the first
symbol's too: a `SmallLM` predicts it from its start vector; a transformers model from the begin-of-text token, and
where there is none the first symbol costs ``log2 v``, as a uniform guess does. That the text ends is not paid for.

The number is an upper bound of what the model needs: other segmentations of the same bytes also have probability. A
tokenizer that drops something (case, accents, white space) is paid for less than the text, and its numbers are not
comparable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.errors import InputError, MissingDependency
from sememe.lab.causal import Causal
from sememe.lab.data import Ids, Stream, stream_of

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="scoring a model") from None

_SAMPLES = 2_000
_MOST_LOGITS = 2**26  # numbers of logits held at once: 256 MB


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Loss over documents.

    Attributes
    ----------
    value, low, high : float
        Bits a byte over all documents, and the ends of the 95 % interval: percentiles of the same ratio over resampled
        documents. One document shows no spread: its interval is the point.
    bits, sizes : float64 and int64 ndarrays of shape (n,)
        Of each document.
    tokens : int
        Symbols scored.
    """

    value: float
    low: float
    high: float
    bits: NDArray[np.float64]
    sizes: Ids
    tokens: int

    def as_json(self) -> dict[str, Any]:
        """The numbers without the arrays."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "documents": len(self.bits),
            "bytes": int(self.sizes.sum()),
            "tokens": self.tokens,
        }

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def loss_per_byte(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    context: int | None = None,
    stride: int | None = None,
    seed: int = 0,
) -> Score:
    """Bits a byte of a model on texts.

    Parameters
    ----------
    model : SmallLM, Causal, or a causal language model of transformers
        What has ``nll(ids) -> (b, l)`` is used as it is; a transformers model is wrapped in `Causal`.
    tokenizer
        As for `sememe.lab.data.encode`; special tokens are not added.
    texts : sequence of str
        Documents. Empty ones have no bytes and are refused.
    context : int, optional
        Most symbols looked at together; what the model allows (at most 1,024) when not given.
    stride : int, optional
        A longer document is scored in overlapping windows; each pays for the ``stride`` symbols that the one before
        had not seen. Half the context when not given.
    seed : int
        Of the interval.
    """
    scorer = model if hasattr(model, "nll") else Causal.of(model, tokenizer)
    stream = stream_of(tokenizer, texts, vocabulary=getattr(scorer, "vocabulary", None))
    return score_stream(scorer, stream, context=context, stride=stride, seed=seed)


def score_stream(
    model: Any, stream: Stream, *, context: int | None = None, stride: int | None = None, seed: int = 0
) -> Score:
    """`loss_per_byte` of documents that are symbols already; ``stream.sizes`` says what a loss is divided by."""
    if not len(stream) or (stream.sizes < 1).any():
        empty = f"document {int(np.argmin(stream.sizes))} is empty" if len(stream) else "there are no documents"
        raise InputError(f"{empty}: it has no loss per byte", fix="leave empty documents out")
    bits = document_bits(stream, token_bits(model, stream, context=context, stride=stride))
    low, high = ratio_interval(bits, stream.sizes, seed)
    return Score(float(bits.sum() / stream.sizes.sum()), low, high, bits, stream.sizes, len(stream.ids))


def document_bits(stream: Stream, bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of each document, ``(n,)``, from those of each symbol, ``(t,)``."""
    whole = np.concatenate(([0.0], np.cumsum(bits)))
    return whole[stream.offsets[1:]] - whole[stream.offsets[:-1]]


def token_bits(
    model: Any, stream: Stream, *, context: int | None = None, stride: int | None = None
) -> NDArray[np.float64]:
    """Bits that each symbol of a stream costs, ``(t,)``; arguments as for `loss_per_byte`.

    Raises
    ------
    InputError
        A model whose loss is not finite, or a stride that leaves symbols out.
    """
    context = min(context or 1_024, getattr(model, "context", None) or 1_024)
    stride = stride or max(1, context // 2)
    if not 0 < stride <= context:
        raise InputError(f"a stride of {stride} in a context of {context} leaves symbols out", fix="give a smaller one")
    windows = _windows(stream, context, stride)
    bits = np.zeros(len(stream.ids))
    was_training = model.training
    model.eval()
    try:
        with progress.task("scoring", total=len(windows), unit="windows") as step, torch.inference_mode():
            for group in _alike(windows, getattr(model, "vocabulary", None) or 4_096):
                _score_group(model, stream, group, bits)
                step(len(group))
    finally:
        model.train(was_training)
    if not np.isfinite(bits).all():
        at = int(np.flatnonzero(~np.isfinite(bits))[0])
        document = int(np.searchsorted(stream.offsets, at, side="right")) - 1
        raise InputError(f"the model gives document {document} a loss that is not finite", fix="look for NaN weights")
    return bits


def paired(a: Score, b: Score, *, seed: int = 0) -> tuple[float, float, float]:
    """Bits a byte of ``a`` minus ``b`` on the same documents, with its 95 % interval: (value, low, high)."""
    if not np.array_equal(a.sizes, b.sizes):
        raise InputError("the two scores are of different documents", fix="score the same texts in the same order")
    difference = a.bits - b.bits
    return (float(difference.sum() / a.sizes.sum()), *ratio_interval(difference, a.sizes, seed))


def ratio_interval(bits: NDArray[np.float64], sizes: Ids, seed: int) -> tuple[float, float]:
    """95 % percentile interval of ``sum(bits) / sum(sizes)``, documents resampled together with their sizes."""
    generator = np.random.default_rng(seed)
    ratios = np.empty(_SAMPLES)
    block = max(1, 2_000_000 // len(bits))
    for start in range(0, _SAMPLES, block):
        rows = generator.integers(len(bits), size=(min(block, _SAMPLES - start), len(bits)))
        ratios[start : start + len(rows)] = bits[rows].sum(1) / sizes[rows].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _windows(stream: Stream, context: int, stride: int) -> list[tuple[int, int, int, int]]:
    """(document, first symbol, past the last, symbols in front that are paid for already)."""
    windows = []
    for document, length in enumerate(np.diff(stream.offsets)):
        start = paid = 0
        while paid < length:
            stop = min(start + context, int(length))
            windows.append((document, start, stop, paid - start))
            paid, start = stop, start + stride
    return windows


def _alike(windows: list[tuple[int, int, int, int]], vocabulary: int) -> list[list[tuple[int, int, int, int]]]:
    """Windows in groups of similar length, each small enough for its logits."""
    ordered = sorted(windows, key=lambda window: window[1] - window[2])  # longest first
    groups, at = [], 0
    while at < len(ordered):
        longest = ordered[at][2] - ordered[at][1]
        size = max(1, min(64, _MOST_LOGITS // (longest * vocabulary)))
        groups.append(ordered[at : at + size])
        at += size
    return groups


def _score_group(model: Any, stream: Stream, group: list[tuple[int, int, int, int]], bits: NDArray[np.float64]) -> None:
    longest = group[0][2] - group[0][1]
    table = np.zeros((len(group), longest), dtype=np.int64)  # padding stands behind, where nothing paid for sees it
    for row, (document, start, stop, _) in enumerate(group):
        table[row, : stop - start] = stream[document][start:stop]
    device = next(model.parameters()).device
    nats = model.nll(torch.from_numpy(table).to(device)).double().cpu().numpy()
    for row, (document, start, stop, paid) in enumerate(group):
        first = stream.offsets[document]
        bits[first + start + paid : first + stop] = nats[row, paid : stop - start] / math.log(2)
