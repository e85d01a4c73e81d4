"""What an operation on a vocabulary found, as one picture: an SVG, or a page around it, that needs nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sememe import drawing
from sememe.drawing import written

WIDTH = 760
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.head{font-size:16px;font-weight:600}"
    ".small{font-size:11px;fill:#666}"
    ".bar{fill:#3b6ea8}.rest{fill:#d8dde3}.line{fill:none;stroke:#3b6ea8;stroke-width:2.5}.grid{stroke:#e4e7eb}"
    ".light{fill:#9db8d6}.range{stroke:#1c3a5c;stroke-width:1.5}"
    ".mark{stroke:#b3541e;stroke-dasharray:5 4}.paper{fill:#fff}"
    "@media(prefers-color-scheme:dark){.light{fill:#3c5878}.range{stroke:#dce8f5}text{fill:#ddd}.small{fill:#999}.bar{fill:#6ea3dd}.rest{fill:#3a424c}"
    ".line{stroke:#6ea3dd}.grid{stroke:#333a42}.mark{stroke:#e0915f}.paper{fill:#15181c}}"
)


def draw(answer: Mapping[str, Any]) -> str:
    """The picture as SVG.

    Parameters
    ----------
    answer : dict
        What `sememe.vocab.inspect`, `sememe.vocab.expand` or `sememe.vocab.compare` returned.
    """
    if "unit" in answer:
        from sememe.vocab.plot_results import compared

        return compared(answer)
    if answer.get("operation") == "expand":
        from sememe.vocab.plot_results import expanded

        return expanded(answer)
    parts: list[str] = []
    y = _shares(parts, answer, 34)
    if "groups" in answer:
        y = _groups(parts, answer, y + 40)
        y = _coverage(parts, answer, y + 40)
    return framed(f"Vocabulary of {answer['model']}", y, parts)


def framed(label: str, height: float, parts: list[str]) -> str:
    """Parts of a picture as an SVG with a paper behind them."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 20:.0f}" role="img" '
        f'aria-label="{drawing.escaped(label)}">'
        f'<style>{_STYLE}</style><rect class="paper" width="{WIDTH}" height="{height + 20:.0f}"/>{"".join(parts)}</svg>'
    )


def save(answer: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the picture: ``.svg`` as it is, ``.html`` with a page around it.

    Raises
    ------
    InputError
        Another ending, or a place that cannot be written.
    """
    return drawing.save(draw(answer), path, f"Vocabulary of {Path(str(answer['model'])).name}")


def _shares(parts: list[str], answer: Mapping[str, Any], y: float) -> float:
    """The tables as shares of the model's parameters."""
    tables = answer["tables"]
    parts.append(written(20, y, f"{Path(str(answer['model'])).name}: where the parameters are", "head"))
    x, width, y = 20.0, WIDTH - 40, y + 14
    parts.append(f'<rect class="rest" x="20" y="{y}" width="{width}" height="26"/>')
    notes = []
    for role in ("input", "output"):
        if tables[role]:
            share = tables[role]["share"]
            parts.append(
                f'<rect class="bar" x="{x:.1f}" y="{y}" width="{max(share * width - 1, 0.5):.1f}" height="26"/>'
            )
            x += share * width
            name = "input and output table (tied)" if tables["tied"] else f"{role} table"
            notes.append(f"{name} {tables[role]['parameters']:,} ({100 * share:.1f} %)")
    rest = 1 - tables["share"]
    parts.append(written(20, y + 44, ", ".join([*notes, f"all else {100 * rest:.1f} %"])))
    return y + 44


def _groups(parts: list[str], answer: Mapping[str, Any], y: float) -> float:
    """Bytes a token, and tokens a word, for each language and script."""
    parts.append(written(20, y, "Bytes a token (and tokens a word) by language and script", "head"))
    groups = sorted(answer["groups"], key=lambda g: -g["bytes"])[:16]
    longest = max([group["bytes_per_token"] for group in groups] + [1e-9])
    y += 8
    for group in groups:
        name = " ".join(filter(None, [group["language"], group["script"]])) or "no letters"
        width = group["bytes_per_token"] / longest * (WIDTH - 360)
        words = f" ({group['fertility']:.2f})" if group["fertility"] is not None else ""
        parts.append(written(150, y + 17, name[:24], anchor="end"))
        parts.append(f'<rect class="bar" x="160" y="{y + 4}" width="{width:.1f}" height="17"/>')
        parts.append(written(166 + width, y + 17, f"{group['bytes_per_token']:.2f}{words}"))
        y += 25
    return y


def _coverage(parts: list[str], answer: Mapping[str, Any], y: float) -> float:
    """How much of the text the most frequent tokens cover, and where trimming would cut."""
    points = answer["used"]["coverage"]
    total = answer["tokenizer"]["tokens"]
    parts.append(written(20, y, "Share of the text that the most frequent tokens cover", "head"))
    top, height, left, width = y + 22, 220.0, 60.0, WIDTH - 100.0

    def across(tokens: float) -> float:
        return left + math.log(max(tokens, 1)) / math.log(max(total, 2)) * width

    for tick in (0, 0.25, 0.5, 0.75, 1):
        level = top + (1 - tick) * height
        parts.append(f'<path class="grid" d="M{left} {level:.1f}H{left + width}"/>')
        parts.append(written(left - 8, level + 4, f"{100 * tick:.0f} %", "small", "end"))
    power = 1
    while power <= total:
        parts.append(written(across(power), top + height + 18, f"{power:,}", "small", "middle"))
        power *= 10
    marks = (
        (answer["used"]["tokens"], f"used {answer['used']['tokens']:,}", 12),
        (answer["trim"]["default"]["tokens"], f"trimmed {answer['trim']['default']['tokens']:,}", 26),
        (total, f"all {total:,}", 40),
    )
    for tokens, name, drop in marks:
        parts.append(f'<path class="mark" d="M{across(tokens):.1f} {top}V{top + height}"/>')
        parts.append(written(across(tokens) - 5, top + height - drop, name, "small", "end"))
    path = "L".join(f"{across(tokens):.1f} {top + (1 - share) * height:.1f}" for tokens, share in points)
    parts.append(f'<path class="line" d="M{path}"/>')
    return top + height + 24
