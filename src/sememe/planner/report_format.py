"""Numbers and texts as the report shows them: short, human, and safe to put into HTML.

Every function accepts what a plan may hold in place of a number (``None``, NaN, a missing key) and shows a dash.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Mapping
from typing import Any

from sememe import catalog
from sememe.errors import SememeError
from sememe.recipe import Recipe

DASH = "–"
_MINUS = "−"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_METRICS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "recall": "Recall", "agreement": "Agreement"}


def plain(text: object) -> str:
    """``text`` with control characters and lone surrogates, which no page may hold, as U+FFFD."""
    return _CONTROL.sub("\ufffd", str(text))


def esc(text: object) -> str:
    """``text``, made plain, for an element or a quoted attribute."""
    return html.escape(plain(text), quote=True)


def number(value: object) -> float | None:
    """``value`` as a finite float, or None where it is absent, not a number, NaN or infinite."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def section(plan: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """The dict under ``key``, or an empty one."""
    found = (plan or {}).get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def entries(plan: Mapping[str, Any] | None, key: str) -> list[Any]:
    """The list under ``key``, or an empty one."""
    found = (plan or {}).get(key)
    return list(found) if isinstance(found, list | tuple) else []


def count(value: object) -> str:
    """A whole number with thousands separators: ``5,183``."""
    found = number(value)
    return DASH if found is None else f"{found:,.0f}"


def _three(value: float) -> str:
    """Three significant digits without an exponent, trailing zeros kept: ``0.41``, ``4.06``, ``812``."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def size(value: object) -> str:
    """Bytes in decimal units: ``812 KB``, ``1.23 MB``."""
    found = number(value)
    if found is None:
        return DASH
    amount = abs(found)
    sign = _MINUS if found < 0 else ""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            return f"{sign}{amount:.0f} B" if unit == "B" else f"{sign}{_three(amount)} {unit}"
        amount /= 1000
    return DASH


def vector_bytes(value: object) -> str:
    """Bytes of one vector, never in KB because the exact count is what is compared: ``1,024 B``."""
    found = number(value)
    if found is None:
        return DASH
    return f"{found:,.0f} B" if abs(found - round(found)) < 0.05 else f"{found:,.1f} B"


def milliseconds(value: object) -> str:
    """A latency: ``420 µs``, ``4.06 ms``, ``1.20 s``."""
    found = number(value)
    if found is None:
        return DASH
    if found < 0.1:
        return f"{found * 1000:.0f} µs"
    return f"{_three(found)} ms" if found < 999.5 else seconds(found / 1000)


def seconds(value: object) -> str:
    """A duration: ``0.30 s``, ``84 s``, ``2 min 5 s``, ``3.2 h``."""
    found = number(value)
    if found is None:
        return DASH
    if found < 99.5:
        return f"{_three(found)} s" if found < 10 else f"{found:.0f} s"
    if found < 5400:
        minutes, rest = divmod(round(found), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{found / 3600:.1f} h" if found < 172800 else f"{found / 86400:.1f} days"


def score(value: object) -> str:
    """A quality in three decimals: ``0.412``."""
    found = number(value)
    return DASH if found is None else f"{found:.3f}".replace("-", _MINUS)


def signed(value: object) -> str:
    """A difference in three decimals with its sign: ``+0.001``, ``−0.003``, ``0.000``."""
    found = number(value)
    if found is None:
        return DASH
    rounded = round(found, 3)
    return "0.000" if rounded == 0 else f"{rounded:+.3f}".replace("-", _MINUS)


def percent(value: object) -> str:
    """A share: ``99.3 %``, ``2 %``."""
    found = number(value)
    return DASH if found is None else f"{found * 100:.1f}".removesuffix(".0").replace("-", _MINUS) + " %"


def interval(estimate: Mapping[str, Any] | None, *, sign: bool = False, key: str = "value") -> str:
    """An estimate with its 95 % interval: ``0.412 [0.380, 0.440]``; without an interval, the value alone."""
    if not estimate or number(estimate.get(key)) is None:
        return DASH
    show = signed if sign else score
    low, high = estimate.get("low"), estimate.get("high")
    if number(low) is None or number(high) is None:
        return show(estimate[key])
    return f"{show(estimate[key])} [{show(low)}, {show(high)}]"


def times(big: object, small: object) -> str:
    """How many times ``small`` fits in ``big``: ``12.4×``; a dash where that has no meaning."""
    above, below = number(big), number(small)
    if above is None or below is None or above <= 0 or below <= 0:
        return DASH
    ratio = above / below
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.1f}×"


