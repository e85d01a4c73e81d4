"""Our encoders in other people's libraries: a real ``SentenceTransformer``, and an encoder that mteb evaluates."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Encoder, Kind, Vectors
from sememe.encode.hf import require_torch
from sememe.errors import InputError, MissingDependency

_CONFIG = "sememe_encoder.json"


def as_sentence_transformer(encoder: Encoder) -> Any:
    """A ``SentenceTransformer`` of one module, which asks ``encoder``.

    It encodes, compares and evaluates like any other; it does not train. ``encode_query`` encodes queries, and all else
    passages. ``save_pretrained`` writes the encoder's name; loading that folder again needs this package, and
    ``trust_remote_code=True``, because the module is not one of sentence-transformers' own.

    Raises
    ------
    MissingDependency
        Where sentence-transformers is not installed.
    """
    require_torch("as_sentence_transformer", "sentence_transformers")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[_module_class()(encoder)], device="cpu", similarity_fn_name="dot")


def as_mteb(encoder: Encoder) -> MtebEncoder:
    """An encoder as mteb's tasks want it (its ``EncoderProtocol``).

    Raises
    ------
    MissingDependency
        Where mteb is not installed.
    """
    return MtebEncoder(encoder)


class MtebEncoder:
    """mteb's ``EncoderProtocol`` over an encoder of ours."""

    def __init__(self, encoder: Encoder, revision: str | None = None, **_: object) -> None:
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError:
            raise MissingDependency("mteb", command="pip install mteb", need="as_mteb") from None
        self.encoder = encoder
        # A name on a hub is "organization/model"; ours may hold colons and slashes.
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in encoder.name)
        self._meta = ModelMeta.create_empty(
            overwrites={
                "name": f"sememe/{name}",
                "revision": revision or encoder.digest,
                "embed_dim": encoder.dim,
                "max_tokens": getattr(encoder, "max_tokens", None),
                "similarity_fn_name": ScoringFunction.DOT_PRODUCT,
            }
        )

    @property
    def mteb_model_meta(self) -> Any:
        """Name, revision and width, as mteb's ``ModelMeta``."""
        return self._meta

    def encode(self, inputs: Iterable[dict[str, Any]], *, prompt_type: Any = None, **kwargs: Any) -> Vectors:
        """Rows for all texts of a ``DataLoader`` of batches, float32 ``(n, dim)``."""
        texts = [text for batch in inputs for text in batch["text"]]
        kind: Kind = "query" if getattr(prompt_type, "value", prompt_type) == "query" else "passage"
        return self.encoder.encode(texts, kind=kind, batch_size=int(kwargs.get("batch_size", 64)))

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """Inner products of all pairs, ``(n1, n2)``."""
        return np.atleast_2d(np.asarray(embeddings1)) @ np.atleast_2d(np.asarray(embeddings2)).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """Inner products row by row, ``(n,)``."""
        first, second = np.atleast_2d(np.asarray(embeddings1)), np.atleast_2d(np.asarray(embeddings2))
        return np.einsum("ij,ij->i", first, second)


@functools.cache
def _module_class() -> Any:
    """The module class; sentence-transformers and torch are imported only when it is asked for."""
    import torch
    from sentence_transformers.base.modules import InputModule

    class EncoderModule(InputModule):  # type: ignore[misc]
        """A first and only module of a SentenceTransformer, which asks an encoder of ours."""

        def __init__(self, encoder: Encoder) -> None:
            super().__init__()
            self.encoder = encoder

        def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
            texts = self._prepend_prompt(list(inputs), prompt) if prompt else list(inputs)
            kind: Kind = "query" if kwargs.get("task") == "query" else "passage"
            return {"sentence_embedding": torch.from_numpy(self.encoder.encode(texts, kind=kind))}

        def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return features

        def get_embedding_dimension(self) -> int:
            return self.encoder.dim

        get_sentence_embedding_dimension = get_embedding_dimension

        @property
        def max_seq_length(self) -> int | None:
            return getattr(self.encoder, "max_tokens", None)

        def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
            content = json.dumps({"encoder": self.encoder.name, "digest": self.encoder.digest})
            Path(output_path, _CONFIG).write_text(content, "utf-8")

        @classmethod
        def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Any:
            from sememe.encode.registry import make

            stored = json.loads(Path(model_name_or_path, _CONFIG).read_text("utf-8"))
            encoder = make(stored["encoder"])
            if encoder.digest != stored["digest"]:
                raise InputError(f"the encoder {encoder.name} is not the one that was saved", where=model_name_or_path)
            return cls(encoder)

    EncoderModule.__module__, EncoderModule.__qualname__ = __name__, "EncoderModule"
    return EncoderModule


def __getattr__(name: str) -> Any:
    if name == "EncoderModule":  # where sentence-transformers looks when it loads a saved model
        return _module_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
