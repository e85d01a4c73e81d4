"""Gaps between any two characters of source files: prompts that split no token, and text that fits."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.byte_models import STOP, byte_bpe, small_lm, standard_library
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import paired_bootstrap
from sememe.vocab.boundaries import MARKERS, CharConstrainedFIM
from sememe.vocab.tokenizer import TokenizerFile

FILES, SIZE, CUTS, FILLED, STEPS, LONGEST = 60, 1_500, 120, 8, 120, 200
_PIECE = 2_500  # characters of a file around the cuts


@experiment(
    "boundaries",
    paper=Paper("Empowering Character-level Text Infilling by Eliminating Sub-Tokens", 2024, "2405.17103"),
    claim="Prompts cut at lines, with the rest of both lines as constraints, never split a token, and what is "
    "generated fits the characters on both sides.",
)
def run(setting: Setting) -> Finding:
    """Random gaps in Python's standard library."""
    texts = standard_library(FILES)
    tokenizer = byte_bpe(texts[1::2], SIZE, [STOP, *(f"<{name}>" for name in MARKERS)])
    file = TokenizerFile(json.loads(tokenizer.to_str()))
    spelled = [file.text_of(number) for number in range(len(file.tokens))]
    markers = {name: file.ids[f"<{name}>"] for name in MARKERS}
    fim = CharConstrainedFIM(file, spelled, markers, file.ids[STOP])
    model = small_lm(tokenizer, texts[1::2], steps=STEPS, seed=setting.seeds[0], dim=64)
    ours: list[bool] = []
    plain: list[bool] = []
    exact, fits, filled, longer = True, True, 0, []
    for seed in setting.seeds:
        for number, (prefix, middle, suffix) in enumerate(gaps(texts[::2], seed)):
            prompt = fim.prompt(prefix, suffix)
            inner = fim.target(prompt, middle)[:-1]
            parts = [file.encode(prompt.before), inner, file.encode(prompt.after)]
            ours.append(_split(file, parts, prefix + middle + suffix))
            plain.append(_split(file, [file.encode(t) for t in (prefix, middle, suffix)], prefix + middle + suffix))
            exact &= prompt.before + prompt.start == prefix and prompt.end + prompt.after == suffix
            exact &= prompt.filled(prompt.start + middle + prompt.end) == middle
            longer.append(len(prompt.start) + len(prompt.end))
            if number < FILLED:
                watched = _Watched(model)
                fim.fill(watched, prompt, 40, temperature=1.0, seed=seed)
                generated = b"".join(spelled[n] or b"" for n in watched.last[len(prompt.ids) :])
                start, end = prompt.start.encode(), prompt.end.encode()
                fits &= len(generated) >= len(start) + len(end)
                fits &= generated.startswith(start) and generated.endswith(end)
                filled += 1
    gap = paired_bootstrap(np.array(plain, dtype=float), np.array(ours, dtype=float))
    checks = {
        "no prompt splits a token of the whole text": not any(ours),
        "prefix, gap and suffix come back exactly": exact,
        "what is generated always begins and ends with the required characters": fits,
        "prompts cut at the characters themselves split tokens, with confidence": gap.low > 0,
    }
    return Finding(
        measured=float(np.mean(ours)),
        baseline=float(np.mean(plain)),
        interval=(gap.low, gap.high),
        unit="share of gaps with a token of the whole text split: constrained prompts, against cuts at the characters",
        interval_of="their difference, over gaps",
        checks=checks,
        details={
            "gaps": len(ours),
            "filled": filled,
            "characters_of_constraints": {"mean": float(np.mean(longer)), "largest": max(longer)},
        },
        conditions=f"{CUTS} gaps a seed at random characters of {len(texts[::2])} files of Python's standard library, "
        f"a byte-level vocabulary of {SIZE} tokens learned from others, {FILLED} gaps a seed filled by a small model "
        "drawn at temperature 1. Whether a larger model trained on such prompts writes better code was not measured.",
        reason="" if all(checks.values()) else "see details",
    )


def gaps(texts: list[str], seed: int) -> list[tuple[str, str, str]]:
    """Prefix, gap and suffix at random characters."""
    generator = np.random.default_rng(seed)
    out = []
    for _ in range(CUTS):
        text = texts[int(generator.integers(len(texts)))]
        begin = int(generator.integers(max(len(text) - _PIECE, 1)))
        piece = text[text.rfind("\n", 0, begin) + 1 :][:_PIECE]
        first = int(generator.integers(1, len(piece) - 1))
        last = first + int(generator.integers(1, min(LONGEST, len(piece) - first)))
        out.append((piece[:first], piece[first:last], piece[last:]))
    return out


def _split(file: TokenizerFile, parts: list[list[int]], whole: str) -> bool:
    """Whether the parts' tokens are others than those of the whole text."""
    return list(itertools.chain.from_iterable(parts)) != file.encode(whole)


class _Watched:
    """A model that remembers what it was last asked."""

    def __init__(self, model: Any) -> None:
        from sememe.vocab.token_law import law_of

        self._law = law_of(model)
        self.last: tuple[int, ...] = ()

    def log_probs(self, prefixes: Any) -> Any:
        """See `TokenLaw`."""
        self.last = tuple(prefixes[-1])
        return self._law.log_probs(prefixes)