def interval_html(estimate: Mapping[str, Any] | None, *, sign: bool = False, key: str = "value") -> str:
    """``interval`` on two lines: the value, and its interval small below it."""
    value, gap, bounds = interval(estimate, sign=sign, key=key).partition(" ")
    return f"{value}<small>{bounds}</small>" if gap else value


def metric_name(metric: object) -> str:
    """The usual spelling of a measure: ``nDCG@10`` for ``ndcg@10``."""
    name, at, cut = str(metric or "quality").partition("@")
    return _METRICS.get(name.lower(), name) + at + cut


def clip(text: object, limit: int) -> str:
    """The first ``limit`` characters, cut at a space and ended with an ellipsis where something is left out."""
    whole = " ".join(str(text).split())
    if len(whole) <= limit:
        return whole
    head = whole[:limit]
    return (head.rpartition(" ")[0] if " " in head[limit // 2 :] else head) + "…"


def recipe_html(recipe: object, previous: object = "") -> str:
    """A recipe as code with its bars set back, wrapping only between stages.

    With a ``previous`` recipe, the stages that it does not have are marked.
    """
    known = {stage.strip() for stage in str(previous).split("|")}
    stages = [stage.strip() for stage in str(recipe).split("|")]
    made = []
    for place, stage in enumerate(stages):
        changed = ' class="changed"' if previous and stage not in known else ""
        bar = "<i> |</i>" if place < len(stages) - 1 else ""
        made.append(f"<span><b{changed}>{esc(stage)}</b>{bar}</span>")
    return f'<code class="recipe" dir="ltr">{" ".join(made)}</code>'


@functools.lru_cache(maxsize=4096)
def families(recipe: str) -> tuple[str, str, str]:
    """Encoder (with what it is fused with), quantizer and index of a recipe: what the plot's points are coloured by.

    A report can be written where a technique of the plan is not installed: then a stage of unknown kind is read by its
    position (the encoder first, the index last, the quantizer before it).
    """
    try:
        parsed = Recipe.parse(recipe)
    except (SememeError, ImportError):
        return _by_position([stage.strip() for stage in recipe.split("|")])
    asymmetric = parsed.query_encoder != parsed.encoder
    encoder = f"{parsed.encoder}/{parsed.query_encoder}" if asymmetric else str(parsed.encoder)
    for stage in parsed.rerankers:
        encoder += f" + {stage.args[0] if stage.args else 'bm25'}" if stage.name == "hybrid" else ""
    return encoder, "none" if parsed.index.name == "inverted" else parsed.quantizer.name, parsed.index.name


def _by_position(stages: list[str]) -> tuple[str, str, str]:
    found: dict[str, str] = {}
    unknown = []
    for stage in stages:
        try:
            found.setdefault(catalog.find(stage.partition(":")[0]).kind, stage)
        except (SememeError, ImportError):
            unknown.append(stage)
    if "encoder" not in found and unknown:
        found["encoder"] = unknown.pop(0)
    for kind in ("index", "quantizer"):
        if kind not in found and unknown:
            found[kind] = unknown.pop()
    short = {kind: stage.partition(":")[0] for kind, stage in found.items()}
    return found.get("encoder", "none"), short.get("quantizer", "fp32"), short.get("index", "none")
