"""What the experiments on token layers share: real text, a tokenizer learned from it, and the fair trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.evidence.machinery import Setting
from sememe.evidence.transplants import byte_bpe, wikitext
from sememe.lab.data import Corpus, Ids, Stream, encode, stream_of

if TYPE_CHECKING:
    from sememe.lab.compare import Comparison, Contender
    from sememe.lab.model import Shape
    from sememe.tokens.trial import LayerTrial
    from sememe.tokens.vocabulary import Vocabulary

SYMBOLS, DIM, STEPS = 4_000, 64, 300
CUTOFFS = (1_000, 6_000)  # the most frequent symbols, and those of the second group


def wikitext_trial(
    setting: Setting, *, symbols: int = SYMBOLS, dim: int = DIM, layers: int = 2, context: int = 64
) -> LayerTrial:
    """WikiText-2 in byte-level BPE of so many symbols, learned from the text to train on."""
    from sememe.lab.model import Shape
    from sememe.tokens.trial import LayerTrial

    corpus = wikitext(setting.data)
    return LayerTrial(corpus, byte_bpe(corpus.train, symbols), Shape(dim=dim, layers=layers, heads=4, context=context))


def compare_layers(
    setting: Setting,
    layers: Mapping[str, Callable[[Vocabulary, int], Any]],
    *,
    steps: int = STEPS,
    batch: int = 16,
    trial: LayerTrial | None = None,
) -> Comparison:
    """Run the trial with the seeds of the setting; the first layer is what the others are compared with.

    ``row.loss`` and ``row.gap`` are (value, low, high) in bits a byte, the gap against the first layer paired by seed
    and document; see `LayerTrial.run` for ``row.also``.
    """
    return (trial or wikitext_trial(setting)).run(layers, steps=steps, seeds=setting.seeds, batch=batch)


def plain(vocabulary: Vocabulary, seed: int, dim: int = DIM) -> Any:
    """The ordinary trained table."""
    from sememe.tokens.factory import build

    return build("table", vocabulary, dim, seed=seed)


@dataclass(frozen=True, eq=False)
class LargeVocabulary:
    """The trial of layers for vocabularies whose full softmax would take nearly all of the time.

    Symbols are numbered by how often the text to train on has them, and the output layer is an adaptive softmax (Grave
    et al., "Efficient softmax approximation for GPUs", 2016, arXiv 1609.04309), the same for all layers: the 1,000 most
    frequent symbols have a score each, rarer ones share two groups with narrower vectors. Probabilities still add up
    to one, so bits a byte are what they are elsewhere, and a step takes a fraction of the time.

    Attributes
    ----------
    corpus : Corpus
    tokenizer : TokenizerFile
    shape : sememe.lab.model.Shape
    """

    corpus: Corpus
    tokenizer: Any
    shape: Shape

    @cached_property
    def _streams(self) -> tuple[Stream, Stream]:
        backend = self.tokenizer.backend
        return stream_of(backend, self.corpus.train), stream_of(backend, self.corpus.held_out)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The symbols, with counts in the text to train on."""
        from sememe.tokens.vocabulary import Vocabulary

        size = len(Vocabulary.of(self.tokenizer))
        return Vocabulary.of(self.tokenizer, np.bincount(self._streams[0].ids, minlength=size))

    def numbers(self, texts: Sequence[str]) -> list[Ids]:
        """Symbols of each text, the most frequent one of the vocabulary being 0."""
        return [self.vocabulary.ranks[ids] for ids in encode(self.tokenizer.backend, texts)]

    def model(self, layer: Any) -> Any:
        """The small model around an input layer; its ``head.log_prob(states)`` gives ``(n, v)``."""
        import torch
        from torch import nn

        from sememe.lab.model import SmallLM

        order = torch.from_numpy(self.vocabulary.by_frequency)

        class ByFrequency(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self, places: Any) -> Any:
                return self.layer(order[places])

        class Model(SmallLM):
            def nll(self, ids: Any) -> Any:
                states = self.states(ids[:, :-1]).flatten(0, 1)
                return -self.head(states, ids.flatten()).output.view(ids.shape)

        head = nn.AdaptiveLogSoftmaxWithLoss(self.shape.dim, len(order), list(CUTOFFS), div_value=2.0)
        return Model(ByFrequency(), head, shape=self.shape, vocabulary=len(order))

    def run(
        self,
        layers: Mapping[str, Callable[[Vocabulary, int], Any]],
        *,
        steps: int,
        seeds: Sequence[int],
        batch: int = 8,
        also: Callable[[Contender, Any, int], dict[str, float]] | None = None,
    ) -> Comparison:
        """Train the model with each layer and seed; ``make(vocabulary, seed)`` gives an untrained layer.

        ``also`` is as for `sememe.lab.compare.compare`; ``layer_parameters`` is added to what it gives.
        """
        from sememe.lab.compare import Contender, compare

        train, held = (Stream(self.vocabulary.ranks[side.ids], side.offsets, side.sizes) for side in self._streams)

        def measured(contender: Contender, model: Any, seed: int) -> dict[str, float]:
            more = also(contender, model, seed) if also else {}
            return {"layer_parameters": float(sum(p.numel() for p in model.embedding.parameters())), **more}

        def maker(make: Callable[[Vocabulary, int], Any]) -> Callable[[int], Any]:
            return lambda seed: self.model(make(self.vocabulary, seed))

        contenders = [Contender(name, maker(make), train, held) for name, make in layers.items()]
        return compare(contenders, seeds=seeds, steps=(steps,), batch=batch, length=self.shape.context, also=measured)
