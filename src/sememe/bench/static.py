"""The encoder ``static`` against wordllama and model2vec from raw text, all with the same weights and tokenizer.

model2vec is made of the float32 table and the tokenizer, without its limit of 512 tokens. Each round brings a new slice
of the text, because all remember: the packages whole texts, ours words. ``cold`` is an encoder that is loaded and has
seen no text; ``new`` is text that is new to one in use; ``again`` is the same text once more. The floor is gathering
and adding float32 rows whose numbers are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, once
from sememe.bench.machine import Limits
from sememe.bench.peers import peer

SIZE = 1000  # texts a round
_QUERIES = 200
_WHEN = ("cold", "new", "again")
Texts = list[str]
Encode = Callable[[Texts], Any]


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """A table for passages, one for sentences, and one for single queries."""
    out = [_measure(name, found, settings, limits) for name, found in _collections(settings)]
    return [*out, _single(texts.sentences(_QUERIES))]


def _collections(settings: Settings) -> Iterator[tuple[str, Texts]]:
    yield "passages", texts.passages()
    yield "sentences", texts.sentences((settings.rounds + 1) * (settings.size or SIZE))


def _makers() -> dict[str, Callable[[], Encode]]:
    """Name to what makes an encoder that is loaded and has seen no text but one word."""
    from sememe.encode.static import Static

    found: dict[str, Callable[[], Encode]] = {"sememe static": lambda: Static().encode}
    library = peer("wordllama")
    if library is None:
        return found

    def package() -> Any:
        return library.WordLlama.load(cache_dir=Path(library.__file__).parent, disable_download=True)

    def theirs() -> Encode:
        made = package()
        return lambda part: made.embed(part, norm=True)

    found["wordllama"] = theirs
    other = peer("model2vec")
    if other is not None:

        def model() -> Encode:
            made = other.StaticModel(package().embedding, Static()._tokenizer, normalize=True, max_length=None)
            return lambda part: made.encode(part, use_multiprocessing=False)

        found["model2vec"] = model
    return found


def _floor(table: Any) -> Callable[[list[Any]], Callable[[], Any]]:
    """What adds rows whose numbers are known: by PyTorch's embedding bag where that is installed."""
    torch = peer("torch")
    if torch is None:
        return lambda ids: lambda: [table.take(row, axis=0).sum(axis=0) for row in ids]
    rows = torch.from_numpy(table)

    def prepare(ids: list[Any]) -> Callable[[], Any]:
        flat = torch.tensor([number for row in ids for number in row])
        offsets = torch.tensor(np.cumsum([0, *map(len, ids)])[:-1])
        return lambda: torch.nn.functional.embedding_bag(flat, rows, offsets, mode="mean")

    return prepare


def _single(queries: Texts) -> Table:
    """New queries, one at a time: always elapsed time, which is what waits."""
    columns = [Column("encoder"), Column("median, µs", ".1f"), Column("95 of 100 under, µs", ".1f")]
    table = Table(f"{len(queries)} new queries, one at a time, elapsed time", [*columns, Column("x best peer", ".1f")])
    for who, make in _makers().items():
        encode = make()
        encode(["x"])
        taken = np.array([once(partial(encode, [text]))[0].elapsed for text in queries])
        table.rows.append([who, *(1e6 * np.percentile(taken, (50, 95))).tolist(), None])
    if len(table.rows) > 1:
        table.rows[0][3] = min(row[1] for row in table.rows[1:]) / table.rows[0][1]
    return table


def _measure(name: str, found: Texts, settings: Settings, limits: Limits) -> Table:
    from sememe.encode.static import Static

    size = max(1, min(settings.size or SIZE, len(found) // (settings.rounds + 1)))
    makers = _makers()
    used = {who: make() for who, make in makers.items()}
    encoder = Static()
    prepare = _floor(np.asarray(encoder._table, dtype=np.float32))
    spent: dict[tuple[str, str], list[float]] = {(who, when): [] for who in makers for when in _WHEN}
    floor: list[float] = []
    worst = dict.fromkeys(makers, 0.0)
    tokens = 0
    for number in range(settings.rounds + 1):
        part = found[number * size : (number + 1) * size]
        for who in list(makers) if number % 2 else list(makers)[::-1]:
            cold = makers[who]()
            cold(["x"])
            for when, encode in zip(_WHEN, (cold, used[who], used[who])):
                taken = once(partial(encode, part))[0].seconds(settings.threads)
                if number:
                    spent[who, when].append(taken / len(part))
            worst[who] = max(worst[who], float(np.abs(used["sememe static"](part) - used[who](part)).max()))
        ids = encoder.tokenize(part)
        tokens += sum(map(len, ids))
        floor.append(once(prepare(ids))[0].seconds(settings.threads) / len(part))
    least = median(floor[1:])
    columns = [Column("encoder"), *(Column(f"µs a text, {when}", ".1f") for when in _WHEN)]
    columns += [*(Column(f"x best peer, {when}", ".1f") for when in _WHEN), Column("x floor, again", ".1f")]
    columns += [Column("largest difference", ".0e")]
    table = Table(f"Encoding {(settings.rounds + 1) * size:,} {name}", columns)
    for who in makers:
        own = [median(spent[who, when]) for when in _WHEN]
        best: list[float | None] = [None] * 3
        if who == "sememe static" and len(makers) > 1:
            best = [min(median(spent[p, when]) for p in makers if p != who) / t for when, t in zip(_WHEN, own)]
        table.rows.append([who, *(1e6 * t for t in own), *best, own[2] / least, worst[who]])
    count = (settings.rounds + 1) * size
    rows = tokens / count * encoder._table.shape[1]
    table.note = (
        f"The floor takes {1e6 * least:.1f} µs. A text has {tokens / count:.0f} tokens: reading their float32 rows at "
        f"the bandwidth of memory takes {1e6 * 4 * rows / limits.bandwidth:.2f} µs, adding them at the rate of "
        f"multiply-adds {1e6 * rows / limits.multiply_adds:.2f} µs."
    )
    return table
