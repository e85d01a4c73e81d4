"""What a single vector of ``d`` numbers can and cannot rank.

`LimitBenchmark` generates the task and `free_embedding_capacity` the best case of "On the Theoretical Limitations of
Embedding-Based Retrieval" (2025, arXiv 2508.21038): every pair of documents is the answer of some query. `max_margin`
follows "Is Dimensionality a Barrier for Retrieval Models?" (2026, arXiv 2605.23556): the widest margin with which unit
vectors can separate relevant from irrelevant, and how many dimensions that takes.

Both hold at once: `moment_curve` answers every subset of ``k`` documents out of any number in ``2k`` dimensions,
exactly, but with a margin that falls like a high power of ``1/n``; what dimension buys is the margin.
"""

from __future__ import annotations

from itertools import combinations
from math import comb, sqrt
from typing import TYPE_CHECKING

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Record
from sememe.errors import InputError
from sememe.measure.free_embeddings import FreeEmbeddings, Loss, optimise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sememe.measure.free_embeddings import Floats, Relevance

LIMIT_PAPER = Paper("On the Theoretical Limitations of Embedding-Based Retrieval", 2025, "2508.21038")
MARGIN_PAPER = Paper("Is Dimensionality a Barrier for Retrieval Models?", 2026, "2605.23556")

_FIRST = (
    "Ada Ben Cleo Dan Eva Finn Gita Hugo Ines Jan Kira Leo Mona Nils Olga Paul Rosa Sven Tara Uwe Vera Wim Yara Zoe"
)
_LAST = "Abel Berg Costa Dahl Engel Ford Gold Haas Ivers Jung Koch Lund Marsh North Olsen Park Quist Reed Stone Thorn"
_KINDS = (
    "antique wooden Italian wild modern paper silver winter summer garden river mountain ocean desert city village "
    "vintage wool glass copper clay marble leather bamboo ivory amber coral velvet linen cedar oak iron tin brass "
    "stone "
    "painted carved folded striped giant tiny royal northern southern Japanese Dutch Persian Roman Nordic alpine"
)
_THINGS = (
    "maps clocks bridges lamps kites boats trains gardens poems songs drums flutes masks coins stamps chairs rugs "
    "bowls spoons knots towers gates bells wheels mirrors ladders baskets kettles puzzles dances dolls tents swords "
    "scarves windows fountains lanterns statues candles markets anchors arches beads boxes brooches buttons cabinets "
    "canoes carpets chests combs cups curtains fans flags hats harps locks ovens quilts"
)


@register(
    "limit",
    room="measure",
    kind="measure",
    summary="every k-subset of documents as the answer of a query: where single vectors give out",
    paper=LIMIT_PAPER,
    claim="state-of-the-art embedders score below 20 % recall@100 on this trivially simple task",
)
class LimitBenchmark:
    """A LIMIT-like collection: people who like things, and queries "who likes X?" with exactly ``k`` answers.

    Each subset of ``k`` of the ``core`` people is the answer of one query (in an order drawn by ``seed`` where fewer
    queries than subsets are asked for). Everyone's list is filled up to ``likes`` with things nobody asks about, so
    that lists are equally long; people beyond the core like only such things and are the haystack.

    Parameters
    ----------
    documents, core : int
        People in all, and people who are answers.
    queries : int
        How many; at most ``comb(core, k)``.
    k : int
        Answers of a query.
    likes : int
        Least length of a list.
    seed : int
        Of the draw.

    Attributes
    ----------
    records : list of Record
        The people; ``text`` is one sentence.
    queries : dict of id to text
    qrels : dict of query id to {record id: 1}
    """

    def __init__(
        self, documents: int = 46, *, core: int = 46, queries: int = 1000, k: int = 2, likes: int = 50, seed: int = 0
    ) -> None:
        if not 1 <= k <= core <= documents:
            raise InputError(f"need 1 <= k <= core <= documents, got k={k}, core={core}, documents={documents}")
        if not 1 <= queries <= comb(core, k):
            raise InputError(
                f"{core} documents have {comb(core, k)} subsets of {k}, so queries={queries} is impossible"
            )
        generator = np.random.default_rng(seed)
        people, things = _names(documents), _things(queries + 10 * likes, generator)
        subsets = _subsets(core, k)[generator.permutation(comb(core, k))[:queries]]
        lists: list[list[str]] = [[] for _ in range(documents)]
        self.queries: dict[str, str] = {}
        self.qrels: dict[str, dict[str, int]] = {}
        for number, (subset, thing) in enumerate(zip(subsets, things)):
            self.queries[f"query-{number}"] = f"Who likes {thing}?"
            self.qrels[f"query-{number}"] = {people[person]: 1 for person in subset}
            for person in subset:
                lists[person].append(thing)
        filler = things[queries:]
        self.records = []
        for row, (name, liked) in enumerate(zip(people, lists)):
            missing = max(likes - len(liked), 0)
            liked += [filler[i] for i in generator.permutation(len(filler))[:missing]]
            shuffled = [liked[i] for i in generator.permutation(len(liked))]
            self.records.append(Record(name, f"{name} likes {', '.join(shuffled)}.", source=f"limit:{row + 1}"))


