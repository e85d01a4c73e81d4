"""RoBERTa and its kin count positions from their padding token: it keeps its number, whatever happens around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocab_small import SENTENCES, write_model

from sememe.errors import InputError
from sememe.vocab import ModelFolder, TokenizerFile, VocabularyTrimmer, compare, mixed, transplant, trim
from sememe.vocab.initialize import shared_tokens
from sememe.vocab.sample import from_texts
from sememe.vocab.tokenizer_keep import exchange

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
GERMAN = SENTENCES["de"]
PAD = 20


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_kind: dict[str, Path]) -> Path:
    """An XLM-R whose padding token comes late: after tokens that German does not use."""
    root = tmp_path_factory.mktemp("late")
    file = TokenizerFile.open(tokenizers_by_kind["unigram"])
    moved = exchange(file, file.roles["pad"], PAD)
    used = {number for text in GERMAN for number in moved.encode(text)} | moved.special | moved.added_ids
    rare = [n for n, token in enumerate(moved.tokens) if len(token) > 2 and n not in used]
    for place, number in enumerate(rare[-4:], start=10):  # these go, and what comes behind moves up
        moved = exchange(moved, place, number)
    (root / "tokenizer.json").write_text(json.dumps(moved.spec))
    return write_model(root / "model", "unigram", root / "tokenizer.json")


def loaded(folder: Path) -> tuple[Any, Any]:
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def read(folder: Path, texts: list[str]) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
    """Ids, logits and mean vector of each text, in one padded batch, so that padding counts."""
    model, tokenizer = loaded(folder)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    assert (batch["input_ids"][batch["attention_mask"] == 0] == model.config.pad_token_id).all()
    with torch.inference_mode():
        found = model(**batch, output_hidden_states=True)
    out = []
    for ids, there, logits, states in zip(
        batch["input_ids"], batch["attention_mask"].bool(), found.logits, found.hidden_states[-1], strict=True
    ):
        out.append((ids[there].tolist(), logits[there].numpy(), states[there].mean(0).numpy()))
    return out


def test_trimming_keeps_the_number_vectors_and_logits(late: Path, tmp_path: Path) -> None:
    trim(late, tmp_path / "de", texts=GERMAN[:2], size=0.7)
    old, new = ModelFolder.open(late), ModelFolder.open(tmp_path / "de")
    assert old.config["pad_token_id"] == new.config["pad_token_id"] == new.tokenizer().roles["pad"] == PAD
    assert new.size < 0.75 * old.size
    ids = old.tokenizer().ids
    rows = np.array([ids[token] for token in new.tokenizer().tokens])
    assert (np.diff(rows) < 0).any()  # the order had to change, or this tests nothing
    for name in ("input", *(bias.name for bias in old.layout.biases)):
        np.testing.assert_array_equal(new.read(name).reshape(len(rows), -1), old.read(name).reshape(old.size, -1)[rows])
    for before, after in zip(read(late, GERMAN[:2]), read(tmp_path / "de", GERMAN[:2]), strict=True):
        assert rows[after[0]].tolist() == before[0]
        np.testing.assert_allclose(after[1], before[1][:, rows], atol=1e-6)
        np.testing.assert_allclose(after[2], before[2], atol=1e-6)


def test_trimming_below_the_number_is_refused(late: Path) -> None:
    file = ModelFolder.open(late).tokenizer()
    with pytest.raises(InputError, match=f"counted from the padding token, {len(file.tokens) - 1}"):
        VocabularyTrimmer(0.6).choose(file, from_texts(GERMAN), fixed=len(file.tokens) - 1)


def test_a_donor_with_another_padding_number(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    """WordPiece pads with 0, XLM-R counts positions from 1: both go on to work."""
    source, donor = models_by_kind["unigram"], models_by_kind["wordpiece"]
    transplant(source, donor, tmp_path / "out", init="omp", options={"k": 3})
    old, new, giver = (ModelFolder.open(path) for path in (source, tmp_path / "out", donor))
    assert new.config["pad_token_id"] == new.tokenizer().roles["pad"] == 1
    assert giver.tokenizer().roles["pad"] == 0
    names, others = new.tokenizer().tokens, giver.tokenizer().tokens
    assert names != others and sorted(names) == sorted(others)
    for number, before in shared_tokens(old.tokenizer(), new.tokenizer()).tolist():
        np.testing.assert_array_equal(new.read("input")[number], old.read("input")[before])
    model, tokenizer = loaded(tmp_path / "out")
    ids = tokenizer(TEXTS[0])["input_ids"]
    back = {number: giver.tokenizer().ids[token] for number, token in enumerate(names)}
    assert [back[number] for number in ids] == giver.tokenizer().encode(TEXTS[0], special=True)
    alone, padded = (tokenizer(texts, return_tensors="pt", padding=True) for texts in (TEXTS[1:2], TEXTS[:4]))
    with torch.inference_mode():
        one, two = model(**alone).logits[0], model(**padded).logits[1]
    length = alone["input_ids"].shape[1]
    np.testing.assert_allclose(one[:length].numpy(), two[:length].numpy(), atol=1e-5)


def test_the_donors_table_follows_its_tokens(late: Path, models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    """OMP over a donor with exchanged ids gives each token the row that it gets without."""
    transplant(models_by_kind["wordpiece"], late, tmp_path / "plain", init="omp", options={"k": 3})
    transplant(models_by_kind["unigram"], late, tmp_path / "moved", init="omp", options={"k": 3})
    moved, giver = ModelFolder.open(tmp_path / "moved"), ModelFolder.open(late)
    assert moved.tokenizer().roles["pad"] == 1 and giver.tokenizer().roles["pad"] == PAD
    own = ModelFolder.open(models_by_kind["unigram"])  # the same tokens under other numbers: each row comes back
    for token, number in moved.tokenizer().ids.items():
        np.testing.assert_array_equal(moved.read("input")[number], own.read("input")[own.tokenizer().ids[token]])


def test_comparing_and_teaching_keep_it_too(late: Path, models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    answer = compare(
        models_by_kind["unigram"], late, texts=TEXTS, names=["subword-mean"], seeds=1
    )  # the same tokens under other numbers cost the same
    losses = {row["method"]: row["loss"]["value"] for row in answer["rows"]}
    assert losses["subword-mean"] == pytest.approx(losses["original"], abs=1e-6)
    options = {"width": 16, "layers": 1, "heads": 2, "align_steps": 2, "steps": 2, "batch": 4, "most": 40}
    mixed(late, tmp_path / "small", texts=TEXTS, size=0.7, **options)
    small = ModelFolder.open(tmp_path / "small")
    assert small.config["pad_token_id"] == small.tokenizer().roles["pad"] == PAD


def test_a_donor_without_padding_is_refused(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="counts positions from its padding token, 1"):
        transplant(models_by_kind["unigram"], models_by_kind["byte-bpe"], tmp_path / "out", init="mean")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe", "wordpiece", "unigram"])
def test_exchanged_ids_are_exchanged_everywhere(kind: str, tokenizers_by_kind: dict[str, Path]) -> None:
    file = TokenizerFile.open(tokenizers_by_kind[kind])
    special = min(file.special)
    for one, other in ((special, 70), (40, 90), (33, 33)):
        moved = exchange(file, one, other)
        new = {one: other, other: one}
        for text in TEXTS:
            want = [new.get(number, number) for number in file.encode(text, special=True)]
            assert moved.encode(text, special=True) == want
        assert moved.roles == {role: new.get(number, number) for role, number in file.roles.items()}
