"""Expanding: a model gets more tokens, for what a domain writes often and its tokenizer cuts into many pieces."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, UsageError
from sememe.lab.data import Corpus, byte_length
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.initialize import Initializer, Problem, WordVectors, make
from sememe.vocab.new_tokens import NewTokens, word_tokens
from sememe.vocab.sample import from_texts, read_sample
from sememe.vocab.supertokens import Supertokens, uncut
from sememe.vocab.tokenizer import TokenizerFile

_FEWEST = 20  # distinct texts below which none is held out
_DECODED = 500  # texts that are decoded again


@dataclass(frozen=True, eq=False)
class Expansion:
    """A tokenizer with new tokens.

    Attributes
    ----------
    tokenizer : TokenizerFile
        New tokens follow the old ones, whose ids stay.
    words, phrases : int
        New tokens inside a word, and of several words.
    notices : tuple of str
        What else changed.
    """

    tokenizer: TokenizerFile
    words: int
    phrases: int
    notices: tuple[str, ...] = ()


def more_tokens(
    tokenizer: TokenizerFile,
    texts: Sequence[str],
    count: int,
    *,
    supertokens: Supertokens | None = None,
    least: int = 2,
) -> Expansion:
    """Learn new tokens from texts, and enter them so that the tokenizer produces them.

    Tokens inside words and supertokens are taken in the order of the tokens that they save in the text.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : list of str
    count : int
        Most tokens to add.
    supertokens : Supertokens, optional
        Learn tokens of several words too.
    least : int
        How often a new token must stand in the text.

    Raises
    ------
    InputError
        A text in which nothing repeats, or a tokenizer that cannot be expanded.
    """
    if count < 1:
        raise UsageError(f"{count} tokens cannot be added", fix="give at least 1")
    notices: list[str] = []
    base = tokenizer
    if supertokens is not None:
        base = uncut(tokenizer, texts)
        if base is not tokenizer:
            notices.append("the tokenizer looks at whole texts now, not at words: tokens across words need that")
    words = word_tokens(base, texts, count, least=least)
    phrases = NewTokens((), ())
    if supertokens is not None:
        phrases = supertokens.learn(words.enter(base), texts, count)
        words, phrases = _share(words, phrases, count)
    if not words.texts and not phrases.texts:
        raise InputError("nothing in this text repeats that is not a token already", fix="give more text")
    middle = words.enter(base)
    # A phrase of a word that is no token in the end would take tokens on the way: only whole ones are taken.
    if phrases.merges:
        known = middle.ids
        phrases = _known(phrases, known)
    made = phrases.enter(middle)
    if phrases.texts and not base.across:
        notices.append(
            "supertokens are added tokens, found in a text before it is cut into words"
            + ("" if made.kind == "wordpiece" else ", also where the last word goes on")
        )
    return Expansion(made, len(middle.tokens) - len(base.tokens), len(made.tokens) - len(middle.tokens), tuple(notices))


def _share(words: NewTokens, phrases: NewTokens, count: int) -> tuple[NewTokens, NewTokens]:
    """The ``count`` tokens of both together that save most, each list from its beginning."""
    own = other = 0
    while own + other < count and (own < len(words.texts) or other < len(phrases.texts)):
        left = words.saved[own] if own < len(words.texts) else -1.0
        right = phrases.saved[other] if other < len(phrases.texts) else -1.0
        if left >= right:
            own += 1
        else:
            other += 1
    return words.first(own), phrases.first(other)


def _known(phrases: NewTokens, known: dict[str, int]) -> NewTokens:
    """Those whose merges need no other tokens."""
    there = set(known)
    places: dict[int, int] = {}
    merges = []
    for (left, right), place in phrases.merges:
        if left in there and right in there:
            there.add(left + right)
            merges.append(((left, right), places.setdefault(place, len(places))))
    kept = list(places)
    return NewTokens(tuple(phrases.texts[p] for p in kept), tuple(phrases.saved[p] for p in kept), tuple(merges))


def measure(old: TokenizerFile, new: TokenizerFile, texts: Sequence[str], learned: Sequence[str]) -> dict[str, Any]:
    """What the new tokens do: tokens a byte before and after, and how many of them are really produced.

    Parameters
    ----------
    old, new : TokenizerFile
    texts : list of str
        To measure on.
    learned : list of str
        What the tokens were learned from.

    Returns
    -------
    dict
        ``tokens_per_byte`` (``before``, ``after``, ``saved``), ``produced`` (new tokens that occur ``in_learned`` and
        ``in_measured``), ``measured_bytes``, ``before_a_longer_word`` (share of supertokens that stand where their last
        word goes on), ``decoded_otherwise`` (texts that come back from their tokens in another way than before).
    """
    first = len(old.tokens)
    size = sum(map(byte_length, texts))
    before, after = old.encode_batch(texts), new.encode_batch(texts)
    tokens = {"before": sum(map(len, before)) / size, "after": sum(map(len, after)) / size}
    seen = {number for ids in after for number in ids if number >= first}
    used = {number for ids in new.encode_batch(learned) for number in ids if number >= first}
    otherwise = sum(
        old.backend.decode(a) != new.backend.decode(b) for a, b in zip(before[:_DECODED], after[:_DECODED], strict=True)
    )
    return {
        "tokens_per_byte": {**tokens, "saved": 1 - tokens["after"] / max(tokens["before"], 1e-12)},
        "produced": {"in_learned": len(used), "in_measured": len(seen)},
        "measured_bytes": size,
        "before_a_longer_word": _cut_words(new, first, texts),
        "decoded_otherwise": otherwise,
    }


def _cut_words(tokenizer: TokenizerFile, first: int, texts: Sequence[str]) -> float:
    """Share of the supertokens that stand in texts where their last word goes on."""
    phrases = {n for n in range(first, len(tokenizer.tokens)) if b" " in (tokenizer.text_of(n) or b"").strip()}
    if not phrases:
        return 0.0
    counts: Counter[bool] = Counter()
    plain = [text.encode("utf-8", "replace").decode() for text in texts]
    for text, encoding in zip(plain, tokenizer.backend.encode_batch(plain, add_special_tokens=False), strict=True):
        for number, (_, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if number in phrases:
                counts[text[stop : stop + 1].isalpha()] += 1
    return counts[True] / max(counts.total(), 1)


def grown_tables(
    folder: ModelFolder, tokenizer: TokenizerFile, initializer: Initializer, **known: Any
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tables and biases with rows for new tokens behind the old ones, which stay to the bit, and what was done.

    Parameters
    ----------
    folder : ModelFolder
    tokenizer : TokenizerFile
        The model's own with more tokens.
    initializer : Initializer
    known
        ``text``, ``words``, ``embed``, ``model`` and ``seed`` of `Problem`.
    """
    old = folder.tokenizer()
    size = max(len(tokenizer.tokens), folder.size)  # rows without a token, where a table has them, are used up first
    same = np.repeat(np.arange(len(old.tokens), dtype=np.int64)[:, None], 2, axis=1)
    known["text"] = tuple(known.get("text") or ())
    problem = Problem(old, tokenizer, same, **known)
    tables: dict[str, NDArray[Any]] = {}
    report: dict[str, Any] = {}
    head = "output" if "output" in folder.tables else "input"
    for role in folder.tables:
        started = time.perf_counter()
        table = folder.read(role)
        rows = initializer.weights(problem, table)
        tables[role] = _behind(table, rows.apply(table), size)
        report[role] = {**rows.counts, "seconds": round(time.perf_counter() - started, 3)}
        if role == head:
            for bias in folder.layout.biases:
                values = folder.read(bias.name)
                flat = values.reshape(-1)
                tables[bias.name] = _behind(flat, rows.along(flat), size).reshape([*values.shape[:-1], -1])
    return tables, report


