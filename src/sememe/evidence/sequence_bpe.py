"""Byte-pair encoding of event streams: shorter sequences, the same or a lower loss an event, faster models."""

from __future__ import annotations

import csv
import gzip
import time
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.vocab.bpe import SequenceBPE, isotropy
from sememe.vocab.pairs import Ids

LEVELS, WEEK = 16, 168
WORDS, GROUP = 24_000, 20
STEPS, ROUNDS = 400, 5
SHORTER = "at four times the vocabulary at least 40 % shorter, on both"
LOWER = "the loss an event is not higher after as many steps, on both, with confidence"
EVEN = "the learned table is more isotropic, on both"


@experiment(
    "sequence-bpe",
    paper=Paper("Byte Pair Encoding for Symbolic Music", 2023, "2301.11975"),
    claim="Merging frequent neighbours of symbolic events shortens sequences, lowers the loss of models and speeds "
    "them up, and the learned vectors use their space more evenly.",
    needs=("ett", "cmudict"),
)
def run(setting: Setting) -> Finding:
    """Loss an event of small models on quantised measurements and on phones, with and without merges."""
    details: dict[str, Any] = {}
    exact, shorter, lower, faster = True, [], [], []
    headline = None
    for name, (base, train, held, isolated) in {
        "electricity, 16 levels an hour": electricity(setting.data),
        "phones of words": phones(setting.data),
    }.items():
        bpe = SequenceBPE(4 * base, base=base, isolated=isolated).fit(train)
        coded = bpe.encode_batch(held)
        exact &= all(np.array_equal(bpe.decode(ids), stream) for ids, stream in zip(coded, held))
        report = bpe.report(held)
        rows, tables, seconds = trained(base, bpe, train, held, setting.seeds)
        plain, merged = rows
        shorter.append(report.reduction)
        lower.append(merged.gap)
        faster.append(seconds["events"] / seconds["merged"])
        details[name] = {
            "length_and_use": report.as_json(),
            "bits_an_event": {"events": plain.loss, "merged": merged.loss, "merged_minus_events": merged.gap},
            "seconds_to_score_the_held_out_events": seconds,
            "isotropy_of_the_learned_table": tables,
        }
        headline = headline or (merged, plain)
    assert headline is not None
    merged, plain = headline
    checks = {
        "every held-out stream comes back exactly": exact,
        SHORTER: min(shorter) >= 0.4,
        LOWER: all(gap[2] <= 0 for gap in lower),
        "scoring the same events at least 1.5 times as fast, on both": min(faster) >= 1.5,
        EVEN: all(
            entry["isotropy_of_the_learned_table"]["merged"] > entry["isotropy_of_the_learned_table"]["events"]
            for entry in details.values()
        ),
    }
    return Finding(
        measured=merged.loss[0],
        baseline=plain.loss[0],
        interval=(merged.gap[1], merged.gap[2]),
        unit="bits an hour of held-out electricity measurements in 16 levels: merged symbols, against plain levels",
        interval_of="merged minus plain, over seeds and documents",
        checks=checks,
        details=details,
        conditions="Transformers of two layers of width 64, tied tables, 128 symbols of context, trained for "
        "as many steps of as many symbols, as in the paper; electricity is split in time, words at random.",
        reason="" if all(checks.values()) else _reason(checks),
    )


def _reason(checks: dict[str, bool]) -> str:
    known = {
        SHORTER: "phones follow each other freely, and merges end with the word",
        LOWER: "quantised measurements are noisy from hour to hour, so a symbol of several hours is harder to guess "
        "than they are one by one, and neither stream has structure beyond 128 events, as music has, that shorter "
        "sequences would bring within reach",
        EVEN: "rare symbols of a tied table are all pushed the same way by what is predicted instead of them",
    }
    return "; ".join(known[statement] for statement, held in checks.items() if not held and statement in known)


def electricity(data: DataFolder) -> tuple[int, list[Ids], list[Ids], tuple[int, ...]]:
    """Seven series by the hour as quantiles of their first four fifths; documents are weeks, the last ones held out."""
    with gzip.open(data.require("ett") / "ETTh1.csv.gz", "rt", encoding="utf-8") as file:
        table = np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    weeks = len(table) // WEEK
    known = weeks * 4 // 5
    train: list[Ids] = []
    held: list[Ids] = []
    for series in table.T[:, : weeks * WEEK]:
        edges = np.quantile(series[: known * WEEK], np.arange(1, LEVELS) / LEVELS)
        documents = list(np.searchsorted(edges, series).astype(np.int64).reshape(weeks, WEEK))
        train += documents[:known]
        held += documents[known:]
    return LEVELS, train, held, ()


def phones(data: DataFolder) -> tuple[int, list[Ids], list[Ids], tuple[int, ...]]:
    """Pronunciations of words in groups of twenty, with an event between words that never merges."""
    with gzip.open(data.require("cmudict") / "cmudict.tsv.gz", "rt", encoding="utf-8") as file:
        spoken = [line.rstrip("\n").split("\t")[-1].split() for line in file]
    order = np.random.default_rng(0).permutation(len(spoken))[:WORDS]
    names = sorted({phone for row in order for phone in spoken[row]})
    number = {phone: place + 1 for place, phone in enumerate(names)}
    documents = [
        np.array([event for row in order[at : at + GROUP] for event in (*(number[p] for p in spoken[row]), 0)])
        for at in range(0, WORDS, GROUP)
    ]
    cut = len(documents) * 9 // 10
    return len(names) + 1, documents[:cut], documents[cut:], (0,)


def trained(
    base: int, bpe: SequenceBPE, train: list[Ids], held: list[Ids], seeds: tuple[int, ...]
) -> tuple[Any, dict[str, float], dict[str, float]]:
    """Rows without and with merges, isotropy of their tables, and seconds to score the held-out streams."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM, table
    from sememe.lab.score import score_stream

    shape = Shape(dim=64, layers=2, heads=4, context=128)

    def contender(name: str, vocabulary: int, sides: list[list[Ids]]) -> Contender:
        streams = [
            stream_of(None, coded, list(map(len, plain)), vocabulary=vocabulary)
            for coded, plain in zip(sides, (train, held))
        ]
        return Contender(name, lambda seed: SmallLM(table(vocabulary, shape.dim), shape=shape), *streams)

    contenders = [
        contender("events", base, [train, held]),
        contender("merged", bpe.vocabulary, [bpe.encode_batch(train), bpe.encode_batch(held)]),
    ]
    models: dict[str, Any] = {}

    def keep(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        models[contender.name] = model
        return {"isotropy": isotropy(model.embedding.weight.detach().numpy())}

    rows = compare(contenders, seeds=seeds, steps=(STEPS,), batch=8, length=128, also=keep).rows
    spent: dict[str, list[float]] = {entry.name: [] for entry in contenders}
    for _ in range(ROUNDS):
        for entry in contenders:
            began = time.process_time()
            score_stream(models[entry.name], entry.held_out)
            spent[entry.name].append(time.process_time() - began)
    tables = {row.name: row.also["isotropy"] for row in rows}
    return rows, tables, {name: float(np.median(values)) for name, values in spent.items()}
