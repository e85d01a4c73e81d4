"""The click harness: reading logs, the measures, equal conditions for all, and the comparison of tables."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.cli.main import main  # noqa: E402
from sememe.errors import InputError, UsageError  # noqa: E402
from sememe.evidence.data import DataFolder  # noqa: E402
from sememe.evidence.interest import LONGEST, histories  # noqa: E402
from sememe.tokens import build, compare_features  # noqa: E402
from sememe.tokens.click_logs import SAMPLES, ClickLog  # noqa: E402
from sememe.tokens.click_measures import auc, interval, log_loss, measure  # noqa: E402
from sememe.tokens.click_models import (  # noqa: E402
    ClickModel,
    ClickRecipe,
    Contender,
    compare_clicks,
    fit_clicks,
)
from sememe.tokens.factorized import FactorizedEmbedding  # noqa: E402
from sememe.tokens.features import FieldTables  # noqa: E402
from sememe.tokens.table_compare import best, compare_tables  # noqa: E402
from sememe.tokens.table_methods import METHODS, IntegerTable  # noqa: E402
from sememe.tokens.unified import UnifiedEmbedding  # noqa: E402

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "frappe").is_dir(), reason="the evaluation data is not here")
FIELDS = ("id", "click", "user", "app", "I1")


def made_up(count: int = 400, seed: int = 0) -> list[list[str]]:
    """A log in which users like apps of their own parity."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        user, app = int(generator.integers(30)), int(generator.integers(40))
        liked = generator.random() < (0.9 if (user + app) % 2 else 0.1)
        amount = "" if number % 10 == 0 else f"{generator.normal():.3f}"
        rows.append([str(number), str(int(liked)), f"u{user}", f"a{app}", amount])
    return rows


@pytest.fixture(scope="module")
def log() -> ClickLog:
    return ClickLog.of(made_up(), FIELDS)


def test_a_log_is_numbered_by_what_it_learns_from(log: ClickLog) -> None:
    rows = made_up()
    assert log.fields == ("user", "app", "I1")
    assert sorted(np.concatenate((log.train, log.valid, log.test)).tolist()) == list(range(400))
    assert (len(log.train), len(log.valid), len(log.test)) == (280, 60, 60)
    seen = {}
    for row in log.train:
        seen[rows[row][3]] = seen.get(rows[row][3], 0) + 1
    for row in range(400):
        name = log.values[log.ids[row, 1]].decode()
        assert name == (f"app={rows[row][3]}" if seen.get(rows[row][3], 0) >= 2 else "app=\0unseen")
        assert log.offsets[1] <= log.ids[row, 1] < log.offsets[2]
        assert log.labels[row] == float(rows[row][1])
    assert log.counts.sum() == 3 * 280
    assert len(log.vocabulary) == log.num_ids == log.sizes.sum()
    missing = {int(log.ids[row, 2]) for row in range(0, 400, 10)}
    assert len(missing) == 1
    per_range = np.bincount(log.ids[log.train, 2])[log.offsets[2] :]
    there = per_range[2:]
    assert len(there) == 16
    assert there.max() - there.min() <= 2


