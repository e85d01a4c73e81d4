"""Click logs as integers: reading, cutting into parts, and one joint numbering of the values of all fields."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.tokens.vocabulary import Vocabulary

SAMPLES = ("frappe", "avazu-sample", "criteo-sample")
_LABELS = ("label", "click", "clicked", "target")
_TIMES = ("hour", "time", "timestamp")
_CRITEO = ("label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27)))  # its file has no header
_BINS = 16
_UNSEEN = "\0unseen"
Ids = NDArray[np.int64]
_Column = NDArray[np.str_]


class Folders(Protocol):
    """Data sets by name."""

    def require(self, name: str) -> Path:
        """The folder of one, or an error."""


@dataclass(frozen=True, eq=False)
class ClickLog:
    """A log whose every value is a joint id: field ``f`` owns the ids from ``offsets[f]`` to ``offsets[f + 1] - 1``.

    The first id of a field stands for what is missing from, or rare in, the rows to learn from; nothing about
    other rows enters the numbering.

    Attributes
    ----------
    fields : tuple of str
    sizes : int64 ndarray of shape (f,)
        Ids of each field.
    ids : int64 ndarray of shape (n, f)
    labels : float32 ndarray of shape (n,)
        0 or 1.
    train, valid, test : int64 ndarrays
        Rows of each part.
    values : tuple of bytes
        ``b"field=value"`` of each joint id.
    split : str
        How the parts were cut, for the conditions of an experiment.
    """

    fields: tuple[str, ...]
    sizes: Ids
    ids: Ids
    labels: NDArray[np.float32]
    train: Ids
    valid: Ids
    test: Ids
    values: tuple[bytes, ...]
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_ids(self) -> int:
        """Joint ids ``v``."""
        return int(self.sizes.sum())

    @cached_property
    def offsets(self) -> Ids:
        """First id of each field, and the number of ids, ``(f + 1,)``."""
        return np.concatenate(([0], np.cumsum(self.sizes)))

    @cached_property
    def counts(self) -> Ids:
        """How often each id occurs in the rows to learn from, ``(v,)``."""
        return np.bincount(self.ids[self.train].ravel(), minlength=self.num_ids)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The joint ids as the symbols of a token layer, counted."""
        return Vocabulary(self.values, counts=self.counts)

    @classmethod
    def sample(cls, data: Folders, name: str, seed: int = 0) -> ClickLog:
        """One of `SAMPLES`, with the published test part where there is one."""
        if name not in SAMPLES:
            raise InputError(f"there is no click log {name!r}", fix=f"known: {', '.join(SAMPLES)}")
        folder = data.require(name)
        if name != "frappe":
            return cls.read(next(iter(sorted(folder.glob("*.csv*")))), seed=seed)
        header, known = _table(folder / "train.tsv.gz")
        again, test = _table(folder / "test.tsv.gz")
        if header != again:
            raise InputError("the two parts have different columns", where=str(folder))
        parts = _random_parts(len(known), (0.85, 0.15), seed)
        whole = np.concatenate((parts, np.full(len(test), 2)))
        return cls.of(known + test, header, parts=whole, split="the published test part; 15 % of the rest validates")

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        label: str | None = None,
        numeric: Sequence[str] | None = None,
        seed: int = 0,
        most: int = 0,
    ) -> ClickLog:
        """A table with tabs, commas or semicolons and a header (Criteo's needs none), gzipped or not; or Parquet.

        Parameters
        ----------
        path : path
        label, numeric, seed
            As for `of`.
        most : int
            Rows to use, evenly spaced over the file; 0 takes all.
        """
        header, rows = _table(Path(path))
        if 0 < most < len(rows):
            rows = [rows[place] for place in np.linspace(0, len(rows) - 1, most).astype(int)]
        try:
            return cls.of(rows, header, label=label, numeric=numeric, seed=seed)
        except InputError as error:
            raise InputError(error.what, where=str(path), fix=error.fix) from None

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[str]],
        fields: Sequence[str],
        *,
        label: str | None = None,
        numeric: Sequence[str] | None = None,
        parts: Ids | None = None,
        split: str = "parts as given",
        seed: int = 0,
        least: int = 2,
    ) -> ClickLog:
        """A log of rows of text.

        A column called ``id`` is left out. A column called hour, time or timestamp, where it holds more than one
        value, orders the rows; the last 15 % test, the 15 % before validate. Of YYMMDDHH the hour stays as a field;
        other times say nothing about rows to come. Else rows are drawn for the parts.

        Parameters
        ----------
        rows : sequence of sequences of str
            An empty text is a missing value.
        fields : sequence of str
            Names of the columns.
        label : str, optional
            The column that says whether there was a click (a positive number); label, click, clicked or target.
        numeric : sequence of str, optional
            Columns of numbers, which become 16 ranges with equally many rows each. When not given, those called I1, I2
            ... (as Criteo's), and those whose values mostly have a decimal point.
        parts : int64 array of shape (n,), optional
            0, 1 or 2 for each row: train, valid, test.
        split : str
            What ``parts`` are.
        seed : int
            Of the parts, where they are drawn.
        least : int
            Values that occur less often in the rows to learn from share the field's first id.

        Raises
        ------
        InputError
            No label, rows of different length, no clicks (or nothing else), or too few rows to cut.
        """
        names = list(fields)
        wrong = next((number for number, row in enumerate(rows) if len(row) != len(names)), None)
        if wrong is not None:
            raise InputError(
                f"row {wrong + 1} has {len(rows[wrong])} values for {len(names)} columns", fix="repair that row"
            )
        if len(rows) < 50:
            raise InputError(f"{len(rows)} rows are too few to compare anything", fix="give at least 50")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two columns are called {twice!r}", fix="give every column a name of its own")
        columns = {name: np.array([row[place] for row in rows]) for place, name in enumerate(names)}
        labels = _labels(columns, label)
        columns.pop("id", None)
        time = next((name for name in names if name.lower() in _TIMES and name in columns), None)
        if parts is None:
            parts, split = _cut(columns.get(time) if time else None, len(rows), seed)
        learn = parts == 0
        for part, what in ((0, "learn from"), (1, "validate"), (2, "test")):
            if len(np.unique(labels[parts == part])) < 2:
                raise InputError(f"the rows to {what} are all clicks, or have none", fix="give more rows")
        if time and len(np.unique(columns[time])) > 1:
            stamps = columns.pop(time)
            if all(len(value) == 8 and value.isdigit() for value in stamps):
                columns[time] = np.array([value[-2:] for value in stamps])  # of YYMMDDHH the hour of the day
        if numeric is None:
            numeric = [name for name, column in columns.items() if re.fullmatch(r"I\d+", name) or _measured(column)]
        missing = next((name for name in numeric if name not in columns), None)
        if missing is not None:
            raise InputError(f"there is no column {missing!r} of numbers", fix=f"known: {', '.join(columns)}")
        if not columns:
            raise InputError("no column but the label", fix="give at least one field")
        numbers = set(numeric)
        sizes, ids, values, first = [], [], [], 0
        for name, column in columns.items():
            binned = _ranges(column, learn, name) if name in numbers else column
            known, place = _numbered(binned, learn, least)
            ids.append(first + place)
            sizes.append(len(known))
            values += [f"{name}={value}".encode("utf-8", "surrogatepass") for value in known]
            first += len(known)
        train, valid, test = (np.flatnonzero(parts == part) for part in range(3))
        return cls(
            tuple(columns),
            np.array(sizes),
            np.stack(ids, axis=1).astype(np.int64),
            labels,
            train,
            valid,
            test,
            tuple(values),
            split,
        )


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            text = file.read()
        head = text.partition("\n")[0]
        how: dict[str, Any] = {"delimiter": "," if "," in head or ";" not in head else ";"}
        if "\t" in head:
            how = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), **how) if line]
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read this log ({error})", where=str(path), fix="save it as UTF-8") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise _unreadable(path, error) from None
    if len(lines) < 2:
        raise InputError("a log without rows", where=str(path), fix="give a header and a row for each shown item")
    if len(lines[0]) == len(_CRITEO) and lines[0][0] in ("0", "1"):
        return list(_CRITEO), lines
    return lines[0], lines[1:]


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependency("pyarrow", extra="parquet", need="reading Parquet") from None
    try:
        table = parquet.read_table(path)
        columns = [["" if v is None else _text(v) for v in column.to_pylist()] for column in table.columns]
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    if not columns or not len(table):
        raise InputError("a log without rows", where=str(path), fix="give a row for each shown item")
    return list(table.column_names), [list(row) for row in zip(*columns)]


