"""``sememe encode``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sememe.cli import shared
from sememe.errors import InputError

EXAMPLE = "sememe encode texts.jsonl --encoder static -o vectors.npy"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("source", help="a folder, a file, or - for standard input; one vector a record")
    verb.add_argument("--encoder", default="static", help="an encoder as a recipe writes it")
    verb.add_argument("--kind", choices=["passage", "query"], default="passage")
    verb.add_argument("-o", "--output", default="vectors.npy", help="float32 vectors; ids go beside it as .ids.txt")
    shared.reader_options(verb)


def run(given: argparse.Namespace) -> int:
    """Encode records; vectors as .npy, ids as lines of text."""
    import numpy as np

    from sememe import encode
    from sememe.encode.cache import Cached, VectorCache
    from sememe.recipe import Recipe
    from sememe.text import read

    encoder = Cached(encode.make(Recipe.parse(f"{given.encoder} | flat").encoder), VectorCache())
    reader = shared.Required(read(given.source, **shared.reader_arguments(given)), given.source)
    started = time.perf_counter()
    records = list(reader)
    vectors = encoder.encode([r.content for r in records], kind=given.kind, progress=True)
    target = Path(given.output)
    names = target.with_suffix(".ids.txt")
    try:
        with target.open("wb") as file:
            np.save(file, vectors)
        names.write_text("".join(f"{r.id}\n" for r in records), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot write ({error})", where=str(target)) from None
    if not given.quiet:
        shared.note(*reader.report.summary_lines())
    answer = {
        "vectors": str(target),
        "ids": str(names),
        "shape": list(vectors.shape),
        "seconds": round(time.perf_counter() - started, 3),
    }
    if given.json:
        shared.print_json(answer)
    else:
        shared.say(
            f"{target}: {vectors.shape[0]:,} x {vectors.shape[1]} float32 in {answer['seconds']} s; ids: {names}"
        )
    return 0
