"""Options of the ways to make rows for new tokens, shared by the operations that need one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sememe.cli import shared
from sememe.errors import UsageError


def method_options(verb: argparse.ArgumentParser) -> None:
    """Options for parameters, word vectors and a text encoder."""
    verb.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the method, such as k=64"
    )
    source_options(verb)


def source_options(verb: argparse.ArgumentParser) -> None:
    """Options for what methods build on."""
    verb.add_argument(
        "--word-vectors", nargs=2, metavar=("OLD", "NEW"), help="word vectors of both languages, word2vec text format"
    )
    verb.add_argument(
        "--dictionary", metavar="FILE", help="pairs of words, a tab between, to bring the word vectors into one space"
    )
    verb.add_argument("--encoder", default="static", help="text encoder for methods that compare tokens by meaning")


def parameters(given: argparse.Namespace) -> dict[str, Any]:
    """The parameters of ``--set`` by name."""
    return dict(_parameter(item) for item in given.set)


def sources(given: argparse.Namespace, methods: Sequence[str], options: dict[str, Any] | None = None) -> dict[str, Any]:
    """``words`` and ``embed``: word vectors where they are named, the encoder where one of the methods needs it."""
    from sememe.vocab.initialize import make

    wanted = any(make(name, **(options or {})).needs == ("embed",) for name in methods)
    return {
        "words": _words(given.word_vectors, given.dictionary),
        "embed": _encoder(given.encoder) if wanted else None,
    }


def _parameter(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise UsageError(f"{item!r} is not a parameter", fix="write for example k=64")
    for read in (int, float):
        try:
            return name, read(value)
        except ValueError:
            continue
    return name, value == "true" if value in ("true", "false") else value


def _words(files: list[str] | None, dictionary: str | None) -> Any:
    from sememe.vocab.initialize import WordVectors, align

    if files is None:
        if dictionary:
            raise UsageError("--dictionary brings --word-vectors into one space, and none are given")
        return None
    old, new = (WordVectors.read(path) for path in files)
    if dictionary is None:
        return old, new
    pairs = [line.split("\t") if "\t" in line else line.split() for line in shared.read_lines(dictionary)]
    return align(old, new, [(pair[0].strip(), pair[1].strip()) for pair in pairs if len(pair) >= 2])


def _encoder(name: str) -> Any:
    from sememe import encode

    return encode.make(name).encode
