"""BM25 against bm25s and tantivy, and learned sparse vectors (SPLADE) against pyseismic-lsr and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, interleaved, once
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.bench.race import K, recall
from sememe.errors import InputError, MissingDependency

SIZE = 100_000  # texts of BM25
_LEARNED = 2_000  # texts encoded by SPLADE, which takes about a minute
_QUERIES, _LEARNED_QUERIES = 500, 100
_TERMS = 5
EFFORTS = ((0.1, 0.85), (0.15, 0.8), (0.2, 0.75))  # share and slack of our lists
_BLOCK = 64  # queries whose exact answers are looked up at a time
_NANOSECONDS = 0.5  # what adding up one posting takes at best


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """BM25, then learned sparse vectors: those given (``--vectors``, a SciPy ``.npz``), else SPLADE's if installed."""
    return [_bm25(settings), *_learned(settings)]


def _bm25(settings: Settings) -> Table:
    from sememe.encode.bm25 import BM25
    from sememe.index import inverted
    from sememe.index.arrays import Packed
    from sememe.index.postings import Postings, PostingsWriter

    analyzer, plain = BM25(), BM25(stop="none", stem="none")
    words = [analyzer.terms(text) for text in texts.sentences(settings.size or SIZE)]
    generator = np.random.default_rng(settings.seed)
    long = [found for line in words if len(found := list(dict.fromkeys(line))) >= _TERMS]
    queries = [
        generator.choice(long[i], _TERMS, replace=False).tolist() for i in generator.integers(len(long), size=_QUERIES)
    ]

    def build() -> Any:
        writer = PostingsWriter(named=True)
        for line in words:
            writer.add_terms(line)
        info, arrays = writer.arrays()
        return [inverted.Part(Postings(Packed.in_memory(arrays), info, len(words)), 0, None, None)]

    spent, parts = once(build)
    built = {"sememe": spent.seconds(settings.threads)}
    lines = [" ".join(query) for query in queries]
    calls: dict[str, Callable[[], Any]] = {
        "sememe, one at a time": lambda: [inverted.bm25(parts, [plain.terms(line)], K) for line in lines],
        "sememe, all at once": lambda: inverted.bm25(parts, queries, K),
        **_tantivy(words, lines, settings, built),
        **_bm25s(words, queries, settings, built),
    }
    times = interleaved(calls, settings.rounds)
    seconds = {name: spent.seconds(settings.threads) / len(queries) for name, spent in times.items()}
    rivals = {way: [s for name, s in seconds.items() if way in name and not name.startswith("sememe")]
              for way in ("one at a time", "all at once")}  # fmt: skip
    columns = [Column("what"), Column("build, s", ".2f"), Column("queries/s", ",.0f"), Column("x best peer", ".2f")]
    table = Table(f"BM25, {len(words):,} texts, queries of {_TERMS} words of one text", columns)
    for name, taken in seconds.items():
        others = rivals["all at once" if "all at once" in name else "one at a time"]
        ratio = min(others) / taken if others and name.startswith("sememe") else None
        table.rows.append([name, built[name.partition(",")[0]], 1 / taken, ratio])
    return table


def _tantivy(
    words: list[list[str]], lines: list[str], settings: Settings, built: dict[str, float]
) -> dict[str, Callable[[], Any]]:
    library = peer("tantivy")
    if library is None:
        return {}
    schema = library.SchemaBuilder()
    schema.add_text_field("body", stored=False, tokenizer_name="whitespace")
    index = library.Index(schema.build())

    def fill() -> None:
        writer = index.writer(heap_size=200_000_000, num_threads=settings.threads)
        for line in words:
            document = library.Document()
            document.add_text("body", " ".join(line))
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        index.reload()

    built["tantivy"] = once(fill)[0].seconds(settings.threads)
    searcher = index.searcher()
    return {
        "tantivy, one at a time": lambda: [
            searcher.search(index.parse_query(line, ["body"]), K, count=False) for line in lines
        ]
    }


def _bm25s(
    words: list[list[str]], queries: list[list[str]], settings: Settings, built: dict[str, float]
) -> dict[str, Callable[[], Any]]:
    library = peer("bm25s")
    if library is None:
        return {}
    backend = "numpy" if peer("numba") is None else "numba"
    made = library.BM25(method="lucene", k1=1.2, b=0.75, backend=backend)
    name = f"bm25s {backend}"
    built[name] = once(lambda: made.index(words, show_progress=False))[0].seconds(settings.threads)
    threads = 0 if settings.threads == 1 else settings.threads
    return {f"{name}, all at once": lambda: made.retrieve(queries, k=K, show_progress=False, n_threads=threads)}


