"""Quotient and remainder beside the hashing trick, with equally many parameters, on a real click log."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM = 32
RATIOS = (4, 8, 16, 30, 60)
MAIN = 16
THRESHOLD = 200  # fields with fewer values keep an ordinary table


@experiment(
    "quotient-remainder",
    paper=Paper(
        "Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation Systems",
        2019,
        "1909.02107",
    ),
    claim="Tables of quotient and remainder lose less than the hashing trick at the same size, and tell all ids apart.",
    needs=("frappe",),
)
def run(setting: Setting) -> Finding:
    """The Frappe log, a DeepFM model; its two large fields compressed 4 to 60 times by either."""
    from sememe.tokens.click_logs import ClickLog
    from sememe.tokens.click_models import Contender, compare_clicks

    log = ClickLog.sample(setting.data, "frappe")
    details: dict[str, Any] = {"values_of_the_compressed_fields": [int(n) for n in log.sizes if n > THRESHOLD]}
    gaps, rows_by_ratio = {}, {}
    for ratio in RATIOS:
        found = compare_clicks(
            log,
            {
                "hashing trick": Contender(lambda seed, ratio=ratio: per_field(log.sizes, ratio, "hash")),  # type: ignore[misc]
                "quotient, remainder": Contender(lambda seed, ratio=ratio: per_field(log.sizes, ratio, "product")),  # type: ignore[misc]
                "the same, summed": Contender(lambda seed, ratio=ratio: per_field(log.sizes, ratio, "sum")),  # type: ignore[misc]
            },
            DIM,
            seeds=setting.seeds,
        )
        rows_by_ratio[ratio] = found
        gaps[ratio] = found[1].log_loss_gap
        details[f"{ratio} times smaller"] = {
            row.name: {
                "log_loss": row.log_loss,
                "minus_hashing_trick": row.log_loss_gap,
                "auc": row.auc,
                "parameters": row.parameters,
            }
            for row in found
        }
    plain = compare_clicks(
        log, {"full": Contender(lambda seed: per_field(log.sizes, 1, "hash"))}, DIM, seeds=setting.seeds
    )
    details["full tables"] = {"log_loss": plain[0].log_loss, "auc": plain[0].auc, "parameters": plain[0].parameters}
    hashed, ours = rows_by_ratio[MAIN][0], rows_by_ratio[MAIN][1]
    checks = {
        "its log-loss is below that of the hashing trick at every ratio": all(gap[0] < 0 for gap in gaps.values()),
        f"at {MAIN} times it is below with confidence": gaps[MAIN][2] < 0,
        "all vectors of a field differ, at every ratio, scheme and way of combining": all_differ(log.sizes),
        "parameters are sum(sizes) d, or sum(sizes) d / k side by side, exactly": formula_holds(log.sizes),
    }
    return Finding(
        measured=ours.log_loss[0],
        baseline=hashed.log_loss[0],
        interval=(ours.log_loss_gap[1], ours.log_loss_gap[2]),
        unit=f"log-loss of clicks, large tables {MAIN} times smaller: products of quotient and remainder rows, and the "
        "hashing trick",
        interval_of="the difference, over seeds and test rows",
        checks=checks,
        details=details,
        conditions=f"Frappe (49,064 rows to learn from, 28,860 to test; ten fields), DeepFM of width {DIM}, 400 steps "
        f"of 512 rows; fields of more than {THRESHOLD} values are compressed, each with as many rows in all by either "
        "way.",
        reason="" if all(checks.values()) else reason(gaps),
    )


def reason(gaps: dict[int, tuple[float, float, float]]) -> str:
    """What failed where."""
    lost = [f"{ratio} times ({gap[0]:+.4f})" for ratio, gap in gaps.items() if gap[0] >= 0]
    return (
        f"the hashing trick is as good or better at {', '.join(lost) or 'no ratio with confidence'}; likely (not "
        "tested) because ids of this log are numbered by name, so equal quotients mean nothing"
    )


def compressed(size: int, ratio: int) -> list[int]:
    """Sizes of the tables of a field of ``size`` values."""
    from sememe.tokens.compositional import sizes_for

    return sizes_for(size, -(-size // ratio))


def per_field(sizes: Any, ratio: int, way: str) -> Any:
    """A layer a field: compressed by a ratio where the field is large, ordinary tables elsewhere."""
    import torch
    from torch import nn

    from sememe.tokens.compositional import QuotientRemainder
    from sememe.tokens.vocabulary import Vocabulary

    class Hashed(nn.Module):  # type: ignore[misc]
        def __init__(self, rows: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(0.02 * torch.randn(rows, DIM))

        def forward(self, ids: Any) -> Any:
            return self.weight[ids % len(self.weight)]

    class Fields(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = np.concatenate(([0], np.cumsum(sizes)))[:-1]
            self.layers = nn.ModuleList(self.made(int(size)) for size in sizes)

        def made(self, size: int) -> nn.Module:
            tables = compressed(size, ratio) if size > THRESHOLD and ratio > 1 else [size]
            if way == "hash" or len(tables) == 1:
                return Hashed(sum(tables))
            return QuotientRemainder(Vocabulary.of(size), DIM, sizes=tables, combine=way)  # type: ignore[arg-type]

        def forward(self, ids: Any) -> Any:
            return torch.stack([layer(ids[:, f] - int(self.first[f])) for f, layer in enumerate(self.layers)], dim=1)

    return Fields()


def layers_of(sizes: Any) -> Any:
    """A fresh layer for each large field, ratio, scheme and way of combining."""
    from sememe.tokens.compositional import QuotientRemainder, coprime_sizes_for
    from sememe.tokens.vocabulary import Vocabulary

    for size in (int(n) for n in sizes if n > THRESHOLD):
        for ratio in RATIOS:
            for scheme, tables in (
                ("radix", compressed(size, ratio)),
                ("remainders", coprime_sizes_for(size, -(-size // ratio))),
            ):
                for combine in ("product", "sum", "concat"):
                    yield QuotientRemainder(Vocabulary.of(size), DIM, sizes=tables, scheme=scheme, combine=combine)  # type: ignore[arg-type]


def all_differ(sizes: Any) -> bool:
    """Whether no two ids of a field have one vector."""
    return all(len(np.unique(layer.table().numpy(), axis=0)) == len(layer.vocabulary) for layer in layers_of(sizes))


def formula_holds(sizes: Any) -> bool:
    """Whether the parameters are those of the formula, counted from the tensors."""
    for layer in layers_of(sizes):
        if layer.combine == "concat":
            widths = [len(part) for part in np.array_split(np.arange(DIM), len(layer.used_sizes))]
            wanted = int(np.dot(layer.used_sizes, widths))
        else:
            wanted = sum(layer.used_sizes) * DIM
        if sum(p.numel() for p in layer.parameters()) != wanted or np.prod(layer.used_sizes) < len(layer.vocabulary):
            return False
    return True
