"""Drawing characters: small grey pictures of glyphs, and boxes with a number where no font has one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency

SIDE = 16  # pixels
_SIZE, _BASE = 13, 13  # of the letters, and the row that they stand on
_BYTES = 0xDC00  # broken bytes travel as lone surrogates, as in Python's "surrogateescape"
# 3 x 5 pixels of each digit, a row an octal number: what stands in boxes
_DIGITS = [
    *("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111"),
    *("75757", "75717", "75755", "65656", "74447", "65556", "74747", "74744"),
]


def characters_of(piece: bytes) -> str:
    """The characters of a piece; bytes that are none become lone surrogates, ``U+DC00`` and the byte."""
    return piece.decode("utf-8", "surrogateescape")


def draw(characters: Sequence[str], fonts: Sequence[str | os.PathLike[str]] = ()) -> NDArray[np.float32]:
    """Pictures ``(n, SIDE, SIDE)``, 0 to 1, of single characters.

    Parameters
    ----------
    characters : sequence of str
    fonts : sequence of paths
        The first that has a character draws it; DejaVu Sans when empty.
    """
    opened = [_open(str(path)) for path in fonts] or [_open(str(dejavu()))]
    out = np.zeros((len(characters), SIDE, SIDE), dtype=np.float32)
    for row, character in enumerate(characters):
        if character.isspace():
            continue
        drawn = next((found for found in (_drawn(font, character) for font in opened) if found is not None), None)
        out[row] = boxed(character) if drawn is None else drawn
    return out


def dejavu() -> Path:
    """DejaVu Sans, which matplotlib brings (found, not imported).

    It is free to use and to pass on, covers a dozen scripts, and comes with Pillow by one small requirement; Pillow's
    own font knows Latin only.
    """
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if path.is_file():
            return path
    raise MissingDependency("matplotlib", extra="glyph", need="drawing glyphs without a font of your own")


def boxed(character: str) -> NDArray[np.float32]:
    """A box with the hexadecimal number of a character in it, two rows of up to three digits."""
    number = ord(character)
    text = f"{number - _BYTES:02X}" if _BYTES <= number < _BYTES + 256 else f"{number:04X}"
    rows = [text] if len(text) == 2 else [text[: len(text) // 2], text[len(text) // 2 :]]
    out = np.zeros((SIDE, SIDE), dtype=np.float32)
    out[[0, -1], :] = out[:, [0, -1]] = 0.5
    for line, digits in enumerate(rows):
        top = 5 if len(rows) == 1 else 2 + 7 * line
        for place, digit in enumerate(digits):
            left = (SIDE - 4 * len(digits) + 1) // 2 + 4 * place
            for y, bits in enumerate(_DIGITS[int(digit, 16)]):
                out[top + y, left : left + 3] = [int(bits) >> 2 & 1, int(bits) >> 1 & 1, int(bits) & 1]
    return out


@lru_cache(maxsize=8)
def _open(path: str) -> tuple[Any, bytes]:
    """A font, and how it draws what it does not have."""
    try:
        from PIL import ImageFont
    except ImportError:
        raise MissingDependency("pillow", extra="glyph", need="drawing glyphs") from None
    try:
        font = ImageFont.truetype(path, _SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise InputError(f"this is no font ({error})", where=path, fix="give a .ttf, .otf or .ttc file") from None
    return font, _picture(font, "\U0010fffe").tobytes()


def _drawn(opened: tuple[Any, bytes], character: str) -> NDArray[np.float32] | None:
    """The picture, or None where the font does not have this character."""
    if 0xD800 <= ord(character) < 0xE000:
        return None
    picture = _picture(opened[0], character)
    return None if picture.tobytes() == opened[1] or not picture.any() else picture


def _picture(font: Any, character: str) -> NDArray[np.float32]:
    from PIL import Image, ImageDraw

    image = Image.new("L", (SIDE, SIDE))
    left, _, right, _ = font.getbbox(character, anchor="ls")
    ImageDraw.Draw(image).text(((SIDE - (right - left)) / 2 - left, _BASE), character, fill=255, font=font, anchor="ls")
    return np.asarray(image, dtype=np.float32) / np.float32(255)
