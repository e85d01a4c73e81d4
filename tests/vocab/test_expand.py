"""Expanding: new tokens are really produced, old ones keep their ids and rows, in folders that others can load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from vocab_small import KINDS, SENTENCES, write_model

from sememe import vocab
from sememe.errors import InputError, UsageError
from sememe.vocab import ModelFolder, TokenizerFile
from sememe.vocab.expand import more_tokens
from sememe.vocab.new_tokens import segmented, word_tokens
from sememe.vocab.supertokens import Supertokens, uncut
from sememe.vocab.tokenizer_extend import extend_merges

PLACES = ["harbour", "courthouse", "warehouse", "lighthouse", "marketplace", "guildhall", "customs house"]
LAW = [
    f"The undersigned plaintiff in {place} requests, with regard to the {thing}, that the honourable court in the "
    f"matter of clause {number} of the agreement order the defendant to pay."
    for number, (place, thing) in enumerate((p, t) for p in PLACES for t in ("lease", "bridge", "cargo", "tithe"))
]
UNSEEN = "The undersigned defendant, with regard to the tithe of Lübeck, in the matter of clauses 7 and 9."


@pytest.fixture(scope="module")
def opened(tokenizers_by_kind: dict[str, Path]) -> dict[str, TokenizerFile]:
    return {kind: TokenizerFile.open(path) for kind, path in tokenizers_by_kind.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phrases", [False, True])
def test_new_tokens_make_texts_shorter_and_are_produced(
    kind: str, phrases: bool, opened: dict[str, TokenizerFile]
) -> None:
    old = opened[kind]
    found = more_tokens(old, LAW, 400, supertokens=Supertokens() if phrases else None)
    new = found.tokenizer
    assert new.tokens[: len(old.tokens)] == old.tokens
    assert 0 < found.words + found.phrases == len(new.tokens) - len(old.tokens) <= 400
    assert (found.phrases > 0) == phrases
    before, after = sum(map(len, old.encode_batch(LAW))), sum(map(len, new.encode_batch(LAW)))
    assert after < (0.3 if phrases else 0.6) * before
    seen = Counter(n for ids in new.encode_batch(LAW) for n in ids if n >= len(old.tokens))
    if kind in ("wordpiece", "unigram") and not phrases:  # where there are merges, others are steps of them
        assert len(seen) == len(new.tokens) - len(old.tokens)
    assert len(seen) >= 15 and max(seen) >= len(new.tokens) - 2
    for number in range(len(old.tokens), len(new.tokens)):
        raw = new.text_of(number)
        assert raw is not None
        assert new.pieces(raw) == [number]
    assert new.encode_batch([UNSEEN]) != old.encode_batch([UNSEEN])
    if kind != "wordpiece":  # which drops the case
        assert new.backend.decode(new.encode(UNSEEN)) == old.backend.decode(old.encode(UNSEEN))


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe"])
def test_merges_go_on_where_the_tokenizer_ends(kind: str, opened: dict[str, TokenizerFile]) -> None:
    """The first new merge is the most frequent pair of neighbours in words, counted by hand; old ones stay."""
    old = opened[kind]
    pairs: Counter[tuple[str, str]] = Counter()
    for words in segmented(old, LAW):
        for word in words:
            pairs.update(zip((old.tokens[n] for n in word), (old.tokens[n] for n in word[1:]), strict=False))
    new = more_tokens(old, LAW, 5).tokenizer
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in new.model["merges"]]
    was = len(old.model["merges"])
    assert new.model["merges"][:was] == old.model["merges"] and len(merges) == was + 5
    assert pairs[merges[was]] == max(pairs.values())
    assert not any(" " in (new.text_of(n) or b"").decode().strip() for n in range(len(old.tokens), len(new.tokens)))


@pytest.mark.parametrize("kind", KINDS)
def test_text_without_new_tokens_keeps_its_ids(kind: str, opened: dict[str, TokenizerFile]) -> None:
    old = opened[kind]
    new = more_tokens(old, LAW, 60, supertokens=Supertokens()).tokenizer
    texts = [sentence for language in ("ru", "zh") for sentence in SENTENCES[language]] + ["<extra> Zug 1998"]
    assert new.encode_batch(texts) == old.encode_batch(texts)


def test_supertokens_are_phrases_of_whole_words(opened: dict[str, TokenizerFile]) -> None:
    words = {word for text in LAW for word in text.lower().replace(",", " ,").replace(".", " .").split()}
    for kind in KINDS:
        old = opened[kind]
        wide = word_tokens(old, LAW, 200).enter(old)
        learned = Supertokens(words=3, seed=1).learn(wide, LAW, 30)
        again = Supertokens(words=3, seed=1).learn(wide, LAW, 30)
        assert learned == again and learned.texts
        for raw in learned.texts:
            parts = raw.decode().lower().split()
            assert 2 <= len(parts) <= 3 and set(parts) <= words
            assert raw.decode().lower().strip() in " ".join(LAW).lower()


def test_word_cut_is_lifted_only_where_nothing_else_changes(opened: dict[str, TokenizerFile]) -> None:
    texts = [*LAW, *(sentence for sentences in SENTENCES.values() for sentence in sentences)]
    changed = uncut(opened["unigram"], texts)
    assert changed.across and changed.encode_batch(texts) == opened["unigram"].encode_batch(texts)
    for kind in ("byte-bpe", "wordpiece", "bpe"):
        assert uncut(opened[kind], texts) is opened[kind]
    spec = json.loads(json.dumps(opened["unigram"].spec))
    spec["model"]["vocab"][-1] = ["e▁", -1.0]  # a token with a space inside comes up without the cut
    spaced = TokenizerFile(spec)
    assert uncut(spaced, LAW) is spaced


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_old_tokens_stay_to_the_bit(kind: str, models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    source, out = models_by_kind[kind], tmp_path / "out"
    answer = vocab.expand(source, out, texts=LAW, add=200, supertokens=True)
    before, after = ModelFolder.open(source), ModelFolder.open(out)
    old, new = before.tokenizer(), after.tokenizer()
    assert before.size + 20 < after.size == len(new.tokens) == answer["tokens"]["after"]
    assert after.tied == before.tied
    for role in before.tables:
        was, now = before.read(role), after.read(role)
        np.testing.assert_array_equal(now[: len(was)].view(np.uint32), was.view(np.uint32))
        for number in range(len(was), len(now)):
            pieces = old.pieces(new.text_of(number) or b"")
            np.testing.assert_allclose(now[number], was[pieces].mean(axis=0), rtol=1e-4, atol=1e-7)
    for bias in before.layout.biases:
        was, now = before.read(bias.name).reshape(-1), after.read(bias.name).reshape(-1)
        np.testing.assert_array_equal(now[: len(was)], was)
    for name, tensor in before.tensors.items():
        if tensor not in before.layout.all:
            np.testing.assert_array_equal(after.read(name), before.read(name))
    surgery = json.loads((out / "surgery.json").read_text())
    assert surgery["operation"] == "expand" and surgery["added"] == answer["added"]
    rate = answer["tokens_per_byte"]
    assert rate["after"] < rate["before"] and answer["added"]["produced"]["in_learned"] > 10
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == after.size
    assert config.get("bos_token_id") == before.config.get("bos_token_id")


def test_loads_in_transformers_in_a_fresh_process(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    jobs = []
    for kind, source in models_by_kind.items():
        vocab.expand(source, tmp_path / kind, texts=LAW, add=200, supertokens=True)
        jobs.append((str(tmp_path / kind), TokenizerFile.open(tmp_path / kind).encode_batch([*LAW, UNSEEN])))
    code = """
