"""The input table of a real sentence encoder as a few short rows a token: assigned by number, or by clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

ROWS, PARTS = 256, 3
TRAIN, TEST = 6, 4  # questions of each intent


@experiment(
    "subspace",
    paper=Paper("Lightweight Adaptation of Neural Language Models via Subspace Embedding", 2023, "2308.08688"),
    claim="Subspace embeddings compress input tables beyond 99.8 %, within 4 points; tokens are assigned by their "
    "relationship in a pretrained model.",
    needs=("banking77",),
)
def run(setting: Setting) -> Finding:
    """all-MiniLM-L6-v2 on bank customers' questions, its table replaced, nothing trained afterwards."""
    from sememe.tokens.subspace import SubspaceEmbedding
    from sememe.tokens.vocabulary import Vocabulary

    model, tokenizer, table = _encoder()
    vocabulary = Vocabulary.of(len(table))
    texts, labels, learn = _questions(setting)
    exact = _vectors(model, tokenizer, table, texts)
    accuracy = {"full table": [_accuracy(exact, labels, learn)]}
    by_number = SubspaceEmbedding(vocabulary, table.shape[1], ROWS, PARTS, "cartesian").fit(table)
    accuracy["by number"] = [_accuracy(_vectors(model, tokenizer, by_number.table(), texts), labels, learn)]
    fits, sizes = [], 0.0
    accuracy["by clusters"] = []
    for seed in setting.seeds:
        layer = SubspaceEmbedding(vocabulary, table.shape[1], ROWS, PARTS).fit(table, seed=seed)
        fits.append(layer.fit_)
        sizes = layer.num_bytes / (4 * table.size)
        accuracy["by clusters"].append(_accuracy(_vectors(model, tokenizer, layer.table(), texts), labels, learn))
    means = {name: float(np.mean(found)) for name, found in accuracy.items()}
    cosine, error = (float(np.mean([getattr(fit, name) for fit in fits])) for name in ("cosine", "error"))
    low, high = _interval(np.array(accuracy["by clusters"]) - accuracy["by number"][0])
    checks = {
        "the table takes at most 2 % of its bytes, the codes included": sizes <= 0.02,
        "rows are nearer than with assignment by number": cosine > by_number.fit_.cosine,  # type: ignore[union-attr]
        "accuracy is at least 3 points above assignment by number": means["by clusters"] >= means["by number"] + 0.03,
    }
    return Finding(
        measured=means["by clusters"],
        baseline=means["by number"],
        interval=(low, high),
        unit="accuracy of a linear classifier on vectors of the encoder, its table made of short rows: assigned by "
        "clusters, and by number",
        interval_of="the difference, over questions and seeds",
        checks=checks,
        details={
            "accuracy": means,
            "accuracy_by_seed": [float(np.mean(found)) for found in accuracy["by clusters"]],
            "cosine_of_rows": {"by number": by_number.fit_.cosine, "by clusters": cosine},  # type: ignore[union-attr]
            "error_of_rows": {"by number": by_number.fit_.error, "by clusters": error},  # type: ignore[union-attr]
            "share_of_the_bytes": sizes,
            "distinct_rows": len(np.unique(layer.table().numpy(), axis=0)),
        },
        conditions=f"all-MiniLM-L6-v2 ({table.shape[0]:,} x {table.shape[1]}), {PARTS} tables of {ROWS} rows; {TRAIN} "
        f"questions of each of Banking77's 77 intents to learn from, {TEST} to test; a ridge classifier; nothing is "
        "trained after the replacement.",
        reason=""
        if all(checks.values())
        else "the layers above were trained for the rows as they were, and bear little of such an error",
    )


def _encoder() -> tuple[Any, Any, Any]:
    """The model, its tokenizer, and its table ``(v, d)``."""
    from transformers import AutoModel, AutoTokenizer

    from sememe.encode.minilm import TORCH

    folder = str(TORCH.verified().parent)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    return (
        model,
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
        model.get_input_embeddings().weight.detach().clone().numpy(),
    )


def _questions(setting: Setting) -> tuple[list[str], Any, int]:
    """Questions, first those to learn from; their intents; and how many are to learn from."""
    from sememe.evidence.banking import first_of_each

    parts = [
        first_of_each(setting.data.table("banking77", f"{name}.tsv.gz"), most)
        for name, most in (("train", TRAIN), ("test", TEST))
    ]
    names = sorted({row[0] for row in parts[0]})
    rows = [row for part in parts for row in part]
    return [row[1] for row in rows], np.array([names.index(row[0]) for row in rows]), len(parts[0])


def _vectors(model: Any, tokenizer: Any, table: Any, texts: list[str]) -> Any:
    """Unit means of the last layer, ``(n, d)``, with another input table; the model is left as it was."""
    import torch
    from torch.nn import functional as F

    weight = model.get_input_embeddings().weight
    before = weight.detach().clone()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    out = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
    try:
        with torch.no_grad():
            weight.copy_(torch.as_tensor(table))
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                batch = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
                mask = batch["attention_mask"][..., None].float()
                found = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
                out[rows] = F.normalize(found, dim=1).numpy()
    finally:
        with torch.no_grad():
            weight.copy_(before)
    return out


def _accuracy(vectors: Any, labels: Any, learn: int) -> Any:
    """1 for each test question that a ridge classifier gets right, else 0, ``(n,)``."""
    known = np.column_stack((vectors, np.ones(len(vectors))))
    wanted = 2.0 * (labels[:learn, None] == np.arange(labels.max() + 1)) - 1
    normal = known[:learn].T @ known[:learn] + 0.1 * np.eye(known.shape[1])
    found = known[learn:] @ np.linalg.solve(normal, known[:learn].T @ wanted)
    return (found.argmax(axis=1) == labels[learn:]).astype(np.float64)


def _interval(difference: Any) -> tuple[float, float]:
    """95 % interval of the mean of ``(seeds, n)``, over both."""
    generator = np.random.default_rng(0)
    seeds, n = difference.shape
    draws = [
        difference[generator.integers(seeds, size=seeds)].mean(0)[generator.integers(n, size=n)].mean()
        for _ in range(1_000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
