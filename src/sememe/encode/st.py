"""Any sentence-transformers model: ``st:PATH_OR_ID``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Vectors
from sememe.encode.base import DenseEncoder
from sememe.encode.folder import check_safe, folder_digest, loading, locate
from sememe.encode.hf import require_torch

_BLOCK = 1024  # texts handed over at once; the library sorts them by length


@register(
    "st",
    room="encode",
    kind="encoder",
    summary="Any sentence-transformers model folder or id, with its own prompts.",
    paper=Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", 2019, "1908.10084"),
    extra="torch",
)
class SentenceTransformers(DenseEncoder):
    """A model of the sentence-transformers library, run by it.

    Its prompts are honoured: queries go through ``encode_query`` and passages through ``encode_document``.

    Parameters
    ----------
    path : str
        A model folder, which is used without touching the network, or an id on the hub.
    device : str
        Where PyTorch computes, such as ``cpu`` or ``cuda``.

    Raises
    ------
    MissingDependency
        Where torch or sentence-transformers is not installed.
    InputError
        Where there is no such model, or its weights are pickled. Code in a model folder is never run.
    """

    def __init__(self, path: str, *, device: str = "cpu") -> None:
        require_torch("st", "sentence_transformers")
        folder = locate(str(path))
        check_safe(folder)
        with loading(str(folder)):
            from sentence_transformers import SentenceTransformer

            self.model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        self.path, self.name = str(path), f"st:{path}"
        self.dim = len(self.model.encode("width", show_progress_bar=False))
        self.max_tokens = self.model.max_seq_length
        prompts = self.model.prompts or {}
        self.asymmetric = prompts.get("query", "") != prompts.get("document", prompts.get("passage", ""))
        self.digest = f"st-{folder_digest(folder)}"

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[slice, Vectors]]:
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        for start in range(0, len(texts), _BLOCK):
            part = texts[start : start + _BLOCK]
            vectors = encode(part, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
            yield slice(start, start + len(part)), np.asarray(vectors, dtype=np.float32)