def all_subsets(n: int, k: int) -> Relevance:
    """The relevance matrix with every subset of ``k`` out of ``n`` documents once: bool ``(comb(n, k), n)``."""
    table = np.zeros((comb(n, k), n), dtype=bool)
    np.put_along_axis(table, _subsets(n, k), True, axis=1)
    return table


def free_embedding_capacity(
    d: int, *, k: int = 2, temperature: float = 0.1, seed: int = 0, max_steps: int = 20_000, most: int = 400
) -> int:
    """The critical number of documents: the smallest ``n`` at which free embeddings fail some subset of ``k``.

    Vectors of ``d`` dimensions are optimised on the judgements themselves with InfoNCE (`free_embeddings.optimise`, the
    paper's settings). ``n`` grows by half until it fails, then the boundary is found by bisection.

    The number is a property of dimension *and* of the temperature: with a smaller one the optimiser finds narrower
    margins and the critical ``n`` grows, without bound in theory (see `moment_curve`).

    Parameters
    ----------
    d : int
        Dimension.
    k : int
        Relevant documents of each query.
    temperature, seed, max_steps
        Of the optimisation.
    most : int
        Give up growing here; the result is then ``most + 1``.
    """

    def solvable(n: int) -> bool:
        scale = (1 / temperature, 1 / temperature)
        return optimise(all_subsets(n, k), d, scale=scale, seed=seed, max_steps=max_steps).solved

    good, bad = k, k + 2
    while bad <= most and solvable(bad):
        good, bad = bad, min(bad + (bad + 1) // 2, most + 1) if bad < most else most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if solvable(middle):
            good = middle
        else:
            bad = middle
    return bad


def critical_n(d: float) -> float:
    """The paper's fit of the critical number of documents for ``k = 2``: a cubic in the dimension."""
    return -10.5322 + 4.0309 * d + 0.0520 * d**2 + 0.0037 * d**3


def moment_curve(n: int, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Queries and documents in ``2k`` dimensions that rank every subset of ``k`` out of ``n`` documents on top.

    Documents lie on the trigonometric moment curve ``(cos t, sin t, ..., cos kt, sin kt) / sqrt(k)`` at equal steps.
    For a subset at angles ``a`` the trigonometric polynomial ``-prod (1 - cos(t - a))`` is 0 on the subset and negative
    elsewhere; its coefficients, without the constant, are the query.

    Returns
    -------
    queries : float64 ndarray of shape (comb(n, k), 2 k)
    documents : float64 ndarray of shape (n, 2 k)
        Unit rows both.
    """
    angles = 2 * np.pi * np.arange(n) / n
    orders = np.arange(1, k + 1)

    def curve(t: NDArray[np.float64]) -> NDArray[np.float64]:
        waves = np.stack([np.cos(t[:, None] * orders), np.sin(t[:, None] * orders)], axis=2)
        return waves.reshape(len(t), 2 * k)

    grid = 2 * np.pi * np.arange(2 * k + 1) / (2 * k + 1)  # enough samples for degree k to be exact
    falls = -np.prod(1 - np.cos(grid[None, None, :] - angles[_subsets(n, k)][:, :, None]), axis=1)
    queries = falls @ curve(grid)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True), curve(angles) / sqrt(k)


def sign_rank_bounds(relevance: Relevance) -> tuple[float, int]:
    """Bounds of the least dimension in which a threshold at zero reproduces ``relevance``.

    Below: Forster's theorem, ``sqrt(N n) / ||2 A - 1||``. Above: ``2 k + 1`` for rows of at most ``k`` ones (the moment
    curve with a constant), or the rank of the matrix if that is less. Ranking each row needs at most the sign rank and
    at least one less.
    """
    signs = np.where(relevance, 1.0, -1.0)
    below = sqrt(signs.size) / float(np.linalg.norm(signs, 2))
    return below, min(2 * int(relevance.sum(axis=1).max()) + 1, int(np.linalg.matrix_rank(signs)))


def best_margin(n: int, k: int, *, free_threshold: bool = False) -> float:
    """The widest margin in any dimension for all ``k``-subsets of ``n`` documents, in closed form.

    The problem is unchanged when documents are permuted, so an optimum is symmetric: documents at the vertices of a
    simplex (plus a common direction that moves the threshold), queries at the normalised sum of theirs. With
    ``w = sqrt(k (n - k) / (n - 1))``, ``h = n / (2 (n - 1) w)`` and ``c = (n - 2k) / (2 (n - 1) w)`` the margin is
    ``h`` around the best threshold, and ``h / (1 + |c|)`` around zero: of the order ``1 / sqrt(k)``.
    """
    if not 1 <= k < n:
        raise InputError(f"need 1 <= k < n, got k={k}, n={n}")
    width = sqrt(k * (n - k) / (n - 1))
    half, shift = n / (2 * (n - 1) * width), abs(n - 2 * k) / (2 * (n - 1) * width)
    return half if free_threshold else half / (1 + shift)


def margin(queries: Floats, documents: Floats, relevance: Relevance, *, threshold: float | None = None) -> float:
    """How far relevant scores stay above a common threshold and irrelevant ones below; negative when they mix.

    None takes the best threshold, half way between the lowest relevant and the highest irrelevant score.
    """
    scores = np.asarray(queries, dtype=np.float64) @ np.asarray(documents, dtype=np.float64).T
    low, high = float(scores[relevance].min()), float(scores[~relevance].max())
    return (low - high) / 2 if threshold is None else min(low - threshold, threshold - high)


@register(
    "max-margin",
    room="measure",
    kind="measure",
    summary="the widest margin unit vectors of d dimensions reach on given judgements, by sigmoid loss or InfoNCE",
    paper=MARGIN_PAPER,
    claim="dimension of order k log(n/k) suffices for the maximal margin; the sigmoid loss beats InfoNCE at it",
)
def max_margin(
    relevance: Relevance,
    d: int,
    *,
    loss: Loss = "sigmoid",
    scale: tuple[float, float] | None = (5.0, 200.0),
    steps: int = 1_000,
    rate: float = 0.03,
    seed: int = 0,
) -> FreeEmbeddings:
    """Optimise free embeddings for a wide margin; measure the result with `margin`.

    Parameters
    ----------
    relevance : bool ndarray of shape (N, n)
        Judgements; `all_subsets` for the paper's setting.
    d : int
        Dimension.
    loss : {"sigmoid", "infonce"}
        The sigmoid loss learns the common threshold, as the paper's does.
    scale : (float, float) or None
        How the inverse temperature grows; None learns it. As it grows, the sigmoid loss tends to the margin itself;
        starting small leads around the poor optima that a large scale is caught in.
    steps, rate, seed
        Of Adam.
    """
    return optimise(
        relevance, d, loss=loss, scale=scale, rate=rate, max_steps=steps, patience=steps, for_margin=True, seed=seed
    )


def _subsets(n: int, k: int) -> NDArray[np.int64]:
    return np.array(list(combinations(range(n), k)), dtype=np.int64).reshape(-1, k)


def _names(count: int) -> list[str]:
    plain = [f"{first} {last}" for last in _LAST.split() for first in _FIRST.split()]
    return [plain[i % len(plain)] + (f" {i // len(plain) + 1}" if i >= len(plain) else "") for i in range(count)]


def _things(count: int, generator: np.random.Generator) -> list[str]:
    """Different things in random order; none is part of another, so that liking one never means liking another."""
    pairs = [f"{kind} {thing}" for thing in _THINGS.split() for kind in _KINDS.split()]
    if count > len(pairs):
        raise InputError(
            f"{count} different things to like are needed and there are {len(pairs)}", fix="ask for fewer queries"
        )
    return [pairs[i] for i in generator.permutation(len(pairs))[:count]]
