"""Trimming: a model keeps the tokens that some languages need, and loses the others with their rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.keep_order import fill, keep_order, of_scripts
from sememe.vocab.plausible import chances
from sememe.vocab.principal import coordinates
from sememe.vocab.sample import Sample, from_texts, read_sample
from sememe.vocab.tensors import FLOATS, Tensor, widen
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.tokenizer_keep import characters, complete, exchange
from sememe.vocab.unreachable import find_unreachable
from sememe.vocab.writing import fixed_padding

_SHARE = 0.6  # of the table that is filled up at the most when nothing is asked for
_ENOUGH = 32_768  # tokens, or four times those seen: more is not filled up
_CHECKED = 4_000_000  # characters of the sample on which the new tokenizer is compared with the old


@dataclass(frozen=True, eq=False)
class Choice:
    """Which tokens stay, and why.

    Attributes
    ----------
    tokenizer : TokenizerFile
        The trimmed one.
    rows : int64 ndarray of shape (v_new,)
        The old id of each new one, ascending but for a token that keeps its number.
    reasons : dict of str to int
        How many tokens stay for which reason, each counted once, for the first that holds: ``special``, ``seen``,
        ``asked``, ``characters``, ``merges`` (on the way to a kept token), ``likely``.
    dropped : int
        Tokens that the sample uses and that had to go, where a size was asked for.
    dropped_times : int
        How often the sample uses them.
    dropped_share : float
        That as a share of the sample's tokens.
    checked : int
        Texts on which old and new tokens were compared.
    """

    tokenizer: TokenizerFile
    rows: NDArray[np.int64]
    reasons: dict[str, int]
    dropped: int
    dropped_times: int
    dropped_share: float
    checked: int


@register(
    "vocab-trim",
    room="vocab",
    kind="surgery",
    summary="keep the tokens that some languages need; the same text gives the same tokens and vectors",
    paper=Paper("An Efficient Multilingual Language Model Compression through Vocabulary Trimming", 2023, "2305.15020"),
    claim="About half of the vocabulary can go without loss, and the model becomes smaller by its rows.",
)
class VocabularyTrimmer:
    """Chooses tokens to keep, and writes the smaller model.

    Everything the sample uses stays, with special and added tokens, bytes, single characters where there are no byte
    tokens, and what merges need. Tokens that more text would likely use (`sememe.vocab.plausible`) fill the table up.

    A text that becomes only kept tokens keeps its ids (renumbered in the old order) and its vectors, and the logits of
    kept tokens. Any other text is cut into smaller kept tokens, or where the vocabulary has neither its characters
    nor bytes, into the unknown token, as before.

    Where a size is asked for, room goes to what text like the sample will use: characters of scripts that the sample
    does not have must earn their place like any token, and where not even the sample's own tokens fit, those that
    it uses at most twice stand back behind others that are likelier to come.

    Parameters
    ----------
    size : float or int, optional
        How large the vocabulary shall be: up to 1.0 a share of the old one, above it a number of tokens. By default
        nothing of the sample goes, and the table is filled up to 60 %, though not beyond 32,768 tokens or four times
        those seen.
    multiple_of : int
        The size is rounded to a multiple of this: down, or where more must stay, up by further likely tokens.
    """

    def __init__(self, size: float | None = None, multiple_of: int = 1) -> None:
        self.size, self.multiple_of = size, multiple_of

    def choose(
        self,
        tokenizer: TokenizerFile,
        sample: Sample,
        keep: Iterable[str] = (),
        ids: Iterable[int] = (),
        fixed: int | None = None,
        table: Tensor | None = None,
    ) -> Choice:
        """Choose tokens for a sample.

        Parameters
        ----------
        tokenizer : TokenizerFile
        sample : Sample
        keep : iterable of str
            Tokens as the vocabulary writes them, or texts whose tokens shall stay.
        ids : iterable of int
            Tokens that must stay, such as those that a configuration names.
        fixed : int, optional
            A token that must keep its number: see `sememe.vocab.writing.fixed_padding`.
        table : Tensor, optional
            The model's input table, which shows which other tokens lie near those of the sample.

        Raises
        ------
        InputError
            A size below what cannot go, or not above ``fixed``.
        """
        total = sum(1 for token in tokenizer.tokens if token)
        wanted = self._wanted(total)
        encoded = tokenizer.encode_batch(sample.texts)
        counts = Counter(number for ids in encoded for number in ids)
        counts.update(number for ids in tokenizer.encode_batch(sample.pieces) for number in ids if number not in counts)
        named = {number for number in ids if number < len(tokenizer.tokens)}
        special = complete(tokenizer, named if fixed is None else named | {fixed})
        asked = {number for line in keep for number in _asked(tokenizer, line)}
        unreachable = find_unreachable(tokenizer, set(counts)).reasons.keys()
        single = characters(tokenizer) - unreachable
        if wanted is not None:
            single = of_scripts(tokenizer, single, sample.texts)
        base = complete(tokenizer, special | asked | single)
        kept = complete(tokenizer, base | set(counts))
        crowded = wanted is not None and len(kept) > wanted
        goal = self._goal(wanted, len(kept), len(counts), total)
        order: list[int] = []
        if crowded or goal > len(kept):
            places = None if table is None else coordinates(table)
            order = keep_order(chances(tokenizer, sample.texts, encoded, places), counts, unreachable)
        if wanted is not None and crowded:
            kept = self._fit(tokenizer, base, order, wanted)
            goal = self._goal(wanted, len(kept), len(counts), total)
        likely = fill(tokenizer, order, kept, goal - len(kept))
        dropped = set(counts) - kept - likely
        needed = complete(tokenizer, base | (set(counts) - dropped))
        trimmed, rows = tokenizer.keep(sorted(kept | likely))
        if fixed is not None:
            trimmed, rows = _settled(trimmed, rows, fixed)
        reasons = {"special": 0, "seen": 0, "asked": 0, "characters": 0, "merges": 0, "likely": 0}
        for number in rows.tolist():
            reasons[_reason(number, special, counts, asked, single, needed)] += 1
        checked = check_same(tokenizer, trimmed, rows, [*sample.texts, *sample.pieces])
        lost = sum(counts[number] for number in dropped)
        return Choice(trimmed, rows, reasons, len(dropped), lost, lost / max(sum(counts.values()), 1), checked)

    def _wanted(self, total: int) -> int | None:
        if self.multiple_of < 1:
            raise InputError(f"multiple_of must be at least 1, got {self.multiple_of}")
        if self.size is None:
            return None
        if not self.size > 0:
            raise InputError(f"the size must be above 0, got {self.size}")
        return int(self.size * total) if self.size <= 1 else int(self.size)

    def _fit(self, tokenizer: TokenizerFile, base: set[int], order: Sequence[int], wanted: int) -> set[int]:
        """As many tokens in this order, with what they need, as fit."""
        if len(base) > wanted:
            raise InputError(
                f"{len(base)} tokens cannot go (special ones, characters, what is asked for), and the size is {wanted}",
                fix="choose a larger size",
            )
        low, high = 0, len(order)  # the largest number of them that fits; what they need only grows with it
        while low < high:
            middle = (low + high + 1) // 2
            if len(complete(tokenizer, base.union(order[:middle]))) <= wanted:
                low = middle
            else:
                high = middle - 1
        return complete(tokenizer, base.union(order[:low]))

    def _goal(self, wanted: int | None, kept: int, seen: int, total: int) -> int:
        """How many tokens there shall be in the end."""
        if wanted is None:
            wanted = default_size(total, seen)
        goal = wanted // self.multiple_of * self.multiple_of  # a ceiling is not passed for the sake of roundness
        return goal if goal >= kept else min(-(-kept // self.multiple_of) * self.multiple_of, total)

    def trim(self, model: ModelFolder, out: str | os.PathLike[str], choice: Choice, **surgery: Any) -> Path:
        """Write the smaller model; see `sememe.vocab.folder.write_folder`."""
        check_rows(model, choice.rows)
        if (np.diff(choice.rows) > 0).all():
            return write_folder(model, out, tokenizer=choice.tokenizer, rows=choice.rows, surgery=surgery)
        ids = {int(old): new for new, old in enumerate(choice.rows.tolist())}
        tables = {t.name: _picked(model, t, choice.rows) for t in model.layout.all}
        return write_folder(model, out, tokenizer=choice.tokenizer, tables=tables, ids=ids, surgery=surgery)


def _settled(tokenizer: TokenizerFile, rows: NDArray[np.int64], fixed: int) -> tuple[TokenizerFile, NDArray[np.int64]]:
    """One token back at its old number, another in its new one."""
    place = int(np.searchsorted(rows, fixed))
    if len(rows) <= fixed:
        raise InputError(
            f"positions are counted from the padding token, {fixed}, and only {len(rows)} tokens would be left",
            where=tokenizer.where,
            fix=f"choose a size above {fixed}",
        )
    if place == fixed:
        return tokenizer, rows
    moved = rows.copy()
    moved[[place, fixed]] = rows[[fixed, place]]
    return exchange(tokenizer, place, fixed), moved


def _picked(model: ModelFolder, tensor: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows of a table, or the entries of a bias, in an order of their own."""
    return np.ascontiguousarray(model.read(tensor.name).take(rows, axis=0 if tensor.shape[0] == model.size else 1))


