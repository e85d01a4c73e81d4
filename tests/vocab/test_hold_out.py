"""Rows of hidden tokens: what is said of a method is what hiding by hand shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sememe.vocab import ModelFolder, transplant
from sememe.vocab.hold_out import HoldOut, hold_out
from sememe.vocab.initialize import Problem, make


@pytest.fixture(scope="module")
def folders(models_by_kind: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, a donor whose rows are the model's turned (where both have the token), and one of noise."""
    model = models_by_kind["wordpiece"]
    place = tmp_path_factory.mktemp("donors")
    generator = np.random.default_rng(0)
    base, tokens = ModelFolder.open(model), ModelFolder.open(models_by_kind["bpe"]).tokenizer()
    table = base.read("input")
    factors = generator.standard_normal((len(table), 3)).astype(np.float32)  # rows that others can be made of
    table = factors @ generator.standard_normal((3, table.shape[1])).astype(np.float32) + 2
    base_copy = place / "model"
    _copied(model, base_copy, table)
    shared = Problem.of(base.tokenizer(), tokens).shared
    turned = generator.standard_normal((len(tokens.tokens), table.shape[1])).astype(np.float32)
    turn = np.linalg.qr(generator.standard_normal((table.shape[1],) * 2))[0].astype(np.float32)
    noise = turned.copy()
    turned[shared[:, 0]] = table[shared[:, 1]] @ turn
    for name, rows in (("turned", turned), ("noise", noise)):
        _copied(models_by_kind["bpe"], place / name, rows)
    return base_copy, place / "turned", place / "noise"


def _copied(source: Path, out: Path, table: np.ndarray) -> None:
    out.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (out / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    name = ModelFolder.open(source).layout.input.name
    tensors[name] = table[: len(tensors[name]), : tensors[name].shape[1]]
    save_file(tensors, out / "model.safetensors")


def _problem(model: Path, donor: Path) -> tuple[Problem, np.ndarray]:
    old, new = ModelFolder.open(model), ModelFolder.open(donor)
    return Problem.of(old.tokenizer(), new.tokenizer(), donor=new.read("input")), old.read("input")


def test_a_donor_that_explains_the_model_and_one_that_does_not(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model, turned, noise = folders
    good = hold_out(make("omp", k=4), *_problem(model, turned))
    bad = hold_out(make("omp", k=4), *_problem(model, noise))
    assert good is not None and bad is not None and good.tokens == bad.tokens >= 16
    assert good.explained > 0.99 and good.cosine > 0.99 and good.warning("input") is None
    assert bad.explained < 0 and "farther from the true ones" in (bad.warning("input") or "")
    for donor, warned in ((turned, False), (noise, True)):
        answer = transplant(model, donor, tmp_path / donor.name, init="omp", options={"k": 4})
        assert any("farther" in notice for notice in answer["notices"]) is warned
        assert answer["tables"]["input"]["held_out"]["tokens"] == good.tokens
    assert hold_out(make("mean"), *_problem(model, turned)) is None


def test_hidden_tokens_are_hidden(folders: tuple[Path, Path, Path]) -> None:
    """Pieces of a hidden token are other tokens, or its own row would be found again."""
    problem, table = _problem(*folders[:2])
    found = hold_out(make("subword-mean"), problem, table)
    assert found is not None and found.explained < 0.9  # the rows are noise: no piece tells of the whole
    rows = make("subword-mean").weights(problem, table).apply(table)
    np.testing.assert_array_equal(rows[problem.shared[:, 0]], table[problem.shared[:, 1]])


def test_too_little_to_say(models_by_kind: dict[str, Path]) -> None:
    problem, table = _problem(models_by_kind["bpe"], models_by_kind["wordpiece"])
    assert hold_out(make("omp"), problem, table, count=15) is None
    assert isinstance(hold_out(make("omp"), problem, table, count=32), HoldOut)
