"""What an initializer is asked, and what it answers: rows of a new table as weighted sums of rows of the old one."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.estimator import Estimator

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from sememe.vocab.initialize.words import WordVectors

Ids = NDArray[np.int64]
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_ROLES = {"bos": "cls", "eos": "sep", "cls": "bos", "sep": "eos", "mask": "", "pad": "", "unk": ""}
"""Roles, the most telling first, each with the one that stands in for it."""


class Vocabulary(Protocol):
    """What initializers need of a tokenizer; `sememe.vocab.TokenizerFile` has it."""

    @property
    def tokens(self) -> Sequence[str]:
        """Tokens as written, by id."""
        ...

    @property
    def roles(self) -> Mapping[str, int]:
        """Ids of special tokens by role."""
        ...

    @property
    def special(self) -> frozenset[int]:
        """Ids that stand for no text."""
        ...

    def text_of(self, number: int) -> bytes | None:
        """The bytes that a token stands for; None for special tokens."""
        ...

    def pieces(self, text: bytes | str) -> list[int]:
        """Ids that spell a piece of text."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, without special tokens."""
        ...


def shared_tokens(old: Vocabulary, new: Vocabulary) -> Ids:
    """Tokens that stand for the same bytes in two vocabularies, special ones those of the same name or role.

    A begin-of-text token and a ``[CLS]`` stand in for each other where one is missing, so do end-of-text and
    ``[SEP]``. Where several old tokens stand for the same bytes, the one that is written the same way counts, then
    one that is no bare byte (``<0x41>``), then the first.

    Returns
    -------
    int64 ndarray of shape (s, 2)
        New id and old id, ascending by the new id.
    """
    known: dict[bytes, list[int]] = {}
    for number in range(len(old.tokens)):
        text = old.text_of(number)
        if text:
            known.setdefault(text, []).append(number)
    written = {old.tokens[number]: number for number in old.special}
    played: dict[int, int] = {}
    for role, other in _ROLES.items():  # a token that plays several roles takes the row of the first
        counterpart = old.roles.get(role, old.roles.get(other))
        if role in new.roles and counterpart is not None:
            played.setdefault(new.roles[role], counterpart)
    pairs = []
    for number, token in enumerate(new.tokens):
        text = new.text_of(number)
        if number in new.special:
            found = written.get(token, played.get(number))
        else:
            alike = known.get(text, []) if text else []
            found = min(
                alike, key=lambda o: (old.tokens[o] != token, bool(_BYTE.fullmatch(old.tokens[o])), o), default=None
            )
        if found is not None:
            pairs.append((number, found))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Problem:
    """One table to be made: where it comes from, and what is known about the new tokens.

    Attributes
    ----------
    old, new : Vocabulary
    shared : int64 ndarray of shape (s, 2)
        New id and old id of tokens that stand for the same; their rows are copied.
    donor : ndarray of shape (v_new or more, e), optional
        The table of a model that has the new vocabulary, of the same side (input or output) as the table to be made.
    text : tuple of str
        Text as the new vocabulary shall be used on.
    words : (WordVectors, WordVectors), optional
        Of the old and of the new language, in one space.
    embed : function, optional
        Texts to vectors ``(n, e)``: a sentence encoder's ``encode``.
    model : transformers.PreTrainedModel or path, optional
        The model that the table is from, for methods that learn from its loss; it stays as it is.
    seed : int
    """

    old: Vocabulary
    new: Vocabulary
    shared: Ids
    donor: Vectors | None = None
    text: tuple[str, ...] = ()
    words: tuple[WordVectors, WordVectors] | None = None
    embed: Callable[[Sequence[str]], Any] | None = None
    model: Any = None
    seed: int = 0

    @classmethod
    def of(cls, old: Vocabulary, new: Vocabulary, **known: Any) -> Problem:
        """The problem of two vocabularies; ``known`` are the other attributes.

        Raises
        ------
        InputError
            A donor's table that does not fit the new vocabulary, or holds NaN.
        """
        donor = known.get("donor")
        if donor is not None:
            known["donor"] = donor = as_vectors(donor, name="the donor's table")
            if len(donor) < len(new.tokens):
                raise InputError(
                    f"the donor's table has {len(donor)} rows for a tokenizer of {len(new.tokens)} tokens",
                    fix="give the tokenizer that belongs to the donor",
                )
        known["text"] = tuple(known.get("text") or ())
        return cls(old, new, shared_tokens(old, new), **known)

    @cached_property
    def fresh(self) -> Ids:
        """New ids without a counterpart, ascending."""
        is_fresh = np.ones(len(self.new.tokens), dtype=bool)
        is_fresh[self.shared[:, 0]] = False
        return np.flatnonzero(is_fresh).astype(np.int64)

    def pieces(self, number: int) -> list[int]:
        """Old ids that spell a new token; empty for special tokens and gaps. The unknown token spells nothing."""
        text = self.new.text_of(number)
        if not text or number in self.new.special:
            return []
        found = self.old.pieces(text)
        return [piece for piece in found if piece not in self.old.special]

    @property
    def generator(self) -> np.random.Generator:
        """A new generator of the seed."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, eq=False)
class Rows:
    """A new table as a recipe over an old one.

    Attributes
    ----------
    weights : scipy.sparse.csr_array of shape (v_new, v_old)
        float64. Rows of shared tokens have a single 1; rows in ``drawn`` are empty.
    drawn : int64 ndarray of shape (m,)
        New ids whose rows are no weighted sum of a few old ones.
    values : float32 ndarray of shape (m, d)
        Those rows.
    counts : dict of str to int
        How many rows came about in which way.
    """

    weights: csr_array
    drawn: Ids
    values: Vectors
    counts: dict[str, int] = field(default_factory=dict)

    def apply(self, table: Vectors) -> Vectors:
        """The new table, float32 ``(v_new, d)``; rows with the one weight 1 are copies to the bit."""
        from scipy.sparse import csr_array

        weights = self.weights
        out = csr_array((weights.data.astype(np.float32), weights.indices, weights.indptr), shape=weights.shape) @ table
        lengths = np.diff(weights.indptr)
        single = np.flatnonzero(lengths == 1)
        places = weights.indptr[single]
        copied = weights.data[places] == 1
        out[single[copied]] = table[weights.indices[places[copied]]]  # a sum would turn -0 into 0
        out[self.drawn] = self.values
        return np.ascontiguousarray(out, dtype=np.float32)

    def along(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for one number a token, as in a bias: ``(v_old,)`` to ``(v_new,)``; drawn rows get the mean."""
        whole = self.weights @ values.astype(np.float64)
        lengths = np.diff(self.weights.indptr)
        whole[lengths == 0] = values.mean(dtype=np.float64)
        return whole.astype(np.float32)


