"""Transplanting: a model gets another tokenizer, and rows for its tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.hold_out import hold_out
from sememe.vocab.initialize import Initializer, Problem, WordVectors, make
from sememe.vocab.sample import Sample, from_texts, read_sample
from sememe.vocab.tensors import Tensor
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.tokenizer_keep import exchange
from sememe.vocab.writing import fixed_padding

_FEW = 16  # shared tokens below which two vocabularies have nothing in common worth the name


@dataclass(frozen=True, eq=False)
class Donor:
    """Where the new tokenizer comes from.

    Attributes
    ----------
    tokenizer : TokenizerFile
    folder : ModelFolder or None
        Its model, where there is one beside the tokenizer.
    exchanged : (int, int)
        Two ids that are exchanged in ``tokenizer``, not in the model; equal ones where none are.
    """

    tokenizer: TokenizerFile
    folder: ModelFolder | None = None
    exchanged: tuple[int, int] = (0, 0)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, weights: bool = False) -> Donor:
        """Read a ``tokenizer.json``, a folder with one, or a model folder.

        Parameters
        ----------
        path : path
        weights : bool
            Its tables are needed; without, only the tokenizer is looked at.

        Raises
        ------
        InputError
            No tokenizer, or no tables where they are needed, or tables that do not fit it.
        """
        if not weights:
            return cls(TokenizerFile.open(path))
        if not Path(path).is_dir():
            raise InputError(
                "is a tokenizer without a model, and this method needs the donor's table",
                where=str(path),
                fix="give a model folder, or use subword-mean",
            )
        folder = ModelFolder.open(path)
        return cls(folder.tokenizer(), folder)

    def table(self, role: str) -> Vectors | None:
        """The table of a role (``input``, ``output``); a donor with a tied table, or without head, has one for both."""
        if self.folder is None:
            return None
        table = self.folder.read(role if role in self.folder.tables else "input")
        one, other = self.exchanged
        if one != other:
            table[[one, other]] = table[[other, one]]
        return table

    def fitting(self, model: ModelFolder) -> Donor:
        """Itself, or with its padding token at the number from which a model counts its positions."""
        fixed = fixed_padding(model)
        pad = None if fixed is None else moved_ids(model, model.tokenizer(), self.tokenizer).get(fixed)
        if fixed is None or pad is None or pad == fixed or fixed >= len(self.tokenizer.tokens):
            return self
        return replace(self, tokenizer=exchange(self.tokenizer, pad, fixed), exchanged=(pad, fixed))


def new_tables(
    folder: ModelFolder, donor: Donor, initializer: Initializer, *, check: bool = False, **known: Any
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """New tables and biases for a model, by role or tensor name, and what was done for each table.

    Parameters
    ----------
    folder : ModelFolder
    donor : Donor
    initializer : Initializer
    check : bool
        Say how near rows made in this way come to known ones (`sememe.vocab.hold_out`), as ``held_out`` of each table.
    known
        ``text``, ``words``, ``embed`` and ``seed`` of `Problem`.

    Raises
    ------
    InputError
        Vocabularies with next to nothing in common, tables with NaN, or something missing that the method needs.
    """
    old, new = folder.tokenizer(), donor.tokenizer
    first = Problem.of(old, new, donor=donor.table("input"), model=folder.path, **known)
    regular = sum(1 for number in first.shared[:, 0].tolist() if number not in new.special)
    if regular < min(_FEW, len(new.tokens) // 4):
        raise InputError(
            f"the two vocabularies have {regular} tokens in common",
            where=new.where,
            fix="give a tokenizer of the same script",
        )
    tables: dict[str, NDArray[Any]] = {}
    report: dict[str, Any] = {}
    head = "output" if "output" in folder.tables else "input"
    for role in folder.tables:
        # The donor's other table gives a problem of its own; what the vocabularies share stays the same.
        problem = first if role == "input" else replace(first, donor=donor.table(role))
        started = time.perf_counter()
        table = folder.read(role)
        rows = initializer.weights(problem, table)
        tables[role] = rows.apply(table)
        report[role] = {**rows.counts, "seconds": round(time.perf_counter() - started, 3)}
        if check:
            report[role]["held_out"] = hold_out(initializer, problem, table)
        if role == head:
            for bias in folder.layout.biases:
                tables[bias.name] = _bias(folder, bias, rows.along)
    return tables, report


def _bias(folder: ModelFolder, bias: Tensor, along: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Any:
    values = folder.read(bias.name)
    return along(values.reshape(-1)).reshape([*values.shape[:-1], -1])


def transplant(
    model: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    init: str = "omp",
    options: dict[str, Any] | None = None,
    text: Sequence[str | os.PathLike[str]] = (),
    texts: Sequence[str] | None = None,
    words: tuple[WordVectors, WordVectors] | None = None,
    embed: Callable[[Sequence[str]], Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Give a model the tokenizer of a donor.

    Rows of tokens that both vocabularies have are copied to the bit, special tokens by their role; the others are
    made by the method, for the input and the output table each in its own right. Where a model counts its positions
    from the padding token (RoBERTa and its kin), the donor's padding token takes that number, and another token its.

    Parameters
    ----------
    model : path
        A Hugging Face folder with safetensors.
    tokenizer : path
        A ``tokenizer.json``, a folder with one, or a model folder where the method needs the donor's table.
    out : path
        The new folder; it must not exist.
    init : str
        A method's name; see `sememe.vocab.initialize.methods`.
    options : dict, optional
        The method's own parameters.
    text : list of paths
        Files or folders with text, for methods that learn from it; see `sememe.vocab.sample.read_sample`.
    texts : list of str, optional
        That text itself instead.
    words : (WordVectors, WordVectors), optional
        Of the old and the new language, in one space.
    embed : function, optional
        A text encoder's ``encode``.
    seed : int
        Of what is drawn.

    Returns
    -------
    dict
        ``model``, ``out``, ``donor``, ``init``, ``tokens`` before and after, and for each table how many rows were
        copied, made and filled with the method's fallback, in what time, and how near rows made in this way came to
        known ones (``held_out``: see `sememe.vocab.hold_out`; None where that cannot be said).

    Examples
    --------
    >>> sememe.vocab.transplant("model", "donor", "model-donor", init="omp")  # doctest: +SKIP
    """
    initializer = make(init, **(options or {}))
    folder = ModelFolder.open(model)
    if Path(out).exists():
        raise InputError("this exists already", where=str(out), fix="name a new folder, or remove this one")
    donor = Donor.open(tokenizer, weights="donor" in initializer.needs)
    if donor.folder is None and any("donor" in need.split("|") for need in initializer.needs):
        donor = _with_weights(donor, tokenizer, bool(text or texts or words or embed))
    donor = donor.fitting(folder)
    sample = from_texts(texts) if texts is not None else read_sample(text) if text else Sample()
    known = {"text": sample.texts, "words": words, "embed": embed, "seed": seed}
    tables, report = new_tables(folder, donor, initializer, check=True, **known)
    notices = list(sample.notices)
    for role, entry in report.items():
        found = entry["held_out"]
        if found is not None:
            entry["held_out"] = found.as_json()
            notices += [line for line in [found.warning(role)] if line]
    old = folder.tokenizer()
    summary: dict[str, Any] = {
        "operation": "transplant",
        "donor": str(tokenizer),
        "init": init,
        "options": initializer.get_params(),
        "tokens": {"before": len(old.tokens), "after": len(donor.tokenizer.tokens)},
        "tables": report,
        "seed": seed,
    }
    place = write_folder(
        folder,
        out,
        tables=tables,
        tokenizer=_dressed(donor.tokenizer, old),
        ids=moved_ids(folder, old, donor.tokenizer),
        surgery=summary,
    )
    return {"model": str(folder.path), "out": str(place), **summary, "notices": notices}


