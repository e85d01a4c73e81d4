"""Contrastive hashing in the place of a softmax layer, on 77 intents of bank customers' questions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec import PCA, Binary
from sememe.codec.contrastive_hash import ContrastiveHash
from sememe.codec.descent import F32, Adam, schedule
from sememe.contracts import Vectors
from sememe.evidence.banking import Questions, questions
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

LENGTHS = (12, 24)
HEADLINE = 24
HIDDEN = 512


@experiment(
    "hash",
    paper=Paper("To be Continuous, or to be Discrete, Those are Bits of Questions", 2024, "2406.07812"),
    claim="Binary codes learned with a contrastive loss can take the place of labels on the output side.",
    needs=("banking77", "embeddings-minilm", "scifact"),
)
def run(setting: Setting) -> Finding:
    """Accuracy of learned, random and plain sign codes against softmax; and recall of codes learned without labels."""
    train, test, names = questions(setting.data)
    right: dict[str, list[NDArray[np.bool_]]] = {}

    def note(name: str, predicted: NDArray[Any]) -> None:
        right.setdefault(name, []).append(predicted == test.intents)

    for seed in setting.seeds:
        note("softmax", softmax(train, len(names), seed, test.vectors))
        for bits in LENGTHS:
            learned = ContrastiveHash(bits, seed=seed).fit(train.vectors, train.intents)
            note(f"learned, {bits} bits", learned.classify(test.vectors))
            note(f"learned, {bits} bits, counted", learned.classify(test.vectors, soft=False))
            note(f"random, {bits} bits", random_codes(train, len(names), bits, seed, test.vectors))
            note(f"signs, {bits} bits", sign_codes(train, len(names), bits, seed, test.vectors))
        deep = ContrastiveHash(HEADLINE, hidden=HIDDEN, seed=seed).fit(train.vectors, train.intents)
        note(f"learned, {HEADLINE} bits, {HIDDEN} hidden units", deep.classify(test.vectors))
    each = {name: np.mean(found, axis=0) for name, found in right.items()}
    accuracy = {name: float(values.mean()) for name, values in each.items()}
    learned_name = f"learned, {HEADLINE} bits"
    gap = paired_bootstrap(each["softmax"], each[learned_name])
    deep_gap = paired_bootstrap(each["softmax"], each[f"{learned_name}, {HIDDEN} hidden units"])
    lead = {bits: paired_bootstrap(each[f"learned, {bits} bits"], each[f"random, {bits} bits"]) for bits in LENGTHS}
    recall = unlabelled(setting)
    checks = {
        f"{HEADLINE} bits, one linear layer: within 1 point of softmax": gap.high <= 0.01,
        f"{HEADLINE} bits after {HIDDEN} hidden units: within 1 point of softmax": deep_gap.value <= 0.01,
        "random codes of equal length are at least 3 points lower, at every length": all(
            found.low >= 0.03 for found in lead.values()
        ),
        "signs of principal components are at least 3 points lower, at every length": all(
            accuracy[f"learned, {bits} bits"] - accuracy[f"signs, {bits} bits"] >= 0.03 for bits in LENGTHS
        ),
        "without labels, more of the nearest ten are found than with signs of principal components": all(
            found["low"] > 0 for found in recall["gain"].values()
        ),
    }
    return Finding(
        measured=accuracy[learned_name],
        baseline=accuracy["softmax"],
        interval=(-gap.high, -gap.low),
        unit=f"accuracy on 77 intents: {HEADLINE} learned bits, against a softmax layer over the same vectors",
        interval_of="learned minus softmax, over test questions",
        checks=checks,
        details={
            "accuracy": accuracy,
            "accuracy_interval": {name: bootstrap_mean(values).as_json() for name, values in each.items()},
            "output_parameters_as_share_of_softmax": {bits: bits / len(names) for bits in LENGTHS},
            "hidden_minus_softmax": -deep_gap.value,
            "learned_minus_random": {bits: found.as_json() for bits, found in lead.items()},
            "recall_without_labels": recall,
        },
        conditions="banking77 (at most 80 questions an intent to learn from, 3,080 to test), frozen all-MiniLM-L6-v2 "
        "vectors; a code stands for a label by the majority of its questions' bits. Without labels: SciFact, share of "
        "the ten nearest passages by cosine among the ten nearest by code, queries in full precision.",
        reason=""
        if all(checks.values())
        else "the paper tunes the whole encoder, so that every bit can become easy; over frozen vectors a bit must "
        "part the 77 intents by one hyperplane, which costs more the fewer bits there are. A hidden layer before the "
        "bits gives back a part",
    )


def softmax(train: Questions, classes: int, seed: int, X: Vectors, epochs: int = 40) -> NDArray[np.int64]:
    """Labels from multinomial logistic regression, trained like the codes."""
    generator = np.random.default_rng(seed)
    weight = np.zeros((train.vectors.shape[1], classes), dtype=np.float32)
    optimizer = Adam([weight], [0.05])
    for share in schedule(epochs * len(train.intents) // 512, 60.0):
        rows = generator.integers(len(train.intents), size=512)
        logits = train.vectors[rows] @ weight
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        odds[np.arange(512), train.intents[rows]] -= 1
        optimizer.step([train.vectors[rows].T @ odds / np.float32(512)], share)
    return np.asarray(np.argmax(X @ weight, axis=1))


def random_codes(train: Questions, classes: int, bits: int, seed: int, X: Vectors) -> NDArray[np.int64]:
    """Labels from bits of random label codes: logistic regression for each bit, decoded like learned ones."""
    generator = np.random.default_rng(seed)
    codes = np.where(generator.random((classes, bits)) < 0.5, -1, 1).astype(np.float32)
    weight = np.zeros((train.vectors.shape[1], bits), dtype=np.float32)
    bias = np.zeros(bits, dtype=np.float32)
    optimizer = Adam([weight, bias], [0.2, 0.2])
    for share in schedule(40 * len(train.intents) // 512, 60.0):
        rows = generator.integers(len(train.intents), size=512)
        wanted = codes[train.intents[rows]]
        logits = train.vectors[rows] @ weight + bias
        back = -wanted / (1 + np.exp(wanted * logits)) / np.float32(512)
        optimizer.step([train.vectors[rows].T @ back, back.sum(axis=0)], share)
    return nearest_code(X @ weight + bias, codes)


def sign_codes(train: Questions, classes: int, bits: int, seed: int, X: Vectors) -> NDArray[np.int64]:
    """Labels from signs of randomly turned principal components; a label's code is the majority of its rows."""
    pca = PCA(bits, renormalize=False, center=True).fit(train.vectors)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0].astype(np.float32)
    logits = pca.transform(train.vectors) @ turn
    votes = np.zeros((classes, bits))
    np.add.at(votes, train.intents, np.sign(logits))
    scale = np.float32(2 / logits.std())  # so that a sure bit counts as one, as it does for the others
    return nearest_code(pca.transform(X) @ turn * scale, np.where(votes >= 0, 1, -1).astype(np.float32))


