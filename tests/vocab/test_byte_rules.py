"""WordPiece and Unigram as laws of bytes, against the tokenizers themselves and against enumeration."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from vocab_small import SENTENCES

from sememe.errors import InputError
from sememe.vocab import ByteLevelModel, TokenizerFile
from sememe.vocab.best_path_rule import BestPathRule
from sememe.vocab.canonical import Canonical
from sememe.vocab.covers import END
from sememe.vocab.greedy_rule import GreedyRule
from sememe.vocab.token_law import log_softmax

TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
PIECES = [
    "[UNK]",
    "[SEP]",
    "a",
    "b",
    "c",
    "##a",
    "##b",
    "##c",
    "##bc",
    "abc",
    "ab",
    "##cab",
    "abcab",
    ",",
    "##ba",
    "aé",
]
PIECES += ["##é", "é", "B", "##cd"]
SCORED = [
    ("<unk>", 0.0),
    ("</s>", 0.0),
    ("▁", -2.0),
    ("a", -2.0),
    ("b", -2.5),
    ("ab", -3.1),
    ("▁a", -3.0),
    ("ba", -4.0),
]
SCORED += [("bab", -5.0), ("▁ab", -5.1), ("abab", -6.5), ("aé", -3.0), ("▁b", -4.0), ("bb", -5.0), ("aa", -4.0)]
"""With ties: ``b`` ``b`` and ``bb``, ``a`` ``a`` and ``aa``, ``▁`` ``b`` ... ; é is unknown by itself."""


def wordpiece() -> TokenizerFile:
    made = Tokenizer(
        models.WordPiece({t: n for n, t in enumerate(PIECES)}, unk_token="[UNK]", max_input_chars_per_word=7)
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[UNK]", "[SEP]"])
    spec = json.loads(made.to_str())
    return TokenizerFile(spec, {"tokenizer_config.json": {"eos_token": "[SEP]"}})


def unigram(cutter: str = "metaspace") -> TokenizerFile:
    extra = [("▁a▁b", -6.0), ("b▁", -4.0)] if cutter == "whole" else []
    made = Tokenizer(models.Unigram([*SCORED, *extra], unk_id=0, byte_fallback=False))
    made.pre_tokenizer = {
        "metaspace": pre_tokenizers.Metaspace(),
        "words": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        "whole": pre_tokenizers.Metaspace(split=False),
    }[cutter]
    made.normalizer = normalizers.NFC()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<unk>", "</s>"])
    return TokenizerFile(json.loads(made.to_str()), {"tokenizer_config.json": {"eos_token": "</s>"}})


def rule_of(file: TokenizerFile) -> Any:
    return GreedyRule(file) if file.kind == "wordpiece" else BestPathRule(file)


MADE = {
    "wordpiece": wordpiece,
    "metaspace": unigram,
    "words": lambda: unigram("words"),
    "whole": lambda: unigram("whole"),
}


def spelled(rule: Any, tokens: tuple[int, ...]) -> str:
    return b"".join(rule.texts[n] for n in tokens).decode()


def given(file: TokenizerFile, rule: Any, tokens: tuple[int, ...]) -> bool:
    """Whether the tokenizer itself gives these for a text that it reads as what they spell."""
    text = spelled(rule, tokens)
    plain = text.removeprefix(rule.canonical.lead.decode())
    return any(rule.canonical.read(source) == text and file.encode(source) == list(tokens) for source in (text, plain))


def begins(file: TokenizerFile, rule: Any, tokens: tuple[int, ...], known: list[int]) -> bool:
    """Whether it gives them for the beginning of a text: none ends with a space alone, but one may go on from it."""
    if given(file, rule, tokens):
        return True
    return file.tokens[tokens[-1]] == "▁" and any(given(file, rule, (*tokens, number)) for number in known)


@pytest.mark.parametrize("name", list(MADE))
def test_sequences_that_the_rule_allows_are_those_that_the_tokenizer_gives(name: str) -> None:
    file = MADE[name]()
    rule = rule_of(file)
    known = [n for n, text in enumerate(rule.texts) if text]
    lead = rule.canonical.lead
    yes = 0
    for length in (1, 2, 3, 4):
        for tokens in itertools.product(known, repeat=length):
            if length == 4 and hash(tokens) % 5:
                continue
            if not rule.texts[tokens[0]].startswith(lead):
                continue
            allowed = rule.first[tokens[0]] and all(rule.mask(tokens[:n])[tokens[n]] for n in range(1, length))
            ends = allowed and all(rule.accepts(tokens[:n]) for n in range(1, length + 1))
            assert ends == begins(file, rule, tokens, known), (name, [file.tokens[n] for n in tokens])
            yes += ends
    assert yes > 50


def law_of_two(size: int) -> Any:
    table = np.random.default_rng(5).normal(scale=1.5, size=(size + 1, size))
    return lambda prefixes: np.array([table[p[-1] if len(p) else size] for p in prefixes])


@pytest.mark.parametrize("name", list(MADE))
def test_the_law_equals_enumeration_of_what_the_tokenizer_gives(name: str) -> None:
    """Without looking at the rule: sequences are tried one by one, and the tokenizer says which count."""
    file = MADE[name]()
    rule, logits = rule_of(file), law_of_two(len(file.tokens))
    model = ByteLevelModel.of(logits, file)
    costs = log_softmax(logits([(), *[(n,) for n in range(len(file.tokens))]]))
    known = [n for n, text in enumerate(rule.texts) if text]

    def covers(text: bytes) -> list[tuple[int, ...]]:
        out: list[tuple[int, ...]] = []

        def grow(tokens: tuple[int, ...], raw: bytes) -> None:
            if tokens and not begins(file, rule, tokens, known):
                return
            if len(raw) >= len(text):
                out.append(tokens)
                return
            for number in known:
                longer = raw + rule.texts[number]
                if longer[: len(text)] == text[: len(longer)]:
                    grow((*tokens, number), longer)

        grow((), b"")
        return out

    lead = rule.canonical.lead
    several = 0
    texts = ["a", "ab", "aba", "abc", "abb", "a b", "ab a", "abab", "abcab", "a,b", "bab ab", "aé", "bb aa", "ba b"]
    for text in texts:
        if rule.canonical.text(text) != text:
            continue
        raw = lead + text.encode()
        found = covers(raw)
        parts = [sum(costs[(t[n - 1] + 1) if n else 0, t[n]] for n in range(len(t))) for t in found]
        first = covers(lead) if lead else [()]
        begun = [sum(costs[(t[n - 1] + 1) if n else 0, t[n]] for n in range(len(t))) for t in first]
        several += len(parts) > 1
        if not parts:
            assert model.log_prob(text) == -np.inf
            continue
        want = float(np.logaddexp.reduce(parts)) - (float(np.logaddexp.reduce(begun)) if lead else 0.0)
        assert model.log_prob(text) == pytest.approx(want, abs=1e-9), text
        assert np.exp(model.law(text)).sum() == pytest.approx(1, abs=1e-9)
    assert several > 4


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_trained_tokenizers(kind: str, tokenizers_by_kind: dict[str, Any]) -> None:
    """What they give for real text is allowed step by step, and covers of any prefix are what some text gives."""
    file = TokenizerFile.open(tokenizers_by_kind[kind])
    rule = rule_of(file)
    for text in TEXTS:
        ids = tuple(file.encode(rule.canonical.text(text)))
        if file.unknown in ids:
            continue
        assert rule.first[ids[0]] or rule.texts[ids[0]] is not None
        assert all(rule.mask(ids[:n])[ids[n]] for n in range(1, len(ids)))
        assert all(rule.accepts(ids[:n]) for n in range(1, len(ids) + 1))
    model = ByteLevelModel.of(law_of_two(len(file.tokens)), file)
    counted = 0
    for text in ("the bak", "unfinish", "seven hund", "kept co", "salt", "for"):
        state = model.state(text)
        assert np.exp(state.law).sum() == pytest.approx(1, abs=1e-9)
        for tokens, _ in itertools.islice(state.covers(), 200):
            assert given(file, rule, tokens), [file.tokens[n] for n in tokens]
            counted += 1
    assert counted > 10
    every = {tuple(tokens) for tokens, _ in model.state("the bak").covers()}
    tried = {(n,) for n in range(len(file.tokens)) if rule.texts[n] and rule.texts[n].startswith(b" the bak")}
    assert {tokens for tokens in tried if given(file, rule, tokens)} <= every


def test_texts_are_read_in_the_tokenizers_own_form() -> None:
    file = wordpiece()
    form = Canonical(file)
    assert form.text("A,  b\nC") == "a , b c" and form.bytes(b"A, ") == b" a , " and form.bytes(b"") == b" "
    assert form.bytes(b"a" + "é".encode()[:1]) == b" a\xc3"
    model = ByteLevelModel.of(law_of_two(len(file.tokens)), file)
    assert model.log_prob("AB, a") == pytest.approx(model.log_prob("ab , a"))
    added = model.complete("Ab", 12)
    assert added == added.lower() and model.state("Ab").advance(added).log_prob > -np.inf
    assert Canonical(unigram()).text("a  b") == "a  b" and Canonical(unigram("words")).text("a  b ") == "a b"
    assert Canonical(unigram("words")).bytes(b"a  b ") == b" a b "


def test_a_text_ends_where_the_model_says_so() -> None:
    file = unigram()
    model = ByteLevelModel.of(law_of_two(len(file.tokens)), file)
    assert model.law("ab")[END] > -np.inf


def test_refuses_what_cannot_be_exact() -> None:
    bytes_too = unigram()
    bytes_too.spec["model"]["byte_fallback"] = True
    with pytest.raises(InputError, match="byte fall-back"):
        BestPathRule(bytes_too)
    digits = unigram()
    digits.spec["pre_tokenizer"] = {"type": "Digits", "individual_digits": True}
    with pytest.raises(InputError, match="Digits"):
        BestPathRule(TokenizerFile(digits.spec))
    plain = wordpiece()
    plain.spec["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(InputError, match="Whitespace"):
        GreedyRule(TokenizerFile(plain.spec))


def test_models_with_different_readings_are_fused() -> None:
    from sememe.vocab import ByteFusion

    one, two = (ByteLevelModel.of(law_of_two(len(f.tokens)), f) for f in (wordpiece(), unigram("words")))
    fused = ByteFusion([one, two], [0.25, 0.75])
    want = 0.25 * one.log_prob("Ab a") + 0.75 * two.log_prob("ab a")
    assert ByteFusion([one, two], [0.25, 0.75]).log_prob("ab a") == pytest.approx(want)
    after = one.log_prob("AB a") - one.log_prob("AB"), two.log_prob("ab a") - two.log_prob("ab")
    assert fused.log_prob(" a", ["AB", "ab"]) == pytest.approx(0.25 * after[0] + 0.75 * after[1])
    assert np.exp(fused.state("ab").law).sum() == pytest.approx(1)
