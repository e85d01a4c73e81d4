"""Gaps between any two characters: prompts without split tokens, and text that fits."""

from __future__ import annotations

import inspect
import itertools
import json
import random
import textwrap
from typing import Any

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.vocab.boundaries import MARKERS, CharConstrainedFIM
from sememe.vocab.tokenizer import TokenizerFile

SOURCE = inspect.getsource(textwrap)


@pytest.fixture(scope="module")
def fim() -> CharConstrainedFIM:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", *(f"<{name}>" for name in MARKERS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SOURCE], trainer)
    file = TokenizerFile(json.loads(tokenizer.to_str()))
    texts = [file.text_of(number) for number in range(len(file.tokens))]
    return CharConstrainedFIM(file, texts, {n: file.ids[f"<{n}>"] for n in MARKERS}, file.ids["<|endoftext|>"])


def cuts(count: int) -> list[tuple[str, str, str]]:
    draw = random.Random(4)
    pairs = [sorted(draw.sample(range(len(SOURCE)), 2)) for _ in range(count)]
    return [(SOURCE[:a], SOURCE[a:b], SOURCE[b:]) for a, b in pairs]


def test_no_token_of_the_file_is_split_and_nothing_is_lost(fim: CharConstrainedFIM) -> None:
    whole = fim._encode(SOURCE)
    for prefix, middle, suffix in cuts(40):
        prompt = fim.prompt(prefix, suffix)
        assert prompt.before + prompt.start == prefix
        assert prompt.end + prompt.after == suffix
        inner = fim.target(prompt, middle)[:-1]
        assert fim._encode(prompt.before) + inner + fim._encode(prompt.after) == whole
        assert prompt.filled(prompt.start + middle + prompt.end) == middle
        for name in MARKERS:
            assert prompt.ids.count(fim.markers[name]) == 1


class Random:
    """A model with no opinion, which remembers what it was asked."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.generator = size, np.random.default_rng(seed)
        self.last: tuple[int, ...] = ()

    def log_probs(self, prefixes: Any) -> np.ndarray:
        self.last = tuple(prefixes[-1])
        return self.generator.normal(size=(len(prefixes), self.size))


def test_what_is_generated_begins_and_ends_as_it_must(fim: CharConstrainedFIM) -> None:
    lengths = set()
    for seed, (prefix, _, suffix) in enumerate(cuts(12)):
        prompt = fim.prompt(prefix, suffix)
        model = Random(len(fim._texts), seed)
        middle = fim.fill(model, prompt, 30, temperature=1.0, seed=seed)
        generated = b"".join(fim._texts[n] or b"" for n in model.last[len(prompt.ids) :])
        start, end = prompt.start.encode(), prompt.end.encode()
        assert generated.startswith(start)
        assert generated.endswith(end)
        assert len(generated) <= len(start) + len(end) + 30
        assert generated[len(start) : len(generated) - len(end)].decode("utf-8", "replace") == middle
        lengths.add(len(middle))
    assert len(lengths) > 1


class Knowing:
    """A model that knows the text and ends it."""

    def __init__(self, ids: list[int], at: int, size: int) -> None:
        self.ids, self.at, self.size = ids, at, size

    def log_probs(self, prefixes: Any) -> np.ndarray:
        rows = np.full((len(prefixes), self.size), -9.0)
        for row, prefix in zip(rows, prefixes):
            row[self.ids[min(len(prefix) - self.at, len(self.ids) - 1)]] = 0.0
        return rows


def test_a_model_that_knows_the_gap_fills_it_exactly(fim: CharConstrainedFIM) -> None:
    for prefix, middle, suffix in cuts(10):
        short = middle[:60]
        prompt = fim.prompt(prefix, short[len(short) :] + suffix)
        target = fim.target(prompt, short)
        assert fim.fill(Knowing(target, len(prompt.ids), len(fim._texts)), prompt, 200) == short


@pytest.mark.parametrize(("start", "end"), [(b"", b""), (b"ab", b"ba"), (b"aa", b"aaa"), (b"", b"abab")])
def test_allowed_tokens_are_those_that_can_still_be_completed(start: bytes, end: bytes) -> None:
    texts = [bytes([byte]) for byte in range(256)] + [b"ab", b"aa", b"aba", b"baab", *[None] * 6]
    fim = CharConstrainedFIM(lambda text: list(text.encode()), texts, dict(zip(MARKERS, range(260, 265))), 265)
    letters = [97, 98, 256, 257, 258, 259]
    most = len(start) + len(end) + 2

    def finishable(generated: bytes) -> bool:
        for extra in range(most - len(generated) + 1):
            for more in itertools.product(b"ab", repeat=extra):
                whole = generated + bytes(more)
                if whole.startswith(start) and whole.endswith(end) and len(whole) >= len(start) + len(end):
                    return True
        return False

    reached = {b""}
    for _ in range(3):
        for generated in sorted(reached):
            allowed = fim.allowed(generated, start, end, most - len(generated))
            for number in letters:
                assert allowed[number] == finishable(generated + (texts[number] or b"")), (generated, number)
            done = len(generated) >= len(start) + len(end) and generated.endswith(end) and generated.startswith(start)
            assert allowed[265] == done
            reached = reached | {generated + (texts[n] or b"") for n in letters if allowed[n]}


def test_a_tokenizer_without_all_bytes_or_markers_is_refused(fim: CharConstrainedFIM) -> None:
    with pytest.raises(InputError, match="no token spells the byte 0"):
        CharConstrainedFIM(list, [b"a", None], dict.fromkeys(MARKERS, 1), 1)
    with pytest.raises(InputError, match="no id for suffix"):
        CharConstrainedFIM(list, fim._texts, {n: 1 for n in MARKERS if n != "suffix"}, 1)
    with pytest.raises(InputError, match="must begin with"):
        fim.prompt("x = (", ")\n").filled("y)")
