"""The floors hold, the light path stays light, and every technique is entered properly."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sememe

SOURCE = Path(sememe.__file__).parent
FLOORS = {
    "kernels": 0, "codec": 1, "positions": 1, "lab": 2, "text": 2, "encode": 2, "measure": 2, "vocab": 3, "index": 3,
    "tokens": 4, "planner": 4, "evidence": 5, "bench": 5, "cli": 6,
}  # fmt: skip
HEAVY = ("torch", "transformers", "sentence_transformers", "sklearn", "ray", "scipy", "pandas", "pyarrow")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def imports_of(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno} uses a relative import"
            found.append((node.lineno, node.module))
            if node.module == "sememe":
                found += [(node.lineno, f"sememe.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_room_imports_upwards(path: Path) -> None:
    module = "sememe." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    room = room_of(module)
    if path == SOURCE / "__init__.py":
        return  # the package's face names what users call, lazily
    floor = FLOORS.get(room, 0)
    for line, name in imports_of(path):
        if not name.startswith("sememe"):
            continue
        other = room_of(name)
        if other and other != room:
            assert FLOORS[other] < floor, f"{path}:{line}: {room or 'floor 0'} imports {other}"


def modules_after(code: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in answer.stdout.split()} | set(answer.stdout.split())


def test_importing_sememe_imports_almost_nothing() -> None:
    loaded = modules_after("import sememe")
    assert not loaded & {*HEAVY, "numpy", "usearch", "rich", "tokenizers"}


def test_help_imports_neither_numpy_nor_rich() -> None:
    loaded = modules_after("import sememe.cli.main as m\ntry:\n m.main(['--help'])\nexcept SystemExit:\n pass")
    assert not loaded & {*HEAVY, "numpy", "usearch", "rich", "tokenizers"}


def test_the_whole_catalogue_loads_without_heavy_libraries() -> None:
    loaded = modules_after("import sememe.catalog as c\nassert c.techniques()")
    assert not loaded & {*HEAVY, "usearch", "numkong", "tokenizers", "onnxruntime", "pypdf", "rich"}


def test_the_light_path_never_imports_heavy_libraries(tmp_path: Path) -> None:
    code = f"""
import sememe
from sememe.testing import toy_records
from sememe.encode.cache import VectorCache
cache = VectorCache({str(tmp_path / "cache")!r})
records = toy_records(150)
plan = sememe.plan(records, seconds=4, cache=cache)
plan.save({str(tmp_path / "plan")!r})
sememe.build(records, {str(tmp_path / "index")!r}, plan.recipe, cache=cache)
index = sememe.open({str(tmp_path / "index")!r})
assert len(index.search(["how to bake bread"], 5).ids[0]) == 5
"""
    loaded = modules_after(code)
    assert not loaded & (set(HEAVY) - {"scipy"}), loaded & set(HEAVY)


def test_every_technique_says_what_it_is() -> None:
    from sememe import catalog

    for technique in catalog.techniques():
        assert technique.summary.strip(), technique.name
        assert len(technique.summary) < 140, technique.name
        assert technique.room in catalog.ROOMS
        if technique.paper:
            assert 1900 < technique.paper.year < 2100 and technique.paper.title
