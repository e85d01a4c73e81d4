"""The catalogue: names mean one thing, wrong names are helped."""

from __future__ import annotations

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
