"""What it costs to begin: seconds to import and to show help, and megabytes of a base install.

    python benchmarks/startup.py [--runs 15]

Commands run as fresh processes of this interpreter and take turns; medians of one run. The bare interpreter stands
beside them as the limit, and peers that are installed are imported once, with warm file caches like ours. Sizes are the
sums of the files that each distribution's RECORD lists, for everything that ``pip install sememe`` brings along.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import sememe": ["-c", "import sememe"],
    "sememe --help": ["-m", "sememe.cli.main", "--help"],
}
TARGETS = {"import sememe": 0.3, "sememe --help": 0.6}
SIZE_TARGET = 450.0  # MB
PEERS = ("sentence_transformers", "transformers", "torch", "faiss", "sklearn")


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one fresh process, output thrown away."""
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def console_script() -> list[str] | None:
    """The installed ``sememe`` command beside this interpreter, where there is one."""
    path = Path(sys.executable).parent / ("sememe.exe" if os.name == "nt" else "sememe")
    return [str(path)] if path.exists() else None


def race(runs: int) -> None:
    """Ours and the bare interpreter, taking turns."""
    commands = {name: [sys.executable, *arguments] for name, arguments in COMMANDS.items()}
    if script := console_script():
        commands["sememe --help"] = [*script, "--help"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-1, runs):  # the first round fills the file caches
        for name, command in commands.items():
            took = seconds(command)
            if number >= 0:
                times[name].append(took)
    for name, found in times.items():
        middle = float(np.median(found))
        target = TARGETS.get(name)
        verdict = "" if target is None else f"   target {target:.1f} s: {'met' if middle <= target else 'MISSED'}"
        print(f"{name:30}{middle:8.3f} s   (fastest {min(found):.3f}, slowest {max(found):.3f}){verdict}")


def peers() -> None:
    """Each installed peer: imported once to warm the file cache, then timed once."""
    for name in PEERS:
        if importlib.util.find_spec(name) is None:
            print(f"import {name:23} not installed")
            continue
        command = [sys.executable, "-c", f"import {name}"]
        seconds(command)
        print(f"import {name:23}{seconds(command):8.3f} s   (once)")


def closure(root: str) -> dict[str, float]:
    """Megabytes on disk of ``root`` and of everything it requires without extras, by distribution."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    sizes: dict[str, float] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            print(f"  {name} is required and not installed: the sum is too low")
            continue
        sizes[name] = footprint(name)
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((str(canonicalize_name(needed.name)), frozenset(needed.extras)))
    return sizes


def footprint(name: str) -> float:
    """Megabytes of a distribution's own files; of an editable one, of the package folder it points to."""
    files = [Path(str(file.locate())) for file in distribution(name).files or ()]
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        if not any(file.is_relative_to(package) for file in files):
            files += [file for file in package.rglob("*") if "__pycache__" not in file.parts]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Times, then sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()

    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.runs} rounds")
    race(options.runs)
    peers()
    sizes = closure("sememe")
    total = sum(sizes.values())
    print(f"\nbase install, {len(sizes)} distributions: {total:.0f} MB", end="   ")
    print(f"target {SIZE_TARGET:.0f} MB: {'met' if total <= SIZE_TARGET else 'MISSED'}")
    for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])[:12]:
        print(f"  {name:30}{size:8.1f} MB")


if __name__ == "__main__":
    main()
