"""The catalogue: names mean one thing, wrong names are helped."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sememe import catalog
from sememe.errors import UsageError


def test_a_wrong_name_suggests_the_right_one() -> None:
    with pytest.raises(UsageError, match="did you mean pca"):
        catalog.find("pcaa", kind="transform")


def test_a_name_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="no chunker called 'int8'"):
        catalog.find("int8", kind="chunker")


def test_a_second_technique_of_the_same_name_is_refused() -> None:
    catalog.find("int8")
    with pytest.raises(UsageError, match="two techniques"):

        @catalog.register("int8", room="codec", kind="quantizer", summary="another")
        class Another:
            pass


def test_json_has_the_promised_shape() -> None:
    for technique in catalog.techniques():
        shape = technique.as_json()
        assert list(shape) == ["name", "room", "kind", "summary", "paper"]
        assert shape["paper"] is None or list(shape["paper"]) == ["title", "year", "arxiv"]


@pytest.mark.parametrize("room", catalog.TORCH_ROOMS)
def test_entries_that_are_read_are_those_that_importing_makes(room: str) -> None:
    pytest.importorskip("torch")
    code = (
        "import json, sys\n"
        "from sememe import catalog\n"
        f"read = {{t.name: t for t in catalog.techniques(room={room!r})}}\n"
        "assert read and 'torch' not in sys.modules\n"
        "for t in read.values():\n"
        "    kind = t.make.resolve()\n"
        "    real = catalog.find(t.name)\n"
        "    assert real.make is kind, t.name\n"
        "    for field in ('name', 'room', 'kind', 'summary', 'paper', 'claim', 'traits'):\n"
        "        assert getattr(real, field) == getattr(t, field), (t.name, field)\n"
        f"assert {{t.name for t in catalog.techniques(room={room!r})}} == set(read)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
