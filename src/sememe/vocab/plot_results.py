"""Pictures of what `sememe.vocab.expand` did and of what `sememe.vocab.compare` found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sememe.drawing import written
from sememe.vocab.plot import WIDTH, framed

_LEFT, _ROOM = 170.0, WIDTH - 330.0  # where bars begin, and how long the longest is


def compared(answer: Mapping[str, Any]) -> str:
    """Loss of each method, right after surgery and after training, with intervals; the best first.

    Parameters
    ----------
    answer : dict
        What `sememe.vocab.compare` returned.
    """
    steps, rows = answer["steps"], [row for row in answer["rows"] if not row["skipped"]]
    bars = [("loss", "bar"), ("trained", "light")] if steps else [("loss", "bar")]
    longest = max([row[key]["high"] for row in rows for key, _ in bars] + [1e-9])
    unit = f"{answer['unit'][0].upper()}{answer['unit'][1:]}"
    parts = [written(20, 34, f"{Path(str(answer['model'])).name} with another tokenizer: {unit.lower()}", "head")]
    held = answer["held_out"]
    parts.append(
        written(20, 54, f"{held['texts']:,} held-out texts, {held['bytes']:,} bytes; lines are 95 % intervals", "small")
    )
    if steps:
        for x, (name, kind) in zip(
            (20, 190), (("right after", "bar"), (f"after {steps:,} steps", "light")), strict=True
        ):
            parts.append(
                f'<rect class="{kind}" x="{x}" y="64" width="12" height="12"/>{written(x + 18, 74, name, "small")}'
            )
    y = 84.0 if steps else 66.0
    for row in rows:
        parts.append(written(_LEFT - 10, y + 8 + 8 * len(bars), row["method"], anchor="end"))
        for key, kind in bars:
            value, low, high = (row[key][name] / longest * _ROOM for name in ("value", "low", "high"))
            parts.append(f'<rect class="{kind}" x="{_LEFT}" y="{y + 3}" width="{max(value, 0.5):.1f}" height="13"/>')
            parts.append(f'<path class="range" d="M{_LEFT + low:.1f} {y + 9.5}H{_LEFT + high:.1f}"/>')
            parts.append(written(_LEFT + high + 8, y + 14, f"{row[key]['value']:.3f}", "small"))
            y += 16
        y += 8
    return framed(f"Ways of making rows for {answer['model']}", y, parts)


def expanded(answer: Mapping[str, Any]) -> str:
    """Length of a text, size of the vocabulary, and how many of the new tokens are given, before and after.

    Parameters
    ----------
    answer : dict
        What `sememe.vocab.expand` returned.
    """
    rate, tokens, added = answer["tokens_per_byte"], answer["tokens"], answer["added"]
    new, produced = tokens["after"] - tokens["before"], added["produced"]
    parts = [written(20, 34, f"{Path(str(answer['model'])).name} with {new:,} more tokens", "head")]
    groups = [
        ("Bytes a token, of text that was not learned from", [
            ("before", 1 / rate["before"], f"{1 / rate['before']:.3f}"),
            ("after", 1 / rate["after"], f"{1 / rate['after']:.3f}, {rate['saved']:.1%} fewer tokens"),
        ]),
        ("Tokens of the vocabulary", [
            ("before", float(tokens["before"]), f"{tokens['before']:,}"),
            ("after", float(tokens["after"]), f"{tokens['after']:,}"),
        ]),
        ("New tokens", [
            ("inside words", float(added["words"]), f"{added['words']:,}"),
            ("of several words", float(added["supertokens"]), f"{added['supertokens']:,}"),
            ("given where learned", float(produced["in_learned"]), f"{produced['in_learned']:,}"),
            ("given where measured", float(produced["in_measured"]), f"{produced['in_measured']:,}"),
        ]),
    ]  # fmt: skip
    y = 62.0
    for title, bars in groups:
        parts.append(written(20, y, title))
        longest = max([value for _, value, _ in bars] + [1e-9])
        y += 6
        for name, value, note in bars:
            width = max(value / longest * _ROOM, 0.5)
            parts.append(written(_LEFT - 10, y + 17, name, "small", "end"))
            parts.append(f'<rect class="bar" x="{_LEFT}" y="{y + 4}" width="{width:.1f}" height="17"/>')
            parts.append(written(_LEFT + width + 6, y + 17, note, "small"))
            y += 25
        y += 24
    return framed(f"More tokens for {answer['model']}", y - 20, parts)
