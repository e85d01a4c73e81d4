"""What pictures share: text in SVG, and files that need nothing else."""

from __future__ import annotations

import html
import os
from pathlib import Path

from sememe.errors import InputError


def escaped(text: str) -> str:
    """Text that is safe inside markup and its attributes."""
    return html.escape(text, quote=True)


def written(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text at a place; ``kind`` is its class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escaped(text)}</text>'


def checked(path: str | os.PathLike[str]) -> Path:
    """A path with an ending that a picture can have; asked before any long work.

    Raises
    ------
    InputError
        Another ending, or a folder that is not there.
    """
    place = Path(path)
    if place.suffix.lower() not in (".svg", ".html", ".htm"):
        raise InputError("a plot is written as .svg or .html", where=str(path), fix="choose one of these endings")
    if not place.parent.is_dir():
        raise InputError("there is no such folder to write a plot into", where=str(place.parent), fix="make it first")
    return place


def save(picture: str, path: str | os.PathLike[str], title: str) -> Path:
    """Write an SVG: ``.svg`` as it is, ``.html`` with a page around it.

    Raises
    ------
    InputError
        Another ending, or a place that cannot be written.
    """
    place = checked(path)
    if place.suffix.lower() != ".svg":
        picture = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escaped(title)}</title>'
            f'<body style="margin:0 auto;max-width:64rem">{picture}</body></html>\n'
        )
    try:
        place.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the plot cannot be written ({error.strerror})", where=str(path)) from None
    return place
