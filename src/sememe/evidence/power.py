"""Power quantization at 4 bits, against uniform steps with and without the best clip."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper
from sememe.codec import Power, Uniform
from sememe.contracts import Vectors
from sememe.evidence.data import VECTOR_SETS
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.retrieval import Judged
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

BITS = 4


@experiment(
    "power",
    paper=Paper("NUPES : Non-Uniform Post-Training Quantization via Power Exponent Search", 2023, "2308.05600"),
    claim="Raising values to a searched exponent before rounding beats uniform quantization at low bit widths.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """Squared error on rows that the quantizers were not fitted on, and nDCG@10, on three collections."""
    clipped_ratio, minmax_ratio, details = [], [], {}
    ndcg: dict[str, list[np.ndarray]] = {"power": [], "uniform": []}
    same = True
    for name in VECTOR_SETS:
        data = setting.data.retrieval(name)
        (rows, queries), exponents, means = data.vectors(), [], []
        for seed in setting.seeds:
            order = np.random.default_rng(seed).permutation(len(rows))
            fit, held = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
            power = Power(BITS).fit(fit)
            errors = {
                "power": squared_error(power, held),
                "clipped": squared_error(Uniform(BITS).fit(fit), held),
                "minmax": squared_error(Uniform(BITS, clip="minmax").fit(fit), held),
            }
            clipped_ratio.append(errors["power"] / errors["clipped"].mean())
            minmax_ratio.append(errors["power"] / errors["minmax"].mean())
            exponents.append(power.exponent_)
            means.append({key: float(value.mean()) for key, value in errors.items()})
            one, plain = Power(BITS, clip="minmax", exponent=1.0).fit(fit), Uniform(BITS, clip="minmax").fit(fit)
            same &= bool(np.array_equal(one.encode(held), plain.encode(held)))
        judged = Judged(data.qrels, list(data.queries), list(data.documents))
        for key, quantizer in (("power", Power(BITS)), ("uniform", Uniform(BITS))):
            scores = quantizer.fit(rows).scores(queries, quantizer.encode(rows))
            ranked = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            ndcg[key].append(judged.evaluate(ranked, ("ndcg@10",))["ndcg@10"][judged.keep])
        details[name] = {
            "exponents": exponents,
            "squared_error": means,
            "ndcg@10": {key: float(values[-1].mean()) for key, values in ndcg.items()},
        }
    ratio, against_minmax = bootstrap_mean(np.concatenate(clipped_ratio)), bootstrap_mean(np.concatenate(minmax_ratio))
    gain = paired_bootstrap(np.concatenate(ndcg["power"]), np.concatenate(ndcg["uniform"]))
    return Finding(
        measured=ratio.value,
        baseline=1.0,
        interval=(ratio.low, ratio.high),
        unit="squared error of power at 4 bits, as a share of that of uniform steps with the best clip",
        interval_of="that share, over held-out vectors",
        checks={
            "squared error at least 15 % below uniform min-max": against_minmax.high <= 0.85,
            "squared error at least 5 % below uniform with the clip of least error": ratio.high <= 0.95,
            "with exponent 1 and the same clip the codes equal uniform's": same,
        },
        details={**details, "share_of_minmax_error": against_minmax.as_json(), "ndcg@10_gain": gain.as_json()},
        conditions="Three collections of MiniLM vectors, fitted on a random half, measured on the other; a clip for "
        "each dimension.",
        reason=""
        if ratio.high <= 0.95
        else "each dimension of these vectors is close to normal; once the clip is chosen for least error there is "
        "less than 5 % left for uneven steps",
    )


def squared_error(quantizer: Uniform, rows: Vectors) -> np.ndarray:
    """Squared distance of each row to what its code decodes to, float64 ``(n,)``."""
    gaps = rows.astype(np.float64) - quantizer.decode(quantizer.encode(rows))
    return np.asarray(np.einsum("ij,ij->i", gaps, gaps))
