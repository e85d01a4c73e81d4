"""The fair trial: equal conditions, budgets kept or refused, runs that are kept, and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocab_small import SENTENCES

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.cli.main import main  # noqa: E402
from sememe.errors import InputError, UsageError  # noqa: E402
from sememe.lab.data import Corpus  # noqa: E402
from sememe.lab.model import Shape  # noqa: E402
from sememe.lab.score import document_bits, score_stream, token_bits  # noqa: E402
from sememe.tokens import plot  # noqa: E402
from sememe.tokens.factory import build  # noqa: E402
from sememe.tokens.trial import LayerTrial, misspell  # noqa: E402
from sememe.vocab.tokenizer import TokenizerFile  # noqa: E402

TEXTS = [f"{sentence} {number}" for number in range(4) for some in SENTENCES.values() for sentence in some]
SMALL: dict[str, Any] = {"steps": 3, "seeds": 2, "dim": 32, "depth": 1, "context": 16, "batch": 4}


def trial(tokenizer_file: Path) -> LayerTrial:
    tokenizer = TokenizerFile.open(tokenizer_file)
    return LayerTrial(Corpus.split(TEXTS), tokenizer, Shape(dim=32, layers=1, heads=2, context=16))


def test_everything_but_the_layer_starts_the_same(tokenizer_file: Path) -> None:
    from sememe.lab.model import seeded

    found = trial(tokenizer_file)
    models = []
    for name in ("table", "kronecker"):
        with seeded(5):
            models.append(found.model(build(name, found.vocabulary, 32, seed=5)))
    first, other = ({k: v for k, v in model.state_dict().items() if not k.startswith("embedding")} for model in models)
    assert first.keys() == other.keys()
    assert all(torch.equal(first[key], other[key]) for key in first)


def test_equal_layers_get_equal_results(tokenizer_file: Path) -> None:
    found = trial(tokenizer_file).run(
        {name: lambda v, seed: build("table", v, 32, seed=seed) for name in ("a", "b")}, steps=3, seeds=(0, 1), batch=4
    )
    assert found.row("a").loss == found.row("b").loss
    assert found.row("b").gap == (0.0, 0.0, 0.0)
    assert found.row("a").also == found.row("b").also
    assert found.row("a").also["layer_parameters"] == len(trial(tokenizer_file).vocabulary) * 32


def test_bits_of_symbols_add_up_to_those_of_documents(tokenizer_file: Path) -> None:
    found = trial(tokenizer_file)
    model = found.model(build("table", found.vocabulary, 32))
    stream = found._compact(found._held_out)
    bits = token_bits(model, stream, context=16)
    assert bits.shape == stream.ids.shape
    assert np.allclose(document_bits(stream, bits), score_stream(model, stream, context=16).bits)
    assert (bits > 0).all()


def test_after_a_rare_symbol_means_within_the_document(tokenizer_file: Path) -> None:
    found = trial(tokenizer_file)
    counts = found.vocabulary.counts
    assert counts is not None
    stream = found._held_out
    for document in range(len(stream)):
        first = stream.offsets[document]
        ids = stream[document]
        expected = [False, *(bool(counts[number] <= 5) for number in ids[:-1])]
        assert found._after_rare[first : first + len(ids)].tolist() == expected[: len(ids)]


def test_misspelling_disturbs_letters_only() -> None:
    text = "Über 1,204 letters (1998) — письма!"
    wrong = misspell(text, 1.0, seed=3)
    assert wrong != text
    assert [c for c in wrong if not c.isalpha()] == [c for c in text if not c.isalpha()]
    assert misspell(text, 0.0) == text
    assert misspell("1998 ...", 1.0) == "1998 ..."
    assert misspell(text, 0.5, seed=1) == misspell(text, 0.5, seed=1)


def test_about_a_share_is_disturbed() -> None:
    text = "abcdefghij " * 500
    changed = sum(a != b for a, b in zip(text.split(), misspell(text, 0.02, seed=0).split()))
    assert 60 <= changed <= 130  # of 500 words with ten letters, 2 % of the letters: 1 - .98^10 = 18 %


def test_a_comparison_says_what_was_measured_and_what_was_not(tokenizer_file: Path) -> None:
    seen: list[tuple[int, int]] = []
    answer = tokens.compare(
        tokenizer_file,
        texts=TEXTS,
        layers=["hash-bucket", "binary-codes"],
        budgets=["60%", "250%"],
        forecast=lambda *of: seen.append(of),
        **SMALL,
    )
    assert (answer["rows"][0]["layer"], answer["rows"][0]["budget"]) == ("table", "100%")
    assert {(row["layer"], row["budget"]) for row in answer["rows"][1:]} == {
        ("hash-bucket", "60%"),
        ("binary-codes", "its own"),
    }
    assert [(item["layer"], item["budget"]) for item in answer["skipped"]] == [("hash-bucket", "250%")]
    assert seen == [(6, 3)]
    for row in answer["rows"]:
        assert row["loss"]["low"] <= row["loss"]["value"] <= row["loss"]["high"]
        assert np.isfinite([row["typos"], row["after_rare"], row["tokens_per_second"]]).all()
        assert len(row["by_seed"]) == 2
    size = answer["setting"]["symbols"] * 32
    assert answer["rows"][0]["parameters"] == size
    hashed = next(row for row in answer["rows"] if row["layer"] == "hash-bucket")
    assert abs(hashed["bytes"] / 4 - 0.6 * size) <= 0.05 * 0.6 * size


def test_finished_runs_are_not_run_again(tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sememe.lab import compare as lab

    log = tmp_path / "runs.jsonl"
    given: dict[str, Any] = {"texts": TEXTS, "layers": ["hash-bucket"], "budgets": ["60%"], "log": log, **SMALL}
    first = tokens.compare(tokenizer_file, **given)
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines)[:-40])  # the last run was cut off
    trained: list[str] = []
    real = lab._run
    monkeypatch.setattr(lab, "_run", lambda contender, *rest: trained.append(contender.name) or real(contender, *rest))
    again = tokens.compare(tokenizer_file, **given)
    assert trained == ["hash-bucket 60%"]
    assert [row["by_seed"] for row in first["rows"]] == [row["by_seed"] for row in again["rows"]]
    trained.clear()
    tokens.compare(tokenizer_file, **given)
    assert trained == []
    tokens.compare(tokenizer_file, **{**given, "rate": 1e-3})  # another setting: nothing kept fits
    assert len(trained) == 4


def test_the_picture_shows_every_point(tokenizer_file: Path, tmp_path: Path) -> None:
    answer = tokens.compare(tokenizer_file, texts=TEXTS, layers=["hash-bucket"], budgets=["60%", "30%"], **SMALL)
    picture = plot.draw(answer)
    assert picture.count("<circle") == len(answer["rows"]) + 2  # and two in the legend
    assert "hash-bucket, 60%" in picture
    assert plot.save(answer, tmp_path / "p.html").read_text().startswith("<!doctype html>")
    with pytest.raises(InputError, match=r"\.svg or \.html"):
        plot.save(answer, tmp_path / "p.png")


def test_on_the_command_line(tokenizer_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "sample.txt"
    text.write_text("\n".join(TEXTS * 3))
    command = ["tokens", "compare", "--tokenizer", str(tokenizer_file), "--text", str(text), "--layers", "hash-bucket"]
    command += [
        "--budgets=60%",
        "--steps=2",
        "--seeds=1",
        "--dim=32",
        "--depth=1",
        "--context=16",
        "--batch=4",
        "--quiet",
    ]
    assert main([*command, "--plot", str(tmp_path / "p.svg")]) == 0
    out = capsys.readouterr().out
    assert "hash-bucket" in out
    assert (tmp_path / "p.svg").exists()
    assert main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert main([*command, "--layers", "kroneker"]) == 2
    assert "did you mean kronecker" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(UsageError, match="no layer"):
        tokens.compare(tokenizer_file, texts=TEXTS, layers=["nothing"], **SMALL)
    with pytest.raises(InputError, match="budget"):
        tokens.compare(tokenizer_file, texts=TEXTS, layers=["kronecker"], budgets=["many"], **SMALL)
    with pytest.raises(InputError, match="too short"):
        tokens.compare(tokenizer_file, texts=["one"], layers=["kronecker"], **SMALL)
    with pytest.raises(UsageError, match="positive"):
        tokens.compare(tokenizer_file, texts=TEXTS, **{**SMALL, "steps": 0})
