"""Fused scores against sums over all token sequences of both models."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.vocab.byte_fusion import ByteFusion
from sememe.vocab.byte_probs import ByteLevelModel
from sememe.vocab.token_law import log_softmax

FIRST = [b"a", b"b", b"ab", b"abb", None]
SECOND = [b"a", b"b", b"ba", b"bb", b"aab", None]


def logits_of(words: list[bytes | None], seed: int) -> Any:
    def logits(prefixes: Any) -> np.ndarray:
        keys = [[seed, len(p) % 2, p[-1] if p else 9] for p in prefixes]
        return np.array([np.random.default_rng(key).normal(scale=1.5, size=len(words)) for key in keys])

    return logits


def marginal(text: bytes, words: list[bytes | None], logits: Any, *, end: bool = False) -> float:
    """Log of the summed probability of all sequences that begin with ``text``, or are it and end."""
    total = -np.inf
    waiting = [((), b"", 0.0)]
    while waiting:
        tokens, spelled, cost = waiting.pop()
        if not end and len(spelled) >= len(text):
            total = np.logaddexp(total, cost)
            continue
        row = log_softmax(logits([tokens]))[0]
        if end and spelled == text:
            total = np.logaddexp(total, cost + row[len(words) - 1])
        for number, word in enumerate(words[:-1]):
            longer = spelled + (word or b"")
            if longer[: len(text)] == text[: len(longer)] and (not end or len(longer) <= len(text)):
                waiting.append(((*tokens, number), longer, cost + row[number]))
    return float(total)


@pytest.fixture
def models() -> list[ByteLevelModel]:
    return [
        ByteLevelModel(logits_of(words, seed), words, end=[len(words) - 1]) for words, seed in ((FIRST, 1), (SECOND, 2))
    ]


@pytest.mark.parametrize("how", ["product", "mixture"])
def test_fused_scores_equal_marginals(models: list[ByteLevelModel], how: Any) -> None:
    weights = np.array([0.7, 0.3])
    fusion = ByteFusion(models, weights.tolist(), how)

    def expected(text: bytes, end: bool = False) -> float:
        costs = [marginal(text, w, logits_of(w, s), end=end) for w, s in ((FIRST, 1), (SECOND, 2))]
        return float(weights @ costs if how == "product" else np.logaddexp.reduce(costs + np.log(weights)))

    for letters in itertools.product(b"ab", repeat=5):
        assert fusion.log_prob(bytes(letters)) == pytest.approx(expected(bytes(letters)), abs=1e-9)
    for hypothesis in fusion.beam(length=6, width=5):
        assert hypothesis.score == pytest.approx(expected(hypothesis.text, hypothesis.ended), abs=1e-9)
    state = fusion.state(b"ab")
    assert np.exp(state.law).sum() == pytest.approx(1, abs=1e-12)
    given = ByteFusion(models, weights.tolist(), how).log_prob(b"ba", [b"ab", b"b"])
    assert given < 0


def test_a_wide_beam_finds_the_best_text_of_all(models: list[ByteLevelModel]) -> None:
    fusion = ByteFusion(models, [0.5, 0.5])
    found = fusion.beam(length=4, width=64)
    ended = {h.text: h.score for h in found if h.ended}
    best = max(
        (fusion.state().advance(bytes(t)).branches[256], bytes(t))
        for n in range(4)
        for t in itertools.product(b"ab", repeat=n)
    )
    assert max(ended.values()) == pytest.approx(best[0], abs=1e-9)
    assert ended[best[1]] == max(ended.values())


def test_a_model_without_weight_says_nothing(models: list[ByteLevelModel]) -> None:
    alone = ByteFusion(models, [1.0, 0.0])
    assert alone.log_prob(b"abba") == pytest.approx(models[0].log_prob(b"abba"), abs=1e-12)
    assert alone.complete(b"ab", 6) == models[0].complete(b"ab", 6)


def test_a_text_is_ended_where_asked(models: list[ByteLevelModel]) -> None:
    found = ByteFusion(models).beam(b"a", length=8, width=3, until=lambda added: added.endswith(b"b"))
    assert any(h.ended and h.text.endswith(b"b") for h in found)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ByteFusion(m, [0.5, 0.6]), "sum 1"),
        (lambda m: ByteFusion([], []), "models"),
        (lambda m: ByteFusion(m, how="sum"), "no fusion"),
        (lambda m: ByteFusion(m).beam(width=0), "no beam"),
        (lambda m: ByteFusion(m).state([b"a"]), "1 prompts"),
        (lambda m: ByteFusion(m).state(b"x"), "no token sequence"),
    ],
)
def test_what_cannot_be_is_said(models: list[ByteLevelModel], call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(models)
