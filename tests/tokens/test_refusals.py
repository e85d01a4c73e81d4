"""What cannot be done is refused before any long work, in one line that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.cli.main import main  # noqa: E402
from sememe.errors import BudgetError, InputError, UsageError  # noqa: E402
from sememe.tokens import compression  # noqa: E402
from sememe.tokens.click_logs import ClickLog  # noqa: E402
from sememe.tokens.factory import parameters_of  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

FIELDS = ("click", "colour", "I1")


def clicks(*, label: tuple[str, str] = ("0", "1"), number: str = "7", rows: int = 80) -> list[list[str]]:
    return [[label[row % 2], "rgb"[row % 3], number if row == 9 else str(row % 5)] for row in range(rows)]


def test_an_unknown_layer_is_told_of_all_that_can_be_fitted() -> None:
    with pytest.raises(UsageError, match=r"known: .*codes.*kronecker"):
        tokens.build("nope", 9, 4)
    with pytest.raises(UsageError, match="did you mean codes"):
        tokens.build("coeds", 9, 4)


@pytest.mark.parametrize("ids", [[1, 2], None, np.array([1])])
def test_ids_are_a_tensor(ids: Any) -> None:
    with pytest.raises(InputError, match=r"ids in a .*; give a tensor"):
        tokens.build("table", 9, 4)(ids)


def test_a_budget_too_small_for_codes_names_the_nearest() -> None:
    vocabulary = Vocabulary.of(1_000)
    with pytest.raises(BudgetError, match="two bytes for each of 1,000 symbols; the nearest") as refused:
        tokens.build("codes", vocabulary, 16, 10)
    nearest = int(str(refused.value).rsplit(" ", 1)[1].replace(",", ""))
    assert tokens.build("codes", vocabulary, 16, nearest).size == pytest.approx(nearest, rel=0.05)


@pytest.mark.parametrize(
    ("budget", "out", "words"), [("10%", "there", "exists already"), ("0", "new", "share above nothing")]
)
def test_compressing_refuses_before_it_measures(
    budget: str, out: str, words: str, small_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_work(*_: Any, **__: Any) -> None:
        raise AssertionError("this takes long, and is for nothing")

    monkeypatch.setattr(compression, "sensitivity", long_work)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match=words):
        tokens.compress(small_models["wordpiece"], tmp_path / out, "codes", budget, texts=["some words"] * 8)


@pytest.mark.parametrize("bad", [float("inf"), [1], None, "_", "1e6", "1,000"])
def test_budgets_that_are_no_numbers_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match=r"budget=.*; give parameters"):
        parameters_of(bad, 100)


def test_a_budget_may_be_written_as_the_message_says() -> None:
    assert parameters_of("1_000_000", 100) == 1_000_000


def test_files_and_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    layer = tokens.build("table", 9, 4)
    with pytest.raises(InputError, match="the layer cannot be written"):
        tokens.save(layer, tmp_path / "nowhere" / "layer.safetensors")
    with pytest.raises(InputError, match=r"a table of shape \(9,\); give a row for each symbol"):
        type(layer).from_pretrained(np.zeros(9), 9)
    with pytest.raises(InputError, match=r"is no compressed model: .*; give a folder that compress wrote"):
        tokens.open_model(tmp_path)


def test_nothing_to_compare_is_said(tokenizer_file: Path, tmp_path: Path) -> None:
    for nothing in ({"layers": []}, {"budgets": []}):
        with pytest.raises(UsageError, match="no layer or no budget"):
            tokens.compare(tokenizer_file, texts=["a text", "another"], **nothing)
    for nothing in ({"methods": []}, {"budgets": []}):
        with pytest.raises(UsageError, match="no method or no budget"):
            tokens.compare_features(ClickLog.of(clicks(), FIELDS), **nothing)
    with pytest.raises(InputError, match="too short to hold a part of it out; give"):
        tokens.compare(tokenizer_file, texts=["one text", " ", "one text"])


def test_a_log_that_is_none_is_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no log of runs can be kept here \(Is a directory\); name"):
        tokens.compare(tokenizer_file, texts=["a text", "another"], layers=["table"], steps=1, dim=8, log=tmp_path)


def test_a_skipped_method_names_the_size_it_can_have() -> None:
    log = ClickLog.of(clicks(), FIELDS)
    found = tokens.compare_features(log, methods=["low rank"], budgets=["1000%"], steps=1, seeds=1, dim=8, batch=16)
    assert "the nearest it can have is" in found["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (clicks(label=("no", "yes")), r"column click .* \('no'\); write 1 for a click"),
        (clicks(label=("nan", "1")), r"column click .* \('nan'\); write 1 for a click"),
        (clicks(label=("", "1")), r"column click .* \(''\); write 1 for a click"),
        (clicks(label=("1", "5")), "by the column 'click' .* a click is a number above 0"),
        (clicks(number="wide"), r"column I1 .* \('wide'\); leave"),
        (clicks(number="inf"), r"column I1 .* \('inf'\); leave"),
    ],
)
def test_values_that_are_no_numbers_are_shown(rows: list[list[str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ClickLog.of(rows, FIELDS)


def test_files_of_clicks_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.csv: cannot read this log \(No such file or directory\); give"):
        ClickLog.read(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("click,city\n1,Köln\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot read this log .*; save it as UTF-8"):
        ClickLog.read(tmp_path / "latin.csv")
    (tmp_path / "head.csv").write_text("click,city\n")
    with pytest.raises(InputError, match="a log without rows; give"):
        ClickLog.read(tmp_path / "head.csv")


def test_a_missing_number_of_a_typed_table_is_missing(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    price = np.where(np.arange(80) % 4 == 0, np.nan, np.arange(80) / 8)
    columns = {"click": np.arange(80) % 2, "price": price, "colour": ["red", "blue"] * 40}
    parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    log = ClickLog.read(tmp_path / "log.parquet")
    assert b"price=" in log.values
    assert not any(b"nan" in value for value in log.values)


@pytest.mark.parametrize("option", [("--layers", ","), ("--budgets", ",")])
def test_an_empty_list_on_the_command_line_is_no_list(
    option: tuple[str, str], tokenizer_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some words\n" * 4)
    assert main(["tokens", "compare", "--tokenizer", str(tokenizer_file), "--text", str(text), *option]) == 2
    assert "no layer or no budget to compare; name some" in capsys.readouterr().err