def _with_weights(donor: Donor, path: str | os.PathLike[str], otherwise: bool) -> Donor:
    """The donor's model for a method that can use it but needs it only where nothing else is given."""
    try:
        return Donor.open(path, weights=True)
    except InputError:
        if otherwise:
            return donor
        raise


def moved_ids(folder: ModelFolder, old: TokenizerFile, new: TokenizerFile) -> dict[int, int | None]:
    """Where the ids in the configurations go: to the same token, else to the new one of the same role."""
    from sememe.vocab.initialize import shared_tokens

    ids: dict[int, int | None] = {}
    for number, before in shared_tokens(old, new).tolist():
        ids.setdefault(before, number)
    for role, number in new.roles.items():
        known = folder.config.get(f"{role}_token_id")
        for before in (old.roles.get(role), known):
            if isinstance(before, int) and ids.get(before) is None:
                ids[before] = number
    return ids


def _dressed(new: TokenizerFile, old: TokenizerFile) -> TokenizerFile:
    """The tokenizer with the settings that loaders look for, and the model's limit of length, not the donor's."""
    side = {name: dict(content) for name, content in new.side.items()}
    config = side.setdefault("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    if not new.side:
        for role, number in new.roles.items():
            config[f"{role}_token"] = new.tokens[number]
    limit = old.side.get("tokenizer_config.json", {}).get("model_max_length")
    if limit is not None:
        config["model_max_length"] = limit
    return TokenizerFile(new.spec, side, new.older, new.where)
