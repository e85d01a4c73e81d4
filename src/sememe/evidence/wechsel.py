"""WECHSEL with word vectors of translated captions against rows drawn alike, on the way from English to German."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.convex_hull import HELD, OTHER, OWN, SENTENCES, packed
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import DIM, byte_bpe, lines, trained
from sememe.vocab.initialize import Problem, make, parallel_vectors

STEPS, LONG = 200, 80
METHODS: dict[str, dict[str, Any]] = {
    "random": {"diagonal": True}, "mean": {}, "subword-mean": {}, "wechsel": {},
}  # fmt: skip


@experiment(
    "wechsel",
    paper=Paper(
        "WECHSEL: Effective initialization of subword embeddings for cross-lingual transfer of monolingual language "
        "models",
        2022,
        "2112.06598",
    ),
    claim="Brings a model to another language with up to 64 times less training than from scratch.",
    needs=("multi30k",),
)
def run(setting: Setting) -> Finding:
    """A small model of English captions gets a German tokenizer; word vectors come from the translated captions."""
    from sememe.lab.compare import spread

    english, german = (lines(setting.data, "multi30k", f"train.{code}.gz")[:SENTENCES] for code in ("en", "de"))
    held = ["\n".join(german[at : at + 10]) for at in range(len(german) - HELD, len(german), 10)]
    words = parallel_vectors(english[:-HELD], german[:-HELD])
    known, foreign = packed(english), packed(german[:-HELD])
    own, other = byte_bpe(known, OWN), byte_bpe(foreign, OTHER)
    bits: dict[str, list[np.ndarray]] = {}
    for seed in setting.seeds:
        model = trained(own, known, steps=STEPS, seed=seed)
        for name, options in METHODS.items():
            problem, old = Problem.of(own, other, words=words, seed=seed), model.table
            rows = make("gaussian" if name == "random" else name, **options).weights(problem, old)
            moved = model.moved(other, rows.apply(old))
            bits.setdefault(f"{name} 0", []).append(moved.bits(held))
            for step in (LONG // 4, LONG) if name in ("random", "wechsel") else ():
                later = moved.moved(other, moved.table)
                later.more(foreign, step, seed)
                bits.setdefault(f"{name} {step}", []).append(later.bits(held))
    sizes = np.array([len(text.encode()) for text in held])
    loss = {name: spread(np.array(found), sizes) for name, found in bits.items()}
    first = spread(np.array(bits["wechsel 0"]) - 0.8 * np.array(bits["random 0"]), sizes)
    short = spread(np.array(bits[f"wechsel {LONG // 4}"]) - np.array(bits[f"random {LONG}"]), sizes)
    checks = {
        "at the start at least 20 % below rows drawn alike, with confidence": first[2] <= 0,
        f"after {LONG // 4} steps where rows drawn alike are after {LONG}, or below": short[1] <= 0,
    }
    return Finding(
        measured=loss["wechsel 0"][0],
        baseline=loss["random 0"][0],
        interval=(loss["wechsel 0"][1], loss["wechsel 0"][2]),
        unit="bits a byte of German captions right after surgery: WECHSEL, against draws with the old rows' moments",
        interval_of="WECHSEL, over seeds and documents",
        checks=checks,
        details={
            "bits_a_byte": loss,
            "a_quarter_of_the_steps_minus_all": short,
            "words": [len(w.words) for w in words],
        },
        conditions=f"A small Llama (two layers, width {DIM}, tied table) trained {STEPS} steps on English captions of "
        f"Multi30k; byte-level BPE of {OWN:,} English and {OTHER:,} German tokens; word vectors of both languages from "
        f"the translated captions in which words occur ({SENTENCES:,} pairs). Tokens that both vocabularies have are "
        "copied for all methods.",
        reason=""
        if all(checks.values())
        else "likely, not tested: "
        "bytes and short tokens that both languages write are copied for every "
        "method, and in so small a vocabulary they carry much of the text, so less is left for the words to say",
    )
