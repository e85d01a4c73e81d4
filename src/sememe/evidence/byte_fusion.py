"""Fusing a recogniser and a language model with another tokenizer: scores equal marginals, errors fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.byte_models import byte_bpe, small_lm
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import paired_bootstrap
from sememe.vocab.byte_fusion import ByteFusion
from sememe.vocab.byte_probs import ByteLevelModel
from sememe.vocab.token_law import Law, law_of

NOISE, LENGTH, TUNED, TESTED, WEIGHTS = 0.25, 28, 8, 20, (0.3, 0.5, 0.7)
SMALL, LARGE = (400, 80), (1_000, 350)  # tokens and steps of the recogniser's own model, and of the language model
STRINGS, BEAM, PRUNE = 200, 4, 1e-3
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@experiment(
    "byte-fusion",
    paper=Paper(
        "Let's Fuse Step by Step: A Generative Fusion Decoding Algorithm with LLMs for Multi-modal Text Recognition",
        2024,
        "2405.14259",
    ),
    claim="A recogniser and a language model with other tokens, fused in bytes while decoding, make fewer errors "
    "than the recogniser alone.",
    needs=("tinyshakespeare",),
)
def run(setting: Setting) -> Finding:
    """Lines typed with slipping fingers, read by a recogniser with a weak language model inside, and a better one."""
    known, tune, test = lines(setting.data)
    tokenizers = [byte_bpe(known, size) for size, _ in (SMALL, LARGE)]
    alone: list[float] = []
    fused: list[float] = []
    typed: list[float] = []
    errors: list[float] = []
    chosen: dict[int, float] = {}
    for seed in setting.seeds:
        parts = (known[: len(known) // 8], known)
        models = [
            small_lm(tokenizer, part, steps=steps, seed=seed, dim=64, context=32)
            for tokenizer, part, (_, steps) in zip(tokenizers, parts, (SMALL, LARGE))
        ]
        exact = [ByteLevelModel.of(model, tokenizer) for model, tokenizer in zip(models, tokenizers)]
        errors += deviations(exact, test, STRINGS // len(setting.seeds) + 1)
        language = ByteLevelModel.of(models[1], tokenizers[1], prune=PRUNE)

        def read(line: bytes, weight: float, own: Any = models[0], other: ByteLevelModel = language) -> bytes:
            recogniser = ByteLevelModel.of(hearing(own, tokenizers[0], line), tokenizers[0], prune=PRUNE)
            fusion = ByteFusion((recogniser, other), (1 - weight, weight))
            return fusion.beam(length=len(line), width=BEAM)[0].text

        generator = np.random.default_rng(seed)
        drawn = {n: generator.permutation(len(side))[:n] for n, side in ((TUNED, tune), (TESTED, test))}
        tuning = [(tune[row], slipped(tune[row], generator)) for row in drawn[TUNED]]
        testing = [(test[row], slipped(test[row], generator)) for row in drawn[TESTED]]
        cost = {w: sum(differ(read(line, w), truth) for truth, line in tuning) for w in WEIGHTS}
        chosen[seed] = min(cost, key=lambda w: cost[w])
        for truth, line in testing:
            typed.append(differ(line, truth) / len(truth))
            alone.append(differ(read(line, 0.0), truth) / len(truth))
            fused.append(differ(read(line, chosen[seed]), truth) / len(truth))
    means = {"as typed": np.mean(typed), "recogniser": np.mean(alone), "fused": np.mean(fused)}
    gain = paired_bootstrap(np.array(alone), np.array(fused))
    falls = 1 - float(means["fused"]) / max(float(means["recogniser"]), 1e-12)
    checks = {
        "scores of the fused beam equal sums over all token sequences of both models within 1e-4": max(errors) < 1e-4,
        "errors fall by at least 15 % against the recogniser alone": falls >= 0.15,
        "and that with confidence": gain.low > 0,
    }
    return Finding(
        measured=float(means["fused"]),
        baseline=float(means["recogniser"]),
        interval=(gain.low, gain.high),
        unit="share of wrong characters: fused, against the recogniser alone",
        interval_of="recogniser alone minus fused, over lines",
        checks=checks,
        details={
            "wrong_characters": {name: float(value) for name, value in means.items()},
            "errors_fall_by": falls,
            "largest_error_of_a_score_nats": max(errors),
            "strings_scored": len(errors),
            "weight_of_the_language_model_by_seed": chosen,
        },
        conditions=f"{TESTED} lines a seed of {LENGTH} characters of Shakespeare, each letter slips to a neighbouring "
        f"key with probability {NOISE}; the recogniser knows the keyboard and has a model of {SMALL[0]} tokens trained "
        f"on an eighth of the text, the language model has {LARGE[0]} tokens and all of it; the weight is chosen on "
        f"{TUNED} other lines; beam of {BEAM}. Speech and images, as in the paper, were not tried.",
        reason="" if all(checks.values()) else "see details: the two models of this size know nearly the same",
    )


def lines(data: DataFolder) -> tuple[list[str], list[bytes], list[bytes]]:
    """Training text in pieces, and the first characters of lines to tune and to test on."""
    import gzip

    with gzip.open(data.require("tinyshakespeare") / "input.txt.gz", "rt", encoding="utf-8") as file:
        whole = [line.strip() for line in file]
    kept = [line for line in whole if line and not line.endswith(":")]
    cut = len(kept) * 9 // 10
    known = [line + "\n" for line in kept[:cut]]
    held = [line[:LENGTH].encode() for line in kept[cut:] if len(line) >= LENGTH and line.isascii()]
    return known, held[::2], held[1::2]


def neighbours() -> dict[int, list[int]]:
    """Keys beside each letter's, of both cases."""
    places = {key: (row, column) for row, keys in enumerate(_KEYS) for column, key in enumerate(keys)}
    out: dict[int, list[int]] = {}
    for key, (row, column) in places.items():
        near = [k for k, (r, c) in places.items() if k != key and abs(r - row) <= 1 and abs(c - column) <= 1]
        out[ord(key)] = [ord(k) for k in near]
        out[ord(key.upper())] = [ord(k.upper()) for k in near]
    return out


