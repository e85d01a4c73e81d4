"""Recall at equal bytes: our codes beside faiss and turbovec, on vectors of real text, with encode times.

    OMP_NUM_THREADS=1 python benchmarks/codes.py [--rows 100000] [--queries 1000] [--slow] [--vectors FILE.npy]

The vectors are static vectors of the sentences of Brown, WikiText-2 and AG News and the glosses of WordNet, found under
SEMEME_DATA; the queries are texts held out from them. Recall@10 is against exact float32 scores, without rescoring and
with 50 and 100 candidates rescored from floats. Every byte stored beside a row counts; what is stored once does not. A
cell is won by the best recall among the codes of at most so many bytes. ``--slow`` adds faiss' residual quantizer and
lets its rotation take its default 50 rounds (10 otherwise); turbovec is counted by the size of its file.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from sememe.recipe import Recipe

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
SIZES = (16, 32, 48, 96, 192)
SHORTLISTS = (0, 50, 100)
TRAIN = 20_000
OURS = {
    16: ("pq:15,norm=score", "pq:15,rotate=true,norm=score", "klt:16"),
    32: ("pq:31,norm=score", "pq:31,rotate=true,norm=score", "klt:32"),
    48: ("pq:47,norm=score", "pq:47,rotate=true,norm=score", "klt:48", "rabitq:1"),
    96: ("pq:95,norm=score", "klt:96", "rabitq:2"),
    192: ("klt:192", "rabitq:5"),
}
Search = Callable[[np.ndarray], np.ndarray]


def lines(name: str) -> list[str]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def texts() -> list[str]:
    """Each sentence once, in a fixed random order."""
    found = [line.partition("\t")[2] for line in lines("brown/brown.tsv.gz")]
    for part in ("valid", "test"):
        for line in lines(f"wikitext2/{part}.txt.gz"):
            if line.strip() and not line.strip().startswith("="):
                found += [s for s in re.split(r"(?<= [.!?]) ", line.strip()) if len(s) > 20]
    found += [line.rpartition("\t")[2] for line in lines("wordnet-nouns/nouns.tsv.gz")[1:]]
    for part in ("train", "test"):
        found += [line.partition("\t")[2] for line in lines(f"agnews/{part}.tsv.gz")[1:]]
    found = [text for text in dict.fromkeys(found) if text.strip()]
    return [found[i] for i in np.random.default_rng(7).permutation(len(found))]


def best(scores: np.ndarray, k: int) -> np.ndarray:
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(part, np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1), axis=1)


def exact(Q: np.ndarray, X: np.ndarray) -> np.ndarray:
    return np.concatenate([best(Q[i : i + 100] @ X.T, 10) for i in range(0, len(Q), 100)])


def recalls(found: np.ndarray, truth: np.ndarray, Q: np.ndarray, X: np.ndarray) -> list[float]:
    """Recall@10 for each shortlist, from the 100 rows that a code found."""
    out = []
    for size in SHORTLISTS:
        top = found[:, :10]
        if size:
            short = found[:, :size]
            scores = np.einsum("qd,qkd->qk", Q, X[short])
            top = np.take_along_axis(short, np.argsort(-scores, axis=1)[:, :10], axis=1)
        out.append(float((top[:, :, None] == truth[:, None]).any(axis=1).mean()))
    return out


def timed(action: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    return action(), time.process_time() - start


def ours(stage: str, train: np.ndarray, X: np.ndarray, Q: np.ndarray) -> tuple[int, float, float, np.ndarray]:
    """Bytes, CPU seconds to fit and to encode, and the rows found."""
    quantizer = Recipe.parse(f"static | {stage} | flat").quantizer.make()
    _, fit = timed(lambda: quantizer.fit(train))
    codes, encode = timed(lambda: quantizer.encode(X))
    found = [best(quantizer.scores(Q[i : i + 100], codes), 100) for i in range(0, len(Q), 100)]
    return quantizer.code_bytes_, fit, encode, np.concatenate(found)


def faiss_indexes(d: int, slow: bool) -> dict[str, object]:
    """faiss indexes by name."""
    import faiss

    faiss.omp_set_num_threads(1)
    product = faiss.METRIC_INNER_PRODUCT
    out: dict[str, object] = {}
    for m in SIZES:
        if d % m == 0:
            out[f"faiss PQ{m}"] = faiss.IndexPQ(d, m, 8, product)
        else:
            out[f"faiss PCA,PQ{m}"] = faiss.index_factory(d, f"PCA{d // m * m},PQ{m}x8", product)
        if m <= 48:
            rotation = faiss.OPQMatrix(d, m, d // m * m)
            rotation.niter = 50 if slow else 10
            out[f"faiss OPQ{m}"] = faiss.IndexPreTransform(rotation, faiss.IndexPQ(d // m * m, m, 8, product))
    if slow:
        out["faiss RQ16"] = faiss.IndexResidualQuantizer(d, 16, 8, product)
    for name in ("SQ4", "SQ6", "SQ8"):
        out[f"faiss {name}"] = faiss.index_factory(d, name, product)
    narrow = min(192, d)
    out["faiss PCA,SQ4"] = faiss.index_factory(d, f"PCA{narrow},SQ4", product)
    out["faiss PCA,SQ8"] = faiss.index_factory(d, f"PCA{narrow},SQ8", product)
    for bits in (1, 2, 4, 5):
        turned = faiss.RandomRotationMatrix(d, d)
        out[f"faiss RaBitQ {bits} bits"] = faiss.IndexPreTransform(turned, faiss.IndexRaBitQ(d, product, bits))
    return out


def peers(train: np.ndarray, X: np.ndarray, Q: np.ndarray, slow: bool) -> Iterator[tuple]:
    """Name, bytes, CPU seconds to fit and to encode, and the rows found."""
    try:
        for name, index in faiss_indexes(X.shape[1], slow).items():
            _, fit = timed(lambda i=index: i.train(train))
            _, encode = timed(lambda i=index: i.add(X))
            inner = getattr(index, "index", index)
            size = index.sa_code_size() if hasattr(index, "sa_code_size") else inner.code_size
            yield name, size, fit, encode, index.search(Q, 100)[1]
    except ImportError:
        sys.stderr.write("faiss is not installed; it is left out\n")
    try:
        import turbovec
    except ImportError:
        sys.stderr.write("turbovec is not installed; it is left out\n")
        return
    for bits in (2, 4):
        index = turbovec.TurboQuantIndex(X.shape[1], bits)
        _, fit = timed(lambda i=index: i.calibrate(train[:2048]))
        _, encode = timed(lambda i=index: i.add(X))
        found = np.asarray(index.search(Q, 100)[1]).astype(np.intp)
        yield f"turbovec {bits} bits", -(-len(index.to_bytes()) // len(X)), fit, encode, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--vectors", help="use these instead of encoding text; the last rows are the queries")
    given = parser.parse_args()
    if given.vectors:
        E = np.load(given.vectors).astype(np.float32)
    else:
        from sememe.encode import make

        E = make("static").encode(texts()[: given.rows + given.queries])
    X, Q = np.ascontiguousarray(E[: given.rows]), np.ascontiguousarray(E[-given.queries :])
    train = X[np.random.default_rng(0).permutation(len(X))[:TRAIN]]
    truth = exact(Q, X)
    mine = (("ours", c, *ours(c, train, X, Q)) for size in SIZES for c in OURS[size])
    others = (("peer", *found) for found in peers(train, X, Q, given.slow))
    print(f"{len(X):,} x {X.shape[1]}, {len(Q)} queries held out; CPU seconds on one thread\n")
    print("| code | B/vec | fit s | encode s | recall@10 | 50 rescored | 100 rescored |")
    print("|---|---|---|---|---|---|---|")
    table = []
    for side, name, size, fit, encode, found in chain(mine, others):
        values = recalls(found, truth, Q, X)
        table.append((side, name, int(size), values))
        print(
            f"| {name} | {size} | {fit:.1f} | {encode:.1f} | " + " | ".join(f"{v:.3f}" for v in values) + " |",
            flush=True,
        )
    print("\n| bytes | rescored | ours | best peer | difference, points |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for place, short in enumerate(SHORTLISTS):
            top = {
                side: max((v[place], n) for s, n, b, v in table if s == side and b <= size)
                for side in {s for s, _, b, _ in table if b <= size}
            }
            if len(top) == 2:
                own, other = top["ours"], top["peer"]
                cells = [f"{value:.3f} {name}" for value, name in (own, other)]
                print(f"| {size} | {short} | {cells[0]} | {cells[1]} | {100 * (own[0] - other[0]):+.1f} |")


if __name__ == "__main__":
    main()
