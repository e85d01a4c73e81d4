"""Helper spaces: vectors for old and new tokens that can be compared with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors, unit_rows
from sememe.errors import InputError
from sememe.vocab.initialize.rows import Ids, Problem, Vocabulary
from sememe.vocab.initialize.words import subword_vectors

SPACES = ("donor", "words", "embed", "text")


@dataclass(frozen=True, eq=False)
class Space:
    """Unit vectors of tokens in one space.

    Attributes
    ----------
    new : ndarray of shape (v_new, e)
        float32; a zero row where nothing is known.
    new_known : bool ndarray of shape (v_new,)
    anchors : ndarray of shape (a, e)
        float32, of old tokens that are known.
    anchor_ids : int64 ndarray of shape (a,)
        Their old ids.
    """

    new: Vectors
    new_known: NDArray[np.bool_]
    anchors: Vectors
    anchor_ids: Ids


def helper_space(problem: Problem, kind: str = "auto") -> Space:
    """The space that the problem allows.

    Parameters
    ----------
    problem : Problem
    kind : {"auto", "donor", "words", "embed", "text"}
        ``donor``: the donor's table, with shared tokens as anchors. ``words``: word vectors of both languages, spread
        to tokens; all old tokens are anchors. ``embed``: a text encoder on each token's text. ``text``: vectors
        learned from the problem's text in the new tokenization, with shared tokens as anchors. ``auto``: the first
        that is given.

    Raises
    ------
    InputError
        An unknown space, one whose source is not given, or one without anchors.
    """
    given = {
        "donor": problem.donor is not None,
        "words": problem.words is not None,
        "embed": problem.embed is not None,
        "text": bool(problem.text),
    }
    if kind == "auto":
        kind = next((name for name in SPACES if given[name]), "")
    if not given.get(kind):
        known = [name for name in SPACES if given[name]]
        raise InputError(
            f"there is no helper space {kind!r} for this problem",
            fix=f"given are: {', '.join(known) or 'none'}; choose among {', '.join(SPACES)}",
        )
    space = {"donor": _of_donor, "words": _of_words, "embed": _of_encoder, "text": _of_text}[kind](problem)
    if not len(space.anchors):
        raise InputError(f"no old token is known in the helper space {kind!r}", fix="use subword-mean or another space")
    return space


def _space(new: Any, old: Any, old_ids: Ids) -> Space:
    new, old = unit_rows(as_vectors(new)), unit_rows(as_vectors(old))
    known = old.any(axis=1)
    return Space(new, new.any(axis=1), np.ascontiguousarray(old[known]), old_ids[known])


def _of_donor(problem: Problem) -> Space:
    assert problem.donor is not None
    # Tables have a mean that all rows share; cosines about it tell rows apart.
    rows = problem.donor[: len(problem.new.tokens)]
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return _space(rows, rows[problem.shared[:, 0]], problem.shared[:, 1])


def _of_words(problem: Problem) -> Space:
    assert problem.words is not None
    old, new = problem.words
    rows = subword_vectors(problem.old, old)
    return _space(subword_vectors(problem.new, new), rows, np.arange(len(rows), dtype=np.int64))


def _of_encoder(problem: Problem) -> Space:
    rows = embedded(problem, problem.old)
    return _space(embedded(problem, problem.new), rows, np.arange(len(rows), dtype=np.int64))


def embedded(problem: Problem, vocabulary: Vocabulary) -> Vectors:
    """The encoder's vectors of each token's text, ``(v, e)``; zero rows for special tokens and parts of characters."""
    assert problem.embed is not None
    texts = [spoken(vocabulary, number) for number in range(len(vocabulary.tokens))]
    places = [number for number, text in enumerate(texts) if text]
    if not places:
        raise InputError("no token of this vocabulary is text that an encoder could read")
    found = as_vectors(problem.embed([texts[number] for number in places]), name="the encoder's vectors")
    out = np.zeros((len(texts), found.shape[1]), dtype=np.float32)
    out[places] = found
    return out


def spoken(vocabulary: Vocabulary, number: int) -> str:
    """A token's text without its surrounding space; empty for special tokens and parts of characters."""
    raw = vocabulary.text_of(number) if number not in vocabulary.special else None
    try:
        return raw.decode("utf-8").strip() if raw else ""
    except UnicodeDecodeError:
        return ""


def _of_text(problem: Problem) -> Space:
    from sememe.vocab.initialize.cooccurrence import token_vectors

    rows = token_vectors(problem.new.encode_batch(problem.text), len(problem.new.tokens), seed=problem.seed)
    return _space(rows, rows[problem.shared[:, 0]], problem.shared[:, 1])