def slipped(text: bytes, generator: np.random.Generator) -> bytes:
    """The text with some letters replaced by a neighbour on the keyboard."""
    near = neighbours()
    return bytes(
        near[byte][int(generator.integers(len(near[byte])))] if byte in near and generator.random() < NOISE else byte
        for byte in text
    )


def channel() -> Law:
    """Log-probability that a byte (row) was typed as another (column), ``(256, 256)``."""
    table = np.full((256, 256), 1e-9)
    np.fill_diagonal(table, 1.0)
    for byte, near in neighbours().items():
        table[byte, byte] = 1 - NOISE
        table[byte, near] = NOISE / len(near)
    return np.asarray(np.log(table / table.sum(axis=1, keepdims=True)))


def hearing(model: Any, tokenizer: Any, line: bytes) -> Callable[[Sequence[Sequence[int]]], Law]:
    """A recogniser: a model's law of the next token times how well the token's bytes explain what was typed there."""
    from sememe.vocab.byte_probs import tokenizer_file

    law, heard = law_of(model), channel()
    file = tokenizer_file(tokenizer)
    texts = [file.text_of(number) for number in range(len(file.tokens))]
    evidence: dict[int, Law] = {}

    def explain(at: int) -> Law:
        costs = np.full(len(texts), -1e9)
        for number, text in enumerate(texts):
            if text is not None and at + len(text) <= len(line):
                costs[number] = sum(heard[byte, line[at + place]] for place, byte in enumerate(text))
            elif number in file.special and at == len(line):
                costs[number] = 0.0
        return costs

    def next_logits(prefixes: Sequence[Sequence[int]]) -> Law:
        rows = law.log_probs(prefixes)
        for row, prefix in zip(rows, prefixes):
            at = sum(len(texts[token] or b"") for token in prefix)
            if at not in evidence:
                evidence[at] = explain(at)
            row += evidence[at]
        return rows

    return next_logits


def differ(found: bytes, truth: bytes) -> int:
    """Wrong characters of texts that stand byte against byte."""
    return sum(a != b for a, b in zip(found, truth)) + abs(len(found) - len(truth))


def deviations(models: Sequence[ByteLevelModel], texts: Sequence[bytes], count: int) -> list[float]:
    """How far scores of beams are from sums over all token sequences."""
    fusion = ByteFusion(models, (0.6, 0.4))
    out: list[float] = []
    for text in texts:
        prompt = text[:1]
        begun = _fused(models, prompt)
        for found in fusion.beam(prompt, length=3, width=6):
            if not found.ended:
                out.append(abs(found.score - (_fused(models, prompt + found.text) - begun)))
        if len(out) >= count:
            break
    return out[:count]


def _fused(models: Sequence[ByteLevelModel], text: bytes) -> float:
    from sememe.evidence.byte_probs import enumerated

    costs = [enumerated(model, model.table.rule.tokenizer, text) for model in models]  # type: ignore[union-attr]
    return 0.6 * costs[0] + 0.4 * costs[1]
