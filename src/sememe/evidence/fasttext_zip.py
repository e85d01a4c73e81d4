"""A linear n-gram classifier made small: product codes with the norm apart, and features that matter."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec.product import ProductQuantizer
from sememe.contracts import Vectors
from sememe.evidence.machinery import Finding, Setting, experiment

SETS = ("agnews", "trec-questions")
DIMENSIONS = 16
KEPT = 6000  # features after pruning
_BATCH, _EPOCHS, _RATE = 32, 6, 0.4
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bags:
    """Texts as features: those of text ``i`` are ``features[starts[i]:starts[i] + counts[i]]``."""

    features: I64
    starts: I64
    counts: I64
    labels: I64

    def texts(self, rows: I64) -> tuple[I64, I64]:
        """Features of some texts, one after the other, and where each text begins."""
        counts = self.counts[rows]
        begin = np.cumsum(counts) - counts
        place = np.arange(int(counts.sum())) - np.repeat(begin - self.starts[rows], counts)
        return self.features[place], begin


@experiment(
    "fasttext-zip",
    paper=Paper("FastText.zip: Compressing text classification models", 2016, "1612.03651"),
    claim="Two orders of magnitude smaller than fastText and only slightly less accurate, by product codes with the "
    "norm apart, pruning and a retrained output layer.",
    needs=SETS,
)
def run(setting: Setting) -> Finding:
    """Accuracy on the test texts of two collections, with float rows, product codes, and pruned product codes."""
    drops, gains, shrink, details = [], [], [], {}
    for name in SETS:
        train, test, classes, features = bags(setting, name)
        rows = []
        for seed in setting.seeds:
            table, output = trained(train, features, classes, seed)
            right = {"float": correct(test, table, output)}
            for norm in ("none", "length"):
                coded, _ = quantized(table, norm, seed)
                right[f"product code, norm={norm}"] = correct(test, coded, retrained(train, coded, output, seed))
            kept = prune(train, table, KEPT)
            coded, size = quantized(table, "length", seed, kept)
            right["pruned"] = correct(test, coded, retrained(train, coded, output, seed))
            drops.append(right["float"] - right["pruned"])
            gains.append(right["product code, norm=length"] - right["product code, norm=none"])
            size += 4 * len(kept) + output.nbytes  # which features they are, and the output layer
            shrink.append((table.nbytes + output.nbytes) / size)
            rows.append({key: float(value.mean()) for key, value in right.items()} | {"bytes": size})
        details[name] = {"features": features, "float_bytes": 4 * DIMENSIONS * features, "seeds": rows}
    low, high = _interval(drops)
    gain_low, gain_high = _interval(gains)
    drop = float(np.mean([d.mean() for d in drops]))
    checks = {
        "at least 100 times smaller on the larger collection": min(shrink[: len(setting.seeds)]) >= 100,
        "at most one point of accuracy is lost, on average": drop <= 0.01,
        "the norm apart gains at least half a point over plain product codes": float(np.mean(gain_mean(gains)))
        >= 0.005,
    }
    return Finding(
        measured=drop,
        baseline=0.0,
        interval=(low, high),
        unit="accuracy lost by the pruned, product-coded classifier against its float original",
        interval_of="that loss, over test texts",
        checks=checks,
        details={
            **details,
            "times_smaller": shrink,
            "gain_of_the_norm_apart": {"value": float(np.mean(gain_mean(gains))), "low": gain_low, "high": gain_high},
        },
        conditions=f"Words and pairs of words, {DIMENSIONS} dimensions, groups of 2 dimensions, {KEPT} features kept; "
        "the float model counts only features that occur in training.",
        reason=""
        if all(checks.values())
        else "rows of 16 dimensions in groups of 2 are coded so well that plain codes lose almost nothing either, and "
        "a small training set leaves few features to prune",
    )


def gain_mean(parts: list[NDArray[np.float64]]) -> list[float]:
    """The mean of each run."""
    return [float(part.mean()) for part in parts]


def _interval(parts: list[NDArray[np.float64]], samples: int = 1000) -> tuple[float, float]:
    """95 % percentile interval of the mean over runs, test texts resampled within each."""
    generator = np.random.default_rng(0)
    means = [np.mean([p[generator.integers(len(p), size=len(p))].mean() for p in parts]) for _ in range(samples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bags(setting: Setting, name: str) -> tuple[Bags, Bags, int, int]:
    """Training and test texts, the number of classes, and of features seen in training."""
    tables = [setting.data.table(name, f"{part}.tsv.gz") for part in ("train", "test")]
    labels = sorted({row[0].partition(":")[0] for row in tables[0]})
    known: dict[int, int] = {}
    out = []
    for part, rows in enumerate(tables):
        features, counts = [], []
        for row in rows:
            words = re.findall(r"\w+", row[1].lower())
            grams = words + [f"{a} {b}" for a, b in pairwise(words)]
            keys = [zlib.crc32(gram.encode()) for gram in grams]
            if part == 0:
                found = [known.setdefault(key, len(known)) for key in keys]
            else:
                found = [known[key] for key in keys if key in known]
            features += found
            counts.append(len(found))
        sizes = np.array(counts, dtype=np.int64)
        gold = np.array([labels.index(row[0].partition(":")[0]) for row in rows], dtype=np.int64)
        out.append(Bags(np.array(features, dtype=np.int64), np.cumsum(sizes) - sizes, sizes, gold))
    return out[0], out[1], len(labels), len(known)


def means(bags_: Bags, rows: I64, table: Vectors) -> Vectors:
    """Mean of the feature rows of each text ``(len(rows), d)``; zero for a text without features."""
    features, begin = bags_.texts(rows)
    counts = bags_.counts[rows]
    out = np.zeros((len(rows), table.shape[1]), dtype=np.float32)
    held = counts > 0
    if held.any():
        out[held] = np.add.reduceat(table[features], begin[held], axis=0) / counts[held, None].astype(np.float32)
    return out


def _slope(hidden: Vectors, output: Vectors, labels: I64) -> Vectors:
    logits = hidden @ output
    logits -= logits.max(axis=1, keepdims=True)
    share = np.exp(logits)
    share /= share.sum(axis=1, keepdims=True)
    share[np.arange(len(labels)), labels] -= 1
    return share


def trained(train: Bags, features: int, classes: int, seed: int) -> tuple[Vectors, Vectors]:
    """Feature rows ``(features, d)`` and output ``(d, classes)`` of a fastText classifier, by decaying SGD."""
    generator = np.random.default_rng(seed)
    table: Vectors = (generator.uniform(-1, 1, (features, DIMENSIONS)) / DIMENSIONS).astype(np.float32)
    output: Vectors = np.zeros((DIMENSIONS, classes), dtype=np.float32)
    steps = _EPOCHS * -(-len(train.labels) // _BATCH)
    step = 0
    for _ in range(_EPOCHS):
        order = generator.permutation(len(train.labels))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            rate = np.float32(_RATE * (1 - step / steps))
            step += 1
            hidden = means(train, rows, table)
            slope = _slope(hidden, output, train.labels[rows])
            counts = np.maximum(train.counts[rows], 1).astype(np.float32)
            back = (slope @ output.T) / counts[:, None]
            output -= rate * hidden.T @ slope
            chosen, _ = train.texts(rows)
            np.add.at(table, chosen, -rate * np.repeat(back, train.counts[rows], axis=0))
    return table, output


def retrained(train: Bags, table: Vectors, output: Vectors, seed: int) -> Vectors:
    """The output layer, trained on with the feature rows fixed."""
    hidden = means(train, np.arange(len(train.labels)), table)
    out = output.copy()
    generator = np.random.default_rng(seed)
    for epoch in range(4):
        order = generator.permutation(len(hidden))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            slope = _slope(hidden[rows], out, train.labels[rows])
            out -= np.float32(_RATE / 4 / (1 + epoch)) * hidden[rows].T @ slope
    return out


def correct(test: Bags, table: Vectors, output: Vectors) -> NDArray[np.float64]:
    """1 for each test text whose class is found, float64 ``(n,)``."""
    hidden = means(test, np.arange(len(test.labels)), table)
    return np.asarray((hidden @ output).argmax(axis=1) == test.labels, dtype=np.float64)


def quantized(table: Vectors, norm: str, seed: int, kept: I64 | None = None) -> tuple[Vectors, int]:
    """Rows as product codes of two dimensions a group decode (those not kept are zero), and the bytes they take."""
    quantizer = ProductQuantizer(DIMENSIONS // 2, norm=norm, seed=seed)
    rows = table if kept is None else table[kept]
    codes = quantizer.fit(rows).encode(rows)
    decoded = quantizer.decode(codes)
    if kept is not None:
        out = np.zeros_like(table)
        out[kept] = decoded
        decoded = out
    return decoded, codes.nbytes + quantizer.side_bytes_


def prune(train: Bags, table: Vectors, most: int) -> I64:
    """About ``most`` features of largest norm, but at least one of every training text."""
    norms = np.linalg.norm(table, axis=1)
    held = train.counts > 0
    owner = np.repeat(np.arange(len(train.counts)), train.counts)
    order = np.lexsort((-norms[train.features], owner))  # within each text, the feature of largest norm first
    cover = np.unique(train.features[order[train.starts[held]]])
    rest = np.argsort(-norms, kind="stable")
    rest = rest[~np.isin(rest, cover)][: max(most - len(cover), 0)]
    return np.sort(np.concatenate([cover, rest]))