def default_size(total: int, seen: int) -> int:
    """How far a vocabulary of ``total`` tokens is filled up by default, where a text uses ``seen`` of them."""
    return min(int(_SHARE * total), max(_ENOUGH, 4 * seen))


def _asked(tokenizer: TokenizerFile, line: str) -> list[int]:
    number = tokenizer.ids.get(line)
    if number is not None:
        return [number]
    return [*tokenizer.pieces(line), *tokenizer.pieces(" " + line)] if line.strip() else []


def _reason(
    number: int, fixed: set[int], counts: Counter[int], asked: set[int], single: set[int], kept: set[int]
) -> str:
    groups = (("special", fixed), ("seen", counts), ("asked", asked), ("characters", single), ("merges", kept))
    return next((name for name, group in groups if number in group), "likely")


def check_same(
    old: TokenizerFile, new: TokenizerFile, rows: NDArray[np.int64], texts: Sequence[str], limit: int = _CHECKED
) -> int:
    """Compare both tokenizers on texts whose tokens are all kept; returns how many there were.

    Raises
    ------
    InputError
        Where one text gets other tokens: this kind of tokenizer cannot be trimmed.
    """
    kept = set(rows.tolist())
    size = checked = 0
    for start in range(0, len(texts), 1024):
        batch = texts[start : start + 1024]
        for text, before, after in zip(batch, old.encode_batch(batch), new.encode_batch(batch), strict=True):
            if kept.issuperset(before):
                checked += 1
                if before != rows[after].tolist():
                    raise InputError(
                        f"the trimmed tokenizer cuts {text[:40]!r} in another way",
                        where=old.where,
                        fix="report this file",
                    )
        size += sum(map(len, batch))
        if size > limit:
            break
    return checked