def test_time_cuts_a_log_and_becomes_the_hour_of_the_day() -> None:
    rows = made_up()
    generator = np.random.default_rng(3)
    hours = [
        f"1410{day:02d}{hour:02d}"
        for day, hour in zip(generator.integers(21, 29, 400), generator.integers(24, size=400))
    ]
    timed = ClickLog.of([[*row, hour] for row, hour in zip(rows, hours)], (*FIELDS, "hour"))
    assert timed.split.startswith("by time")
    ends = [max(hours[row] for row in part) for part in (timed.train, timed.valid)]
    starts = [min(hours[row] for row in part) for part in (timed.valid, timed.test)]
    assert ends[0] <= starts[0]
    assert ends[1] <= starts[1]
    assert timed.sizes[-1] <= 25


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: rows[:20], "too few"),
        (lambda rows: [*rows[:-1], rows[-1][:-1]], "row 400 has 4 values"),
        (lambda rows: [[row[0], "0", *row[2:]] for row in rows], "all clicks, or have none"),
        (lambda rows: [[row[0], "yes", *row[2:]] for row in rows], "something else than numbers"),
        (lambda rows: [[*row[:-1], "wide"] for row in rows], "column I1 holds something else"),
    ],
)
def test_logs_that_cannot_be_used_are_refused(change: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ClickLog.of(change(made_up()), FIELDS)  # type: ignore[operator]


def test_files_are_read_and_damage_is_named(tmp_path: Path, log: ClickLog) -> None:
    path = tmp_path / "log.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(",".join(row) for row in [list(FIELDS), *made_up()]))
    again = ClickLog.read(path)
    assert np.array_equal(again.ids, log.ids)
    assert again.values == log.values
    few = ClickLog.read(path, most=100)
    assert few.ids.shape == (100, 3)
    tabs = tmp_path / "criteo.txt"
    cells = [["1" if row % 3 else "0", *map(str, range(row, row + 13)), *[f"c{row % 7}"] * 26] for row in range(90)]
    tabs.write_text("\n".join("\t".join(row) for row in cells))
    assert ClickLog.read(tabs).fields == tuple([f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)])
    priced = [[*row, f"{number / 3:.2f}"] for number, row in enumerate(made_up())]
    assert ClickLog.of(priced, (*FIELDS, "price")).sizes[-1] == 17
    with pytest.raises(InputError, match="no column says"):
        ClickLog.of(made_up(), ("id", "x", *FIELDS[2:]))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"log\.csv\.gz"):
        ClickLog.read(path)


@real
@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_have_their_columns(name: str) -> None:
    found = ClickLog.sample(DataFolder(str(DATA)), name)
    rows, fields = {"frappe": (86_582, 10), "avazu-sample": (999, 22), "criteo-sample": (200, 39)}[name]
    assert found.ids.shape == (rows, fields)
    assert (found.ids >= found.offsets[:-1]).all()
    assert (found.ids < found.offsets[1:]).all()
    if name == "frappe":
        assert len(found.test) == 28_860
    with pytest.raises(InputError, match="no click log"):
        ClickLog.sample(DataFolder(str(DATA)), "movies")


def test_auc_is_that_of_scikit_learn_with_ties_and_weights() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(2, size=500), generator.integers(30, size=500).astype(float)
    weights = generator.multinomial(500, np.full(500, 1 / 500), size=4).astype(float)
    assert auc(labels, scores)[0] == pytest.approx(metrics.roc_auc_score(labels, scores))
    for found, weight in zip(auc(labels, scores, weights), weights):
        assert found == pytest.approx(metrics.roc_auc_score(labels, scores, sample_weight=weight))
    logits = generator.normal(size=500) * 3
    expected = metrics.log_loss(labels, 1 / (1 + np.exp(-logits)))
    assert log_loss(labels, logits).mean() == pytest.approx(expected, rel=1e-6)
    assert np.isnan(auc(np.ones(3), np.arange(3.0))[0])


def test_intervals_hold_the_value_and_shrink_with_rows() -> None:
    generator = np.random.default_rng(1)
    widths = []
    for count in (200, 20_000):
        labels = generator.integers(2, size=count)
        logits = [labels + generator.normal(size=count) for _ in range(3)]
        (values, draws), _ = measure(labels, logits)
        value, low, high = interval(values, draws)
        assert low < value < high
        assert low < 0.7602 < high or count == 200  # normal scores one deviation apart: Phi(1 / sqrt 2)
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


@pytest.mark.parametrize("kind", ["mlp", "deepfm", "dlrm"])
def test_the_model_is_its_formula(kind: str) -> None:
    model = ClickModel(torch.nn.Embedding(20, 4), 3, 4, kind=kind)  # type: ignore[arg-type]
    ids = torch.randint(20, (5, 3))
    vectors = model.table(ids)
    for row in range(5):
        products = [vectors[row, i] @ vectors[row, j] for i in range(3) for j in range(i + 1, 3)]
        flat = vectors[row].flatten()
        given = torch.cat((flat, torch.stack(products))) if kind == "dlrm" else flat
        logit = model.top(given)[0] + (sum(products) if kind == "deepfm" else 0)
        torch.testing.assert_close(model(ids)[row], logit)
    with pytest.raises(InputError, match="no click model"):
        ClickModel(torch.nn.Identity(), 3, 4, kind="tree")  # type: ignore[arg-type]


