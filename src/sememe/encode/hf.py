"""Any Hugging Face model that gives token states: ``hf:PATH_OR_ID``."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import register
from sememe.contracts import Kind
from sememe.encode.folder import check_safe, folder_digest, loading, locate, read_json
from sememe.encode.minilm import run_torch
from sememe.encode.parallel import spread_torch
from sememe.encode.transformer import Batch, Tokens, TransformerEncoder
from sememe.errors import InputError, MissingDependency

POOLINGS = ("auto", "mean", "cls", "last")
_UNLIMITED = 1 << 20  # tokenizers without a limit say a number far above this
_ST_POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last", "pooling_mode_mean_tokens": "mean"}


@register(
    "hf",
    room="encode",
    kind="encoder",
    summary="Any Hugging Face model folder or id, pooled over its token states.",
    extra="torch",
)
class HuggingFace(TransformerEncoder):
    """A model of the transformers library, its token states pooled.

    Parameters
    ----------
    path : str
        A model folder, which is used without touching the network, or an id on the hub.
    pooling : {"auto", "mean", "cls", "last"}
        ``auto`` does what a sentence-transformers folder says in ``1_Pooling``, and takes the mean elsewhere.
    max_length : int, optional
        Tokens read of a text; what the folder says when left out.
    query, passage : str
        Prompts put before queries and passages.
    device : str
        Where PyTorch computes, such as ``cpu`` or ``cuda``.

    Raises
    ------
    MissingDependency
        Where torch or transformers is not installed.
    InputError
        Where there is no such model, or its weights are pickled. Code in a model folder is never run.
    """

    def __init__(
        self,
        path: str,
        *,
        pooling: str = "auto",
        max_length: int | None = None,
        query: str = "",
        passage: str = "",
        device: str = "cpu",
    ) -> None:
        require_torch("hf", "transformers")
        if pooling not in POOLINGS:
            raise InputError(f"there is no pooling {pooling!r}", fix=f"use {', '.join(POOLINGS)}")
        if max_length is not None and max_length < 3:
            raise InputError(f"max_length must be at least 3, got {max_length}")
        folder = locate(str(path))
        check_safe(folder)
        config = read_json(folder / "config.json")
        if not config:
            raise InputError("the folder has no config.json", where=str(folder), fix="name a transformers model folder")
        if config.get("is_encoder_decoder"):
            raise InputError("the model is an encoder-decoder", where=str(folder), fix="try st: instead of hf:")
        self.path, self.device, self._folder = str(path), device, folder
        self.pooling = pooling if pooling != "auto" else _stated_pooling(folder)
        self.prompts = {"query": query, "passage": passage}
        self.asymmetric = query != passage
        self.max_tokens = max_length or _stated_length(folder, config)
        self.name = f"hf:{path}"
        self.digest = f"hf-{folder_digest(folder, self.pooling, self.max_tokens, query, passage)}"
        self._lock = threading.Lock()
        self._model, self._tokenizer = _load(folder, device)
        self.dim = int(self._model.config.hidden_size)
        pad = self._tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else self._tokenizer.eos_token_id or 0)

    def _tokenize(self, texts: list[str], kind: Kind, *, spans: bool = False) -> list[Tokens]:
        if not texts:
            return []
        prompt = self.prompts[kind]
        if spans and not self._tokenizer.is_fast:
            raise InputError(f"the tokenizer of {self.name} does not say where its tokens come from")
        with self._lock:  # truncation is state of the tokenizer
            found = self._tokenizer(
                [prompt + text for text in texts],
                truncation=self.max_tokens is not None,
                max_length=self.max_tokens,
                return_offsets_mapping=spans,
            )
        ids = [np.array(row, dtype=np.int64) for row in found["input_ids"]]
        if not spans:
            return [Tokens(row) for row in ids]
        # Characters of the prompt count as special: they are not in the text.
        places = [np.array(row, dtype=np.int64).reshape(-1, 2) - len(prompt) for row in found["offset_mapping"]]
        return [Tokens(row, np.maximum(place, 0)) for row, place in zip(ids, places)]

    def _spread(self, function: Callable[[Batch], Any], items: Iterator[Batch]) -> Iterator[tuple[Batch, Any]]:
        return spread_torch(function, items, on_cpu=self.device == "cpu")

    def _states(self, batch: Batch) -> NDArray[np.float32]:
        if not batch.ids.shape[1] or not batch.lengths.any():  # a tokenizer without special tokens, and no text
            return np.zeros((*batch.ids.shape, self.dim), dtype=np.float32)
        return run_torch(self._model, batch)


def require_torch(name: str, *packages: str) -> None:
    """Refuse at once where torch or another of the packages is not installed."""
    for package in ("torch", *packages):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(package.replace("_", "-"), extra="torch", need=f"the encoder {name}")


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    with loading(str(folder)):
        local = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        return model.eval().to(device), tokenizer


def _stated_pooling(folder: Path) -> str:
    stated = read_json(folder / "1_Pooling" / "config.json")
    if isinstance(stated.get("pooling_mode"), str):  # sentence-transformers since 5.5
        mode = {"lasttoken": "last"}.get(stated["pooling_mode"], stated["pooling_mode"])
        return mode if mode in POOLINGS else "mean"
    return next((how for key, how in _ST_POOLINGS.items() if stated.get(key)), "mean")


def _stated_length(folder: Path, config: dict[str, Any]) -> int | None:
    limits = (
        read_json(folder / "sentence_bert_config.json").get("max_seq_length"),
        read_json(folder / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    known = [int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < _UNLIMITED]
    return min(known) if known else None
