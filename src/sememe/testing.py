"""Small things that tests (ours and other packages') build on: an encoder without weights and records with meaning."""

from __future__ import annotations

import datetime
import re
import zlib
from collections.abc import Sequence

import numpy as np

from sememe.contracts import Kind, Ragged, Record, Vectors, unit_rows

_TOPICS = {
    "baking": "flour yeast oven dough bread crust knead butter sugar loaf",
    "sailing": "mast harbour tide anchor keel rudder wind sail deck rope",
    "astronomy": "telescope orbit comet nebula planet eclipse star galaxy lens dust",
    "chess": "rook bishop pawn castle gambit endgame knight queen board check",
    "gardening": "soil seed compost prune rose hedge spade water bulb lawn",
}


class HashingEncoder:
    """Deterministic bag-of-words vectors: each word is a fixed random direction. No weights, no downloads.

    Texts that share words are close, so retrieval over them behaves like retrieval over real text.
    """

    def __init__(self, dim: int = 32, seed: int = 0) -> None:
        self.name, self.dim, self.seed = "hashing", dim, seed
        self.digest = f"testing-hashing-{dim}-{seed}"

    def _word(self, word: str) -> Vectors:
        generator = np.random.default_rng([self.seed, zlib.crc32(word.encode("utf-8", "surrogatepass"))])
        return generator.standard_normal(self.dim, dtype=np.float32)

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Unit rows ``(n, dim)``; a text without words gives a zero row."""
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                out[row] += self._word(word)
        return unit_rows(out)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "passage") -> Ragged:
        """One vector a word, with the characters it covers."""
        values, spans, offsets = [], [], [0]
        for text in texts:
            for match in re.finditer(r"\w+", text.lower()):
                values.append(self._word(match[0]))
                spans.append(match.span())
            offsets.append(len(values))
        table = np.array(values, dtype=np.float32).reshape(-1, self.dim)
        return Ragged(table, np.array(offsets, dtype=np.int64), np.array(spans, dtype=np.int64).reshape(-1, 2))


def toy_records(n: int = 200, seed: int = 0) -> list[Record]:
    """``n`` short records about five topics, with number, text, date and tag metadata."""
    generator = np.random.default_rng(seed)
    names = list(_TOPICS)
    records = []
    for row in range(n):
        topic = names[row % len(names)]
        words = generator.choice(_TOPICS[topic].split(), size=12)
        text = " ".join(words[:6]) + ". " + " ".join(words[6:]) + "."
        records.append(
            Record(
                id=f"doc-{row}",
                text=text,
                title=f"{topic} {row}",
                source=f"toy:{row + 1}",
                metadata={
                    "topic": topic,
                    "year": 2000 + row % 25,
                    "published": datetime.date(2000 + row % 25, 1 + row % 12, 1 + row % 28),
                    "tags": [topic, "even" if row % 2 == 0 else "odd"],
                },
            )
        )
    return records


def clustered_vectors(n: int = 1000, d: int = 64, clusters: int = 20, seed: int = 0) -> Vectors:
    """Unit float32 rows ``(n, d)`` around cluster centres with decaying spectrum, as real embeddings have."""
    generator = np.random.default_rng(seed)
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(d))
    centres = generator.standard_normal((clusters, d)) * spectrum
    rows = centres[generator.integers(clusters, size=n)] + 0.5 * generator.standard_normal((n, d)) * spectrum
    return unit_rows(rows.astype(np.float32))
