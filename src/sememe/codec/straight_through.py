"""Training of recurrent sign codes: gradients by hand, the sign passed straight through, no PyTorch.

The code of a centred row ``f`` is built in rounds. Round ``j`` takes the sign of what is still missing,
``r_j = sign(e_j T_j)`` with ``e_0 = f`` and ``e_j = f - b_j R_j``, and adds it with half the weight of the round
before: ``b_{j+1} = b_j + 2**-j r_j``. The final ``b`` decodes to ``b D``. Every map is linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.codec.descent import Adam

F32 = NDArray[np.float32]

_BATCH = 256
_BANK = 1024  # rows of the corpus that each batch is compared with, beside itself
_TEMPERATURE = 0.1
_RATE = 0.01  # of Adam, in units of each map's root mean square
_PASSES = 12  # over the corpus, at most: more change the fourth digit of the loss
_SPEED = 8e9  # multiply-adds a second that one busy core surely does: what turns seconds into a number of steps


@dataclass
class Maps:
    """The linear maps of a recurrent code.

    Attributes
    ----------
    encode : list of ndarray of shape (d, dims)
        ``T_0`` to ``T_{depth-1}``.
    feedback : list of ndarray of shape (dims, d)
        ``R_1`` to ``R_{depth-1}``.
    decode : ndarray of shape (dims, d)
        ``D``.
    """

    encode: list[F32]
    feedback: list[F32]
    decode: F32

    def all(self) -> list[F32]:
        """Every map, in a fixed order."""
        return [*self.encode, *self.feedback, self.decode]


def steps_for(seconds: float, n: int, d: int, dims: int, depth: int) -> int:
    """Steps that fit the time, from a count of multiply-adds and not from a clock, so that training repeats exactly."""
    batch = min(_BATCH, n)
    maps = batch * d * dims * 3 * (2 * depth)
    contrast = batch * (batch + min(_BANK, n)) * d * 3
    return max(0, min(int(seconds * _SPEED / (maps + contrast)), _PASSES * n // batch))


def forward(rows: F32, maps: Maps) -> tuple[F32, list[tuple[F32, F32, F32]]]:
    """The levels ``b`` ``(n, dims)`` of centred rows ``(n, d)``, and what the gradient needs of each round."""
    levels = np.zeros((len(rows), maps.decode.shape[0]), dtype=np.float32)
    tape = []
    for number, encode in enumerate(maps.encode):
        missing = rows - levels @ maps.feedback[number - 1] if number else rows
        drive = missing @ encode
        tape.append((missing, drive, levels))
        levels = levels + np.where(drive >= 0, np.float32(2.0**-number), np.float32(-(2.0**-number)))
    return levels, tape


def backward(gradient: F32, levels: F32, tape: list[tuple[F32, F32, F32]], maps: Maps) -> list[F32]:
    """Gradients of all maps, in the order of ``Maps.all``, from that of the decoded rows ``(n, d)``.

    The sign counts as the identity where its argument lies within the reach of the rounds that follow, and as a
    constant beyond.
    """
    decode = levels.T @ gradient
    at = gradient @ maps.decode.T
    encode: list[F32] = []
    feedback: list[F32] = []
    for number in range(len(tape) - 1, -1, -1):
        missing, drive, before = tape[number]
        weight = np.float32(2.0**-number)
        through: F32 = weight * at * (np.abs(drive) <= 2 * weight)
        encode.insert(0, missing.T @ through)
        if number:
            back = through @ maps.encode[number].T
            feedback.insert(0, -(before.T @ back))
            at = at - back @ maps.feedback[number - 1].T
    return [*encode, *feedback, decode]


def loss_gradient(decoded: F32, rows: F32, keys: F32, mean: F32) -> tuple[float, F32]:
    """Loss of decoded centred rows ``(n, d)``, and its gradient.

    Squared error plus the cross entropy between two rankings of ``keys`` ``(k, d)``: by the exact row and by the
    decoded one, each a softmax of inner products. With a single positive key this would be InfoNCE; without pairs of
    queries and passages, the exact row's own preferences are the better teacher. Rows are centred, keys are not.
    """
    n = np.float32(len(rows))
    gap = decoded - rows
    wanted = _softmax((rows + mean) @ keys.T)
    logits = (decoded + mean) @ keys.T
    given = _softmax(logits)
    entropy = -float((wanted * np.log(np.maximum(given, 1e-30))).sum()) / len(rows)
    gradient = (2 * gap + ((given - wanted) @ keys) / np.float32(_TEMPERATURE)) / n
    return float((gap * gap).sum() / n) + entropy, gradient.astype(np.float32)


def _softmax(logits: NDArray[Any]) -> F32:
    scaled = (logits / _TEMPERATURE).astype(np.float32)
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def train(maps: Maps, X: F32, mean: F32, *, steps: int, seed: int) -> None:
    """Improve ``maps`` in place on rows ``X`` ``(n, d)`` whose mean square length is about 1, by Adam."""
    generator = np.random.default_rng(seed)
    weights = maps.all()
    adam = Adam(weights, [_RATE * float(np.sqrt(np.mean(np.square(w, dtype=np.float64)))) for w in weights])
    for step in range(steps):
        batch = X[generator.integers(len(X), size=min(_BATCH, len(X)))]
        bank = X[generator.integers(len(X), size=min(_BANK, len(X)))]
        rows = batch - mean
        levels, tape = forward(rows, maps)
        _, gradient = loss_gradient(levels @ maps.decode, rows, np.concatenate([batch, bank]), mean)
        adam.step(backward(gradient, levels, tape, maps), 1 - step / steps)
