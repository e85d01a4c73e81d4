"""What the planner's tests share: a made-up plan and its page, a vector cache, Cranfield and the plan of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from made_up_plan import make_plan

import sememe
from sememe.encode.cache import VectorCache
from sememe.planner import Plan, report

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    """A plan of 300 points."""
    return make_plan()


@pytest.fixture(scope="module")
def page(plan: dict[str, Any]) -> str:
    """The page of ``plan``."""
    return report.render(plan)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> VectorCache:
    """So that no test encodes what another has encoded."""
    return VectorCache(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="session")
def cranfield_folder() -> Path:
    """The Cranfield collection, where the shared data is at hand."""
    if not (DATA / "cranfield").is_dir():
        pytest.skip("needs the cranfield folder of SEMEME_DATA")
    return DATA / "cranfield"


@pytest.fixture(scope="session")
def cranfield(cranfield_folder: Path, cache: VectorCache) -> Plan:
    """Its plan, with the static encoder."""
    return sememe.plan(cranfield_folder, cache=cache)
