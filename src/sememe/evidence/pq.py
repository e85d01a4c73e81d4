"""Product codes: the error of our codebooks against those of faiss, at the same bytes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec import ProductQuantizer
from sememe.contracts import Vectors
from sememe.errors import MissingDependency
from sememe.evidence.data import VECTOR_SETS
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.rabitq import best, overlap
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

GROUPS = (16, 32, 64)
HELD_OUT = 2_000
CLOSE = 0.05  # "a few percent"


@experiment(
    "pq",
    paper=Paper("Product Quantization for Nearest Neighbor Search", 2011),
    claim="Cut into groups that are coded one by one, vectors keep their neighbours far better than in codes of signs "
    "of as many bytes; our codebooks are within a few percent of the error of faiss'.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """Squared error of rows not learned from, and recall@10, at 16, 32 and 64 bytes, three collections pooled."""
    try:
        import faiss
    except ImportError:
        raise MissingDependency("faiss-cpu", extra="bench", need="the experiment of pq") from None
    faiss.omp_set_num_threads(1)
    parts = [setting.data.retrieval(name).vectors() for name in VECTOR_SETS]
    rows, queries = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    truth = best(queries.astype(np.float64) @ rows.T.astype(np.float64))
    ratio: dict[int, list[NDArray[np.float64]]] = {m: [] for m in GROUPS}
    recall: dict[tuple[int, str], list[NDArray[np.float64]]] = {}
    encoding: dict[int, list[float]] = {m: [] for m in GROUPS}
    for seed in setting.seeds:
        order = np.random.default_rng(seed).permutation(len(rows))
        test, train = rows[order[:HELD_OUT]], rows[order[HELD_OUT:]]
        for m in GROUPS:
            ours = ProductQuantizer(m, seed=seed).fit(train)
            theirs: Any = faiss.ProductQuantizer(rows.shape[1], m, 8)
            theirs.cp.seed, theirs.cp.min_points_per_centroid = seed + 1, 1
            theirs.train(train)
            begun = time.process_time()
            coded = ours.encode(rows)
            between = time.process_time()
            other = theirs.compute_codes(rows)
            encoding[m].append((time.process_time() - between) / (between - begun))
            mine = error(test, ours.decode(ours.encode(test)))
            ratio[m].append(mine / error(test, theirs.decode(theirs.compute_codes(test))).mean())
            for name, decoded in (("ours", ours.decode(coded)), ("faiss", theirs.decode(other))):
                recall.setdefault((m, name), []).append(overlap(best(queries @ decoded.T), truth))
    signs = {m: overlap(best(queries @ _signs(rows, 8 * m, setting.seeds[0]).T), truth) for m in GROUPS}
    shares = {m: bootstrap_mean(np.concatenate(values)) for m, values in ratio.items()}
    found = {key: np.concatenate(values) for key, values in recall.items()}
    gains = {m: paired_bootstrap(np.mean(recall[m, "ours"], axis=0), signs[m]) for m in GROUPS}
    checks = {
        f"{m} bytes: {what}, with confidence": held
        for m in GROUPS
        for what, held in (
            (f"error within {CLOSE:.0%} of faiss'", shares[m].high <= 1 + CLOSE),
            ("recall@10 above that of signs of random projections", gains[m].low > 0),
        )
    }
    return Finding(
        measured=float(found[32, "ours"].mean()),
        baseline=float(signs[32].mean()),
        interval=(shares[32].low, shares[32].high),
        unit="recall@10 in 32 bytes, against 256 signs of random projections",
        interval_of="our squared error of rows not learned from as a share of faiss'",
        checks=checks,
        details={
            f"{m} bytes": {
                "error_over_that_of_faiss": shares[m].as_json(),
                "recall@10": float(found[m, "ours"].mean()),
                "faiss_recall@10": float(found[m, "faiss"].mean()),
                "signs_recall@10": float(signs[m].mean()),
                "times_as_fast_at_encoding": encoding[m],
            }
            for m in GROUPS
        },
        conditions=f"{len(rows)} MiniLM vectors of three collections and their queries; codebooks are learned from all "
        f"but {HELD_OUT} rows, drawn for each seed; recall is over all rows. CPU time of one call, one thread.",
        reason="" if all(checks.values()) else "not known",
    )


def error(rows: Vectors, decoded: Vectors) -> NDArray[np.float64]:
    """Squared error of each row."""
    return np.asarray(((rows - decoded).astype(np.float64) ** 2).sum(axis=1))


def _signs(rows: Vectors, bits: int, seed: int) -> NDArray[np.float32]:
    """Rows as what signs of random projections say of them: as many as bits, turned back, in float32."""
    turn = np.random.default_rng(seed).standard_normal((rows.shape[1], bits)).astype(np.float32)
    mean = rows.mean(axis=0)
    return np.asarray(np.sign((rows - mean) @ turn) @ turn.T, dtype=np.float32)