def test_different_widths_are_projected_where_products_are_taken() -> None:
    table = UnifiedEmbedding(50, 4, [1, 2, 3])
    assert ClickModel(table, 3, 8, kind="mlp").project is None
    model = ClickModel(table, 3, 8, kind="dlrm")
    assert model(torch.randint(9, (5, 3))).shape == (5,)
    assert model.project is not None
    assert [layer.in_features for layer in model.project] == [4, 8, 12]  # type: ignore[union-attr]


def test_contenders_differ_in_the_table_alone(log: ClickLog) -> None:
    recipe = ClickRecipe(steps=3, batch=64)
    start = {}
    for name, make in (
        ("plain", lambda seed: build("table", log.vocabulary, 8, seed=seed)),
        ("fields", lambda seed: FieldTables(log.sizes, 8)),
        ("unified", lambda seed: UnifiedEmbedding(20, 4, [2, 2, 2], seed)),
    ):
        made = fit_clicks(log, Contender(make), 8, 4, recipe=ClickRecipe(steps=0, batch=64))
        start[name] = torch.cat([p.detach().flatten() for p in made.model.top.parameters()])
    assert torch.equal(start["plain"], start["unified"])
    assert torch.equal(start["plain"], start["fields"])
    contender = Contender(lambda seed: build("table", log.vocabulary, 8, seed=seed))
    first, again = (fit_clicks(log, contender, 8, 1, recipe=recipe) for _ in range(2))
    assert np.array_equal(first.logits, again.logits)
    assert not np.array_equal(first.logits, fit_clicks(log, contender, 8, 2, recipe=recipe).logits)


def test_what_all_ids_share_moves_slower_and_does_not_decay(log: ClickLog) -> None:
    def after(steps: int, **options: Any) -> dict[str, Any]:
        contender = Contender(lambda seed: FactorizedEmbedding(log.vocabulary, 8, 2))
        made = fit_clicks(log, contender, 8, 4, recipe=ClickRecipe(steps=steps, batch=64, **options))
        return {name: p.detach() for name, p in made.model.named_parameters()}

    start = after(0)
    moved, kept, slow = (
        after(1, **options) for options in ({}, {"shared": "projection"}, {"shared": "projection", "slower": 4.0})
    )
    step = 0.02 * 1e-3 / 0.05  # the rate of the first step, which is also how far Adam goes then
    shrunk = start["table.projection"] * (1 - step * 0.5)
    np.testing.assert_allclose((moved["table.projection"] - shrunk).abs(), step, rtol=1e-2)
    np.testing.assert_allclose((kept["table.projection"] - start["table.projection"]).abs(), step, rtol=1e-2)
    np.testing.assert_allclose((slow["table.projection"] - start["table.projection"]).abs(), step / 4, rtol=1e-2)
    for name in moved.keys() - {"table.projection"}:
        assert torch.equal(moved[name], kept[name])
        assert torch.equal(moved[name], slow[name])


def test_training_learns_what_there_is_to_learn(log: ClickLog) -> None:
    large = ClickLog.of(made_up(4_000), FIELDS)
    rows = compare_clicks(
        large,
        {
            "table": Contender(lambda seed: build("table", large.vocabulary, 8, seed=seed)),
            "hashed": Contender(lambda seed: build("hash-bucket", large.vocabulary, 8, rows=6, hashes=1, seed=seed)),
        },
        8,
        seeds=(0, 1),
        recipe=ClickRecipe(steps=250, batch=256, decay=0.0),
        most=500,
    )
    assert rows[0].auc[0] > 0.8
    assert rows[1].auc_gap[2] < 0
    assert rows[0].parameters == 8 * large.num_ids
    assert rows[0].bytes == 32 * large.num_ids
    assert rows[1].parameters == 48
    assert rows[0].model_parameters == rows[1].model_parameters == 24 * 64 + 64 + 64 * 32 + 32 + 33
    assert rows[0].auc_gap == (0, 0, 0)


