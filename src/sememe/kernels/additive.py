"""Searching for the sum of centres that comes nearest to a row: one centre of each codebook, 256 in a codebook.

``|x - sum of c|**2`` is ``|x|**2`` plus, for each chosen centre, ``|c|**2 - 2 <x, c>``, plus ``2 <c, c'>`` for each
pair of them. The first are one matrix product for many rows, the second are the same for all rows; so a step of the
search adds up rows of tables and computes no distance. The sums are made in float32 in one order everywhere, so the
same tables give the same codes at every level and without the compiled core.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

F32 = NDArray[np.float32]
CHOICES = 256  # centres of a codebook: what a byte can number


def cross_products(centres: F32) -> F32:
    """``out[m, j, b, c] = 2 <centres[j, b], centres[m, c]>`` for centres ``(m, 256, d)``: ``4 (256 m)**2`` bytes."""
    books, choices, d = centres.shape
    flat = centres.reshape(books * choices, d)
    out = np.empty((books, books, choices, choices), dtype=np.float32)
    for place in range(books):
        np.matmul(flat, 2 * centres[place].T, out=out[place].reshape(books * choices, choices))
    return out


def own_costs(X: F32, centres: F32) -> F32:
    """``out[i, m, c] = |centres[m, c]|**2 - 2 <X[i], centres[m, c]>``, float32 ``(n, m, 256)``."""
    books, choices, d = centres.shape
    flat = centres.reshape(books * choices, d)
    out = X @ (-2 * flat).T
    out += np.einsum("ij,ij->i", flat, flat, dtype=np.float64).astype(np.float32)
    return np.asarray(out, dtype=np.float32).reshape(len(X), books, choices)


def search_sums(own: F32, cross: F32, held: NDArray[np.uint8], places: Iterable[int], beam: int) -> NDArray[np.uint8]:
    """Choose anew the centres at some ``places`` of each row's code, with those at the other places held.

    The places are filled in the order given; after each, the ``beam`` best beginnings are kept. Where some places are
    held, a row whose cost does not fall keeps its whole code.

    Parameters
    ----------
    own : ndarray of shape (n, m, 256)
        float32, as ``own_costs`` gives it.
    cross : ndarray of shape (m, m, 256, 256)
        float32, as ``cross_products`` gives it.
    held : ndarray of shape (n, m)
        uint8: the codes so far; of no account where every place is searched.
    places : iterable of int
        Different from each other.
    beam : int
        At least 1.

    Returns
    -------
    ndarray of shape (n, m)
        uint8.

    Raises
    ------
    InputError
        For shapes that do not fit together, or places that repeat or lie outside the code.
    """
    order = np.fromiter(places, dtype=np.int64)
    n, books = held.shape
    if (
        own.shape != (n, books, CHOICES)
        or cross.shape != (books, books, CHOICES, CHOICES)
        or beam < 1
        or len(set(order.tolist())) != len(order)
        or (len(order) and not 0 <= order.min() <= order.max() < books)
    ):
        raise InputError(
            f"tables {own.shape} and {cross.shape}, codes {held.shape}, beam {beam} and places {order.tolist()} do not "
            "fit together",
            fix="give tables for these codes, and each place once",
        )
    core = native.core()
    if core is not None:
        found: NDArray[np.uint8] = core.search_sums(
            np.ascontiguousarray(own), cross, np.ascontiguousarray(held), order, beam, native.threads()
        )
        return found
    out = held.copy()
    for start in range(0, n, 64):  # sums of a few MiB at a time
        part = slice(start, start + 64)
        out[part] = _search_block(own[part], cross, held[part], order, beam)
    return out


def _search_block(
    own: F32, cross: F32, held: NDArray[np.uint8], order: NDArray[np.int64], beam: int
) -> NDArray[np.uint8]:
    n, books = held.shape
    fixed = [place for place in range(books) if place not in set(order.tolist())]
    rows = np.arange(n)
    numbers = np.zeros((n, 1, 0), dtype=np.uint8)
    cost, before = np.zeros((n, 1), dtype=np.float32), np.zeros(n, dtype=np.float32)
    for step, place in enumerate(order.tolist()):
        first = own[:, place]
        if fixed:
            first = first + np.float32(0)
            for other in fixed:
                first += cross[place, other, held[:, other]]
        before += first[rows, held[:, place]]
        for other in order[:step].tolist():
            before += cross[place, other, held[:, other], held[:, place]]
        sums = cost[:, :, None] + first[:, None]
        for at, other in enumerate(order[:step].tolist()):
            sums += cross[place, other, numbers[:, :, at]]
        sums = sums.reshape(n, -1)
        # A stable sort keeps the first of equals, as the compiled loop does.
        best = np.argsort(sums, axis=1, kind="stable")[:, :beam]
        cost = np.take_along_axis(sums, best, axis=1)
        kept = np.take_along_axis(numbers, (best // CHOICES)[:, :, None], axis=1)
        numbers = np.concatenate([kept, (best % CHOICES)[:, :, None].astype(np.uint8)], axis=2)
    out = held.copy()
    changed = cost[:, 0] < before if fixed else np.ones(n, dtype=bool)
    out[np.ix_(changed, order)] = numbers[changed, 0]
    return out
