"""How tokens are spelled: n-grams of bytes, edit distance, and the parts that other tokens make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_SIZES = (2, 3, 4)
_BEGIN, _END = b"\x02", b"\x03"
_LONGEST = 32  # bytes of a token that edit distance looks at
_BLOCK = 512


def grams(text: bytes) -> Iterator[bytes]:
    """Runs of 2 to 4 bytes, the ends of the token marked."""
    marked = _BEGIN + text + _END
    for size in _SIZES:
        for start in range(len(marked) - size + 1):
            yield marked[start : start + size]


@dataclass(frozen=True, eq=False)
class Grams:
    """The n-grams of a set of tokens, rare ones weighing more.

    Attributes
    ----------
    columns : dict of n-gram to column
        Those that at least two tokens have, the most frequent first.
    weights : float64 ndarray of shape (g,)
        Inverse document frequency, ``log(n / count)``.
    """

    columns: Mapping[bytes, int]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Grams:
        """Count the n-grams of tokens."""
        counts: dict[bytes, int] = {}
        for text in texts:
            for gram in set(grams(text)):
                counts[gram] = counts.get(gram, 0) + 1
        kept = sorted((gram for gram, count in counts.items() if count > 1), key=lambda gram: (-counts[gram], gram))
        numbers = np.array([counts[gram] for gram in kept], dtype=np.float64)
        return cls({gram: column for column, gram in enumerate(kept)}, np.log((len(texts) + 1) / numbers))

    def rows(self, texts: Sequence[bytes]) -> csr_array:
        """Unit rows ``(n, g)``, float32; zero where no n-gram is known. Their inner products are cosines."""
        from scipy.sparse import csr_array

        columns: list[int] = []
        ends = [0]
        for text in texts:
            columns += {self.columns[gram] for gram in grams(text) if gram in self.columns}
            ends.append(len(columns))
        values = self.weights[columns] if columns else np.zeros(0)
        lengths = np.diff(ends)
        owner = np.repeat(np.arange(len(texts)), lengths)
        norms = np.sqrt(np.bincount(owner, values**2, minlength=len(texts)))
        values = (values / np.maximum(norms[owner], 1e-12)).astype(np.float32)
        made = csr_array((values, columns, ends), shape=(len(texts), len(self.weights)))
        made.sort_indices()
        return made


def alike(queries: csr_array, known: csr_array, k: int, own: NDArray[np.int64] | None = None) -> Any:
    """The ``k`` known tokens of the largest cosine with each query: numbers and cosines ``(q, k)``, best first.

    Parameters
    ----------
    queries, known : csr_array of shape (q, g) and (n, g)
        Of `Grams.rows`.
    k : int
    own : int64 ndarray of shape (q,), optional
        The query's own number among the known ones, which is left out.

    Returns
    -------
    numbers : int64 ndarray of shape (q, k)
        -1 where fewer share an n-gram with the query.
    cosines : float32 ndarray of shape (q, k)
    """
    count = queries.shape[0]
    numbers = np.full((count, k), -1, dtype=np.int64)
    cosines = np.zeros((count, k), dtype=np.float32)
    turned = known.T.tocsr()
    for start in range(0, count, _BLOCK):
        block = (queries[start : start + _BLOCK] @ turned).tocsr()
        for row in range(block.shape[0]):
            part = slice(block.indptr[row], block.indptr[row + 1])
            found, values = block.indices[part], block.data[part]
            if own is not None:
                other = found != own[start + row]
                found, values = found[other], values[other]
            if len(found) > k:
                best = np.argpartition(values, len(values) - k)[-k:]
                found, values = found[best], values[best]
            order = np.lexsort((found, -values))
            numbers[start + row, : len(order)], cosines[start + row, : len(order)] = found[order], values[order]
    return numbers, cosines


def edit_distances(left: Sequence[bytes], right: Sequence[bytes]) -> NDArray[np.int64]:
    """Levenshtein distance of each pair, over the first 32 bytes of both; all pairs at once.

    Parameters
    ----------
    left, right : sequences of n bytes

    Returns
    -------
    int64 ndarray of shape (n,)
    """
    (a, a_length), (b, b_length) = _padded(left), _padded(right)
    n, rows, columns = len(left), a.shape[1], b.shape[1]
    out = np.zeros(n, dtype=np.int64)
    places = np.arange(n)
    before = np.broadcast_to(np.arange(columns + 1, dtype=np.int16), (n, columns + 1)).copy()
    out[a_length == 0] = b_length[a_length == 0]
    for row in range(rows):
        now = np.empty_like(before)
        now[:, 0] = row + 1
        change = before[:, :-1] + (a[:, row, None] != b)
        best = np.minimum(change, before[:, 1:] + 1)
        for column in range(columns):
            np.minimum(best[:, column], now[:, column] + 1, out=now[:, column + 1])
        before = now
        done = a_length == row + 1
        out[done] = now[places[done], b_length[done]]
    return out


def _padded(texts: Sequence[bytes]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    lengths = np.array([min(len(text), _LONGEST) for text in texts], dtype=np.int64)
    out = np.full((len(texts), int(lengths.max(initial=0))), -1, dtype=np.int16)
    for row, text in enumerate(texts):
        out[row, : lengths[row]] = np.frombuffer(text[:_LONGEST], dtype=np.uint8)
    return out, lengths


def parts(text: bytes, known: Mapping[bytes, int], *, whole: bool = False) -> list[int]:
    """The fewest known tokens that spell a text; of equally many, those with the longest among them.

    Parameters
    ----------
    text : bytes
    known : dict of bytes to number
    whole : bool
        False where the text itself does not count as a part.

    Returns
    -------
    list of int
        Numbers; empty where the known tokens cannot spell it.
    """
    size = len(text)
    best: list[tuple[int, int]] = [(0, 0)] + [(size + 1, 0)] * size  # parts, minus the sum of squared lengths
    back = [(-1, -1)] * (size + 1)
    for stop in range(1, size + 1):
        for start in range(stop):
            if best[start][0] > size or (stop - start == size and not whole):
                continue
            number = known.get(text[start:stop])
            if number is None:
                continue
            cost = (best[start][0] + 1, best[start][1] - (stop - start) ** 2)
            if cost < best[stop]:
                best[stop], back[stop] = cost, (start, number)
    out: list[int] = []
    stop = size
    while stop > 0:
        start, number = back[stop]
        if number < 0:
            return []
        out.append(number)
        stop = start
    return out[::-1]
