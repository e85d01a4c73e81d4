"""Encoders of equal size when they are used: one table of the model's width, or a narrow one and more layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe

SYMBOLS, DIM, NARROW, WIDE = 4_000, 96, 40, 256
TIED_LAYERS, LAYERS = 1, 3
STEPS, BATCH, LENGTH = 220, 16, 48
TRAIN, TEST = 6_000, 2_500
TUNING, TUNED = 120, 32


@experiment(
    "decoupled",
    paper=Paper("Rethinking embedding coupling in pre-trained language models", 2020, "2010.12821"),
    claim="Narrow input and wide output tables, the savings spent on layers, give better transfer at equal size.",
    needs=("agnews",),
)
def run(setting: Setting) -> Finding:
    """Gaps filled on news, then the part that is kept tuned to tell topics apart."""
    from sememe.tokens.output_decoupled import DecoupledEmbedding

    news = [row for row in setting.data.table("agnews", "train.tsv.gz") if len(row) > 1]
    test = [row for row in setting.data.table("agnews", "test.tsv.gz") if len(row) > 1][:TEST]
    texts = [row[1] for row in news]
    tokenizer = byte_bpe(texts, SYMBOLS)
    ids, keep = padded(tokenizer, texts)
    test_ids, test_keep = padded(tokenizer, [row[1] for row in test])
    topics = sorted({row[0] for row in news})
    labels, wanted = (np.array([topics.index(row[0]) for row in rows]) for rows in (news, test))
    right: dict[str, list[NDArray[np.bool_]]] = {"tied": [], "decoupled": []}
    sizes: dict[str, int] = {}
    for seed in setting.seeds:
        for name in right:
            model = encoder(name, seed)
            sizes[name] = kept_parameters(model)
            fill(model, ids, keep, seed)
            right[name].append(
                tuned(model, ids[:TRAIN], keep[:TRAIN], labels[:TRAIN], seed)(test_ids, test_keep) == wanted
            )
    accuracy = {name: float(np.mean(each)) for name, each in right.items()}
    gap = interval(np.array(right["decoupled"], dtype=float) - np.array(right["tied"], dtype=float))
    example = DecoupledEmbedding(SYMBOLS, DIM, NARROW, WIDE)
    checks = {
        "the decoupled encoder is at least half a point better, with confidence above zero": accuracy["decoupled"]
        - accuracy["tied"]
        >= 0.005
        and gap[0] > 0,
        "with as many parameters to fine-tune, within 5 %": abs(sizes["decoupled"] / sizes["tied"] - 1) <= 0.05,
        "what is kept holds no output table": sum(v.numel() for v in example.kept().values())
        == SYMBOLS * NARROW + NARROW * DIM,
    }
    return Finding(
        measured=accuracy["decoupled"],
        baseline=accuracy["tied"],
        interval=gap,
        unit="accuracy on topics after fine-tuning: narrow input, wide output and more layers, or one tied table",
        interval_of="decoupled minus tied, over seeds and test texts",
        checks=checks,
        details={
            "accuracy": accuracy,
            "accuracy_by_seed": {name: [float(row.mean()) for row in each] for name, each in right.items()},
            "parameters_to_fine_tune": sizes,
        },
        conditions=f"AG News, {len(texts):,} texts with gaps filled for {STEPS} steps of {BATCH} x {LENGTH} symbols "
        f"of {SYMBOLS:,}; width {DIM}: {TIED_LAYERS} layer and a tied table, or {LAYERS} layers with an input "
        f"of {NARROW}, an output of {WIDE}; then {TUNING} steps of {TUNED} of {TRAIN:,} texts and a new linear layer "
        f"on mean vectors, {len(test):,} to test. A linear probe without tuning (a first run) gave .457 and .485, no "
        "better than sums of random vectors, and could not decide.",
        reason=""
        if all(checks.values())
        else f"decoupled {accuracy['decoupled']:.3f}, tied {accuracy['tied']:.3f}; likely, not tested: topics are told "
        "by which words occur, which one layer over a wide table tells as well as three over a narrow one",
    )


def encoder(name: str, seed: int) -> Any:
    """An untrained encoder."""
    from sememe.lab.model import Shape, SmallEncoder, seeded, table
    from sememe.tokens.output_decoupled import DecoupledEmbedding

    layers = TIED_LAYERS if name == "tied" else LAYERS
    shape = Shape(dim=DIM, layers=layers, heads=4, context=LENGTH)
    with seeded(seed):
        if name == "tied":
            return SmallEncoder(table(SYMBOLS, DIM), "tied", shape=shape, seed=seed)
        tables = DecoupledEmbedding(SYMBOLS, DIM, NARROW, WIDE)
        return SmallEncoder(tables.input, tables.output, shape=shape, seed=seed)


def kept_parameters(model: Any) -> int:
    """Numbers of an encoder without its output."""
    from sememe.lab.model import count

    return count(model.embedding) + count(model.trunk)


def padded(tokenizer: Any, texts: list[str]) -> tuple[Any, Any]:
    """The first symbols of each text, padded, and where they are."""
    import torch

    ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    keep = torch.zeros(len(texts), LENGTH, dtype=torch.bool)
    for row, found in enumerate(tokenizer.backend.encode_batch(texts, add_special_tokens=False)):
        some = found.ids[:LENGTH]
        ids[row, : len(some)], keep[row, : len(some)] = torch.tensor(some), True
    return ids, keep


def fill(model: Any, ids: Any, keep: Any, seed: int) -> None:
    """Train on full windows, which are drawn alike for all contenders."""
    from sememe.lab.train import Recipe, train

    whole = ids[keep.all(dim=1)].numpy()
    order = np.random.default_rng(seed)
    train(model, (whole[order.integers(len(whole), size=BATCH)] for _ in range(STEPS)), Recipe(steps=STEPS))


def tuned(model: Any, ids: Any, keep: Any, labels: NDArray[np.int64], seed: int) -> Any:
    """A function from texts to topics, after all that is kept was trained on labelled ones."""
    import torch
    from torch import nn

    from sememe.lab.model import seeded
    from sememe.lab.train import Recipe, train

    class Classifier(nn.Module):  # type: ignore[misc]
        """Logits by the mean of the last layer; a row of a batch is the number of a text."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.out = model, nn.Linear(DIM, int(labels.max()) + 1)
            model.head.requires_grad_(False)

        def nll(self, rows: Any) -> Any:
            logits = self.out(model.pooled(ids[rows], keep[rows]))
            return nn.functional.cross_entropy(logits, torch.from_numpy(labels)[rows], reduction="none")

    with seeded(seed):
        whole = Classifier()
    order = np.random.default_rng([seed, 1])
    train(whole, (order.integers(len(ids), size=TUNED) for _ in range(TUNING)), Recipe(steps=TUNING, rate=2e-3))

    def answer(asked: Any, there: Any) -> NDArray[np.int64]:
        whole.eval()
        with torch.inference_mode():
            parts = [whole.out(model.pooled(a, b)).argmax(-1) for a, b in zip(asked.split(256), there.split(256))]
        return torch.cat(parts).numpy()  # type: ignore[no-any-return]

    return answer


def interval(gaps: NDArray[np.float64], samples: int = 2_000) -> tuple[float, float]:
    """95 % interval of the mean of differences ``(seeds, texts)``, both resampled."""
    generator = np.random.default_rng(0)
    seeds, texts = gaps.shape
    drawn = np.array(
        [gaps[generator.integers(seeds, size=seeds)].mean(0)[generator.integers(texts, size=texts)].mean()
         for _ in range(samples)]
    )  # fmt: skip
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