class Initializer(Estimator):
    """Base of the ways to make rows for new tokens. Shared tokens are copied; a subclass weighs the others.

    Subclasses give weights over old rows (``_weigh``); tokens for which they find none get ``_fallback``.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Attributes of the problem that must be given; ``"a|b"`` where one of several will do."""

    def weights(self, problem: Problem, table: Vectors) -> Rows:
        """How the new table comes from ``table`` ``(v_old, d)``.

        Raises
        ------
        InputError
            A table that does not fit the old vocabulary or holds NaN, something missing that the method needs, or no
            shared token where it builds on them.
        """
        from scipy.sparse import csr_array

        table = as_vectors(table, name="the table")
        size, rows = len(problem.old.tokens), len(problem.new.tokens)
        if len(table) < size:
            raise InputError(
                f"the table has {len(table)} rows for a tokenizer of {size} tokens",
                fix="give the tokenizer that the model was trained with",
            )
        for need in self.needs:
            self._require(problem, need)
        fresh = problem.fresh
        found = self._weigh(problem, table[:size], fresh) if len(fresh) else csr_array((0, size))
        if isinstance(found, np.ndarray):
            drawn, values, missed = fresh, found, 0
            found = csr_array((len(fresh), size))
        else:
            empty = np.flatnonzero(np.diff(found.indptr) == 0)
            drawn, missed = fresh[empty], len(empty)
            values = self._fallback(problem, table[:size], len(empty))
        shared = problem.shared
        found = found.tocoo()
        weights = csr_array(
            (
                np.concatenate([np.ones(len(shared)), found.data]),
                (np.concatenate([shared[:, 0], fresh[found.row]]), np.concatenate([shared[:, 1], found.col])),
            ),
            shape=(rows, len(table)),
        )
        weights.sort_indices()
        counts = {"copied": len(shared), "made": len(fresh) - missed, "fallback": missed}
        return Rows(weights, drawn, np.ascontiguousarray(values, dtype=np.float32), counts)

    @abstractmethod
    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        """Weights of the new tokens ``ids`` over the old rows, a CSR array ``(len(ids), v_old)`` in which an empty row
        says that nothing was found; or the rows themselves, float ``(len(ids), d)``."""

    def _fallback(self, problem: Problem, table: Vectors, count: int) -> NDArray[Any]:
        """Rows ``(count, d)`` for tokens without weights: the mean of the old rows."""
        return np.repeat(table.mean(axis=0, dtype=np.float64)[None], count, axis=0)

    def _require(self, problem: Problem, need: str) -> None:
        help_of = {
            "donor": ("the donor's table", "give a donor folder with weights"),
            "text": ("text", "give a sample of the text that the model shall be used on"),
            "words": ("word vectors of both languages", "give word vectors"),
            "embed": ("a text encoder", "give one"),
            "model": ("the model itself", "give its folder"),
        }
        names = need.split("|")
        if any(_given(getattr(problem, name)) for name in names):
            if names == ["donor"] and not len(problem.shared):
                raise InputError(
                    "the two vocabularies have no token in common, and this method builds on those",
                    where=type(self).__name__,
                    fix="use subword-mean or mean",
                )
            return
        what = " or ".join(help_of[name][0] for name in names)
        raise InputError(f"this method needs {what}", where=type(self).__name__, fix=help_of[names[0]][1])


def _given(value: Any) -> bool:
    return value is not None and not (isinstance(value, tuple) and not value)
