"""Vectors of frequent n-grams, learned by a model of their own and read from a memory-mapped file when it is done."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Block, Shape
from sememe.positions.base import Rotary
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.ngram_table import NgramTable
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_ROWS = 4_096  # n-grams that are worked out at once
_FORMAT = "sememe n-gram store 1"
_TINY = 1e-12  # keeps the size of a row of zeros differentiable


class NgramStore:
    """A folder with n-grams and their vectors; the vectors stay on disk until a row is asked for.

    Parameters
    ----------
    path : path
        What `write` made.
    vocabulary : Vocabulary
        The one it was written for.
    """

    def __init__(self, path: str | os.PathLike[str], vocabulary: Vocabulary) -> None:
        folder = Path(path)
        try:
            about = json.loads((folder / "store.json").read_text("utf-8"))
            if about["format"] != _FORMAT or about["vocabulary"] != vocabulary.digest:
                raise InputError("this store belongs to another vocabulary or version", where=str(folder))
            self.ngrams = NgramTable.unpacked(np.load(folder / "keys.npy"), np.load(folder / "starts.npy"))
            self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"is no store of n-grams that can be read ({error})", where=str(folder)) from None
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ngrams):
            raise InputError("the vectors do not belong to these n-grams", where=str(folder), fix="write it again")

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors float32 ``(m, d)`` of n-grams ``(m,)``; each distinct one is read once."""
        distinct, place = np.unique(numbers, return_inverse=True)
        return np.asarray(self.vectors[distinct], dtype=np.float32)[place]

    @staticmethod
    def write(path: str | os.PathLike[str], vocabulary: Vocabulary, ngrams: NgramTable, parts: Any, dim: int) -> Path:
        """Write a store, whole or not at all, from float parts ``(m, d)`` in order, as float16."""
        target = Path(path)
        if target.exists():
            raise InputError("there is something here already", where=str(target), fix="give a new folder")
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        try:
            part.mkdir(parents=True)
            keys, starts = ngrams.packed(len(ngrams))
            np.save(part / "keys.npy", keys)
            np.save(part / "starts.npy", starts)
            shape = (len(ngrams), dim)
            out = np.lib.format.open_memmap(part / "vectors.npy", mode="w+", dtype=np.float16, shape=shape)
            at = 0
            for rows in parts:
                out[at : at + len(rows)] = rows
                at += len(rows)
            out.flush()
            del out
            about = {"format": _FORMAT, "vocabulary": vocabulary.digest, "ngrams": len(ngrams), "dim": dim}
            (part / "store.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target


@register(
    "scone",
    room="tokens",
    kind="context layer",
    summary="the longest frequent n-gram that ends at a place gives its vector, from a store outside the accelerator",
    paper=Paper("Scaling Embedding Layers in Language Models", 2025, "2502.01637"),
    claim="Vectors of frequent n-grams, kept outside of the accelerator, lower the loss at the same inference cost.",
)
class SconeEmbedding(TokenEmbedding):
    """A table of symbols, and for places where a frequent n-gram ends, the n-gram's vector instead.

    In training a small transformer reads the n-gram's symbols (through the same table), and what its residual stream
    holds at the last symbol is the vector, brought to the size of that symbol's row. The stream begins with that row,
    so an n-gram is near its last symbol until more is learned; a projection of the last state instead, added to the
    row or in its place, learned slower here. Afterwards `precompute` writes the vectors of all n-grams once, and a
    layer with a store `attach`-ed looks them up: what the model costs then does not depend on the n-grams at all.

    It pays where text is plentiful beside the vocabulary: an n-gram must be met often enough to learn from.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    ngrams : int
        Places for n-grams; `collect` fills them.
    longest : int
        Most symbols of an n-gram.
    layers, heads : int
        Of the transformer over n-grams, whose width is ``dim``; heads of even width.
    """

    def __init__(
        self, vocabulary: Vocabulary, dim: int, ngrams: int = 10_000, longest: int = 3, layers: int = 1, heads: int = 2
    ) -> None:
        super().__init__(vocabulary, dim)
        if ngrams < 0 or longest < 2:
            raise InputError(f"ngrams={ngrams}, longest={longest}", where="scone", fix="give longest of 2 or more")
        self.ngrams, self.longest, self.layers, self.heads = ngrams, longest, layers, heads
        shape = Shape(dim=dim, layers=layers, heads=heads, context=longest).checked()
        self.weight = nn.Parameter(0.02 * torch.randn(len(vocabulary), dim))
        self.places = Rotary(shape.width)
        self.first = nn.RMSNorm(dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(layers))
        keys, _ = NgramTable([]).packed(ngrams)
        self.register_buffer("keys", torch.from_numpy(keys.copy()))
        self.register_buffer("starts", torch.zeros(longest, dtype=torch.int64))
        self._known: tuple[NgramTable, Any, Any] | None = None
        self._store: NgramStore | None = None

    def collect(self, documents: Sequence[NDArray[np.int64]], least: int = 5) -> SconeEmbedding:
        """Choose the n-grams: the most frequent ones of the documents that occur ``least`` times or more."""
        found = NgramTable.frequent(documents, self.ngrams, self.longest, least)
        keys, starts = found.packed(self.ngrams)
        self.keys.copy_(torch.from_numpy(keys))
        self.starts.copy_(torch.from_numpy(starts))
        self._known = self._store = None
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self._known = self._store = None
        super()._load_from_state_dict(*args, **options)

    def _found(self) -> tuple[NgramTable, Any, Any]:
        """The n-grams, their symbols and their lengths."""
        if self._known is None:
            ngrams = NgramTable.unpacked(self.keys.cpu().numpy(), self.starts.cpu().numpy())
            spelled, sizes = ngrams.spelled()
            self._known = ngrams, torch.from_numpy(spelled), torch.from_numpy(sizes)
        return self._known

    def forward(self, ids: Any) -> Any:
        """Vectors ``(b, l, d)`` of ids ``(b, l)``; what stands before a row's first symbol is not known."""
        rows = self.checked(ids) if ids.ndim == 2 else self.checked(ids).reshape(1, -1)
        if not rows.numel():
            return self._empty(ids.shape)
        ngrams = self._store.ngrams if self._store is not None else self._found()[0]
        number = torch.from_numpy(ngrams.match(rows.detach().cpu().numpy().astype(np.int64))[0]).to(rows.device)
        out = F.embedding(rows, self.weight)
        there = number >= 0
        if there.any():
            out = out.clone()
            if self._store is not None:
                stored = self._store.rows(number[there].cpu().numpy())
                out[there] = torch.from_numpy(stored).to(out)
            else:
                distinct, place = torch.unique(number[there], return_inverse=True)
                out[there] = F.embedding(place, self.ngram_vectors(distinct))
        return out.view(*ids.shape, self.embedding_dim)

    def ngram_vectors(self, numbers: Any) -> Any:
        """Vectors ``(m, d)`` of n-grams ``(m,)`` by the transformer."""
        _, spelled, sizes = self._found()
        symbols, size = spelled[numbers.cpu()].to(numbers.device), sizes[numbers.cpu()].to(numbers.device)
        rows = F.embedding(symbols, self.weight)
        x = self.first(rows)
        hidden = torch.arange(self.longest, device=numbers.device) < self.longest - size[:, None]
        bias = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, torch.finfo(x.dtype).min)
        for block in self.blocks:
            x = block(x, self.places, causal=False, bias=bias[:, None, None, :])
        return x[:, -1] * (rows[:, -1].square().mean(-1, keepdim=True) + _TINY).sqrt()

    def precompute(self, path: str | os.PathLike[str]) -> NgramStore:
        """Write the vectors of all n-grams to a store, and open it."""
        ngrams = self._found()[0]

        def parts() -> Any:
            with progress.task("n-grams", total=len(ngrams), unit="n-grams") as step, torch.inference_mode():
                for numbers in torch.arange(len(ngrams)).split(_ROWS):
                    yield self.ngram_vectors(numbers).float().numpy()
                    step(len(numbers))

        return NgramStore(NgramStore.write(path, self.vocabulary, ngrams, parts(), self.embedding_dim), self.vocabulary)

    def attach(self, store: NgramStore | None) -> SconeEmbedding:
        """Look n-grams up in a store from now on (or, with None, work them out again); no gradient reaches a store."""
        if store is not None and store.vectors.shape[1] != self.embedding_dim:
            raise InputError(f"a store of {store.vectors.shape[1]} dimensions for a layer of {self.embedding_dim}")
        self._store = store
        return self

    @property
    def multiply_adds(self) -> int:
        """With a store: none, rows are gathered."""
        return 0

    def vectors(self, ids: Any) -> Any:
        """Rows of single symbols, as where no n-gram is found."""
        return F.embedding(ids, self.weight)

    def table(self) -> Any:
        """Refused: a vector depends on the symbols before it.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("n-gram vectors depend on what stands before, so there is no plain table", where="scone")

    def _learn(self, table: Any, weights: Any) -> None:
        """Refused for the same reason."""
        raise InputError("n-gram vectors cannot be fitted to a plain table", where="scone", fix="train the layer")
