"""Whitening of token averages from several layers, on sentence similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sememe.catalog import Paper
from sememe.codec import Whiten
from sememe.contracts import Vectors, unit_rows
from sememe.errors import MissingDependency
from sememe.evidence.machinery import Finding, Setting, experiment

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_AND_LAST = "mean of tokens, first and last layer"


@experiment(
    "whiten",
    paper=Paper("WhiteningBERT: An Easy Unsupervised Sentence Embedding Approach", 2021, "2104.01767"),
    claim="Averaging tokens beats [CLS], adding a bottom layer beats the top layer alone, and whitening consistently "
    "improves the result.",
    needs=("stsb",),
)
def run(setting: Setting) -> Finding:
    """Spearman on the STS benchmark's test pairs before and after whitening fitted on its unlabelled sentences."""
    rows = setting.data.table("stsb", "stsb-test.tsv.gz")
    gold = np.array([float(row[0]) for row in rows])
    sentences = sorted({text for row in rows for text in row[1:]})
    place = {text: number for number, text in enumerate(sentences)}
    pairs = np.array([[place[row[1]], place[row[2]]] for row in rows])
    layers = layer_states(sentences)
    raw: dict[str, Vectors] = {
        "[CLS], layer 1": layers["cls"][1],
        "mean of tokens, layer 1": layers["mean"][1],
        "mean of tokens, layer 2": layers["mean"][2],
        FIRST_AND_LAST: np.float32(0.5) * (layers["mean"][1] + layers["mean"][-1]),
        "mean of tokens, last layer": layers["mean"][-1],
    }
    cosines = {name: (cosine(X, pairs), cosine(whitened(X), pairs)) for name, X in raw.items()}
    scores = {name: (spearman(a, gold), spearman(b, gold)) for name, (a, b) in cosines.items()}
    lower = "mean of tokens, layer 1"
    low, high = interval(*cosines[lower], gold, setting.seeds[0])
    half = {seed: fitted_on_half(raw[lower], pairs, gold, seed) for seed in setting.seeds}
    plain = Whiten(shrinkage=0.0, renormalize=False).fit(raw[lower])
    kept = plain.whitening_.any(axis=1)  # layer normalisation leaves a direction without variance
    covariance = np.cov(plain.transform(raw[lower])[:, kept].astype(np.float64), rowvar=False)
    checks = {
        "whitening adds at least 5 points to the lower layer, with confidence": low >= 0.05,
        "whitening improves every variant": all(after > before for before, after in scores.values()),
        "averaging tokens beats [CLS]": scores[lower][0] > scores["[CLS], layer 1"][0],
        "first and last layer together beat the last, both whitened": scores[FIRST_AND_LAST][1]
        > scores["mean of tokens, last layer"][1],
        "the covariance after whitening is the identity to 1e-3": bool(
            np.abs(covariance - np.eye(len(covariance))).max() <= 1e-3
        ),
    }
    return Finding(
        measured=scores[lower][1],
        baseline=scores[lower][0],
        interval=(low, high),
        unit="Spearman on STS benchmark test, layer 1 of MiniLM, mean of tokens: whitened, against raw",
        interval_of="whitened minus raw, over pairs",
        checks=checks,
        details={
            "spearman": {name: {"raw": before, "whitened": after} for name, (before, after) in scores.items()},
            "layer_1_whitening_fitted_on_half_of_the_sentences_by_seed": half,
            "directions_with_variance": int(kept.sum()),
            "largest_deviation_of_covariance": float(np.abs(covariance - np.eye(len(covariance))).max()),
        },
        conditions="all-MiniLM-L6-v2; whitening is fitted on the same sentences, without their scores, as in the "
        "paper.",
        reason=""
        if all(checks.values())
        else "the paper's models are only pretrained; the top layer of MiniLM was trained for just this similarity, "
        "so lower layers add little to it and whitening evens out directions whose weight had been learned",
    )


def layer_states(sentences: list[str]) -> dict[str, list[Vectors]]:
    """Sentence vectors ``(n, 384)`` of each layer (0 is the embedding layer): mean of tokens, and first token."""
    try:
        import torch
        from transformers import AutoTokenizer, BertModel
    except ImportError:
        raise MissingDependency("transformers", extra="torch", need="the experiment of whiten") from None
    from sememe.encode.folder import loading
    from sememe.encode.minilm import TORCH

    folder = TORCH.verified().parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with loading(str(folder)):
        model = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    count = model.config.num_hidden_layers + 1
    states = {how: [np.zeros((len(sentences), 384), dtype=np.float32) for _ in range(count)] for how in ("mean", "cls")}
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        batch = tokenizer(
            [sentences[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"][:, :, None].float()
        for layer, state in enumerate(hidden):
            states["mean"][layer][rows] = ((state * mask).sum(1) / mask.sum(1)).numpy()
            states["cls"][layer][rows] = state[:, 0].numpy()
    return states


def whitened(X: Vectors) -> Vectors:
    """``X`` whitened by its own covariance."""
    return Whiten().fit(X).transform(X)


def cosine(X: Vectors, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of each pair of rows."""
    unit = unit_rows(np.ascontiguousarray(X))
    return np.asarray(np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]]), dtype=np.float64)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((last - counts + last - 1) / 2)[inverse])


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def interval(
    before: NDArray[np.float64], after: NDArray[np.float64], gold: NDArray[np.float64], seed: int, samples: int = 1_000
) -> tuple[float, float]:
    """95 % percentile interval of the gain in Spearman, pairs resampled together."""
    generator = np.random.default_rng(seed)
    gains = []
    for _ in range(samples):
        rows = generator.integers(len(gold), size=len(gold))
        gains.append(spearman(after[rows], gold[rows]) - spearman(before[rows], gold[rows]))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def fitted_on_half(X: Vectors, pairs: NDArray[np.int64], gold: NDArray[np.float64], seed: int) -> float:
    """Spearman where whitening was fitted on a random half of the sentences only."""
    half = np.random.default_rng(seed).permutation(len(X))[: len(X) // 2]
    return spearman(cosine(Whiten().fit(X[half]).transform(X), pairs), gold)
