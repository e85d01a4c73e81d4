"""Model folders in Hugging Face's layout, opened without PyTorch; `sememe.vocab.writing` writes them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.side_files import named_ids, read_json
from sememe.vocab.tables import Layout, find_layout, text_config
from sememe.vocab.tensors import Tensor, read_header, widen
from sememe.vocab.writing import write_folder

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

__all__ = ["ModelFolder", "write_folder"]
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A model on disk.

    Attributes
    ----------
    path : Path
        The folder that was named.
    inner : Path
        Where config.json and the weights lie: ``path``, or the Transformer module of a sentence-transformers folder.
    config : dict
        config.json.
    tensors : dict of name to Tensor
    layout : Layout
        Where the vocabulary lies.
    shards : tuple of str
        Names of the weight files in ``inner``.
    metadata : dict of file name to {str: str}
        The metadata of each weight file.
    """

    path: Path
    inner: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    layout: Layout
    shards: tuple[str, ...]
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ModelFolder:
        """Read the configuration and the headers of the weight files; no weights yet.

        Raises
        ------
        InputError
            No such folder, missing files, quantized or pickled weights, an unknown layout, tables that do not match.
        """
        folder = Path(path)
        if not folder.is_dir():
            known = folder.suffix.lower() == ".gguf"
            what = "is a GGUF file; its weights are quantized" if known else "there is no such model folder"
            fix = "convert it to a folder with safetensors first" if known else "check the path"
            raise InputError(what, where=str(path), fix=fix)
        inner = _inner(folder)
        where = str(inner)
        config = read_json(inner / "config.json")
        if config is None:
            raise InputError("there is no config.json here", where=where, fix="give a Hugging Face model folder")
        if config.get("quantization_config") or text_config(config).get("quantization_config"):
            raise InputError("the model is quantized", where=where, fix="give the folder of the unquantized model")
        tensors, shards, metadata = _weights(inner)
        layout = find_layout(tensors, config, where)
        return cls(folder, inner, config, tensors, layout, shards, metadata)

    @property
    def tied(self) -> bool:
        """Whether the head multiplies by the input table."""
        return self.layout.tied

    @property
    def tables(self) -> dict[str, Tensor]:
        """``input``, and ``output`` where the model has a head of its own: tensors of shape ``(v, d)``."""
        found = {"input": self.layout.input}
        if self.layout.output is not None:
            found["output"] = self.layout.output
        return found

    @property
    def size(self) -> int:
        """Rows of the tables."""
        return self.layout.input.shape[0]

    @property
    def parameters(self) -> int:
        """Numbers in the whole model, a tied table counted once."""
        copies = sum(t.parameters for t in (*self.layout.copies, *self.layout.output_copies))
        return sum(t.parameters for t in self.tensors.values()) - copies

    def tensor(self, name: str) -> Tensor:
        """A tensor by its role (``input``, ``output``) or its name."""
        found = self.tables.get(name) or self.tensors.get(name)
        if found is None:
            raise InputError(
                f"there is no table {name!r}", where=str(self.inner), fix=f"known: {', '.join(self.tables)}"
            )
        return found

    def read(self, name: str) -> Vectors:
        """A table as float32 ``(v, d)``.

        Raises
        ------
        InputError
            Where it holds NaN or infinity, with the row.
        """
        tensor = self.tensor(name)
        out = np.empty(tensor.shape, dtype=np.float32)
        for first, values in tensor.blocks():
            block = widen(values, tensor.dtype)
            if not np.isfinite(block).all():
                row = first + int(np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))[0])
                raise InputError(f"{tensor.name} holds NaN or infinity in row {row}", where=str(tensor.file))
            out[first : first + len(block)] = block
        return out

    def named_ids(self) -> set[int]:
        """Token ids that config.json and generation_config.json name, such as where a text ends."""
        generation = read_json(self.inner / "generation_config.json") or {}
        return {number for number in named_ids(self.config) | named_ids(generation) if number < self.size}

    def tokenizer(self) -> TokenizerFile:
        """The model's tokenizer, checked against the size of the tables."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> TokenizerFile:
        from sememe.vocab.tokenizer import TokenizerFile

        found = TokenizerFile.open(self.inner)
        tokens, rows = len(found.tokens), self.size
        if tokens > rows:
            raise InputError(
                f"the tokenizer has {tokens} tokens and the table only {rows} rows",
                where=str(self.inner),
                fix="give the tokenizer that the model was trained with",
            )
        if rows - tokens > max(1024, rows // 10):  # models are padded to round sizes, but not by this much
            raise InputError(
                f"the table has {rows} rows for a tokenizer of {tokens} tokens; they do not belong together",
                where=str(self.inner),
                fix="give the tokenizer that the model was trained with",
            )
        return found


def _inner(folder: Path) -> Path:
    """Where the transformer of a sentence-transformers folder lies."""
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
    except FileNotFoundError:
        return folder
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=str(folder / "modules.json")) from None
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Transformer"):
            inner = Path(os.path.normpath(folder / str(module.get("path", ""))))
            if inner != folder and folder not in inner.parents and str(folder) != ".":
                raise InputError("modules.json leads out of the folder", where=str(folder))
            return inner
    return folder


def _weights(inner: Path) -> tuple[dict[str, Tensor], tuple[str, ...], dict[str, dict[str, str]]]:
    where = str(inner)
    index = read_json(inner / _INDEX)
    if index is not None:
        mapping = index.get("weight_map")
        if not isinstance(mapping, dict) or not mapping or not all(isinstance(f, str) for f in mapping.values()):
            raise InputError("has no weight_map", where=str(inner / _INDEX))
        shards = tuple(sorted(set(mapping.values())))
        if any(Path(shard).name != shard for shard in shards):
            raise InputError("names a file outside the folder", where=str(inner / _INDEX))
    elif (inner / _SINGLE).is_file():
        mapping, shards = None, (_SINGLE,)
    else:
        names = sorted(p.name for p in inner.iterdir())
        if any(name.endswith(".gguf") for name in names):
            raise InputError("the weights are a GGUF file, which is quantized", where=where, fix="convert it first")
        if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
            command = "from transformers import AutoModel as M; M.from_pretrained(OLD).save_pretrained(NEW)"
            raise InputError(
                "the weights are pickled, and reading them could run code",
                where=where,
                fix=f'convert them where you trust them: python -c "{command}" (with the class of config.json)',
            )
        raise InputError("there is no model.safetensors here", where=where, fix="give a folder with weights")
    tensors: dict[str, Tensor] = {}
    metadata = {}
    for shard in shards:
        if not (inner / shard).is_file():
            raise InputError("this weight file is missing", where=str(inner / shard), fix="copy the whole model")
        found, metadata[shard] = read_header(inner / shard)
        if found.keys() & tensors.keys():
            raise InputError("holds a tensor that another shard has too", where=str(inner / shard))
        tensors |= found
    if mapping is not None and {n: t.file.name for n, t in tensors.items()} != mapping:
        raise InputError("the index does not describe these weight files", where=str(inner / _INDEX))
    return tensors, shards, metadata
