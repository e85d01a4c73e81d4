"""The fair trial of token layers: one small language model, one text, one order and optimiser for every layer."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.lab.compare import Comparison, Contender, RunLog, compare
from sememe.lab.data import Corpus, Stream, stream_of
from sememe.lab.model import Shape, SmallLM
from sememe.lab.score import token_bits
from sememe.lab.train import Recipe
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="comparing token layers") from None

TYPOS = 0.1  # share of the letters that are disturbed
RARE = 5  # a symbol is rare that occurs no more often than this in the text to train on

Maker = Callable[[Vocabulary, int], nn.Module]  # (vocabulary, seed) -> layer


@dataclass(frozen=True, eq=False)
class LayerTrial:
    """Text, tokenizer and what is measured, the same for all layers.

    The output layer is a plain one of its own, over the symbols that the text uses (unused symbols have no loss, and
    cost time); the input layer is built for the whole vocabulary.

    Attributes
    ----------
    corpus : Corpus
    tokenizer
        As for `sememe.lab.data.encode`, and readable by `Vocabulary.of`.
    shape : Shape
    seed : int
        Of the typos.
    """

    corpus: Corpus
    tokenizer: Any
    shape: Shape
    seed: int = 0

    @cached_property
    def _encoder(self) -> Any:
        return getattr(self.tokenizer, "backend", self.tokenizer)

    @cached_property
    def _train(self) -> Stream:
        return stream_of(self._encoder, self.corpus.train)

    @cached_property
    def _held_out(self) -> Stream:
        return stream_of(self._encoder, self.corpus.held_out)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The whole vocabulary, with counts in the text to train on."""
        size = len(Vocabulary.of(self.tokenizer))
        return Vocabulary.of(self.tokenizer, np.bincount(self._train.ids, minlength=size)[:size])

    @cached_property
    def used(self) -> NDArray[np.int64]:
        """Ids that the text uses, its misspelled form included, ascending."""
        found = np.unique(np.concatenate([self._train.ids, self._held_out.ids, self._misspelled.ids]))
        if found[-1] >= len(self.vocabulary):
            raise InputError(f"the tokenizer gives id {found[-1]}, and has {len(self.vocabulary):,} symbols")
        return found

    @cached_property
    def _misspelled(self) -> Stream:
        texts = [misspell(text, TYPOS, seed=self.seed + row) for row, text in enumerate(self.corpus.held_out)]
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in self.corpus.held_out]
        return stream_of(self._encoder, texts, sizes)

    def _compact(self, stream: Stream) -> Stream:
        return Stream(np.searchsorted(self.used, stream.ids), stream.offsets, stream.sizes)

    @cached_property
    def _after_rare(self) -> NDArray[np.bool_]:
        """Places of the held-out text whose symbol follows a rare one of the same document."""
        assert self.vocabulary.counts is not None
        rare = self.vocabulary.counts[self._held_out.ids] <= RARE
        after = np.concatenate(([False], rare[:-1]))
        after[self._held_out.offsets[:-1][np.diff(self._held_out.offsets) > 0]] = False
        return after

    def model(self, layer: nn.Module) -> SmallLM:
        """The small model around a layer."""
        return SmallLM(_Used(layer, self.used), "free", shape=self.shape, vocabulary=len(self.used))

    def run(
        self,
        layers: Mapping[str, Maker],
        *,
        steps: int = 300,
        seeds: Sequence[int] = (0, 1, 2),
        batch: int = 8,
        recipe: Recipe | None = None,
        log: RunLog | None = None,
    ) -> Comparison:
        """Train the model with each layer and each seed, and measure it.

        Parameters
        ----------
        layers : dict of name to function
            ``make(vocabulary, seed)`` gives an untrained layer; the first is what the others are compared with. All
            else in the model starts the same for equal seeds.
        steps, batch : int
            Batches, and rows of ``shape.context`` symbols of each.
        seeds : sequence of int
        recipe : Recipe, optional
        log : RunLog, optional

        Returns
        -------
        Comparison
            ``also`` of a row holds ``layer_parameters`` and ``layer_bytes``, ``typos`` (bits a byte of the held-out
            text with a tenth of its letters disturbed) and ``after_rare`` (bits of a symbol that follows a rare one).
        """
        train, held = self._compact(self._train), self._compact(self._held_out)
        misspelled = self._compact(self._misspelled)

        def also(contender: Contender, model: Any, seed: int) -> dict[str, float]:
            clean = token_bits(model, held, context=self.shape.context)
            wrong = token_bits(model, misspelled, context=self.shape.context)
            layer = model.embedding.layer
            after = float(clean[self._after_rare].mean()) if self._after_rare.any() else float("nan")
            stored = sum(t.numel() * t.element_size() for t in layer.state_dict().values())
            return {
                "layer_parameters": float(sum(p.numel() for p in layer.parameters())),
                "layer_bytes": float(stored),
                "typos": float(wrong.sum() / misspelled.sizes.sum()),
                "after_rare": after,
            }

        def maker(make: Maker) -> Callable[[int], SmallLM]:
            return lambda seed: self.model(make(self.vocabulary, seed))

        contenders = [Contender(name, maker(make), train, held) for name, make in layers.items()]
        return compare(
            contenders,
            seeds=seeds,
            steps=(steps,),
            recipe=recipe or Recipe(),
            batch=batch,
            length=self.shape.context,
            also=also,
            log=log,
        )


class _Used(nn.Module):  # type: ignore[misc]
    """A layer asked by the places of ids among those that are used."""

    def __init__(self, layer: nn.Module, used: NDArray[np.int64]) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("used", torch.from_numpy(used), persistent=False)

    def forward(self, places: Any) -> Any:
        return self.layer(self.used[places])


def misspell(text: str, share: float, seed: int = 0) -> str:
    """Disturb a share of the letters: each is dropped, doubled, swapped with the next or replaced, all as likely.

    Letters are replaced by others of the text itself, so the script stays; what is no letter stays as it is.
    """
    generator = np.random.default_rng(seed)
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    if not letters:
        return text
    pool = sorted({text[place].lower() for place in letters}) or list(string.ascii_lowercase)
    out = list(text)
    chosen = generator.random(len(letters)) < share
    for place in (letters[row] for row in np.flatnonzero(chosen)):
        kind = int(generator.integers(4))
        if kind == 0:
            out[place] = ""
        elif kind == 1:
            out[place] *= 2
        elif kind == 2 and place + 1 < len(text) and text[place + 1].isalpha():
            out[place], out[place + 1] = out[place + 1], out[place]
        else:
            out[place] = pool[int(generator.integers(len(pool)))]
    return "".join(out)
