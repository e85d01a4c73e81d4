"""A plan with the shape and the magnitudes of a real one, for tests of the report."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np

ENCODERS = {"static": (256, 0.412, 0.05), "minilm": (384, 0.648, 9.0), "use": (512, 0.505, 0.7)}
QUANTIZERS = {
    "fp32": (32, 0.0),
    "fp16": (16, 0.0),
    "int8": (8, 0.001),
    "int4": (4, 0.011),
    "ternary": (1.6, 0.04),
    "binary": (1, 0.07),
}
PASSAGES = 5183


def make_point(recipe, encoder, width, bits, value, generator, scale):
    """One point as the planner measures it, quality given."""
    codes = math.ceil(width * bits / 8)
    side = 4 * width * ENCODERS[encoder][0] if width < ENCODERS[encoder][0] else 4 * width
    graph = 260 * PASSAGES if "hnsw" in recipe else 0
    ids = 8 * PASSAGES
    book = {"codes": codes * PASSAGES, "side": side, "ids": ids, "graph": graph, "postings": 0, "rescore": 0}
    total = sum(book.values())
    half = 0.028 + 0.004 * generator.random()
    fast = 0.12 + codes * PASSAGES / 9e6 * (0.1 if graph else 1) + ENCODERS[encoder][2]
    return {
        "recipe": recipe,
        "bytes_per_vector": float(codes),
        "total_bytes": total,
        "ledger": {**book, "ram": total, "disk": total + 1900 * PASSAGES},
        "quality": {"metric": "ndcg@10", "value": value, "low": value - half, "high": value + half},
        "versus_reference": {
            "difference": value - scale,
            "low": value - scale - 0.008,
            "high": value - scale + 0.007,
            "kept": value / scale,
        },
        "reported": None,
        "latency_ms": {"p50": fast, "p95": fast * 1.45},
        "build_seconds": 0.2 + codes / 400,
        "status": "measured",
        "verdict": "passes",
        "reason": "",
    }


def make_plan(limit=300, seed=0, kind="labels"):
    """A plan with the shape and the magnitudes of one over a few thousand abstracts."""
    generator = np.random.default_rng(seed)
    best = ENCODERS["minilm"][1]
    points = []
    shapes = itertools.product(
        ENCODERS,
        (1.0, 0.75, 0.5, 0.25, 0.125),
        QUANTIZERS,
        ("flat", "hnsw:32"),
        ("", "sentences:4 | ", "tokens:128 | "),
    )
    for encoder, share, quantizer, index, chunks in shapes:
        full, top, _ = ENCODERS[encoder]
        width, (bits, cost) = int(full * share), QUANTIZERS[quantizer]
        reduce = "" if share == 1 else f"pca:{width} | "
        value = (
            top
            - cost * (1 + 0.4 * (1 - share))
            - 0.09 * (1 - share) ** 3
            - 0.01 * bool(chunks)
            - 0.002 * ("h" in index)
        )
        value += 0.003 * generator.standard_normal()
        recipe = f"{chunks}{encoder} | {reduce}{quantizer} | {index}"
        point = make_point(recipe, encoder, width, bits, round(value, 4), generator, best)
        low = point["versus_reference"]["low"] / best
        high = point["versus_reference"]["high"] / best
        point["verdict"] = "passes" if low >= -0.02 else "undecided" if high >= -0.02 else "fails"
        if value < best * 0.72 and generator.random() < 0.6:
            point |= {"status": "dropped", "verdict": "dropped", "reason": "27 % below the reference after 60 queries"}
        points.append(point)
    reference = next(p for p in points if p["recipe"] == "minilm | fp32 | flat")
    reference |= {"verdict": "reference", "reason": "the best exact full-precision recipe"}
    reference["quality"]["value"] = best
    passing = [p for p in points if p["verdict"] == "passes" and p["recipe"].startswith("minilm")]
    chosen = min(passing, key=lambda p: (p["total_bytes"], p["recipe"]))
    chosen |= {"reason": "the smallest recipe whose interval stays above the tolerance"}
    others = [p for p in points if p is not reference and p is not chosen]
    keep = sorted(generator.permutation(len(others))[: limit - 2])
    points = [reference, chosen, *(others[row] for row in keep)]
    frontier, top = [], -1.0
    for point in sorted((p for p in points if p["status"] == "measured"), key=lambda p: p["bytes_per_vector"]):
        if point["quality"]["value"] > top:
            top = point["quality"]["value"]
            frontier.append(point)
    for point, value in ((reference, 0.6412), (chosen, 0.6367)):
        point["reported"] = {"metric": "ndcg@10", "value": value, "low": value - 0.041, "high": value + 0.039}
    if chosen not in frontier:
        frontier = sorted([*frontier, chosen], key=lambda p: p["bytes_per_vector"])
    walk = frontier[::-1]
    steps = [
        {
            "from": a["recipe"],
            "to": b["recipe"],
            "bytes_saved": a["bytes_per_vector"] - b["bytes_per_vector"],
            "quality_cost": a["quality"]["value"] - b["quality"]["value"],
        }
        for a, b in itertools.pairwise(walk)
    ]
    context = copy.deepcopy(chosen) | {
        "recipe": "bm25 | inverted",
        "bytes_per_vector": None,
        "verdict": "",
        "reason": "",
    }
    context["quality"] = {"metric": "ndcg@10", "value": 0.552, "low": 0.52, "high": 0.584}
    context["versus_reference"] = {}
    return {
        "sememe": {"version": "0.1.0"},
        "created": "2026-03-14T10:20:30+00:00",
        "seed": 0,
        "versions": {"numpy": "2.2.1", "usearch": "2.26.0"},
        "machine": {"cpu": "Intel Xeon (Sapphire Rapids)", "cores": 2},
        "corpus": {
            "source": "docs/",
            "records": PASSAGES,
            "passages": PASSAGES,
            "characters": 7.8e6,
            "notices": ["12 empty records skipped", "3 records repeat an id; the first was kept"],
        },
        "judgement": {
            "kind": kind,
            "explanation": "300 queries with judgements from qrels.tsv",
            "fit": 40,
            "choose": 160,
            "report": 100,
            "unlabelled": 1000,
        },
        "metric": "ndcg@10",
        "tolerance": 0.02,
        "prefer": "small",
        "limits": {"budget_bytes": 5_000_000, "bytes_per_vector": None, "latency_ms": None},
        "reference": reference,
        "chosen": chosen,
        "frontier": frontier,
        "points": points,
        "context": [context],
        "steps": steps,
        "extrapolation": {name: _grow(point) for name, point in (("chosen", chosen), ("reference", reference))},
        "samples": [_sample(query) for query in QUERIES],
        "warnings": [
            "the interval on the report split is wide: 113 more judged queries would narrow it below the tolerance"
        ],
        "decision": f"{chosen['recipe']} keeps the quality of full precision within 2 %. "
        "The next smaller recipe on the frontier would save more, but then the interval reaches below the tolerance.",
        "command": f"sememe build docs/ --recipe '{chosen['recipe']}' -o my.index",
        "seconds": 84.2,
    }


def _grow(point):
    return [
        {
            "label": label,
            "passages": PASSAGES * factor,
            "total_bytes": point["total_bytes"] * factor,
            "ram_bytes": point["ledger"]["ram"] * factor,
            "latency_ms": point["latency_ms"]["p95"] * factor**0.9,
            "build_seconds": point["build_seconds"] * factor,
        }
        for label, factor in (("this corpus", 1), ("10x", 10), ("100x", 100))
    ]


QUERIES = (
    "Does vitamin D deficiency raise the risk of respiratory infection?",
    "Gut bacteria change how cancer drugs work",
    "Sleep loss and the clearance of amyloid",
    "Aspirin after a first stroke",
)
ABSTRACT = (
    "Serum concentrations were measured in 25 trials of daily supplementation. Participants who were deficient "
    "at baseline had the largest reduction in infection, while those with ample stores showed no measurable change "
    "over the winter. Heterogeneity between trials was explained by the dosing interval rather than by age or latitude."
)


def _sample(query):
    def hits(order):
        return [
            {
                "id": f"MED-{1000 + n}",
                "score": 0.82 - 0.03 * rank,
                "text": f"Trial {n}. {ABSTRACT}",
                "relevant": n in (1, 4) if n < 6 else None,
            }
            for rank, n in enumerate(order)
        ]

    return {"query": query, "reference": hits([1, 2, 3, 4, 5]), "chosen": hits([1, 4, 2, 3, 7])}
