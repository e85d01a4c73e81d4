"""Runs experiments, keeps their results as JSON, and writes ``docs/evidence.md`` from them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sememe
from sememe.errors import InputError
from sememe.evidence.machinery import reproduce, reproducible

_PACKAGES = ("numpy", "torch", "transformers", "numkong", "pytrec-eval-terrier")
SAVED = Path(__file__).parents[3] / "docs" / "evidence"  # in a checkout; an installed package has none


def record(
    folder: str | os.PathLike[str], names: Sequence[str] | None = None, *, data: str | None = None, seeds: int = 3
) -> list[Path]:
    """Run experiments and save each as ``folder/NAME.json``, with the machine, date and versions.

    Parameters
    ----------
    folder : path
        Where the results go; made where it does not exist.
    names : sequence of str, optional
        Which; all when not given.
    data, seeds
        As in `machinery.reproduce`.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name in reproducible() if names is None else names:
        result = reproduce(name, data, seeds=seeds).as_json()
        path = target / f"{name}.json"
        path.write_text(json.dumps({**result, "environment": environment()}, indent=1) + "\n", encoding="utf-8")
        written.append(path)
    return written


def environment() -> dict[str, str]:
    """Machine, date and versions that a result belongs to."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": f"{_processor()}, {cores} cores, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "sememe": sememe.__version__,
        **versions,
    }


def render(results: str | os.PathLike[str] | None = None) -> str:
    """The evidence page, from a folder of saved results.

    Parameters
    ----------
    results : path, optional
        The folder that `record` filled; ``docs/evidence`` of this checkout when not given.

    Raises
    ------
    InputError
        A folder without results, or a file in it that is not one.
    """
    folder = SAVED if results is None else Path(results)
    found = [_load(file) for file in sorted(folder.glob("*.json"))]
    if not found:
        raise InputError(
            "there is no saved result here", where=str(folder), fix="fill it with evidence.document.record"
        )
    return "\n".join(_page(found)) + "\n"


def write(path: str | os.PathLike[str], results: str | os.PathLike[str] | None = None) -> None:
    """Write `render`'s page to ``path``."""
    Path(path).write_text(render(results), encoding="utf-8")


def _page(results: list[dict[str, Any]]) -> Iterable[str]:
    complete = sum(result["held"] for result in results)
    yield "# Evidence"
    yield ""
    yield (
        "One small experiment for each technique, on real data: what the paper claims, what was measured here, and "
        "whether it held. This page is generated; `sememe reproduce NAME --data DIR` reruns one experiment, and the "
        "results behind this page, with all details, are the JSON files in `evidence/`."
    )
    yield ""
    yield (
        f"Of {len(results)} experiments, {complete} held in every part that was tested. A claim that did not is listed "
        f"with the "
        "likely reason: at this scale, with these models, that is a result too."
    )
    yield ""
    yield "| technique | measured | baseline | 95 % interval | held | seeds | seconds |"
    yield "| --- | ---: | ---: | ---: | --- | ---: | ---: |"
    for result in results:
        low, high = result["interval"]
        held = "yes" if result["held"] else "in part" if any(result["checks"].values()) else "no"
        yield (
            f"| [{result['technique']}](#{result['technique']}) | {result['measured']:.4g} | {result['baseline']:.4g} "
            f"| {low:.4g} to {high:.4g} | {held} | {result['seeds']} | {result['seconds']:.0f} |"
        )
    places = [_place(result["environment"]) for result in results]
    if len(set(places)) == 1:
        yield ""
        yield f"All measured on {places[0]}."
    for result, place in zip(results, places):
        yield from _section(result)
        yield ""
        yield f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}, {result['seconds']:.0f} s" + (
            "." if len(set(places)) == 1 else f"; {place}."
        )


def _section(result: dict[str, Any]) -> Iterable[str]:
    paper = result["paper"]
    arxiv = f", [arXiv {paper['arxiv']}](https://arxiv.org/abs/{paper['arxiv']})" if paper["arxiv"] else ""
    low, high = result["interval"]
    yield ""
    yield f"## {result['technique']}"
    yield ""
    yield f"*{paper['title']}*, {paper['year']}{arxiv}."
    yield ""
    yield f"**Claim.** {result['claim']}"
    yield ""
    yield (
        f"**Measured.** {_sentence(result['unit'])[:-1]}: {result['measured']:.4g} against {result['baseline']:.4g}. "
        f"95 % interval of {result['interval_of']}: {low:.4g} to {high:.4g}."
    )
    yield ""
    for statement, true in result["checks"].items():
        yield f"- {'held' if true else '**did not hold**'}: {statement}"
    if result["reason"]:
        yield ""
        yield f"**Likely reason.** {_sentence(result['reason'])}"
    yield ""
    yield f"**Conditions.** {_sentence(result['conditions'])}"


def _place(environment: dict[str, str]) -> str:
    versions = ", ".join(f"{key} {value}" for key, value in environment.items() if key not in ("machine", "date"))
    return f"{environment['date']}, {environment['machine']}; {versions}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _load(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not a saved result ({error})", where=str(path)) from None
    needed = {
        "technique",
        "paper",
        "claim",
        "measured",
        "baseline",
        "held",
        "interval",
        "seeds",
        "seconds",
        "environment",
    }
    if not isinstance(result, dict) or not needed <= result.keys():
        raise InputError("not a saved result", where=str(path), fix="fill the folder with evidence.document.record")
    return result
