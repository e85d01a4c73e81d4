"""The text sample that surgery is guided by: texts with the language and the script that each is in, where known."""

from __future__ import annotations

import gzip
import json
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sememe.errors import InputError, UsageError

_CODES = """
af am ar as az be bg bn bo br bs ca ceb co cs cy da de el en eo es et eu fa fi fo fr fy ga gd gl gu ha he hi hr ht
hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mi mk ml mn mr ms mt my nb ne nl nn no ny or pa pl ps
pt ro ru rw sa sd si sk sl sm sn so sq sr st su sv sw ta te tg th tk tl tr tt ug uk ur uz vi wo xh yi yo zh zu
"""
_LANGUAGES = frozenset(_CODES.split())
_THREE = {
    "ara": "ar", "ces": "cs", "cmn": "zh", "deu": "de", "ell": "el", "eng": "en", "fra": "fr", "hin": "hi", "hun": "hu",
    "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "nld": "nl", "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru",
    "spa": "es", "swe": "sv", "tur": "tr", "ukr": "uk", "vie": "vi", "zho": "zh",
}  # fmt: skip
_TEXT_KEYS = ("text", "content", "sentence", "body")
_LANGUAGE_KEYS = ("lang", "language", "_lang", "locale")
_SUFFIXES = {".gz", ".txt", ".text", ".jsonl", ".ndjson", ".md", ".tsv", ".csv"}
_PIECE = 1 << 16  # characters of a piece of a plain text that is encoded at once


@dataclass(slots=True)
class Sample:
    """Texts to look at.

    Attributes
    ----------
    texts : list of str
        A line of a plain text, or the text of a JSONL record.
    languages : list of str
        The language of each, as a code; empty where unknown.
    pieces : list of str
        Longer stretches of the plain texts with their line ends, so that tokens for those are seen too.
    notices : list of str
        What was skipped or changed while reading.
    """

    texts: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def only(self, languages: Sequence[str]) -> Sample:
        """The texts in some languages; pieces are left to the files' own language.

        Raises
        ------
        UsageError
            Where a language has no text.
        """
        wanted = {language.strip().lower() for language in languages if language.strip()}
        missing = sorted(wanted - set(self.languages))
        if missing:
            known = ", ".join(sorted(set(self.languages) - {""})) or "none"
            raise UsageError(
                f"no text is marked as {', '.join(missing)} (marked: {known})",
                fix="name files like text.de.txt, or give JSONL with a field lang",
            )
        chosen = [place for place, language in enumerate(self.languages) if language in wanted]
        return Sample([self.texts[p] for p in chosen], [self.languages[p] for p in chosen], [], list(self.notices))


def language_of_name(name: str) -> str:
    """The language that a file name speaks of (``news.de.txt``, ``de_news.txt``), or an empty string."""
    stem = name.lower()
    while Path(stem).suffix in _SUFFIXES:
        stem = stem[: -len(Path(stem).suffix)]
    parts = stem.split(".")
    candidates = [parts[-1], *re.split(r"[._-]", stem)[:1], *re.split(r"[._-]", stem)[-1:]]
    for candidate in candidates:
        code = re.split(r"[_-]", candidate)[0] if candidate == parts[-1] and len(parts) > 1 else candidate
        code = _THREE.get(code, code)
        if code in _LANGUAGES:
            return code
    return ""


def read_sample(paths: Sequence[str | os.PathLike[str]]) -> Sample:
    """Read plain text (a text a line) and JSONL files, also gzipped, and folders of them.

    A JSONL record has its text in ``text``, ``content``, ``sentence`` or ``body``, and may have its language in
    ``lang`` or ``language``; a file may carry it in its name. Bytes that are not UTF-8 are replaced, and counted.

    Raises
    ------
    InputError
        A file that cannot be read, a line that is no record, or no text at all.
    """
    sample = Sample()
    for path in paths:
        place = Path(path)
        if place.is_dir():
            files = sorted(p for p in place.rglob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES)
            if not files:
                raise InputError("there is no text file here", where=str(place))
        else:
            files = [place]
        for file in files:
            _read_file(file, sample)
    if not sample.texts:
        raise InputError("there is no text", where=", ".join(str(p) for p in paths), fix="give a text with words in it")
    return sample


def from_texts(texts: Sequence[str] | Sequence[tuple[str, str]]) -> Sample:
    """A sample from texts, or from pairs of a text and its language."""
    sample = Sample()
    for item in texts:
        text, language = (item, "") if isinstance(item, str) else item
        sample.texts.append(text)
        sample.languages.append(language)
    if not any(text.strip() for text in sample.texts):
        raise InputError("there is no text", fix="give a text with words in it")
    return sample


def _read_file(path: Path, sample: Sample) -> None:
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=str(path)) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        sample.notices.append(f"{path}: {text.count(chr(0xFFFD))} bytes that are not UTF-8 were replaced")
    language = language_of_name(path.name)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if ".jsonl" in suffixes or ".ndjson" in suffixes:
        _read_records(path, text, language, sample)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    sample.texts += lines
    sample.languages += [language] * len(lines)
    sample.pieces += _cut(text)


def _read_records(path: Path, text: str, language: str, sample: Sample) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError("is not JSON", where=f"{path}:{number}") from None
        key = next((k for k in _TEXT_KEYS if isinstance(record, dict) and isinstance(record.get(k), str)), None)
        if key is None:
            raise InputError(f"has no text ({', '.join(_TEXT_KEYS)})", where=f"{path}:{number}")
        if record[key].strip():
            own = next((record[k] for k in _LANGUAGE_KEYS if isinstance(record.get(k), str)), language)
            code = re.split(r"[_-]", own.lower())[0]
            sample.texts.append(record[key])
            sample.languages.append(_THREE.get(code, code))


def _cut(text: str) -> list[str]:
    """A text in pieces that end at line ends."""
    out, start = [], 0
    while start < len(text):
        stop = min(start + _PIECE, len(text))
        if stop < len(text):
            end = text.rfind("\n", start, stop) + 1
            stop = end if end > start else stop
        out.append(text[start:stop])
        start = stop
    return out


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a letter, as Unicode names it (``Latin``, ``Cyrillic``, ``Han``, ...); empty for all else."""
    if character < "\u0250":
        return "Latin" if character.isalpha() else ""
    if not character.isalpha() and unicodedata.category(character)[0] != "M":
        return ""
    name = unicodedata.name(character, "").split(" ")
    if name[0] in ("CJK", "IDEOGRAPHIC"):
        return "Han"
    if name[0] in ("COMBINING", "MODIFIER", "VARIATION", ""):
        return ""
    if name[0] in ("FULLWIDTH", "MATHEMATICAL", "HALFWIDTH") and len(name) > 1:
        name = name[1:]
    return name[0].capitalize()


def script_of_text(text: str) -> str:
    """The script of most letters of a text; empty where it has none."""
    counts = Counter(script for script in map(script_of, text) if script)
    return counts.most_common(1)[0][0] if counts else ""


def words(text: str) -> Iterator[str]:
    """Runs of letters, digits and marks."""
    return (match[0] for match in _WORD.finditer(text))


_WORD = re.compile(r"[^\W_]+(?:[\u0300-\u036f\u0900-\u0dff]*[^\W_]*)*")
UNSPACED = frozenset(
    {"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"}
)  # no spaces between words