import json, sys, torch, transformers as t
torch.set_num_threads(1)
for folder, wanted in json.loads(sys.stdin.read())["jobs"]:
    tokenizer, model = t.AutoTokenizer.from_pretrained(folder), t.AutoModel.from_pretrained(folder)
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    assert [tokenizer(x, add_special_tokens=False)["input_ids"] for x in TEXTS] == wanted, folder
    assert torch.isfinite(model(input_ids=torch.tensor([wanted[0][:60]])).last_hidden_state).all()
assert "sememe" not in sys.modules
print("fine")
"""
    given = json.dumps({"jobs": jobs})
    code = code.replace("TEXTS", repr([*LAW, UNSEEN]))
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr[-2000:]


def test_rows_without_a_token_are_used_up_first(tokenizers_by_kind: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = write_model(tmp_path / "padded", "bpe", tokenizers_by_kind["bpe"])
    tensors = load_file(source / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = np.concatenate([table, table[:64] + 1])
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"vocab_size": len(table) + 64}
    (source / "config.json").write_text(json.dumps(config))
    answer = vocab.expand(source, tmp_path / "out", texts=LAW, add=10)
    assert answer["rows"] == {"before": len(table) + 64, "after": len(table) + 64}
    now = ModelFolder.open(tmp_path / "out").read("input")
    np.testing.assert_array_equal(now[len(table) + 10 :], tensors["model.embed_tokens.weight"][len(table) + 10 :])
    assert not np.array_equal(now[len(table)], tensors["model.embed_tokens.weight"][len(table)])


def test_refusals(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    source, out = models_by_kind["bpe"], tmp_path / "out"
    with pytest.raises(InputError, match="donor's table"):
        vocab.expand(source, out, texts=LAW, init="omp")
    with pytest.raises(InputError, match="nothing in this text repeats"):
        vocab.expand(source, out, texts=["q"])
    with pytest.raises(UsageError, match="0 tokens"):
        vocab.expand(source, out, texts=LAW, add=0)
    with pytest.raises(UsageError, match="no initializer"):
        vocab.expand(source, out, texts=LAW, init="wish")
    with pytest.raises(InputError, match="no text"):
        vocab.expand(source, out, texts=[" "])
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InputError, match="exists already"):
        vocab.expand(source, out, texts=LAW)
    assert sorted(tmp_path.iterdir()) == [out]
    words = TokenizerFile({"model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}})
    with pytest.raises(InputError, match="word-level"):
        more_tokens(words, LAW, 5)


def test_command_line(models_by_kind: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sememe.cli.main import main

    text = tmp_path / "law.txt"
    text.write_text("\n".join(LAW), encoding="utf-8")
    out = tmp_path / "out"
    given = ["vocab", "expand", str(models_by_kind["byte-bpe"]), "--text", str(text), "--add", "200", "--supertokens"]
    assert main([*given, "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["added"]["words"] > 20 and answer["added"]["supertokens"] > 10
    picture = tmp_path / "more.html"
    assert main([*given, "-o", str(tmp_path / "other"), "--init", "mean", "--plot", str(picture)]) == 0
    shown = capsys.readouterr()
    page = picture.read_text(encoding="utf-8")
    assert "<svg" in page and "fewer tokens" in page and f"{answer['tokens']['after']:,}" in page
    assert main([*given, "-o", str(tmp_path / "third"), "--plot", str(tmp_path / "more.png")]) == 3
    assert not (tmp_path / "third").exists()
    assert "several words" in shown.out and "added tokens" in shown.err
    assert main([*given, "-o", str(out)]) == 3


def test_merges_are_entered_as_they_are_given(opened: dict[str, TokenizerFile]) -> None:
    old = opened["byte-bpe"]
    new = extend_merges(old, [("q", "x"), ("v", "qx")])
    assert new.tokens[len(old.tokens) :] == ["qx", "vqx"]
    assert new.tokens[new.encode("vqx qx")[0]] == "vqx"
    with pytest.raises(InputError, match="not there"):
        extend_merges(old, [("v", "qx")])
    with pytest.raises(InputError, match="no further merges"):
        extend_merges(opened["wordpiece"], [("a", "b")])
