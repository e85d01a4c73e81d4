"""Frozen pictures of characters instead of a trained table, in three scripts, and whether look-alikes lie close."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

LANGUAGES = ("en", "de", "vi", "ru", "ar")
SYMBOLS, STEPS, BATCH, LENGTH = 2_048, 300, 8, 64
TWINS = "oо eе aа cс pр xх HН BВ MМ TТ KК yу iі EЕ OО".split()  # noqa: SIM905, Latin and Cyrillic
ALIKE = [
    *"O0 l1 I1 Il S5 B8 Z2 G6 ij vw nm ce ao hb pq un uv rt fi EF CG OQ PR VW MN XY KX DO UV".split(),  # noqa: SIM905
    *"ÒÓ êé öõ ưu ơo đd ţt ıi иі шщ ьъ гґ".split(),  # noqa: SIM905
    *"بت تث جح دذ رز سش صض طظ عغ فق".split(),  # noqa: SIM905
    *TWINS,
]


@experiment(
    "glyph",
    paper=Paper(
        "Emergent Semantics Beyond Token Embeddings: Transformer LMs with Frozen Visual Unicode Representations",
        2025,
        "2507.04886",
    ),
    claim="A transformer over frozen vectors of glyphs does as well as one over a trained table: meaning arises above.",
    needs=("xquad",),
)
def run(setting: Setting) -> Finding:
    """Small language models of XQuAD in five languages and three scripts."""
    from sememe.evidence.byte_bpe import paragraphs
    from sememe.evidence.token_layers import compare_layers
    from sememe.lab.data import Corpus
    from sememe.lab.model import Shape
    from sememe.tokens.factory import build
    from sememe.tokens.glyph_tokens import unicode_tokenizer
    from sememe.tokens.trial import LayerTrial

    known, held = paragraphs(setting.data)
    corpus = Corpus(
        tuple(text for language in LANGUAGES for text in known[language]),
        tuple(text for language in LANGUAGES for text in held[language][::3]),
    )
    trial = LayerTrial(
        corpus, unicode_tokenizer(corpus.train, SYMBOLS), Shape(dim=64, layers=2, heads=4, context=LENGTH)
    )
    dim = trial.shape.dim
    rows = compare_layers(
        setting,
        {
            "table": lambda vocabulary, seed: build("table", vocabulary, dim, seed=seed),
            "glyphs": lambda vocabulary, seed: build("glyph", vocabulary, dim, seed=seed),
            "frozen random table": lambda vocabulary, seed: frozen(build("table", vocabulary, dim, seed=seed)),
        },
        steps=STEPS,
        batch=BATCH,
        trial=trial,
    )
    table, glyphs, random = rows.rows
    nearer = [nearer_than_random(ALIKE, seed) for seed in setting.seeds]
    within = [pair for pair in ALIKE if pair not in TWINS]
    checks = {
        "no input parameter is trained": glyphs.also["layer_parameters"] == 0,
        "a validation loss at most 3 % above the table's, with confidence": glyphs.gap[2] <= 0.03 * table.loss[0],
        "look-alikes are nearer than random pairs in at least 90 % of the cases": min(nearer) >= 0.9,
    }
    return Finding(
        measured=glyphs.loss[0],
        baseline=table.loss[0],
        interval=(glyphs.gap[1], glyphs.gap[2]),
        unit="bits a byte of a small model: frozen glyphs, against a trained table",
        interval_of="glyphs minus table, over seeds and documents",
        checks=checks,
        details={
            "look_alikes_nearer_by_seed": nearer,
            "pairs_of_look_alikes": len(ALIKE),
            "without_twins_of_two_scripts_by_seed": [nearer_than_random(within, seed) for seed in setting.seeds],
            "stored_bytes_of_glyphs": glyphs.also["layer_bytes"],
            **{
                row.name: {"bits_a_byte": row.loss, "minus_table": row.gap, "by_seed": row.by_seed}
                for row in (table, glyphs, random)
            },
        },
        conditions=f"XQuAD's paragraphs in {', '.join(LANGUAGES)} (Latin, Cyrillic and Arabic script), every fifth "
        f"article held out (a third of its paragraphs scored), {SYMBOLS:,} symbols of whole characters; width 64, two "
        f"layers, an output layer of its own, {STEPS} steps of {BATCH} x {LENGTH} symbols; DejaVu Sans at 13 pixels. "
        "(A first run had a quarter of the training and half the paragraphs, and its interval reached over the bound.)",
        reason=""
        if all(checks.values())
        else f"the glyphs' loss is {glyphs.gap[0]:+.3f} bits a byte beside the table's ({glyphs.gap[1]:+.3f} to "
        f"{glyphs.gap[2]:+.3f}), that of frozen random vectors {random.gap[0]:+.3f}",
    )


def frozen(layer: Any) -> Any:
    """A layer that is not trained."""
    return layer.requires_grad_(False)


def nearer_than_random(pairs: list[str], seed: int, rounds: int = 20) -> float:
    """Share of draws in which a look-alike pair is nearer (by cosine) than a pair of the same characters at random."""
    from sememe.tokens.glyph import GlyphEmbedding

    characters = sorted({character for pair in ALIKE for character in pair})
    layer = GlyphEmbedding(vocabulary_of(characters), 64)
    table = layer.table().numpy()
    place = {character: row for row, character in enumerate(characters)}
    generator = np.random.default_rng(seed)
    wins = 0
    for pair in pairs * rounds:
        first, second = (place[character] for character in pair)
        other = generator.choice(len(characters), 2, replace=False)
        wins += bool(table[first] @ table[second] > table[other[0]] @ table[other[1]])
    return wins / (len(pairs) * rounds)


def vocabulary_of(characters: list[str]) -> Any:
    """A vocabulary of single characters."""
    from sememe.tokens.vocabulary import Vocabulary

    return Vocabulary(characters)