def test_a_table_is_finished_when_it_shall_be(log: ClickLog) -> None:
    seen: list[int] = []

    def finish(table: torch.nn.Module, model: ClickModel) -> torch.nn.Module:
        seen.append(int(table.steps))  # type: ignore[arg-type]
        return torch.nn.Embedding(log.num_ids, 4)

    class Counted(torch.nn.Embedding):
        steps = 0

        def penalty(self) -> torch.Tensor:
            self.steps += 1
            return self.weight.square().sum()

    for at, steps in ((0.5, 2), (1.0, 4)):
        contender = Contender(lambda seed: Counted(log.num_ids, 4), finish, at=at)
        made = fit_clicks(log, contender, 4, 0, recipe=ClickRecipe(steps=4, batch=32))
        assert seen.pop() == steps
        assert type(made.model.table) is torch.nn.Embedding


@pytest.mark.parametrize("bits", [8, 4])
def test_integer_tables_decode_and_count_what_they_hold(bits: int) -> None:
    rows, projection = torch.randn(200, 6), torch.randn(6, 12)
    table = IntegerTable(rows, projection, bits)
    ids = torch.randint(200, (5, 3))
    wanted = rows[ids] @ projection
    error = (table(ids) - wanted).square().mean() / wanted.square().mean()
    assert error < (1e-3 if bits == 8 else 3e-2)
    assert table.num_bytes == 200 * (6 * bits // 8) + 8 * 6 + 4 * 72


def test_tables_are_compared_within_their_budgets(log: ClickLog) -> None:
    large = ClickLog.of(made_up(2_000), FIELDS)
    recipe = ClickRecipe(steps=4, batch=64)
    found = compare_tables(large, None, ("50%", "2%"), seeds=(0,), dim=16, recipe=recipe)
    assert [row.method for row in found] == ["full table", *METHODS, *METHODS]
    assert found[0].result is not None
    assert found[0].result.bytes == found[0].wanted == 64 * large.num_ids
    measured = [row for row in found if row.result is not None]
    for row in measured:
        assert row.result is not None
        assert abs(row.result.bytes - row.wanted) <= 0.05 * row.wanted
    assert {row.method for row in measured if row.budget == "50%"} >= {"unified", "optembed", "rows pruned by norm"}
    assert all(row.note for row in found if row.result is None)
    assert best(found)["50%"] in METHODS
    again = compare_tables(made_up(2_000), FIELDS, ("50%",), ("unified",), (0,), dim=16, recipe=recipe)
    assert again[1].result is not None
    assert again[1].result.by_seed == next(row for row in found if row.method == "unified").result.by_seed  # type: ignore[union-attr]
    with pytest.raises(InputError, match="no method 'magic'"):
        compare_tables(large, None, ("50%",), ("magic",))


def test_histories_are_the_other_chosen_apps(log: ClickLog) -> None:
    past, there = histories(log, 0)
    chosen = {}
    for row in log.train:
        if log.labels[row]:
            chosen.setdefault(log.ids[row, 0], []).append((row, log.ids[row, 1]))
    for row in range(len(log)):
        others = [app for other, app in chosen.get(log.ids[row, 0], []) if other != row]
        found = past[row][there[row]].tolist()
        assert len(found) == min(len(others), LONGEST)
        if len(others) <= LONGEST:
            assert sorted(found) == sorted(others)
        assert not past[row][~there[row]].any()


def written(folder: Path, kind: str) -> Path:
    """The made-up log as a file of some kind."""
    import csv

    path = folder / f"log.{kind}"
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = list(zip(*made_up()))
        clicked = [value == "1" for value in columns[1]]
        amount = [None if value == "" else float(value) for value in columns[4]]
        data = [columns[0], clicked, columns[2], columns[3], amount]
        parquet.write_table(pyarrow.table(dict(zip(FIELDS, data))), path)
        return path
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if kind == "tsv" else ",").writerows([FIELDS, *made_up()])
    return path


