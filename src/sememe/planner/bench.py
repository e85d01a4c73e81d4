"""Making benches: chunk and encode the sample once for each chunking and encoder, and ask the questions of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe import catalog, progress
from sememe.contracts import Encoder, Record
from sememe.errors import InputError
from sememe.planner.corpus import Corpus
from sememe.planner.ledger import Sizes
from sememe.planner.loss import OWN, SENTENCES
from sememe.planner.questions import Questions
from sememe.planner.sweep import Bench
from sememe.planner.view import View, ask
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.planning import Judgement

ENOUGH = 50  # own queries that do without sentences of the text
_BATCH = 512  # records encoded at a time: what an interruption can lose
_FUSED_TRIALS = 25  # trials that BM25 and some fifteen fused recipes take the time of
_TRIAL_SECONDS = 0.25  # of one recipe on 5,000 passages of 256 dimensions and 1,000 queries, two cores


@dataclass
class Collections:
    """The sample as it is, and the sample with the leak of the stand-ins removed (None where there is none)."""

    corpus: Corpus
    searched: list[Record] | None

    @property
    def collections(self) -> list[list[Record]]:
        """The collections that must be encoded."""
        return [self.corpus.records] + ([self.searched] if self.searched is not None else [])


class Benches:
    """Builds a ``Bench`` for a chunking and an encoder; every text is encoded once, ever (vector cache)."""

    def __init__(self, collections: Collections, judgement: Judgement, *, cache: Any, seed: int) -> None:
        self.collections, self.judgement, self.seed = collections, judgement, seed
        self.sizes = Sizes(collections.corpus)
        self._cache = cache
        self._encoders: dict[str, Encoder] = {}
        self._query_ms: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def encoder(self, name: str) -> Encoder:
        """The encoder of that name, cached on disk."""
        if name not in self._encoders:
            from sememe import encode
            from sememe.encode.cache import Cached, VectorCache

            made = encode.make(Recipe.parse(f"{name} | flat").encoder)
            self._measure_rate(name, made)
            if self._cache is None:
                self._cache = VectorCache()
            self._encoders[name] = Cached(made, self._cache)
        return self._encoders[name]

    def sparse_encoder(self, name: str) -> Any:
        """The learned sparse encoder of that name; what it gives is not kept between plans."""
        from sememe import encode

        made = encode.make(name)
        if name not in self._rates:
            self._measure_rate(name, made)
        return made

    def query_ms(self, name: str) -> float:
        """Milliseconds that encoding one query takes."""
        return self._query_ms[name]

    def _measure_rate(self, name: str, made: Encoder) -> None:
        """Characters a second over a few passages, and milliseconds of one query; both without the cache."""
        records = self.collections.corpus.records
        few = [r.content[:2_000] for r in records[:: max(1, len(records) // 16)] if r.content.strip()][:16]
        made.encode(few[:1])  # the first call loads weights
        started = time.perf_counter()
        made.encode(few)
        self._rates[name] = sum(map(len, few)) / max(time.perf_counter() - started, 1e-6)
        texts = (self.judgement.questions.texts or self.judgement.agreement.texts)[:12]
        times = []
        for text in texts:
            started = time.perf_counter()
            made.encode([text], kind="query")
            times.append((time.perf_counter() - started) * 1e3)
        self._query_ms[name] = float(np.median(times))

    def forecast(
        self,
        wanted: Sequence[tuple[str, str]],
        *,
        limit: float,
        lexical: bool = False,
        learned: Sequence[str] = (),
        several: bool = False,
    ) -> str:
        """How long planning will take, in words, from a timed sample.

        ``lexical`` adds fusion with BM25, ``learned`` encoders of sparse vectors, ``several`` token vectors.
        """
        encoding = sweeping = 0.0
        for name in learned:
            self.sparse_encoder(name)
            characters = sum(len(r.content) for records in self.collections.collections for r in records)
            encoding += characters / self._rates[name] * len({chunker for chunker, _ in wanted})
        asked = len(self.judgement.split.choose) + len(self.judgement.agreement)
        for _, name in wanted:
            dim = self.encoder(name).dim
            for records in self.collections.collections:
                characters = sum(len(r.content) for r in records)
                encoding += characters / self._rates[name] * (1 + several)
                trials = 45 + (_FUSED_TRIALS if lexical else 0)
                sweeping += trials * _TRIAL_SECONDS * len(records) / 5_000 * (dim / 256) * (0.3 + asked / 1_500)
        shown = encoding + min(sweeping, limit)
        return (
            f"expected to take about {shown:.0f} s: {encoding:.0f} s of encoding (less what is cached) and "
            f"{min(sweeping, limit):.0f} s of measuring"
        )

    def make(self, chunker: str, name: str) -> Bench:
        """Encode the sample (and the stand-in collection) and the questions."""
        encoder = self.encoder(name)
        corpus, judgement = self.collections.corpus, self.judgement
        started = time.perf_counter()
        real = self._view(corpus.records, chunker, name)
        # The cache may have answered: what a build costs is told by the measured rate.
        seconds = max(time.perf_counter() - started, sum(map(len, real.texts)) / self._rates[name])
        judged = real
        if self.collections.searched is not None:
            judged = self._view(self.collections.searched, chunker, name)
        searched = self.collections.searched if self.collections.searched is not None else corpus.records
        choose = report = None
        if len(judgement.questions):
            asked = ask(judged, judgement.questions, encoder, searched)
            choose, report = asked.take(judgement.split.choose), asked.take(judgement.split.report)
        compared, part = self.agreement()
        agreement = ask(real, compared, encoder, corpus.records)
        return Bench(
            chunker=str(Recipe.parse(f"{chunker} | {name} | flat").chunker),
            encoder=str(Recipe.parse(f"{name} | flat").encoder),
            real=real,
            agreement=agreement,
            judged=judged,
            choose=choose,
            report=report,
            part=part,
            encode_ms=self._query_ms[name],
            encode_seconds=seconds,
        )

    def agreement(self) -> tuple[Questions, float]:
        """Queries whose rankings are compared, and the part of their expected change that comes true.

        The user's own queries (those of the choosing split, and those without judgements) where there are enough of
        them; sentences of the text besides, where there are not.
        """
        judgement = self.judgement
        own = judgement.unjudged
        if judgement.kind == "labels":
            own = judgement.questions.take(judgement.split.choose).and_also(own)
        own = own.without_judgements()
        if len(own) >= ENOUGH:
            return own, OWN
        return own.and_also(judgement.agreement), SENTENCES

    def _view(self, records: Sequence[Record], chunker: str, name: str) -> View:
        from sememe.index.passages import PassageEncoder, contents, cut

        stage = Recipe.parse(f"{chunker} | {name} | flat").chunker
        maker = stage.make()
        late = bool(catalog.find(stage.name).traits.get("late"))
        encode = PassageEncoder(self.encoder(name), late=late)
        blocks, starts, rows, texts = [], [], [], []
        done = 0
        with progress.task(f"encoding {chunker} with {name}", total=len(records), unit="records") as step:
            for at in range(0, len(records), _BATCH):
                batch = list(records[at : at + _BATCH])
                spans = [cut(record, maker) for record in batch]
                blocks.append(encode(batch, spans))
                for row, (record, cuts) in enumerate(zip(batch, spans, strict=True)):
                    if cuts:
                        starts.append(done)
                        rows.append(at + row)
                        texts.extend(contents(record, cuts))
                        done += len(cuts)
                step(len(batch))
        if not done:
            raise InputError("no record has any text to encode", where=self.collections.corpus.source)
        return View(
            np.ascontiguousarray(np.concatenate(blocks)),
            np.array(starts, dtype=np.int64),
            np.array(rows, dtype=np.int64),
            texts,
        )

    def size(self, recipe: Recipe, bench: Bench) -> dict[str, float]:
        """The byte ledger of the whole collection under ``recipe``."""
        return self.sizes.ledger(recipe, bench.real.passages.shape[1])
