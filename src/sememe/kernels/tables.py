"""Sums of table look-ups: a query's inner product with a code is one table entry a byte, added up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.kmeans import nearest


def table_sums(tables: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``out[q, i] = sum over m of tables[q, m, codes[i, m]]``.

    Parameters
    ----------
    tables : ndarray of shape (q, m, 256)
        What each byte value contributes; float32, C-contiguous.
    codes : ndarray of shape (n, m)
        uint8.

    Returns
    -------
    ndarray of shape (q, n)
        float32.
    """
    out = np.zeros((len(tables), len(codes)), dtype=np.float32)
    for place in range(codes.shape[1]):
        column = codes[:, place]
        if len(tables) > 1:  # widen the indexes once rather than in every look-up
            column = column.astype(np.intp)
        for query, row in enumerate(tables):
            out[query] += row[place].take(column)
    return out


def byte_tables(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Tables for bytes that hold several codes, from tables for single codes.

    Parameters
    ----------
    values : ndarray of shape (q, m, 2**bits)
        What each code contributes at each of ``m`` places.
    bits : {2, 4, 8}
        Codes are packed as ``bits.pack`` does.

    Returns
    -------
    ndarray of shape (q, packed_bytes(m, bits), 256)
        float32.
    """
    queries, places, _ = values.shape
    length = -(-places * bits // 8)
    byte = np.arange(256)
    out = np.zeros((queries, length, 256), dtype=np.float32)
    for slot, first in enumerate(range(0, places, length)):
        part = values[:, first : first + length]
        out[:, : part.shape[1]] += part[:, :, (byte >> (bits * slot)) & ((1 << bits) - 1)]
    return out


def encode_subspaces(X: NDArray[np.float32], codebooks: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The number of the nearest centre of each group of consecutive columns; the first of equals.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float32; the widths of the codebooks add up to ``d``.
    codebooks : sequence of m ndarrays of shape (k, width)
        At most 256 centres for each group.

    Returns
    -------
    ndarray of shape (n, m)
        uint8.
    """
    out = np.empty((len(X), len(codebooks)), dtype=np.uint8)
    first = 0
    for group, centres in enumerate(codebooks):
        stop = first + centres.shape[1]
        out[:, group] = nearest(np.ascontiguousarray(X[:, first:stop]), centres)
        first = stop
    return out