def test_marks_and_semicolons_of_other_programs_are_read(log: ClickLog, tmp_path: Path) -> None:
    lines = [";".join(row) for row in [list(FIELDS), *made_up()]]
    (tmp_path / "log.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    read = ClickLog.read(tmp_path / "log.csv")
    assert read.fields == log.fields
    assert np.array_equal(read.ids, log.ids)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_log_is_the_same_in_every_kind_of_file(kind: str, log: ClickLog, tmp_path: Path) -> None:
    read = ClickLog.read(written(tmp_path, kind), label="click")
    assert read.fields == log.fields
    assert np.array_equal(read.ids, log.ids)
    assert np.array_equal(read.labels, log.labels)


def test_times_order_the_rows_and_are_no_field_unless_hours() -> None:
    rows = [[*row[1:4], f"2024-05-{1 + n // 20:02d}T{n % 20:02d}:00:00"] for n, row in enumerate(made_up())]
    found = ClickLog.of(rows, ("click", "user", "app", "time"))
    assert found.fields == ("user", "app")
    assert found.train.max() < found.valid.min() < found.test.min()


def test_features_are_compared_on_a_log_of_ones_own(log: ClickLog) -> None:
    methods = ["hashing trick", "low rank", "frequent values only"]
    answer = compare_features(log, methods=methods, budgets=("50%", "0.1%"), steps=30, seeds=2, dim=8, batch=64)
    first, *rest = answer["rows"]
    assert (first["method"], first["bytes"]) == ("full table", 4 * 8 * log.num_ids)
    assert [row["method"] for row in rest if row["budget"] == "50%"] == methods
    for row in rest:
        assert abs(row["bytes"] - row["wanted_bytes"]) <= 0.05 * row["wanted_bytes"]
        assert row["auc"]["low"] <= row["auc"]["value"] <= row["auc"]["high"]
        assert row["auc_gap"]["value"] == pytest.approx(row["auc"]["value"] - first["auc"]["value"])
        assert len(row["by_seed"]) == 2
    assert {item["method"] for item in answer["skipped"] if item["budget"] == "0.1%"} <= set(methods)
    assert all(item["reason"] for item in answer["skipped"])
    assert answer["best"]["50%"] in methods
    again = compare_features(log, methods=methods[:1], budgets=("50%",), steps=30, seeds=2, dim=8, batch=64)
    assert again["rows"][1]["by_seed"] == rest[0]["by_seed"]


def test_clicks_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    path, plot = written(tmp_path, "csv"), tmp_path / "tables.svg"
    few = ["--methods", "two hashes, added,low rank", "--budgets", "50%", "--steps", "3", "--seeds", "1", "--dim", "8"]
    assert main(["tokens", "clicks", str(path), *few, "--plot", str(plot), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("full table", "two hashes, added", "low rank", "best at 50%", "drawn"))
    assert "Log-loss of clicks" in plot.read_text()
    assert main(["tokens", "clicks", str(path), *few, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["setting"]["fields"]["user"] > 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--label", "bought"], "no column 'bought'"),
        (["--numeric", "price"], "no column 'price'"),
        (["--methods", "magic"], "no method 'magic'"),
        (["--budgets", "lots"], "budget='lots'"),
        (["--budgets", "0%"], "budget='0%'"),
        (["--plot", "x.pdf"], "written as .svg"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokens", "clicks", str(written(tmp_path, "csv")), *more]) != 0
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


def test_logs_that_are_none_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "log.parquet"
    wrong.write_bytes(b"PAR1 no")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="cannot read this log"):
        ClickLog.read(wrong)
    with pytest.raises(InputError, match="two columns are called 'a'"):
        ClickLog.of([["1", "x", "y"]] * 60, ("click", "a", "a"))
    with pytest.raises(InputError, match="no column but the label"):
        ClickLog.of([["1"], ["0"]] * 60, ("click",))
    with pytest.raises(UsageError, match="must be positive"):
        compare_features(wrong, steps=0)
