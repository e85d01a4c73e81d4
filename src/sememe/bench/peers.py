"""Other packages: imported where they are installed; where they are not, a line says how to get them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_INSTALL = {
    "seismic": "pyseismic-lsr",
    "faiss": "faiss-cpu",
    "sqlite_vec": "sqlite-vec",
    "sentence_transformers": "sentence-transformers",
}  # fmt: skip
_notes: list[str] = []


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Collect what is left out while a bench runs."""
    _notes.clear()
    yield _notes


def note(line: str) -> None:
    """Say once that something is left out."""
    if line not in _notes:
        _notes.append(line)


def peer(module: str) -> Any:
    """The module of a peer, or None, noted, where it is not installed."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        package = _INSTALL.get(module.partition(".")[0], module.partition(".")[0])
        if isinstance(error, ModuleNotFoundError):
            note(f"{package} is not installed and is left out: pip install {package}")
        else:
            note(f"{package} cannot be imported and is left out ({error})")
        return None