def _behind(old: NDArray[np.float32], made: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The made rows, then what is left of the old table's rows without a token."""
    return np.concatenate([made, old[len(made) : size]]) if len(made) < size else made


def expand(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | None = None,
    add: int = 2000,
    init: str = "subword-mean",
    options: dict[str, Any] | None = None,
    supertokens: bool = False,
    words: tuple[WordVectors, WordVectors] | None = None,
    embed: Callable[[Sequence[str]], Any] | None = None,
    held_out: float = 0.1,
    least: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    """Add tokens for a domain to a model.

    They are learned from most of the text and measured on the rest. The text becomes fewer tokens; what the model makes
    of them hangs on the rows that the method gives it, and on training afterwards.

    Parameters
    ----------
    model : path
        A Hugging Face or sentence-transformers folder with safetensors.
    out : path
        The new folder; it must not exist.
    text : list of paths
        Files or folders to learn from; see `sememe.vocab.sample.read_sample`.
    texts : list of str, optional
        The text itself instead.
    add : int
        Most tokens to add; a short text has fewer that repeat.
    init : str
        How rows of new tokens are made; see `sememe.vocab.initialize.methods`. Methods that copy a donor's geometry
        have nothing to copy here.
    options : dict, optional
        The method's own parameters.
    supertokens : bool
        Also tokens of several words.
    words, embed
        Word vectors and a text encoder, for methods that need them.
    held_out : float
        Share of the texts to measure on.
    least : int
        How often a new token must stand in the text.
    seed : int
        Of what is drawn, and of which texts are held out.

    Returns
    -------
    dict
        ``out``, ``tokens`` before and after, ``added`` (``words``, ``supertokens``, and those ``produced``),
        ``tokens_per_byte``, ``tables``, ``notices``; see `measure`.

    Examples
    --------
    >>> sememe.vocab.expand("model", "model-law", ["law.txt"], add=2000)  # doctest: +SKIP
    """
    initializer = make(init, **(options or {}))
    folder = ModelFolder.open(model)
    old = folder.tokenizer()
    if Path(out).exists():
        raise InputError("this exists already", where=str(out), fix="name a new folder, or remove this one")
    sample = from_texts(texts) if texts is not None else read_sample(text)
    notices = list(sample.notices)
    distinct = len({line for line in sample.texts if line.strip()})
    if distinct >= _FEWEST and held_out > 0:
        corpus = Corpus.split(sample.texts, share=held_out, seed=seed)
        learned, held = corpus.train, corpus.held_out
        if len(learned) + len(held) < len(sample.texts):
            notices.append("texts that are there twice count once")
    else:
        learned = held = tuple(line for line in sample.texts if line.strip())
        notices.append(f"no text is held out ({distinct} distinct ones): the saving is that on the text itself")
    learner = Supertokens(least=least, seed=seed) if supertokens else None
    found = more_tokens(old, learned, add, supertokens=learner, least=least)
    known = {"text": learned, "words": words, "embed": embed, "model": folder.path, "seed": seed}
    tables, report = grown_tables(folder, found.tokenizer, initializer, **known)
    measured = measure(old, found.tokenizer, held, learned)
    produced = measured.pop("produced")
    summary: dict[str, Any] = {
        "operation": "expand",
        "init": init,
        "options": initializer.get_params(),
        "tokens": {"before": len(old.tokens), "after": len(found.tokenizer.tokens)},
        "rows": {"before": folder.size, "after": len(tables["input"])},
        "added": {"asked": add, "words": found.words, "supertokens": found.phrases, "produced": produced},
        **measured,
        "tables": report,
        "seed": seed,
    }
    place = write_folder(folder, out, tables=tables, tokenizer=found.tokenizer, surgery=summary)
    return {"model": str(folder.path), "out": str(place), **summary, "notices": [*notices, *found.notices]}
