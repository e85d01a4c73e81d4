"""A tokenized model as a model of bytes: exact, and not thrown off by a prompt that ends within a token."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.byte_models import byte_bpe, small_lm, standard_library
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import paired_bootstrap
from sememe.vocab.byte_probs import ByteLevelModel
from sememe.vocab.tokenizer import TokenizerFile

FILES, HELD, SIZE, STEPS, PROMPTS, WIDTH = 160, 16, 1_000, 300, 100, 160
_WORD = re.compile(rb"[A-Za-z_]{4,}")
_REST = re.compile(rb"[A-Za-z_]*")


@experiment(
    "byte-probs",
    paper=Paper(
        "Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles",
        2024,
        "2410.09303",
    ),
    claim="A tokenized model becomes an equivalent model of bytes without training; prompts that end within a token "
    "are completed better than as they are, and better than with token healing.",
)
def run(setting: Setting) -> Finding:
    """Completing words of Python source that were cut anywhere, by small models."""
    texts = standard_library(FILES)
    held = texts[:: FILES // HELD]
    known = [text for text in texts if text not in held]
    tokenizer = byte_bpe(known, SIZE)
    hits: dict[str, list[bool]] = {"raw": [], "healed": [], "bytes": []}
    totals, errors, lost, asked, added = [], [], [], 0, 0
    for seed in setting.seeds:
        model = ByteLevelModel.of(small_lm(tokenizer, known, steps=STEPS, seed=seed), tokenizer)
        file: Any = model.table.rule.tokenizer  # type: ignore[union-attr]
        for prompt, rest in prompts(held, seed):
            ids = file.encode(prompt.decode("utf-8", "ignore"))
            answers = {
                "raw": greedy(model, file, ids, b"", len(rest) + 2),
                "healed": greedy(model, file, ids[:-1], file.text_of(ids[-1]) or b"", len(rest) + 2),
            }
            middle = model.table.evaluations
            answers["bytes"] = model.complete(prompt, len(rest) + 2, until=lambda text: not _REST.fullmatch(text))
            asked += model.table.evaluations - middle
            added += len(answers["bytes"])
            for name, answer in answers.items():
                found = _REST.match(answer)
                hits[name].append(found is not None and found[0] == rest)
        for prompt, _ in prompts(held, seed + 1_000)[:10]:
            text = prompt[:4].decode("utf-8", "ignore").encode()
            errors.append(abs(model.log_prob(text) - enumerated(model, file, text)))
            state = model.state(prompt)
            totals.append(float(np.exp(state.law).sum()))
            lost.append(float(-np.expm1(np.logaddexp.reduce(state.branches) - state.log_prob)))
    rates = {name: float(np.mean(values)) for name, values in hits.items()}
    points = {name: np.array(values, dtype=float) for name, values in hits.items()}
    gain = paired_bootstrap(points["bytes"], points["raw"])
    healed = paired_bootstrap(points["bytes"], points["healed"])
    checks = {
        "the law of the next byte sums to 1 within 1e-6": max(abs(t - 1) for t in totals) < 1e-6,
        "probabilities of short texts equal the sum over all covers within 1e-4 nats": max(errors) < 1e-4,
        "words cut anywhere are completed exactly at least 15 points more often than from the prompt as it is": (
            gain.value >= 0.15 and gain.low > 0
        ),
        "and more often than with token healing": healed.value > 0,
        "and that with confidence": healed.low > 0,
    }
    return Finding(
        measured=rates["bytes"],
        baseline=rates["raw"],
        interval=(gain.low, gain.high),
        unit="share of cut words completed exactly: byte by byte, against greedy decoding of the prompt's tokens",
        interval_of="their difference, over prompts",
        checks=checks,
        details={
            "exact": rates,
            "bytes_minus_healed": {"value": healed.value, "low": healed.low, "high": healed.high},
            "largest_error_nats": max(errors),
            "largest_deviation_of_a_sum": max(abs(t - 1) for t in totals),
            "probability_on_sequences_that_the_tokenizer_never_gives": {
                "median": float(np.median(lost)),
                "largest": max(lost),
            },
            "evaluations_a_byte_added": asked / max(added, 1),
            "prompts": len(hits["raw"]),
        },
        conditions=f"{len(setting.seeds)} models of two layers of width 96 and {SIZE} byte-level tokens, trained for "
        f"{STEPS} steps on {len(known)} files of Python's standard library; {PROMPTS} prompts a seed from {len(held)} "
        "others, cut within a word, greedy.",
        reason="" if all(checks.values()) else "at this size the model seldom knows the rest of a word; see details",
    )


def prompts(texts: list[str], seed: int) -> list[tuple[bytes, bytes]]:
    """Prompts that end within a word, and what is left of the word; contexts begin with a line."""
    generator = np.random.default_rng(seed)
    out: list[tuple[bytes, bytes]] = []
    while len(out) < PROMPTS:
        raw = texts[int(generator.integers(len(texts)))].encode()
        words = list(_WORD.finditer(raw, WIDTH))
        word = words[int(generator.integers(len(words)))]
        cut = word.start() + int(generator.integers(2, len(word[0])))
        begin = raw.find(b"\n", cut - WIDTH, word.start()) + 1
        if begin and word.start() - begin > 40:
            out.append((raw[begin:cut], raw[cut : word.end()]))
    return out


def greedy(model: ByteLevelModel, file: TokenizerFile, ids: list[int], first: bytes, length: int) -> bytes:
    """Greedy tokens behind ``ids`` whose bytes begin with ``first`` (token healing); what comes after ``first``."""
    tokens, text = list(ids), b""
    spelled = [file.text_of(number) or b"" for number in range(len(file.tokens))]
    while len(text) < len(first) + length:
        law = model.table.token_law.log_probs([tuple(tokens)])[0].copy()
        rest = first[len(text) :]
        if rest:
            fits = [bool(s) and (s.startswith(rest) or rest.startswith(s)) for s in spelled]
            law[~np.array(fits)] = -np.inf
        token = int(law.argmax())
        if not spelled[token]:
            break
        tokens.append(token)
        text += spelled[token]
    return text[len(first) :]


def enumerated(model: ByteLevelModel, file: TokenizerFile, text: bytes) -> float:
    """Log of the summed probability of all covers that the tokenizer gives back for their text, by brute force."""
    law = model.table.token_law
    total = -np.inf
    waiting: list[tuple[tuple[int, ...], bytes, float]] = [((), b"", 0.0)]
    while waiting:
        tokens, spelled, cost = waiting.pop()
        row = law.log_probs([tokens])[0]
        for number in range(len(file.tokens)):
            more = file.text_of(number)
            if not more:
                continue
            longer = spelled + more
            if longer[: len(text)] != text[: len(longer)]:
                continue
            whole = (*tokens, number)
            if len(longer) < len(text):
                waiting.append((whole, longer, cost + float(row[number])))
            elif given_back(file, whole, longer):
                total = float(np.logaddexp(total, cost + row[number]))
    return total


def given_back(file: TokenizerFile, tokens: tuple[int, ...], spelled: bytes) -> bool:
    """Whether the tokenizer gives these tokens for a text that ends here or goes on, by one of a few characters."""
    try:
        text = spelled.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return any(tuple(file.encode(text + more)[: len(tokens)]) == tokens for more in ("", "x", ")", "\x7f"))