def nearest_code(logits: F32, codes: F32) -> NDArray[np.int64]:
    """The code that agrees most with the bits, each weighed by how sure it is."""
    return np.asarray(np.argmax(np.tanh(logits / 2) @ codes.T, axis=1))


def unlabelled(setting: Setting) -> dict[str, Any]:
    """Recall of the ten nearest passages at 64 and 128 bits, learned and not, and the gain with its interval."""
    rows, queries = setting.data.retrieval("scifact").vectors()
    truth = top(queries @ rows.T)
    found: dict[str, Any] = {"learned": {}, "signs": {}, "gain": {}}
    for bits in (64, 128):
        learned, plain = [], []
        for seed in setting.seeds:
            hashing = ContrastiveHash(bits, seed=seed).fit(rows)
            binary = Binary("zero").fit(hashing.transform(rows))
            codes = binary.encode(hashing.transform(rows))
            learned.append(overlap(truth, top(binary.scores(hashing.transform(queries), codes))))
            pca = PCA(bits, renormalize=False, center=True).fit(rows)
            turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0].astype(np.float32)
            signs = np.sign(pca.transform(rows) @ turn)
            plain.append(overlap(truth, top(pca.transform(queries) @ turn @ signs.T)))
        a, b = np.mean(learned, axis=0), np.mean(plain, axis=0)
        found["learned"][bits], found["signs"][bits] = float(a.mean()), float(b.mean())
        found["gain"][bits] = paired_bootstrap(a, b).as_json()
    return found


def top(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ten best columns of each line."""
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :10])


def overlap(truth: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each line of ``truth`` ``(q, k)`` that the same line of ``found`` ``(q, m)`` holds."""
    return np.asarray((truth[:, :, None] == found[:, None, :]).any(axis=2).mean(axis=1))
