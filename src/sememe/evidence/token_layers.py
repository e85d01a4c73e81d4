"""What the experiments on token layers share: real text, a tokenizer learned from it, and the fair trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sememe.evidence.machinery import Setting
from sememe.evidence.transplants import byte_bpe, wikitext

if TYPE_CHECKING:
    from sememe.lab.compare import Comparison
    from sememe.tokens.trial import LayerTrial
    from sememe.tokens.vocabulary import Vocabulary

SYMBOLS, DIM, STEPS = 4_000, 64, 300


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
