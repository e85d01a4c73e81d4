"""Continuing a text byte by byte, from any law of the next byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from sememe.errors import InputError
from sememe.vocab.covers import END
from sememe.vocab.token_law import Law

Draw = Callable[[Law], int]


def drawing(temperature: float, seed: int) -> Draw:
    """How a byte is taken from a law: the likeliest at temperature 0, else a seeded draw."""
    if temperature < 0:
        raise InputError(f"temperature={temperature} cannot be", fix="give a number from 0")
    generator = np.random.default_rng(seed)

    def draw(law: Law) -> int:
        if not temperature:
            return int(law.argmax())
        chances = np.exp((law - law.max()) / temperature)
        return int(generator.choice(len(law), p=chances / chances.sum()))

    return draw


class Continuable(Protocol):
    """A state with a law of the next byte: `ByteState`, or a fused one."""

    @property
    def law(self) -> Law:
        """Normalised log-probabilities, ``(257,)``."""
        ...

    def advance(self, more: bytes | int) -> Continuable:
        """The state after further bytes."""
        ...


def continue_bytes(state: Continuable, length: int, until: Callable[[bytes], bool] | None, draw: Draw) -> bytes:
    """Bytes drawn one after the other until an end, ``length`` bytes or ``until(added)``."""
    if length < 0:
        raise InputError(f"length={length} cannot be", fix="give a number from 0")
    added = bytearray()
    while len(added) < length and not (until is not None and added and until(bytes(added))):
        byte = draw(state.law)
        if byte == END:
            break
        added.append(byte)
        state = state.advance(byte)
    return bytes(added)
