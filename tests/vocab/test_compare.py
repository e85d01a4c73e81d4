"""The table of methods: every loss is that of the model that transplanting writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from vocab_small import SENTENCES

from sememe import vocab
from sememe.errors import InputError, UsageError
from sememe.vocab import ModelFolder
from sememe.vocab.initialize import methods
from sememe.vocab.subject import Subject, Trial, kind_of, peak_memory

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
HELD, TRAIN = TEXTS[::2], TEXTS[1::2] * 40


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written_loss(folder: Path, texts: list[str]) -> float:
    """Bits a byte of a causal model's folder, by transformers and a loop."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    bits = 0.0
    for text in texts:
        ids = [model.config.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.inference_mode():
            found = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
        bits -= sum(found[place, number].item() for place, number in enumerate(ids[1:])) / np.log(2)
    return bits / sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize(("old", "new"), [("bpe", "byte-bpe"), ("byte-bpe", "bpe")])
def test_losses_are_those_of_the_folders_that_transplanting_writes(
    old: str, new: str, models_by_kind: dict[str, Path], tmp_path: Path
) -> None:
    names = ["mean", "subword-mean", "omp"]
    texts = [text for text in HELD if len(text.encode()) < 70]
    answer = vocab.compare(models_by_kind[old], models_by_kind[new], texts=texts, names=names)
    assert answer["kind"] == "causal" and answer["rows"][0]["method"] == "original"
    losses = {row["method"]: row["loss"] for row in answer["rows"]}
    assert losses["original"]["value"] == pytest.approx(written_loss(models_by_kind[old], texts), abs=1e-5)
    for name in names:
        vocab.transplant(models_by_kind[old], models_by_kind[new], tmp_path / name, init=name)
        assert losses[name]["value"] == pytest.approx(written_loss(tmp_path / name, texts), abs=1e-5)
        assert losses[name]["low"] < losses[name]["value"] < losses[name]["high"]
    order = [row["loss"]["value"] for row in answer["rows"][1:]]
    assert order == sorted(order)


def test_every_method_is_measured_or_says_what_it_lacks(models_by_kind: dict[str, Path]) -> None:
    names = sorted(set(methods()) - {"hypernet"})
    answer = vocab.compare(models_by_kind["bpe"], models_by_kind["byte-bpe"], texts=HELD, names=names, seeds=2)
    rows = {row["method"]: row for row in answer["rows"]}
    assert set(rows) == {"original", *names}
    assert "word vectors" in rows["wechsel"]["skipped"] and "encoder" in rows["hybrid"]["skipped"]
    assert "text" in rows["convex-hull"]["skipped"]
    for name in ("mean", "subword-mean", "omp", "focus", "neighbours", "gaussian"):
        assert rows[name]["skipped"] is None and rows[name]["made"] > 0 and rows[name]["seconds"] > 0
    drawn = rows["gaussian"]["loss"]["by_seed"]
    assert drawn[0] != drawn[1] and rows["mean"]["loss"]["by_seed"][0] == rows["mean"]["loss"]["by_seed"][1]
    measured = [row["skipped"] is None for row in answer["rows"]]
    assert measured == sorted(measured, reverse=True)


def test_training_lowers_the_loss_and_leaves_the_model_alone(models_by_kind: dict[str, Path]) -> None:
    answer = vocab.compare(
        models_by_kind["bpe"], models_by_kind["byte-bpe"], texts=HELD, train_texts=HELD * 40, steps=6,
        rate=3e-3, names=["mean", "zero"], seeds=2,
    )  # fmt: skip
    for row in answer["rows"]:
        assert row["trained"]["value"] < row["loss"]["value"]
        assert row["train_seconds"] > 0 and row["train_memory"] > 0
        assert row["trained"]["by_seed"][0] != row["trained"]["by_seed"][1]
    fresh = vocab.compare(models_by_kind["bpe"], models_by_kind["byte-bpe"], texts=HELD, names=["mean"], seeds=1)
    losses = {row["method"]: row["loss"]["value"] for row in answer["rows"]}
    assert [row["loss"]["value"] for row in fresh["rows"]] == [losses["original"], losses["mean"]]


@pytest.mark.parametrize(("old", "new"), [("wordpiece", "unigram"), ("unigram", "wordpiece")])
def test_masked_models_fill_gaps(old: str, new: str, models_by_kind: dict[str, Path]) -> None:
    answer = vocab.compare(
        models_by_kind[old],
        models_by_kind[new],
        texts=HELD,
        train_texts=TRAIN,
        steps=2,
        names=["subword-mean"],
        seeds=1,
    )
    assert answer["kind"] == "masked" and "hidden words" in answer["unit"]
    assert all(np.isfinite(row["loss"]["value"]) for row in answer["rows"])


def test_gaps_cost_what_they_cost_the_written_folder(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    old, new = models_by_kind["wordpiece"], models_by_kind["unigram"]
    answer = vocab.compare(old, new, texts=HELD, names=["subword-mean"], seeds=1)
    vocab.transplant(old, new, tmp_path / "out", init="subword-mean")
    folder = ModelFolder.open(tmp_path / "out")
    subject = Subject(folder)
    tokenizer = folder.tokenizer()
    trial = Trial(subject, HELD, [tokenizer, ModelFolder.open(old).tokenizer()])
    score = trial.score(subject.wrapped(subject.model, tokenizer, None), tokenizer)
    assert answer["rows"][1]["loss"]["value"] == pytest.approx(score.value, rel=1e-4)


def test_a_hidden_word_costs_what_a_plain_loop_says(models_by_kind: dict[str, Path]) -> None:
    folder = ModelFolder.open(models_by_kind["wordpiece"])
    subject, tokenizer = Subject(folder), folder.tokenizer()
    text = "The baker kneads dough."
    trial = Trial(subject, [text], [tokenizer])
    ((begin, end),) = trial.hidden[0]
    encoding = tokenizer.backend.encode(text)
    places = [n for n, (a, b) in enumerate(encoding.offsets) if a < end and begin < b]
    ids = torch.tensor([encoding.ids])
    seen = ids.clone()
    seen[0, places] = tokenizer.roles["mask"]
    with torch.inference_mode():
        logits = torch.log_softmax(subject.model(input_ids=seen).logits[0], dim=-1)
    bits = -sum(logits[place, ids[0, place]].item() for place in places) / np.log(2)
    score = trial.score(subject.wrapped(subject.model, tokenizer, None), tokenizer)
    assert score.value == pytest.approx(bits / (end - begin), rel=1e-4)


def test_a_bare_tokenizer_skips_methods_that_need_the_donors_table(
    models_by_kind: dict[str, Path], tokenizers_by_kind: dict[str, Path]
) -> None:
    answer = vocab.compare(
        models_by_kind["bpe"], tokenizers_by_kind["byte-bpe"], texts=HELD, names=["omp", "mean"], seeds=1
    )
    assert [row["method"] for row in answer["rows"]] == ["original", "mean", "omp"]
    assert "donor's table" in answer["rows"][2]["skipped"]


def test_refusals(models_by_kind: dict[str, Path], tokenizers_by_kind: dict[str, Path], tmp_path: Path) -> None:
    causal, donor = models_by_kind["bpe"], models_by_kind["byte-bpe"]
    with pytest.raises(UsageError, match="no text to train on"):
        vocab.compare(causal, donor, texts=HELD, steps=2)
    with pytest.raises(UsageError, match="no initializer"):
        vocab.compare(causal, donor, texts=HELD, names=["wish"])
    with pytest.raises(InputError, match="no method can be compared"):
        vocab.compare(causal, tokenizers_by_kind["byte-bpe"], texts=HELD, names=["omp"])
    with pytest.raises(InputError, match="no token for a gap"):
        vocab.compare(models_by_kind["wordpiece"], donor, texts=HELD, names=["mean"])
    encoder = tmp_path / "encoder"
    shutil.copytree(models_by_kind["wordpiece"], encoder)
    config = json.loads((encoder / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (encoder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no language model"):
        kind_of(ModelFolder.open(encoder))


def test_command_line(models_by_kind: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sememe.cli.main import main

    held, train = tmp_path / "held.txt", tmp_path / "train.txt"
    held.write_text("\n".join(HELD), encoding="utf-8")
    train.write_text("\n".join(TRAIN), encoding="utf-8")
    given = ["vocab", "compare", str(models_by_kind["bpe"]), "--tokenizer", str(models_by_kind["byte-bpe"])]
    given += ["--text", str(held), "--methods", "mean,wechsel", "--seeds", "1"]
    assert main([*given, "--json"]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["original", "mean", "wechsel"]
    picture = tmp_path / "loss.svg"
    assert main([*given, "--train", str(train), "--steps", "1", "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    words = "".join(ElementTree.parse(picture).getroot().itertext())
    assert "after 1 steps" in words and "original" in words and "mean" in words and "wechsel" not in words
    assert str(picture) in shown
    assert main([*given, "--plot", str(tmp_path / "loss.png")]) == 3
    assert "after 1 steps" in shown and "skipped  wechsel" in shown
    assert main(["vocab", "compare", str(tmp_path), "--tokenizer", str(tmp_path), "--text", str(held)]) == 3


def test_slow_methods_are_left_out_unless_they_are_named(
    models_by_kind: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sememe.cli.main import main
    from sememe.vocab import initialize

    assert set(methods()) - set(initialize.quick()) == {"hypernet"}
    answer = vocab.compare(models_by_kind["bpe"], models_by_kind["byte-bpe"], texts=HELD, seeds=1)
    assert answer["left_out"] == ["hypernet"] and "hypernet" not in {row["method"] for row in answer["rows"]}
    named = vocab.compare(models_by_kind["bpe"], models_by_kind["byte-bpe"], texts=HELD, seeds=1, names=["mean"])
    assert named["left_out"] == []
    held = tmp_path / "held.txt"
    held.write_text("\n".join(HELD), encoding="utf-8")
    given = ["vocab", "compare", str(models_by_kind["bpe"]), "--tokenizer", str(models_by_kind["byte-bpe"])]
    monkeypatch.setattr("sememe.cli.vocab_compare.sources", lambda *_: {})
    assert main([*given, "--text", str(held), "--seeds", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert len(lines) == 1 and "hypernet" in lines[0]


def test_peak_memory_sees_what_a_block_held() -> None:
    with peak_memory() as held:
        kept = np.ones(8 << 20)  # 64 MiB
        more = kept + 1  # and as much again
        del more
    if held[0] is None:
        pytest.skip("this system does not count")
    assert 120 << 20 < held[0] < 200 << 20 and kept.any()
