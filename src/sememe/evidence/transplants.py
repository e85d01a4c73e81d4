"""What the experiments on new vocabularies share: tokenizers of real text, small models of them, and moved models."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.evidence.data import DataFolder
from sememe.vocab.initialize import Problem, make
from sememe.vocab.tokenizer import TokenizerFile

if TYPE_CHECKING:
    from sememe.lab.data import Corpus

BATCH, LENGTH = 8, 128
DIM = 64


def byte_bpe(texts: Sequence[str], size: int) -> TokenizerFile:
    """A byte-level BPE tokenizer of ``size`` tokens, learned from texts by the tokenizers package."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return TokenizerFile(json.loads(made.to_str()), where="learned from text")


def wikitext(data: DataFolder, *, share: float = 0.05) -> Corpus:
    """WikiText-2's test and validation parts, cut into documents, a seeded share of them held out."""
    from sememe.lab.data import Corpus, pack

    documents: list[str] = []
    for part in ("test", "valid"):
        with gzip.open(data.require("wikitext2") / f"{part}.txt.gz", "rt", encoding="utf-8") as file:
            documents += pack(file.read(), 2_000)
    return Corpus.split(documents, share=share)


def lines(data: DataFolder, *parts: str) -> list[str]:
    """Lines of a packed text file of the data folder."""
    with gzip.open(data.require(parts[0]).joinpath(*parts[1:]), "rt", encoding="utf-8") as file:
        return file.read().splitlines()


@dataclass(frozen=True, eq=False)
class Trained:
    """A small causal model and its tokenizer.

    Attributes
    ----------
    model : sememe.lab.causal.Causal
    tokenizer : TokenizerFile
    """

    model: Any
    tokenizer: TokenizerFile

    @property
    def table(self) -> Vectors:
        """The tied table, float32 ``(v, d)``."""
        return np.array(self.model.model.get_input_embeddings().weight.detach().numpy())

    def bits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Bits of each text."""
        return self.score(texts).bits  # type: ignore[no-any-return]

    def score(self, texts: Sequence[str]) -> Any:
        """Bits a byte; see `sememe.lab.score.Score`."""
        from sememe.lab.score import score_stream

        return score_stream(self.model, stream(self.tokenizer, texts), context=LENGTH)

    def moved(self, tokenizer: TokenizerFile, table: Vectors) -> Trained:
        """The same layers with another tied table."""
        from sememe.lab.causal import Causal

        model = copy.deepcopy(self.model.model)
        model.resize_token_embeddings(len(table), mean_resizing=False)
        _set(model, table)
        return Trained(Causal(model), tokenizer)

    def more(self, texts: Sequence[str], steps: int, seed: int, rate: float = 1e-3) -> Any:
        """Train it further; its history."""
        from sememe.lab.data import batches
        from sememe.lab.train import Recipe, train

        order = batches(stream(self.tokenizer, texts), BATCH, LENGTH, seed=seed)
        return train(self.model, order, Recipe(steps=steps, rate=rate))


def _set(model: Any, table: Vectors) -> None:
    import torch

    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(np.ascontiguousarray(table)))


def stream(tokenizer: TokenizerFile, texts: Sequence[str]) -> Any:
    """Texts as a token stream."""
    from sememe.lab.data import stream_of

    return stream_of(tokenizer.backend, list(texts))


def trained(tokenizer: TokenizerFile, texts: Sequence[str], *, steps: int, seed: int, dim: int = DIM) -> Trained:
    """A small Llama with a tied table, trained on texts."""
    from sememe.lab.causal import small_llama
    from sememe.lab.model import Shape, seeded

    with seeded(seed):
        model = small_llama(len(tokenizer.tokens), Shape(dim=dim, layers=2, heads=4, context=LENGTH))
    made = Trained(model, tokenizer)
    made.more(texts, steps, seed, rate=3e-3)
    return made


def transplanted(model: Trained, problem: Problem, init: str, **options: Any) -> Trained:
    """The model with the new tokenizer, its table made by a method."""
    old = model.table
    return model.moved(problem.new, make(init, **options).weights(problem, old).apply(old))  # type: ignore[arg-type]
