"""Real text and its vectors: the evaluation data where there is some, else the documentation that Python carries."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from sememe.bench.harness import Settings
from sememe.bench.peers import note
from sememe.contracts import Vectors, unit_rows
from sememe.errors import InputError

READY = ("scifact", "cranfield", "cisi")  # collections with MiniLM vectors in embeddings-minilm
_HELD_OUT = 400  # texts that are queries
_folder: Path | None = None


@contextmanager
def folder(given: Path | None) -> Iterator[None]:
    """Read evaluation data from ``given``, or from SEMEME_DATA, while a bench runs."""
    global _folder
    named = given or (Path(os.environ["SEMEME_DATA"]) if os.environ.get("SEMEME_DATA") else None)
    if named is not None and not named.is_dir():
        raise InputError("there is no such folder of evaluation data", where=str(named))
    _folder = named
    try:
        yield
    finally:
        _folder = None


def data(*parts: str) -> Path | None:
    """A file of the evaluation data, or None where it is missing."""
    path = None if _folder is None else _folder.joinpath(*parts)
    return path if path is not None and path.exists() else None


def lines(*parts: str) -> list[str]:
    """Lines of a file of the evaluation data; none where it is missing."""
    path = data(*parts)
    if path is None:
        return []
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read().splitlines()
    return path.read_text(encoding="utf-8").splitlines()


def sentences(count: int) -> list[str]:
    """``count`` different texts of about a sentence, in a fixed random order; fewer where there are not so many."""
    from sememe.text import Sentences

    found = [line.partition("\t")[2] for line in lines("brown", "brown.tsv.gz")]
    for part in ("valid", "test"):
        for line in lines("wikitext2", f"{part}.txt.gz"):
            if line.strip() and not line.strip().startswith("="):
                found += [s for s in re.split(r"(?<= [.!?]) ", line.strip()) if len(s) > 20]
    found += [line.rpartition("\t")[2] for line in lines("wordnet-nouns", "nouns.tsv.gz")[1:]]
    for part in ("train", "test"):
        found += [line.partition("\t")[2] for line in lines("agnews", f"{part}.tsv.gz")[1:]]
    if not found:
        note("no evaluation data (SEMEME_DATA): the text is the documentation that comes with Python")
        cutter = Sentences(1)
        found = [
            " ".join(text[span.start : span.stop].split())
            for text in _documentation()
            for span in cutter.spans(text)
            if span.stop - span.start >= 20
        ]
    found = [text for text in dict.fromkeys(found) if text.strip()]
    if len(found) < count:
        note(f"there are {len(found):,} different sentences, not {count:,}")
    order = np.random.default_rng(7).permutation(len(found))
    return [found[place] for place in order[:count]]


def passages() -> list[str]:
    """Texts of a paragraph: the abstracts of SciFact, or the documentation that Python carries."""
    from sememe.text import read

    corpus = data("scifact")
    if corpus is None:
        note("no evaluation data (SEMEME_DATA): the text is the documentation that comes with Python")
        return list(_documentation())
    return [record.text for record in read(corpus)]


@cache
def _documentation() -> tuple[str, ...]:
    from sememe.text import demo_records

    return tuple(record.text for record in demo_records())


def vectors(settings: Settings, size: int) -> tuple[Vectors, Vectors]:
    """Corpus ``(n, d)`` and queries ``(q, d)``, unit rows: the given files, or static vectors of sentences.

    Queries are texts that are not in the corpus.
    """
    if settings.vectors is not None:
        X = _read(settings.vectors)
        if settings.queries is not None:
            return X[: settings.size], _read(settings.queries)
        if len(X) <= 2 * _HELD_OUT:
            raise InputError(f"{len(X)} vectors are too few to hold queries out", where=str(settings.vectors))
        return X[:-_HELD_OUT][: settings.size], X[-_HELD_OUT:]
    from sememe.encode import make

    size = settings.size or size
    held_out = min(_HELD_OUT, max(20, size // 4))
    E = make("static").encode(sentences(size + held_out))
    E = np.ascontiguousarray(E[E.any(axis=1)])
    return E[held_out:], E[:held_out]


def ready_vectors() -> tuple[Vectors, Vectors] | None:
    """MiniLM vectors of the three collections that have them, together, and their queries; None where they are not."""
    paths = [(data("embeddings-minilm", f"{name}.corpus.f16.npy"), data("embeddings-minilm", f"{name}.queries.f16.npy"))
             for name in READY]  # fmt: skip
    there = [(corpus, queries) for corpus, queries in paths if corpus is not None and queries is not None]
    if not there:
        note("MiniLM vectors (embeddings-minilm) are not among the evaluation data and are left out")
        return None
    return np.concatenate([_read(c) for c, _ in there]), np.concatenate([_read(q) for _, q in there])


def _read(path: Path) -> Vectors:
    from sememe.measure.vector_files import read_vectors

    return unit_rows(np.ascontiguousarray(read_vectors(str(path)), dtype=np.float32))
