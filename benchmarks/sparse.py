"""Learned sparse vectors and BM25: our lists against pyseismic-lsr, bm25s and tantivy.

Run it on one thread; it is timed by CPU seconds, the contenders in turn, several rounds, medians. Vectors come from
``--vectors FILE.npz`` (a scipy CSR matrix; the last ``--queries`` rows are the queries), or are made by the ``splade``
encoder from the glosses of WordNet and from news (``SEMEME_DATA``), which takes about five minutes for 20,000;
``--save`` keeps them. ``--pairs`` takes the larger weight of two neighbours each, a stand-in for passages twice as
long.

    export SEMEME_THREADS=1 OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1

    python benchmarks/sparse.py weights --docs 20000
    python benchmarks/sparse.py bm25
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sememe.evidence.data import DataFolder

ROUNDS = 5


def interleaved(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median CPU seconds of each, taken in turn after one run that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if round_:
                taken[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def texts() -> list[str]:
    data = DataFolder()
    glosses = [
        f"{row[1].replace('|', ', ').replace('_', ' ')}: {row[3]}"
        for row in data.table("wordnet-nouns", "nouns.tsv.gz")
    ]
    news = [row[1] for part in ("train", "test") for row in data.table("agnews", f"{part}.tsv.gz")]
    every = glosses + news
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))]


def recall(rows: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([np.isin(line, found).mean() for line, found in zip(true, rows)]))


def weights(options: argparse.Namespace) -> None:
    from scipy import sparse

    if options.vectors:
        every = sparse.csr_array(sparse.load_npz(options.vectors)).astype(np.float32)
    else:
        from sememe import encode

        every = encode.make("splade").encode_sparse(texts()[: options.docs + options.queries])
    if options.save:
        sparse.save_npz(options.save, sparse.csr_matrix(every))
    X, Q = every[: -options.queries], every[-options.queries :]
    if options.pairs:
        X = sparse.csr_array(X.maximum(sparse.vstack([X[1:], X[:1]]).tocsr()))
    X.sort_indices()
    Q.sort_indices()
    columns = X.T.tocsr()
    scores = [(Q[a : a + 64] @ columns).toarray() for a in range(0, Q.shape[0], 64)]
    true = np.concatenate([np.argsort(-block, axis=1, kind="stable")[:, :10] for block in scores])
    print(f"{X.shape[0]} vectors with {X.nnz / X.shape[0]:.0f} weights, queries with {Q.nnz / Q.shape[0]:.0f}")

    seconds, index = timed(lambda: _impacts(X))
    print(f"build {seconds:.1f} s CPU: impact")
    runs = {
        f"impact {share} {slack}": (lambda s=share, t=slack: index(Q, s, t)[1])
        for share, slack in ((0.0, 0.8), (0.1, 0.85), (0.15, 0.8), (0.2, 0.8), (0.2, 0.75), (0.25, 0.75))
    }
    singles = [Q[row : row + 1] for row in range(Q.shape[0])]

    def exhaustive() -> np.ndarray:
        lines = [np.asarray((line @ columns).todense()).ravel() for line in singles]
        return np.array([np.argpartition(-line, 10)[:10] for line in lines])

    runs["impact 0.15 0.8, one at a time"] = lambda: np.array([index(line, 0.15, 0.8)[1][0] for line in singles])
    runs["scipy, one at a time"] = exhaustive
    if not options.no_peers:
        seconds, peer = timed(lambda: _seismic(X, Q, options.postings))
        print(f"build {seconds:.1f} s CPU: seismic with {options.postings} postings a list", flush=True)
        for cut, factor in ((5, 0.9), (8, 0.9), (10, 0.8), (15, 0.8), (20, 0.7)):
            runs[f"seismic cut {cut} factor {factor}"] = lambda c=cut, f=factor: peer(c, f)
    found = {name: recall(run(), true) for name, run in runs.items()}
    for name, seconds in interleaved(runs).items():
        print(f"{Q.shape[0] / seconds:9.0f} q/s at recall {found[name]:.4f}: {name}")
    touched = sum(np.diff(columns.indptr)[Q.indices]) / Q.shape[0]
    limit = 1e9 / (0.5 * touched)
    print(f"{touched:.0f} postings a query: adding up all of them at 0.5 ns each would be {limit:.0f} q/s")


def _impacts(X: Any) -> Callable[..., Any]:
    from sememe.index.arrays import Packed
    from sememe.index.impact import ImpactPostings
    from sememe.index.inverted import Part, inner_product
    from sememe.index.postings import PostingsWriter

    writer = PostingsWriter(named=False)
    writer.add_weights(X.indptr, X.indices, X.data)
    info, arrays = writer.arrays("impact")
    parts = [Part(ImpactPostings(Packed.in_memory(arrays), info, X.shape[0]), 0, None, None)]
    return lambda Q, share, slack: inner_product(parts, Q, 10, share=share, slack=slack)


def _seismic(X: Any, Q: Any, postings: int) -> Callable[[int, float], np.ndarray]:
    import seismic

    text = seismic.get_seismic_string()
    data = seismic.SeismicDataset()
    names = np.arange(X.shape[1]).astype(text)
    for row in range(X.shape[0]):
        start, stop = X.indptr[row], X.indptr[row + 1]
        data.add_document(str(row), names[X.indices[start:stop]], X.data[start:stop])
    index = seismic.SeismicIndex.build_from_dataset(data, n_postings=postings, num_threads=1)
    ids = np.arange(Q.shape[0]).astype(text)
    bounds = list(zip(Q.indptr[:-1], Q.indptr[1:]))
    terms, values = [names[Q.indices[a:b]] for a, b in bounds], [Q.data[a:b] for a, b in bounds]

    def search(cut: int, factor: float) -> np.ndarray:
        lines = index.batch_search(ids, terms, values, k=10, query_cut=cut, heap_factor=factor, num_threads=1)
        rows = np.full((Q.shape[0], 10), -1)
        for line in lines:
            for place, (query, _, document) in enumerate(line):
                rows[int(query), place] = int(document)
        return rows

    return search


def bm25(options: argparse.Namespace) -> None:
    from sememe.encode.bm25 import BM25
    from sememe.index import inverted
    from sememe.index.arrays import Packed
    from sememe.index.postings import Postings, PostingsWriter

    analyzer = BM25()
    words = [analyzer.terms(text) for text in texts()]
    generator = np.random.default_rng(0)
    long = [list(dict.fromkeys(line)) for line in words if len(set(line)) >= 5]
    queries = [generator.choice(long[i], 5, replace=False).tolist() for i in generator.integers(len(long), size=1000)]

    lines, plain = [" ".join(query) for query in queries], BM25(stop="none", stem="none")

    def ours() -> list[Any]:
        writer = PostingsWriter(named=True)
        for line in words:
            writer.add_terms(line)
        info, arrays = writer.arrays()
        return [inverted.Part(Postings(Packed.in_memory(arrays), info, len(words)), 0, None, None)]

    seconds, parts = timed(ours)
    print(f"{len(words)} texts; index {seconds:.2f} s CPU: sememe")
    runs: dict[str, Callable[[], Any]] = {
        "sememe, text by text": lambda: [inverted.bm25(parts, [plain.terms(line)], 10) for line in lines],
        "sememe, one at a time": lambda: [inverted.bm25(parts, [query], 10) for query in queries],
        "sememe, all at once": lambda: inverted.bm25(parts, queries, 10),
    }
    if not options.no_peers:
        runs |= _bm25_peers(words, queries)
    for name, seconds in interleaved(runs).items():
        print(f"{len(queries) / seconds:9.0f} q/s: {name}")


def _bm25_peers(words: list[list[str]], queries: list[list[str]]) -> dict[str, Callable[[], Any]]:
    import bm25s
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("body", stored=False, tokenizer_name="whitespace")
    index = tantivy.Index(schema.build())

    def fill() -> None:
        writer = index.writer(heap_size=200_000_000, num_threads=1)
        for line in words:
            document = tantivy.Document()
            document.add_text("body", " ".join(line))
            writer.add_document(document)
        writer.commit()
        index.reload()

    print(f"index {timed(fill)[0]:.2f} s CPU: tantivy")
    searcher = index.searcher()
    parsed = [index.parse_query(" ".join(query), ["body"]) for query in queries]
    runs: dict[str, Callable[[], Any]] = {
        "tantivy, text by text": lambda: [
            searcher.search(index.parse_query(" ".join(query), ["body"]), 10, count=False) for query in queries
        ],
        "tantivy, one at a time": lambda: [searcher.search(query, 10, count=False) for query in parsed],
    }
    for backend in ("numba", "numpy"):
        peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend=backend)
        seconds, _ = timed(lambda p=peer: p.index(words, show_progress=False))
        print(f"index {seconds:.2f} s CPU: bm25s, {backend}")
        some = queries if backend == "numba" else queries[:100]
        share = len(queries) // len(some)
        runs[f"bm25s {backend}, all at once"] = lambda p=peer, q=some * share: p.retrieve(
            q, k=10, show_progress=False, n_threads=0
        )
    return runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "bm25"))
    parser.add_argument("--vectors")
    parser.add_argument("--save")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--docs", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--postings", type=int, default=500, help="postings a list in seismic")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    {"weights": weights, "bm25": bm25}[arguments.what](arguments)
