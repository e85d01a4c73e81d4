"""A package's face: its public names, each imported from its module when it is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package that imports nothing at once needs as its ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    where : mapping
        Public name to module; a module without a dot lies in the package.

    Raises
    ------
    AttributeError
        By the first of the two, for a name that is not public.
    """

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = where[name]
        return getattr(import_module(module if "." in module else f"{package}.{module}"), name)

    def names() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return find, names
