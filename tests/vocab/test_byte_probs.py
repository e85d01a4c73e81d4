"""Byte-level probabilities against enumeration of all token sequences."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest
from vocab_small import SENTENCES, train_tokenizer

from sememe.errors import InputError
from sememe.vocab.byte_probs import ByteLevelModel
from sememe.vocab.covers import END
from sememe.vocab.pair_rule import PairRule
from sememe.vocab.token_law import log_softmax
from sememe.vocab.tokenizer import TokenizerFile

WORDS = [b"a", b"b", b"ab", b"ba", b"abb", b"bab", None]  # the last one ends a text
STOP = 6


def toy_logits(prefixes: Any) -> np.ndarray:
    """Any law that depends on the last two tokens and on the length."""
    rows = []
    for prefix in prefixes:
        state = [7, *prefix][-2:]
        generator = np.random.default_rng([len(prefix) % 3, *state])
        rows.append(generator.normal(scale=1.5, size=len(WORDS)))
    return np.array(rows)


def toy_cost(tokens: tuple[int, ...]) -> float:
    return sum(float(log_softmax(toy_logits([tokens[:n]]))[0, t]) for n, t in enumerate(tokens))


def covers_of(
    text: bytes, words: list[bytes | None], allowed: Any = None, accepts: Any = None
) -> list[tuple[int, ...]]:
    """All token sequences that spell ``text`` or run past it with the last token only."""
    out: list[tuple[int, ...]] = []

    def grow(tokens: tuple[int, ...], spelled: bytes) -> None:
        if len(spelled) >= len(text):
            if len(spelled) > len(text) or accepts is None or accepts(tokens):
                out.append(tokens)
            return
        for number, word in enumerate(words):
            if word is None or (allowed is not None and not allowed(tokens, number)):
                continue
            longer = spelled + word
            if longer[: len(text)] == text[: len(longer)]:
                grow((*tokens, number), longer)

    grow((), b"")
    return out


def brute(text: bytes, allowed: Any = None, accepts: Any = None) -> float:
    costs = [toy_cost(tokens) for tokens in covers_of(text, WORDS, allowed, accepts)]
    return float(np.logaddexp.reduce(costs)) if costs else -np.inf


@pytest.fixture(scope="module")
def small() -> tuple[TokenizerFile, PairRule]:
    file = TokenizerFile(json.loads(train_tokenizer("byte-bpe", 500).to_str()))
    return file, PairRule(file)


def test_prefix_probabilities_equal_enumeration_of_all_covers() -> None:
    model = ByteLevelModel(toy_logits, WORDS, end=[STOP])
    for length in range(1, 8):
        for letters in itertools.product(b"ab", repeat=length):
            text = bytes(letters)
            assert model.log_prob(text) == pytest.approx(brute(text), abs=1e-10)
    assert model.log_prob(b"ac") == -np.inf


def test_every_byte_and_the_end_have_their_share_and_nothing_is_lost() -> None:
    model = ByteLevelModel(toy_logits, WORDS, end=[STOP])
    for text in (b"", b"a", b"abba", b"babba"):
        state = model.state(text)
        assert np.exp(state.law).sum() == pytest.approx(1, abs=1e-12)
        assert np.logaddexp.reduce(state.branches) == pytest.approx(
            state.log_prob, abs=1e-10
        )  # all sequences are valid
        for byte in b"ab":
            expected = brute(text + bytes([byte])) - brute(text) if text else brute(bytes([byte]))
            assert state.law[byte] == pytest.approx(expected, abs=1e-10)
        exact = [t for t in covers_of(text, WORDS) if b"".join(WORDS[n] or b"" for n in t) == text]
        ended = np.logaddexp.reduce([toy_cost((*tokens, STOP)) for tokens in exact])
        assert state.branches[END] == pytest.approx(ended, abs=1e-10)


class Noisy:
    """A rule that forbids some pairs."""

    first = np.array([1, 1, 1, 0, 1, 1, 1], dtype=bool)

    def mask(self, tokens: Any) -> np.ndarray:
        return np.random.default_rng(tokens[-1]).random(len(WORDS)) < 0.6 if tokens else self.first

    def accepts(self, tokens: Any) -> bool:
        return len(tokens) < 3 or tokens[-3:] != (0, 1, 0)


def test_sequences_that_the_rule_forbids_are_no_covers() -> None:
    rule = Noisy()

    def allowed(tokens: tuple[int, ...], number: int) -> bool:
        return bool(rule.mask(tokens)[number]) and rule.accepts(tokens)

    model = ByteLevelModel(toy_logits, WORDS, rule=rule, end=[STOP])
    finite = 0
    for letters in itertools.product(b"ab", repeat=6):
        text = bytes(letters)
        expected = brute(text, allowed, rule.accepts)
        finite += np.isfinite(expected)
        assert model.log_prob(text) == pytest.approx(expected, abs=1e-10)
        law = np.exp(model.state(text).law).sum() if np.isfinite(model.state(text).branches).any() else 1
        assert law == pytest.approx(1, abs=1e-12)
    assert 0 < finite < 64


def test_a_walk_evaluates_the_model_at_most_once_a_byte_and_remembers() -> None:
    model = ByteLevelModel(toy_logits, WORDS, rule=_only_longest(), end=[STOP])
    state = model.state(b"")
    for byte in b"abbabab":
        state = state.advance(byte)
        assert np.isfinite(state.law).any()
    assert model.table.evaluations <= 8
    before = model.table.evaluations
    assert np.array_equal(model.state(b"abbabab").law, state.law)
    assert model.table.evaluations == before


def _only_longest() -> Any:
    """Pairs that byte-pair encoding with the merges a+b, b+a, ab+b, b+ab gives."""
    spec = {
        "version": "1.0",
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3, "abb": 4, "bab": 5, "z": 6},
            "merges": [["a", "b"], ["b", "a"], ["ab", "b"], ["b", "ab"]],
        },
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
    }
    return PairRule(TokenizerFile(spec))


def test_the_pair_rule_allows_exactly_what_encoding_gives_without_a_pre_tokenizer() -> None:
    rule = _only_longest()
    file = rule.tokenizer
    for length in range(1, 5):
        for tokens in itertools.product(range(6), repeat=length):
            text = "".join(file.tokens[n] for n in tokens)
            valid = bool(rule.first[tokens[0]]) and all(rule.mask((a,))[b] for a, b in itertools.pairwise(tokens))
            assert valid == (file.encode(text) == list(tokens)), (text, tokens)


def test_the_pair_rule_agrees_with_the_tokenizer(small: tuple[TokenizerFile, PairRule]) -> None:
    file, rule = small
    plain = {}
    for number in range(len(file.tokens)):
        raw = file.text_of(number)
        if raw is not None and number not in file.added_ids:
            try:
                plain[number] = raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
    differ = 0
    for last in random.Random(0).sample(sorted(plain), 60):
        answers = file.encode_batch([plain[last] + text for text in plain.values()])
        for number, ids in zip(plain, answers, strict=True):
            allowed = bool(rule.mask((last,))[number])
            if ids == [last, number]:
                assert allowed, (file.tokens[last], file.tokens[number])
            elif allowed:  # only where something before the pair can change how it is cut
                assert "'" in plain[last]
                differ += 1
    assert differ < 200


def test_no_encoding_of_text_breaks_the_pair_rule(small: tuple[TokenizerFile, PairRule]) -> None:
    file, rule = small
    code = "raise f'data' f'stop'\n"
    code += "x = {'status': 'ready'}\n\n\n    if it's  the end:\n\t\treturn \"1,204\"  \n\n  '''they're'''\n"
    for text in [*itertools.chain.from_iterable(SENTENCES.values()), code]:
        ids = file.encode(text)
        assert rule.first[ids[0]]
        assert all(rule.mask(ids[:n])[ids[n]] for n in range(1, len(ids)))
        assert all(rule.accepts(ids[:n]) for n in range(1, len(ids) + 1))


def test_a_text_has_few_covers_however_much_white_space_it_holds(small: tuple[TokenizerFile, PairRule]) -> None:
    model = ByteLevelModel.of(bigram_logits(len(small[0].tokens)), small[0])
    state = model.state()
    for byte in b"if a:\n        return  b\n\n\n    x = ' s'\n\t\t\tpass\n            end   \n  that\n":
        state = state.advance(byte)
        assert 0 < len(state.stems) < 30
        ends = [stem.tokens for stem in state.stems if not stem.depth]
        assert len(ends) <= 1
    for text in (b"    ", b"  \n ", b"\n\n  x"):
        for tokens, _ in model.state(text).covers():
            spelled = b"".join(small[0].text_of(n) or b"" for n in tokens)
            try:
                again = [small[0].encode(spelled.decode() + more)[: len(tokens)] for more in ("", "x", ")", "\x7f")]
            except UnicodeDecodeError:
                continue
            assert list(tokens) in again


def bigram_logits(size: int) -> Any:
    table = np.random.default_rng(5).normal(scale=2.0, size=(size + 1, size))
    return lambda prefixes: np.array([table[p[-1] if len(p) else size] for p in prefixes])


def test_a_real_tokenizer_equals_enumeration_over_its_valid_sequences(small: tuple[TokenizerFile, PairRule]) -> None:
    file, rule = small
    logits = bigram_logits(len(file.tokens))
    model = ByteLevelModel.of(logits, file)
    words = [file.text_of(n) for n in range(len(file.tokens))]
    costs = log_softmax(logits([(), *[(n,) for n in range(len(words))]]))

    def allowed(tokens: tuple[int, ...], number: int) -> bool:
        return bool(rule.mask(tokens)[number]) and rule.accepts(tokens)

    several = 0
    for text in (b"The bak", b" wait", "für".encode(), "пек".encode()[:5], b"\n\n x", b" unfin", b"th", b"e s"):
        parts = [
            sum(costs[(t[n - 1] + 1) if n else 0, t[n]] for n in range(len(t)))
            for t in covers_of(text, words, allowed, rule.accepts)
        ]
        several += len(parts) > 1
        assert model.log_prob(text) == pytest.approx(float(np.logaddexp.reduce(parts)), abs=1e-9)
        assert np.exp(model.law(text)).sum() == pytest.approx(1, abs=1e-9)
    assert several > 3


def test_a_completion_takes_up_a_token_cut_in_two() -> None:
    words = [b"x", b"y", b"xyz", b"z", b" ", None]

    def logits(prefixes: Any) -> np.ndarray:
        """Always the one token xyz, then a space; a lone x is always followed by a space."""
        rows = np.full((len(prefixes), 6), -20.0)
        for row, prefix in zip(rows, prefixes):
            row[4 if prefix and prefix[-1] in (0, 2) else 2] = 0.0
        return rows

    model = ByteLevelModel(logits, words, end=[5])
    assert model.complete(b"xyz x", 2) == b"yz"
    assert model.complete("xyz x", 9, until=lambda added: added.endswith(b" ")) == b"yz "
    drawn = model.complete(b"xyz x", 30, temperature=1.0, seed=3)
    assert drawn == model.complete(b"xyz x", 30, temperature=1.0, seed=3)


def test_pruning_changes_little_and_asks_less() -> None:
    exact, pruned = (ByteLevelModel(toy_logits, WORDS, end=[STOP], prune=share) for share in (0.0, 1e-2))
    text = b"abbababbab"
    for length in range(len(text)):
        difference = np.abs(np.exp(exact.law(text[:length])) - np.exp(pruned.law(text[:length]))).max()
        assert difference < 0.05
    assert pruned.table.evaluations < exact.table.evaluations


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe"])
def test_models_of_transformers_with_and_without_a_cache_agree(kind: str, models_by_kind: dict[str, Any]) -> None:
    import torch

    model = ByteLevelModel.open(models_by_kind[kind])
    inner, start = model.table.token_law.model, model.table.token_law.start

    def whole(prefixes: Any) -> np.ndarray:
        with torch.inference_mode():
            return np.stack([inner(torch.tensor([[start, *p]])).logits[0, -1].double().numpy() for p in prefixes])

    other = ByteLevelModel.of(whole, TokenizerFile.open(models_by_kind[kind]))
    text = "The baker für".encode()
    for cut in (5, 12, 3, 13, 13, 1):
        assert np.allclose(np.exp(model.law(text[:cut])), np.exp(other.law(text[:cut])), atol=1e-5)
        assert model.log_prob(text[:cut]) == pytest.approx(other.log_prob(text[:cut]), abs=1e-4)
        assert np.exp(model.law(text[:cut])).sum() == pytest.approx(1, abs=1e-6)


def test_a_small_lm_gives_a_law_of_bytes(small: tuple[TokenizerFile, PairRule]) -> None:
    pytest.importorskip("torch")
    from sememe.lab import Shape, SmallLM, seeded, table

    file, _ = small
    with seeded(0):
        lm = SmallLM(table(len(file.tokens), 16), shape=Shape(dim=16, layers=1, heads=2, context=8))
    model = ByteLevelModel.of(lm, file)
    text = "The baker kneads the dough before the sun"  # longer than the context
    assert np.exp(model.law(text)).sum() == pytest.approx(1, abs=1e-6)
    ids = file.encode(text)
    stepwise = sum(float(model.table.token_law.log_probs([ids[:n]])[0, t]) for n, t in enumerate(ids))
    assert model.table.score(tuple(ids)) == pytest.approx(stepwise, abs=1e-4)


def _without_bytes(path: Any) -> TokenizerFile:
    file = TokenizerFile.open(path)
    file.spec["model"]["byte_fallback"] = False
    return TokenizerFile(file.spec)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: ByteLevelModel(toy_logits, WORDS, prune=1.0), "no share"),
        (lambda f: ByteLevelModel(toy_logits, [None, b""]), "no token spells"),
        (lambda f: ByteLevelModel(lambda p: np.zeros((1, 3)), WORDS).law(b"a"), "next_logits|gives 3 tokens"),
        (lambda f: ByteLevelModel(lambda p: np.full((len(p), 7), np.nan), WORDS).law(b"a"), "NaN"),
        (lambda f: ByteLevelModel(toy_logits, WORDS).law(b"ax"), "no token sequence"),
        (lambda f: ByteLevelModel.of(toy_logits, _without_bytes(f["bpe"])), "one unknown token"),
        (lambda f: ByteLevelModel.of(toy_logits, 3), "no tokenizer"),
        (lambda f: ByteLevelModel(3, WORDS), "no law"),
        (lambda f: ByteLevelModel(toy_logits, WORDS).complete(b"a", -1), "length"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(call: Any, message: str, tokenizers_by_kind: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(tokenizers_by_kind)
    assert "\n" not in str(caught.value)
