"""What the experiments on byte models share: streams of bytes, models of equal size, and noise. Not an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sememe.lab.data import Stream


def bytes_of(text: str) -> list[int]:
    """UTF-8 bytes of a text, as ids."""
    return list(text.encode("utf-8", "surrogatepass"))


def byte_stream(texts: Sequence[str], sizes: Sequence[int] | None = None) -> Stream:
    """Texts as bytes; losses are divided by their bytes, or by ``sizes``."""
    from sememe.lab.data import stream_of

    return stream_of(None, [bytes_of(text) for text in texts], sizes)


def of_size(make: Callable[[int], Any], wanted: int, widths: Sequence[int]) -> tuple[int, int]:
    """The width whose model is nearest to so many parameters, and how many it has.

    Models are built to be counted; ``make(width)`` may draw from PyTorch's generator.
    """
    from sememe.lab.model import count

    sizes = {width: count(make(width)) for width in widths}
    best = min(sizes, key=lambda width: abs(sizes[width] - wanted))
    return best, sizes[best]
