"""Other people's encoders in ours: sentence-transformers, mteb, and anything with an ``encode``."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from sememe.contracts import Encoder, Kind, Vectors
from sememe.encode.base import DenseEncoder, fingerprint
from sememe.errors import InputError

_PROBE = "width"


def from_object(model: Any, *, name: str | None = None, digest: str | None = None) -> Encoder:
    """An encoder of ours from somebody else's.

    Parameters
    ----------
    model : object
        An encoder of ours (returned as it is), a ``SentenceTransformer``, an mteb encoder, or anything with
        ``encode(list of str)`` that gives one row a text.
    name : str, optional
        How recipes and messages call it.
    digest : str, optional
        What names its weights and settings. Where it is left out and cannot be read off the model, it is different each
        time, so that cached vectors are never taken for those of another model.

    Raises
    ------
    InputError
        Where the object has no ``encode``.
    """
    if all(hasattr(model, attribute) for attribute in ("encode", "dim", "digest", "name")):
        return model
    if hasattr(model, "mteb_model_meta"):
        return FromMteb(model, name, digest)
    if hasattr(model, "encode_query") and hasattr(model, "encode_document"):
        return FromSentenceTransformer(model, name, digest)
    if callable(getattr(model, "encode", None)):
        return FromEncode(model, name, digest)
    raise InputError(f"a {type(model).__name__} has no encode method", fix="give an object with encode(list of str)")


class FromEncode(DenseEncoder):
    """Anything with ``encode(list of str)``; ``kind`` is passed on where its signature has it."""

    def __init__(self, model: Any, name: str | None = None, digest: str | None = None) -> None:
        self.model = model
        self.name = name or type(model).__name__.lower()
        self.digest = digest or self._own_digest() or f"object-{uuid.uuid4().hex}"
        self.dim = self._rows([_PROBE], "passage").shape[1]

    def _own_digest(self) -> str | None:
        return None

    def _call(self, texts: list[str], kind: Kind) -> Any:
        if "kind" in inspect.signature(self.model.encode).parameters:
            self.asymmetric = True
            return self.model.encode(texts, kind=kind)
        return self.model.encode(texts)

    def _rows(self, texts: list[str], kind: Kind) -> Vectors:
        rows = np.asarray(self._call(texts, kind), dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            raise InputError(f"{self.name} gave an array of shape {rows.shape} for {len(texts)} texts")
        return rows

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[slice, Vectors]]:
        step = max(batch_size, 1024)
        for start in range(0, len(texts), step):
            rows = self._rows(texts[start : start + step], kind)
            yield slice(start, start + len(rows)), rows


class FromSentenceTransformer(FromEncode):
    """A loaded ``SentenceTransformer``; queries through ``encode_query``, passages through ``encode_document``."""

    def __init__(self, model: Any, name: str | None = None, digest: str | None = None) -> None:
        prompts = getattr(model, "prompts", None) or {}
        self.asymmetric = prompts.get("query", "") != prompts.get("document", prompts.get("passage", ""))
        self.max_tokens = getattr(model, "max_seq_length", None)
        super().__init__(model, name, digest)

    def _own_digest(self) -> str:
        hasher = hashlib.blake2b(digest_size=16)
        for key, tensor in sorted(self.model.state_dict().items()):
            hasher.update(key.encode())
            hasher.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
        ours = [m.encoder.digest for m in self.model.modules() if type(m).__name__ == "EncoderModule"]
        prompts = getattr(self.model, "prompts", None)
        return f"st-object-{fingerprint(hasher.hexdigest(), repr(self.model), prompts, self.max_tokens, ours)}"

    def _call(self, texts: list[str], kind: Kind) -> Any:
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        return encode(texts, show_progress_bar=False)


class FromMteb(FromEncode):
    """An encoder made for mteb's tasks; it is told the texts are of a retrieval task."""

    asymmetric = True

    def __init__(self, model: Any, name: str | None = None, digest: str | None = None) -> None:
        self._task = _retrieval_metadata()
        super().__init__(model, name or getattr(model.mteb_model_meta, "name", None), digest)

    def _own_digest(self) -> str | None:
        meta = self.model.mteb_model_meta
        if not meta.name or not meta.revision or meta.revision.startswith("no_revision"):
            return None  # a model on this machine, which mteb knows nothing about
        return f"mteb-{fingerprint(meta.name, meta.revision)}"

    def _call(self, texts: list[str], kind: Kind) -> Any:
        from datasets import Dataset  # type: ignore[import-untyped]
        from mteb.types import PromptType
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(Dataset.from_dict({"text": texts}), batch_size=64)
        prompt = PromptType.query if kind == "query" else PromptType.document
        found = self.model.encode(
            loader,
            task_metadata=self._task,
            hf_split="test",
            hf_subset="default",
            prompt_type=prompt,
            show_progress_bar=False,
        )
        return found.float().cpu().numpy() if hasattr(found, "cpu") else found


def _retrieval_metadata() -> Any:
    """What mteb's encoders want to know of a task: that texts are retrieved, in English unless they know better."""
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name="SememeRetrieval",
        description="Texts given to an encoder outside any task.",
        type="Retrieval",
        dataset={"path": "none", "revision": "none"},
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
