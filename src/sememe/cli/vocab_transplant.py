"""``sememe vocab transplant``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn
from sememe.errors import UsageError

EXAMPLE = """sememe vocab transplant MODEL --tokenizer DONOR --init omp -o MODEL-DONOR
  sememe vocab transplant MODEL --tokenizer tokenizer.json --init subword-mean -o NEW
  sememe vocab transplant MODEL --tokenizer DE --init wechsel --word-vectors en.vec de.vec --dictionary en-de.tsv -o
  NEW"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face folder with safetensors")
    verb.add_argument("--tokenizer", required=True, metavar="DONOR", help="a model folder, or a tokenizer.json")
    verb.add_argument(
        "--init",
        default="omp",
        metavar="METHOD",
        help="how rows of new tokens are made: zero, mean, subword-mean, gaussian, neighbours, focus, hybrid, "
        "convex-hull, wechsel, ofa, or omp (default), which needs the donor's weights",
    )
    verb.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the method, such as k=64"
    )
    text_options(verb, required=False)
    verb.add_argument(
        "--word-vectors", nargs=2, metavar=("OLD", "NEW"), help="word vectors of both languages, word2vec text format"
    )
    verb.add_argument(
        "--dictionary", metavar="FILE", help="pairs of words, a tab between, to bring the word vectors into one space"
    )
    verb.add_argument("--encoder", default="static", help="text encoder for methods that compare tokens by meaning")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("-o", "--output", required=True, help="the new folder; it must not exist")


def run(given: argparse.Namespace) -> int:
    """Transplant, and say what became of the rows."""
    from sememe.vocab.initialize import make
    from sememe.vocab.transplant import transplant

    options = dict(_option(item) for item in given.set)
    wants_encoder = make(given.init, **options).needs == ("embed",)
    answer = transplant(
        given.model,
        given.tokenizer,
        given.output,
        init=given.init,
        options=options,
        text=given.text,
        words=_words(given.word_vectors, given.dictionary),
        embed=_encoder(given.encoder) if wants_encoder else None,
        seed=given.seed,
    )
    if given.json:
        shared.print_json(answer)
        return 0
    tokens = answer["tokens"]
    shared.say(f"tokens  {tokens['before']:,} -> {tokens['after']:,}, rows by {answer['init']}")
    for name, table in answer["tables"].items():
        other = f", {table['fallback']:,} without a clue" if table["fallback"] else ""
        shared.say(f"{name:7} {table['copied']:,} copied, {table['made']:,} made{other} in {table['seconds']:.1f} s")
    shared.say(f"new     {answer['out']}")
    warn(answer["notices"])
    return 0


def _option(item: str) -> tuple[str, Any]:
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
