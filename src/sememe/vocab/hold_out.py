"""Does a method make good rows for this pair of models? Tokens whose rows are known are hidden, and made by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize import Gaussian, Initializer, Mean, Problem, Zero
from sememe.vocab.initialize.rows import Ids
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.tokenizer_keep import complete

_FEW = 16  # hidden tokens below which nothing can be said


@dataclass(frozen=True, slots=True)
class HoldOut:
    """How near made rows come to known ones.

    Attributes
    ----------
    tokens : int
        How many were hidden.
    explained : float
        1 minus the squared error over that of the mean row: 1 is exact, 0 as far off as the mean, below 0 farther.
    cosine : float
        Mean cosine between made and known rows, both taken from the mean row.
    """

    tokens: int
    explained: float
    cosine: float

    def as_json(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)

    def warning(self, role: str) -> str | None:
        """What to say where the mean row would have been nearer."""
        if self.explained >= 0:
            return None
        return (
            f"{role} rows of {self.tokens:,} known tokens, hidden and made in this way, are farther from the true ones "
            f"than the mean row is (explained {self.explained:.2f}): choose another method (subword-mean, mean), or a "
            "donor that is closer to the model"
        )


@dataclass(frozen=True, eq=False)
class _Asked(Problem):
    """A problem in which only some tokens are asked for."""

    asked: Ids = None  # type: ignore[assignment]

    @cached_property
    def fresh(self) -> Ids:
        return self.asked


def hold_out(initializer: Initializer, problem: Problem, table: Vectors, count: int = 512) -> HoldOut | None:
    """Hide shared tokens from the old vocabulary, make their rows, and compare them with the true ones.

    Parameters
    ----------
    initializer : Initializer
    problem : Problem
        Its vocabularies must be `TokenizerFile`.
    table : float32 ndarray of shape (v_old, d)
    count : int
        Most tokens to hide; at most a fifth of the shared ones. Under byte-pair encoding only tokens that no other
        is merged from can be hidden.

    Returns
    -------
    HoldOut or None
        None where nothing is learned from that: too few shared tokens, or too few left for the method; a method that
        looks at no token (``zero``, ``mean``, ``gaussian``), or one that trains on the model itself.
    """
    old = problem.old
    if isinstance(initializer, Zero | Mean | Gaussian) or "model" in initializer.needs:
        return None
    if not isinstance(old, TokenizerFile):
        return None
    places = (
        place
        for place, (n, o) in enumerate(problem.shared.tolist())
        if n not in problem.new.special and o not in old.special
    )
    plain = np.fromiter(places, dtype=np.int64)
    drawn = problem.shared[problem.generator.permutation(plain)[: len(plain) // 2], 1].tolist()
    everything = {number for number, token in enumerate(old.tokens) if token}
    passed = complete(old, everything.difference(drawn))  # merges of others pass through these
    hidden = [number for number in drawn if number not in passed][: min(count, len(plain) // 5)]
    smaller, rows = old.keep(sorted(everything.difference(hidden)))
    gone = np.setdiff1d(np.array(hidden, dtype=np.int64), rows)
    targets = problem.shared[np.isin(problem.shared[:, 1], gone)]
    if len(targets) < _FEW:
        return None
    place = np.full(len(old.tokens), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    shared = np.column_stack([problem.shared[:, 0], place[problem.shared[:, 1]]])
    known = {entry.name: getattr(problem, entry.name) for entry in fields(Problem)}
    known |= {"old": smaller, "shared": shared[shared[:, 1] >= 0]}
    asked = _Asked(**known, asked=targets[:, 0])
    kept = np.ascontiguousarray(table[rows])
    try:
        made = initializer.weights(asked, kept).apply(kept)[targets[:, 0]].astype(np.float64)
    except InputError:  # the surgery itself has more to go by
        return None
    centre = kept.mean(axis=0, dtype=np.float64)
    made, true = made - centre, table[targets[:, 1]].astype(np.float64) - centre
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(true, axis=1)
    cosines = np.einsum("ij,ij->i", made, true) / np.where(lengths > 0, lengths, 1)
    explained = 1 - float(((made - true) ** 2).sum() / max(float((true**2).sum()), 1e-30))
    return HoldOut(len(targets), explained, float(cosines.mean()))