def _vectors(settings: Settings, sparse: Any) -> tuple[Any, Any] | None:
    """Corpus and queries, CSR: those given, else SPLADE's of sentences; None where it is not installed."""
    if settings.vectors is not None:
        every = _read(settings.vectors, sparse)
        if settings.queries is not None:
            return every[: settings.size], _read(settings.queries, sparse)
        held_out = min(_QUERIES, every.shape[0] // 4)
        if not held_out:
            raise InputError("these vectors are too few to hold queries out", where=str(settings.vectors))
        return every[:-held_out][: settings.size], every[-held_out:]
    from sememe import encode

    count = min(settings.size or _LEARNED, _LEARNED)
    try:
        encoder: Any = encode.make("splade")
        every = sparse.csr_array(encoder.encode_sparse(texts.sentences(count + _LEARNED_QUERIES)))
    except MissingDependency as missing:
        note(f"learned sparse vectors are left out: {missing}")
        return None
    return every[:-_LEARNED_QUERIES], every[-_LEARNED_QUERIES:]


def _read(path: Path, sparse: Any) -> Any:
    try:
        return sparse.csr_array(sparse.load_npz(path)).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read sparse vectors ({error})", where=str(path), fix="give a .npz of SciPy") from None


def _learned(settings: Settings) -> list[Table]:
    sparse = peer("scipy.sparse")
    made = None if sparse is None else _vectors(settings, sparse)
    if made is None:
        return []
    X, Q = made
    X.sort_indices()
    Q.sort_indices()
    columns = X.T.tocsr()
    blocks = [(Q[start : start + _BLOCK] @ columns).toarray() for start in range(0, Q.shape[0], _BLOCK)]
    truth = np.concatenate([np.argsort(-block, axis=1, kind="stable")[:, :K] for block in blocks])
    singles = [Q[row : row + 1] for row in range(Q.shape[0])]

    def exhaustive() -> Any:
        return [np.argpartition(-(line @ columns).toarray().ravel(), K)[:K] for line in singles]

    spent, search = once(lambda: _impacts(X))
    built = {"sememe impact": spent.seconds(settings.threads)}
    calls: dict[str, Callable[[], Any]] = {
        "sememe impact, exact": lambda: search(Q, 0.0, 1.0),
        **{
            f"sememe impact, share {share}, slack {slack}": partial(search, Q, share, slack) for share, slack in EFFORTS
        },
        "sememe impact, share 0.15, slack 0.8, one at a time": lambda: np.concatenate(
            [search(line, 0.15, 0.8) for line in singles]
        ),
        "SciPy, every posting, one at a time": exhaustive,
        **_seismic(X, Q, settings, built),
    }
    found = {name: recall(call(), truth) for name, call in calls.items()}
    times = interleaved(calls, settings.rounds)
    seconds = {name: spent.seconds(settings.threads) / len(singles) for name, spent in times.items()}
    head = [Column("what"), Column("build, s", ".2f"), Column(f"recall@{K}", ".4f"), Column("queries/s", ",.0f"),
            Column("x best peer", ".2f")]  # fmt: skip
    weights = X.nnz / X.shape[0]
    source = "SPLADE" if settings.vectors is None else settings.vectors.name
    title = f"{source}, {X.shape[0]:,} texts with {weights:.0f} weights, queries with {Q.nnz / Q.shape[0]:.0f}"
    table = Table(title, head)
    for name, taken in seconds.items():
        rivals = [s for p, s in seconds.items() if not p.startswith("sememe") and found[p] >= found[name] - 0.002]
        ratio = min(rivals) / taken if rivals and name.startswith("sememe") else None
        table.rows.append([name, built.get(name.partition(",")[0]), found[name], 1 / taken, ratio])
    touched = sum(np.diff(columns.indptr)[Q.indices]) / Q.shape[0]
    limit = 1e9 / (_NANOSECONDS * max(touched, 1))
    table.note = (
        f"{touched:,.0f} postings a query: adding up all of them at {_NANOSECONDS} ns each would be {limit:,.0f}/s."
    )
    return [table]


def _impacts(X: Any) -> Callable[[Any, float, float], Any]:
    from sememe.index.arrays import Packed
    from sememe.index.impact import ImpactPostings
    from sememe.index.inverted import Part, inner_product
    from sememe.index.postings import PostingsWriter

    writer = PostingsWriter(named=False)
    writer.add_weights(X.indptr, X.indices, X.data)
    info, arrays = writer.arrays("impact")
    parts = [Part(ImpactPostings(Packed.in_memory(arrays), info, X.shape[0]), 0, None, None)]
    return lambda Q, share, slack: inner_product(parts, Q, K, share=share, slack=slack)[1]


def _seismic(X: Any, Q: Any, settings: Settings, built: dict[str, float]) -> dict[str, Callable[[], Any]]:
    library = peer("seismic")
    if library is None:
        return {}
    text = library.get_seismic_string()
    data = library.SeismicDataset()
    names = np.arange(X.shape[1]).astype(text)
    for row in range(X.shape[0]):
        part = slice(X.indptr[row], X.indptr[row + 1])
        data.add_document(str(row), names[X.indices[part]], X.data[part])
    spent, index = once(
        lambda: library.SeismicIndex.build_from_dataset(data, n_postings=500, num_threads=settings.threads)
    )
    built["seismic"] = spent.seconds(settings.threads)
    ids = np.arange(Q.shape[0]).astype(text)
    bounds = [slice(a, b) for a, b in zip(Q.indptr[:-1], Q.indptr[1:])]
    terms, values = [names[Q.indices[part]] for part in bounds], [Q.data[part] for part in bounds]

    def search(cut: int, factor: float) -> Any:
        rows = np.full((Q.shape[0], K), -1)
        for line in index.batch_search(
            ids, terms, values, k=K, query_cut=cut, heap_factor=factor, num_threads=settings.threads
        ):
            for place, (query, _, document) in enumerate(line):
                rows[int(query), place] = int(document)
        return rows

    return {
        f"seismic, cut {cut}, factor {factor}": partial(search, cut, factor)
        for cut, factor in ((5, 0.9), (10, 0.8), (20, 0.7))
    }
