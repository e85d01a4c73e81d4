"""Slow, clear twins of the kernels, in float64 and Python loops: what the fast ones are tested against."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.floats import Minifloat

F64 = NDArray[np.float64]


def dots(Q: NDArray, rows: NDArray) -> F64:
    """Inner products ``(q, n)`` of float queries and any rows."""
    out = np.zeros((len(Q), len(rows)))
    for i, query in enumerate(np.asarray(Q, dtype=np.float64)):
        for j, row in enumerate(np.asarray(rows, dtype=np.float64)):
            out[i, j] = sum(float(a) * float(b) for a, b in zip(query, row, strict=True))
    return out


def pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """``bits.pack``, one value at a time: parts of 8, 4, 2 and 1 bits, each in its own run of bytes."""
    rows = []
    for row in values:
        packed: list[int] = []
        left = bits
        for size in (8, 4, 2, 1):
            if left < size:
                continue
            left -= size
            length = -(-len(row) * size // 8)
            part = [0] * length
            for j, value in enumerate(row):
                digit = (int(value) >> left) & ((1 << size) - 1)
                if size == 1:
                    part[j // 8] |= digit << (7 - j % 8)
                else:
                    part[j % length] |= digit << (size * (j // length))
            packed += part
        rows.append(packed)
    return np.array(rows, dtype=np.uint8)


def pack_trits(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``bits.pack_trits``, one digit at a time."""
    n, d = digits.shape
    length = -(-d // 5)
    out = np.zeros((n, length), dtype=np.uint8)
    for i in range(n):
        for j in range(d):
            out[i, j % length] += int(digits[i, j]) * 3 ** (j // length)
    return out


def decode_minifloat(code: int, form: Minifloat) -> float:
    """The value of one finite code, by the definition of a floating-point number."""
    exponent, fraction = divmod(code & 0x7F, 1 << form.mantissa)
    share = fraction / (1 << form.mantissa)
    size = share * 2.0 ** (1 - form.bias) if exponent == 0 else (1 + share) * 2.0 ** (exponent - form.bias)
    return -size if code & 0x80 else size


def encode_minifloat(value: float, form: Minifloat) -> int:
    """The nearest finite code, the even one of two equally near."""
    size = abs(float(value))
    nearest = min(range(form.top + 1), key=lambda code: (abs(decode_minifloat(code, form) - size), code & 1))
    return nearest | (0x80 if np.signbit(value) else 0)


def table_sums(tables: NDArray, codes: NDArray[np.uint8]) -> F64:
    """``tables.table_sums`` in loops."""
    out = np.zeros((len(tables), len(codes)))
    for i, table in enumerate(tables):
        for j, code in enumerate(codes):
            out[i, j] = sum(float(table[place, number]) for place, number in enumerate(code))
    return out


def nearest(X: NDArray, centres: NDArray) -> NDArray[np.intp]:
    """The index of the nearest centre of each row, by squared distances in float64."""
    gaps = np.asarray(X, dtype=np.float64)[:, None, :] - np.asarray(centres, dtype=np.float64)[None]
    return (gaps**2).sum(axis=2).argmin(axis=1)


def maxsim(Q: NDArray, queries: NDArray, values: NDArray, offsets: NDArray) -> F64:
    """``maxsim.maxsim``, one pair of vectors at a time."""
    out = np.zeros((len(queries) - 1, len(offsets) - 1))
    for i in range(len(queries) - 1):
        for j in range(len(offsets) - 1):
            document = values[offsets[j] : offsets[j + 1]]
            if len(document):
                out[i, j] = dots(Q[queries[i] : queries[i + 1]], document).max(axis=1).sum()
    return out


def symbol_scores(
    weights: NDArray, constants: NDArray, levels: NDArray, symbols: NDArray, scales: NDArray, inner: NDArray
) -> F64:
    """The formula of ``symbols.SymbolScan`` for unpacked symbols ``(n, d)``: scores ``(q, n)``."""
    out = np.zeros((len(weights), len(symbols)))
    for i, query in enumerate(weights):
        for j, row in enumerate(symbols):
            total = inner[i] + sum(float(w) * float(levels[s]) for w, s in zip(query, row, strict=True))
            out[i, j] = constants[i] + float(scales[j]) * total
    return out


def byte_pairs(text: str, tokens: list[str], merges: list[str], markers: list[int]) -> list[int]:
    """The pieces that ``bags`` finds in a text, by the definition: the whole text, one merge at a time."""
    number = {token: i for i, token in enumerate(tokens)}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    for marker in markers:
        before, found, after = text.partition(tokens[marker])
        if found:
            return [
                *byte_pairs(before, tokens, merges, markers), marker, *byte_pairs(after, tokens, merges, markers)
            ]  # fmt: skip
    parts: list[str] = []
    for character in ("\u2581" + text.replace(" ", "\u2581")) if text else "":
        parts += [character] if character in number else [f"<0x{byte:02X}>" for byte in character.encode()]
    while True:
        found_ranks = [ranks.get(pair, len(merges)) for pair in pairwise(parts)]
        best = min(found_ranks, default=len(merges))
        if best == len(merges):
            return [number[part] for part in parts]
        at = found_ranks.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def bag(table: NDArray[np.float16], ids: list[int], normalize: bool) -> F64:
    """One row of ``bags.rows``, from sums without rounding."""
    sums = [math.fsum(float(table[i, j]) for i in ids) for j in range(table.shape[1])]
    norm = math.sqrt(math.fsum(value * value for value in sums)) if normalize else len(ids)
    return np.array([value / norm if norm else 0.0 for value in sums])


def sparse_scores(passages: int, postings: list[list[tuple[int, float]]], weights: list[float]) -> F64:
    """Scores ``(passages,)`` of one query: for each of its terms a list of (passage, value), and the term's weight."""
    out = np.zeros(passages)
    for pairs, weight in zip(postings, weights, strict=True):
        for row, value in pairs:
            out[row] += weight * value
    return out


def bm25_part(count: float, length: float, mean: float, k1: float, b: float) -> float:
    """What a term that occurs ``count`` times adds to a score, for an inverse document frequency of 1."""
    return count / (count + k1 * (1 - b + b * length / mean))


def pursue(target: NDArray, atoms: NDArray, k: int) -> tuple[list[int], F64, float]:
    """``pursuit.pursue`` for one target: the atoms in order, their weights, and the length of what is left."""
    target, atoms = np.asarray(target, dtype=np.float64), np.asarray(atoms, dtype=np.float64)
    chosen: list[int] = []
    weights, residual = np.empty(0), target
    for _ in range(k):
        sizes = np.array([abs(math.fsum(atom * residual)) for atom in atoms])
        sizes[chosen] = -1
        best = int(sizes.argmax())
        if sizes[best] <= 1e-10 * np.linalg.norm(target) * np.linalg.norm(atoms[best]):
            break
        chosen.append(best)
        weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        residual = target - weights @ atoms[chosen]
    return chosen, weights, float(np.linalg.norm(residual))


def search_sums(
    own: NDArray, cross: NDArray, held: NDArray[np.uint8], places: list[int], beam: int
) -> NDArray[np.uint8]:
    """``additive.search_sums``, one row and one beginning at a time."""
    out = held.copy()
    fixed = [place for place in range(held.shape[1]) if place not in places]
    for row, code in enumerate(held):

        def cost(place: int, number: int, numbers: list[int], row: int = row) -> float:
            others = [*zip(fixed, held[row, fixed].tolist()), *zip(places, numbers)]
            return float(own[row, place, number]) + sum(float(cross[place, at, other, number]) for at, other in others)

        begun = [code[places[:step]].tolist() for step in range(len(places))]
        before = sum(cost(place, int(code[place]), numbers) for place, numbers in zip(places, begun))
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        for place in places:
            longer = [(sum_ + cost(place, c, begun), [*begun, c]) for sum_, begun in beams for c in range(own.shape[2])]
            beams = sorted(longer, key=lambda pair: pair[0])[:beam]
        if not fixed or beams[0][0] < before:
            out[row, places] = beams[0][1]
    return out


def graph_walk(
    links: NDArray[np.uint32], starts: list[int], rows: NDArray[np.int8], query: list[int], wide: int,
    allow: NDArray[np.bool_] | None = None,
) -> list[tuple[int, int]]:  # fmt: skip
    """What a walk of ``graph.LinkGraph`` keeps, as (score, row), best first: one row at a time, by whole numbers.

    ``allow`` is a mask over the rows that may be kept; links of refused rows are then followed in the same step, until
    as many allowed rows were met as a row has links.
    """
    degree = links.shape[1]
    seen: set[int] = set()
    kept: list[tuple[int, int]] = []
    followed: set[int] = set()

    def offer(row: int) -> None:
        if row not in seen:
            seen.add(row)
            kept.append((-sum(w * int(x) for w, x in zip(query, rows[row], strict=True)), row))

    def following(row: int) -> list[int]:
        out: list[int] = []
        for link in links[row].tolist():
            if link == row:
                break
            out.append(link)
        return out

    for row in starts:
        offer(row)
    while True:
        kept = sorted(kept)[:wide]
        row = next((row for _, row in kept if row not in followed), -1)
        if row < 0:
            return [(-score, row) for score, row in kept]
        followed.add(row)
        near = following(row)
        met = 0
        for link in near:
            if allow is None or allow[link]:
                met += 1
                offer(link)
        for link in near if allow is not None else ():
            if met >= degree:
                break
            if allow is not None and not allow[link] and link not in seen:
                seen.add(link)
                for beyond in following(link):
                    if allow[beyond]:
                        met += 1
                        offer(beyond)


def step_row(
    weight: NDArray,
    first: NDArray | None,
    second: NDArray | float,
    gradients: list[NDArray],
    keep: tuple[float, float],
    add: float,
    rate: float,
    eps: float,
) -> tuple[F64, F64 | None, F64]:
    """One row after a step of a row-wise optimiser: weights, mean of gradients, mean of squares; see `row_steps`."""
    g = np.sum(np.asarray(gradients, dtype=np.float64), axis=0)
    square = g**2 if np.ndim(second) else np.float64(sum(value**2 for value in g) / len(g))
    v = keep[1] * np.asarray(second, dtype=np.float64) + add * square
    mean = None if first is None else keep[0] * first.astype(np.float64) + (1 - keep[0]) * g
    moved = weight.astype(np.float64) - rate * (g if mean is None else mean) / (np.sqrt(v) + eps)
    return moved, mean, v
