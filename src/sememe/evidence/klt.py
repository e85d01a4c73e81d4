"""Transform codes: bits by variance against the same number of bits in every dimension, at equal bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec import ProductQuantizer
from sememe.codec.klt import KLT
from sememe.codec.rabitq import RaBitQ
from sememe.evidence.data import VECTOR_SETS
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.rabitq import best, overlap
from sememe.measure.stats import paired_bootstrap

BITS = (1, 2, 4)


@experiment(
    "klt",
    paper=Paper("Transform Coding for Fast Approximate Nearest Neighbor Search in High Dimensions", 2010),
    claim="At equal bytes, better recall than the same number of bits in every dimension.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """Recall@10 at one, two and four bits a dimension, each code with its one byte of factor, on three collections."""
    found: dict[tuple[int, str], list[NDArray[np.float64]]] = {}
    for name in VECTOR_SETS:
        rows, queries = setting.data.retrieval(name).vectors()
        truth = best(queries.astype(np.float64) @ rows.T.astype(np.float64))
        for bits in BITS:
            size = RaBitQ(bits).bytes_per_vector(rows.shape[1])
            coder = KLT(size).fit(rows)
            groups = max(g for g in range(1, size + 1) if rows.shape[1] % g == 0)
            even, products = [], []
            for seed in setting.seeds:
                turned = RaBitQ(bits, seed=seed).fit(rows)
                even.append(overlap(best(turned.scores(queries, turned.encode(rows))), truth))
                product = ProductQuantizer(groups, seed=seed).fit(rows)
                products.append(overlap(best(product.scores(queries, product.encode(rows))), truth))
            found.setdefault((bits, "klt"), []).append(overlap(best(coder.scores(queries, coder.encode(rows))), truth))
            found.setdefault((bits, "even"), []).append(np.mean(even, axis=0))
            found.setdefault((bits, "product"), []).append(np.mean(products, axis=0))
    whole = {key: np.concatenate(values) for key, values in found.items()}
    gain = {bits: paired_bootstrap(whole[bits, "klt"], whole[bits, "even"]) for bits in BITS}
    checks = {
        f"recall@10 above even bits at {bits} bits a dimension, with confidence": gain[bits].low > 0 for bits in BITS
    }
    return Finding(
        measured=float(whole[2, "klt"].mean()),
        baseline=float(whole[2, "even"].mean()),
        interval=(gain[2].low, gain[2].high),
        unit="recall@10 at two bits a dimension, against the same bits in every dimension after a random turn",
        interval_of="the gain, over queries",
        checks=checks,
        details={
            f"{bits} bits": {
                "bytes": RaBitQ(bits).bytes_per_vector(384),
                **{name: float(whole[bits, name].mean()) for name in ("klt", "even", "product")},
                "gain": gain[bits].as_json(),
            }
            for bits in BITS
        },
        conditions="MiniLM vectors of three collections and their queries; even bits are RaBitQ's, the rotation drawn "
        "for each seed; product codes of as many bytes as divide the width stand beside them.",
        reason=""
        if all(checks.values())
        else "likely, not tested: the variance of these vectors is spread so evenly that there is little to share out",
    )