def _unreadable(path: Path, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or error
    return InputError(f"cannot read this log ({why})", where=str(path), fix="give a CSV, TSV or Parquet file")


def _text(value: Any) -> str:
    """A value of a typed table as a CSV file would have it."""
    if isinstance(value, float) and value != value:
        return ""  # missing, as pandas writes it
    return str(int(value)) if isinstance(value, bool) else str(value)


def _measured(column: _Column) -> bool:
    """Whether these are numbers that mostly have a decimal point."""
    there = column[column != ""]
    if not len(there) or 2 * np.char.count(there, ".").sum() < len(there):
        return False
    try:
        return bool(np.isfinite(there.astype(np.float64)).all())
    except ValueError:
        return False


def _labels(columns: dict[str, _Column], label: str | None) -> NDArray[np.float32]:
    found = label if label is not None else next((name for name in columns if name.lower() in _LABELS), None)
    if found is None or found not in columns:
        what = "no column says whether there was a click" if label is None else f"there is no column {label!r}"
        raise InputError(what, fix=f"name one of {', '.join(columns)} as the label")
    column = columns.pop(found)
    said = np.char.lower(column)
    if np.isin(said, ("true", "false")).all():
        return (said == "true").astype(np.float32)
    clicks = _numbers(column, found, "write 1 for a click and 0 for none, or true and false") > 0
    if clicks.all() or not clicks.any():
        raise InputError(
            f"by the column {found!r} the rows are all clicks, or have none",
            fix="a click is a number above 0; give rows of both kinds",
        )
    return clicks.astype(np.float32)


def _numbers(column: _Column, name: str, fix: str) -> NDArray[np.float64]:
    """A column as finite numbers, or an InputError that shows the first value which is none."""
    try:
        found = column.astype(np.float64)
    except ValueError:
        found = np.array([_number(value) for value in column.tolist()])
    if not np.isfinite(found).all():
        value = str(column[int(np.argmin(np.isfinite(found)))])
        raise InputError(f"the column {name} holds something else than numbers ({value!r})", fix=fix)
    return found


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _cut(time: _Column | None, n: int, seed: int) -> tuple[Ids, str]:
    if time is None or len(np.unique(time)) == 1:
        return _random_parts(n, (0.7, 0.15, 0.15), seed), "70, 15 and 15 % of the rows, drawn"
    order = np.argsort(time, kind="stable")
    parts = np.empty(n, dtype=np.int64)
    parts[order] = np.searchsorted((0.7, 0.85), (np.arange(n) + 0.5) / n)
    return parts, "by time: the last 15 % test, those before validate"


def _random_parts(n: int, shares: Sequence[float], seed: int) -> Ids:
    """Part of each row, drawn with exact sizes."""
    parts = np.searchsorted(np.cumsum(shares)[:-1], (np.arange(n) + 0.5) / n)
    return np.random.default_rng(seed).permutation(parts).astype(np.int64)


def _ranges(column: _Column, learn: NDArray[np.bool_], name: str) -> _Column:
    """Numbers as the names of ranges with equally many rows to learn from; what is missing stays empty."""
    there = column != ""
    numbers = _numbers(np.where(there, column, "0"), name, "leave what is missing empty, or the column unnamed")
    known = numbers[learn & there]
    if not len(known):
        return np.full(len(column), "")
    edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    return np.where(there, np.searchsorted(edges, numbers).astype(str), "")


def _numbered(column: _Column, learn: NDArray[np.bool_], least: int) -> tuple[list[str], Ids]:
    """Names of a field's ids, and the id of each row."""
    known, counts = np.unique(column[learn], return_counts=True)
    known = known[counts >= least]
    if not len(known):
        return [_UNSEEN], np.zeros(len(column), dtype=np.int64)
    place = np.minimum(np.searchsorted(known, column), len(known) - 1)
    return [_UNSEEN, *known], np.where(known[place] == column, place + 1, 0)