def check_rows(model: ModelFolder, rows: NDArray[np.int64]) -> None:
    """Refuse tables that hold NaN or infinity in a row that is kept."""
    rows = np.sort(rows)
    for tensor in model.tables.values():
        for first, values in tensor.blocks():
            begin, end = np.searchsorted(rows, [first, first + len(values)])
            chosen = rows[begin:end]
            finite = np.isfinite(widen(values[chosen - first], tensor.dtype)).all(axis=1)
            if not finite.all():
                row = int(chosen[np.flatnonzero(~finite)[0]])
                raise InputError(f"{tensor.name} holds NaN or infinity in row {row}", where=str(tensor.file))


def trim(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | Sequence[tuple[str, str]] | None = None,
    languages: Sequence[str] = (),
    keep: Iterable[str] = (),
    size: float | None = None,
    multiple_of: int = 1,
) -> dict[str, Any]:
    """Trim the vocabulary of a model folder to the tokens that some text needs.

    Parameters
    ----------
    model : path
        A Hugging Face or sentence-transformers folder with safetensors.
    out : path
        The new folder; it must not exist.
    text : list of paths
        Files or folders to read the sample from; see `sememe.vocab.sample.read_sample`.
    texts : list of str, or of (str, str), optional
        The sample itself instead, texts or pairs of a text and its language.
    languages : list of str
        Use only texts that are marked with these languages.
    keep : iterable of str
        Further tokens or texts to keep.
    size, multiple_of
        See `VocabularyTrimmer`.

    Returns
    -------
    dict
        ``out``, ``tokens`` and ``table`` before and after, ``kept`` by reason, ``model`` bytes before and after.

    Examples
    --------
    >>> sememe.vocab.trim("model", "model-de", ["news.de.txt"])  # doctest: +SKIP
    """
    folder = ModelFolder.open(model)
    tokenizer = folder.tokenizer()
    if Path(out).exists():
        raise InputError("this exists already", where=str(out), fix="name a new folder, or remove this one")
    sample = from_texts(texts) if texts is not None else read_sample(text)
    if languages:
        sample = sample.only(languages)
    trimmer = VocabularyTrimmer(size, multiple_of)
    choice = trimmer.choose(tokenizer, sample, keep, folder.named_ids(), fixed_padding(folder), folder.layout.input)
    before, after = folder.size, len(choice.rows)
    summary: dict[str, Any] = {
        "operation": "trim",
        "tokens": {"before": len(tokenizer.tokens), "after": after},
        "table": {
            "rows": {"before": before, "after": after, "share": after / before},
            "bytes": {"before": vocabulary_bytes(folder, before), "after": vocabulary_bytes(folder, after)},
        },
        "kept": choice.reasons,
        "dropped_of_the_sample": {
            "tokens": choice.dropped,
            "times": choice.dropped_times,
            "share": choice.dropped_share,
        },
        "texts": len(sample.texts),
        "texts_checked": choice.checked,
        "languages": sorted(set(sample.languages) - {""}),
        "notices": sample.notices,
    }
    place = trimmer.trim(folder, out, choice, **summary)
    weights = [folder.inner / shard for shard in folder.shards]
    new = [place / path.relative_to(folder.path) for path in weights]
    model_bytes = {"before": _sizes(weights), "after": _sizes(new)}
    return {"model": str(folder.path), "out": str(place), **summary, "model_bytes": model_bytes}


def _sizes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def vocabulary_bytes(folder: ModelFolder, size: int) -> int:
    """Bytes of everything that has an entry for each token, at a vocabulary of ``size``."""
    return sum(t.parameters // folder.size * size * FLOATS[t.dtype].itemsize for t in folder.layout.all)
