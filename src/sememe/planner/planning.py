"""``plan``: read, sample, ask, sweep, choose, report."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.planner import decision
from sememe.planner import questions as ask_by
from sememe.planner.bench import Benches, Collections
from sememe.planner.choose import Limits, Point, Prefer, choose, frontier, steps
from sememe.planner.context import lexical_points
from sememe.planner.corpus import Corpus, load
from sememe.planner.extrapolate import extrapolate
from sememe.planner.learned import learned_benches
from sememe.planner.lexical import MODEL, lexical_benches
from sememe.planner.multi import NAME as MULTI
from sememe.planner.multi import multi_benches, token_recipes
from sememe.planner.result import Plan, build_command
from sememe.planner.samples import side_by_side
from sememe.planner.screen import Screen
from sememe.planner.space import behind, chunkers_for, lists_of, recipes, with_fusion, with_index
from sememe.planner.sweep import Bench, Sweep
from sememe.recipe import Recipe

STAND_INS = 900  # known-item queries drawn from the text
AGREEMENT = 500  # sentences whose rankings are compared


@dataclass
class Judgement:
    """By what the recipes are judged, and in which words that is said."""

    kind: ask_by.JudgementKind
    explanation: str
    questions: ask_by.Questions
    agreement: ask_by.Questions
    unjudged: ask_by.Questions  # the user's queries without judgements
    searched: list[Record] | None  # the collection with the leak removed; None where it is the real one
    split: ask_by.Split


def plan(
    source: Any,
    *,
    queries: dict[str, str] | str | None = None,
    qrels: dict[str, dict[str, int]] | str | None = None,
    encoders: Sequence[str] = ("static",),
    chunkers: Sequence[str] | None = None,
    tolerance: float = 0.02,
    prefer: Prefer = "small",
    budget: float | None = None,
    bytes_per_vector: float | None = None,
    latency: float | None = None,
    ram: float | None = None,
    build_seconds: float | None = None,
    sample: int = 20_000,
    seconds: float = 150.0,
    seed: int = 0,
    cache: Any = None,
    tell: Callable[[str], None] | None = None,
    **reading: Any,
) -> Plan:
    """Measure recipes on a collection and choose the smallest that is not worse.

    Parameters
    ----------
    source : str, path or iterable of Record
        A folder, a file, a BEIR folder (its queries and judgements are used), or records.
    queries, qrels : path or dict, optional
        Queries by id, and for each query the gain of relevant documents by id.
    encoders, chunkers : sequence of str
        What the recipes may use. With ``bm25`` beside dense encoders, BM25 and its fusions with them are recipes like
        any other, and so are the lists of a learned sparse encoder such as ``splade``. ``multivector`` adds the token
        vectors of the dense encoders that give any. Chunkers default to whole documents, and to cuts as well where
        documents are long.
    tolerance : float
        Largest acceptable loss of the metric, relative to the reference, at 95 % confidence.
    prefer : {"small", "fast", "quality"}
        What to optimise among recipes within tolerance.
    budget, bytes_per_vector, latency, ram, build_seconds : float, optional
        Limits: bytes of the whole index, bytes a passage, milliseconds a query at p95, bytes of memory that searches
        keep touching, seconds to build.
    sample : int
        Records measured; larger collections are sampled, judged documents always kept.
    seconds : float
        When the sweep stops adding recipes.
    seed : int
        Equal seeds give equal plans.
    cache : VectorCache, optional
        Where vectors are kept; the default cache of the user.
    tell : callable, optional
        Called with lines of text as planning goes on.

    Raises
    ------
    InputError
        Nothing readable, or queries and judgements that do not fit the collection.
    BudgetError
        No recipe meets the limits.
    """
    started = time.monotonic()
    tell = tell or (lambda line: None)
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance must be a share between 0 and 1, got {tolerance}", fix="write for example 0.02")
    if not encoders:
        raise InputError("no encoder is allowed", fix="name at least one, for example static")
    name, records, queries, qrels, report = _resolve(source, queries, qrels, reading)
    judged = {doc for gains in (qrels or {}).values() for doc, gain in gains.items() if gain > 0}
    corpus = load(name, records, keep=judged, limit=sample, seed=seed)
    if report is not None:
        corpus.notices.extend(report().summary_lines()[1:])  # the first line counts what is counted here already
    judgement = _judgement(corpus, queries, qrels, seed)
    for line in _opening(corpus, judgement):
        tell(line)

    several, encoders = MULTI in encoders, [e for e in encoders if e != MULTI]
    collections = Collections(corpus, judgement.searched)
    choices = tuple(chunkers or chunkers_for([len(r.content) for r in corpus.records]))
    dense = [e for e in encoders if not lists_of(e)]
    if not dense:
        fix = "name a dense one beside it"
        alone = f"{encoders[0]} is sparse" if encoders else f"{MULTI} needs the token vectors of one"
        raise InputError(f"the planner sweeps dense encoders, and {alone}", fix=fix)
    judged_at_all = judgement.kind != "agreement"
    lexical = MODEL in encoders and judged_at_all  # rankings alone cannot tell whether words or vectors are right
    learned = [e for e in encoders if lists_of(e) and e != MODEL] if judged_at_all else []
    makers = Benches(collections, judgement, cache=cache, seed=seed)
    wanted = [(chunker, encoder) for encoder in dense for chunker in choices]
    many = several and judged_at_all
    tell(makers.forecast(wanted, limit=seconds, lexical=lexical, learned=learned, several=many))
    benches = [makers.make(chunker, encoder) for chunker, encoder in wanted]
    tokens = multi_benches(benches, makers) if many else []
    both = lexical_benches(benches, makers) if lexical else []
    benches += [*both, *tokens, *(learned_benches(benches, makers, learned) if learned else [])]
    sweep = Sweep(benches, tolerance, corpus.scale, seed, makers.size, deadline=started + seconds)
    limits = Limits(budget, bytes_per_vector, latency, ram, build_seconds)

    def screen(bench: Bench) -> Screen:
        compare = prefer != "fast" and latency is None
        return Screen(
            bench, seconds=seconds, build_seconds=build_seconds, scale=corpus.scale, seed=seed, compare=compare
        )

    _measure_all(sweep, screen)
    context = lexical_points(sweep, makers) if judged_at_all and not lexical else []

    chosen, within = choose(sweep.points, limits, prefer)
    _measure_structures(sweep, chosen)
    chosen, within = choose(sweep.points, limits, prefer)
    best = frontier([p for p in sweep.points if p.verdict != "unmeasured"])
    assert sweep.reference is not None
    sweep.report([sweep.reference, chosen, *best])
    document = _document(sweep, chosen, best, context, corpus, judgement, makers)
    document |= {
        "tolerance": tolerance,
        "prefer": prefer,
        "within_tolerance": within,
        "limits": asdict(limits),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "command": build_command(name, chosen.recipe, reading),
    }
    document["decision"] = decision.in_words(sweep, chosen)
    document["warnings"] = decision.warnings(sweep, chosen, within, judgement, corpus, seed)
    document["warnings"] += decision.better_beside(context) + decision.on_tokens(sweep)
    sparse = [e for e in encoders if lists_of(e)] + [MULTI] * (several and not judged_at_all)
    if sparse:
        document["warnings"] += decision.on_words(judgement, " and ".join(sparse))
    return Plan(document)


def _resolve(
    source: Any, queries: Any, qrels: Any, reading: dict[str, Any]
) -> tuple[str, Iterable[Record], dict[str, str] | None, dict[str, dict[str, int]] | None, Callable[[], Any] | None]:
    """Name, records, queries and judgements, read from wherever they are."""
    from sememe.text import beir_layout, read, read_qrels, read_queries

    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        layout = beir_layout(name)
        if layout is not None and queries is None and qrels is None:
            _, queries, qrels = layout
        if reading.get("on_duplicate") == "replace":
            reading = reading | {"on_duplicate": "first"}  # one record an id, as in the index; which one hardly matters
        reader = read(name, **reading)
        records: Iterable[Record] = reader
        report: Callable[[], Any] | None = lambda: reader.report  # noqa: E731
    else:
        name, records, report = "records", source, None
    if isinstance(queries, (str, os.PathLike)):
        queries = read_queries(queries)
    if isinstance(qrels, (str, os.PathLike)):
        qrels = read_qrels(qrels)
    if qrels and not queries:
        raise InputError("judgements without queries", fix="give --queries as well")
    return name, records, queries, qrels, report


def _judgement(
    corpus: Corpus, queries: dict[str, str] | None, qrels: dict[str, dict[str, int]] | None, seed: int
) -> Judgement:
    """Labels where there are any, else stand-ins, else agreement alone."""
    agreement = ask_by.agreement_queries(corpus.records, limit=AGREEMENT, seed=seed)
    if queries and qrels:
        questions = ask_by.judged(queries, qrels)
        if not len(questions):
            raise InputError(
                "no query has a relevant document", where="qrels", fix="check that the ids of both files are the same"
            )
        known = {record.id for record in corpus.records}
        if not any(doc in known for gains in questions.relevant for doc in gains):
            raise InputError("no judged document is in the collection", where="qrels", fix="check the document ids")
        unjudged = _unjudged({name: text for name, text in queries.items() if not qrels.get(name)})
        parts = ask_by.split(len(questions), seed=seed)
        words = f"{len(questions)} queries with judgements"
        return Judgement("labels", words, questions, agreement, unjudged, None, parts)
    unjudged = _unjudged(queries or {})
    questions, searched = ask_by.known_items(corpus.records, limit=STAND_INS, seed=seed)
    if len(questions) >= 30:
        parts = ask_by.split(len(questions), seed=seed)
        words = (
            f"{len(questions)} stand-in queries drawn from the text (a title, name or first sentence must find its own "
            "document, from which it was removed); no human judgement"
        )
        return Judgement("stand-in", words, questions, agreement, unjudged, searched, parts)
    if len(agreement) < 5:
        raise InputError(
            "the text is too short to draw queries from", where=corpus.source, fix="give --queries and --qrels"
        )
    words = f"agreement with the full-precision ranking on {len(agreement)} sentences of the text; no judgement at all"
    empty = np.zeros(0, dtype=np.int64)
    return Judgement("agreement", words, ask_by.Questions(), agreement, unjudged, None, ask_by.Split(empty, empty))


def _unjudged(queries: dict[str, str]) -> ask_by.Questions:
    questions = ask_by.Questions()
    for name, text in queries.items():
        if text.strip():
            questions.add(name, text)
    return questions


def _opening(corpus: Corpus, judgement: Judgement) -> list[str]:
    size = f"{corpus.total_records:,} records, {corpus.total_characters:,} characters"
    if corpus.is_sample:
        size += f"; {len(corpus.records):,} of them measured"
    return [size, *corpus.notices, f"judged by {judgement.explanation}"]


def _measure_all(sweep: Sweep, screen: Callable[[Bench], Screen]) -> None:
    """Full precision first, then every codec of every bench still worth it, and the promising ones fused with BM25.

    ``screen`` makes the first round of a bench.
    """
    sweep.exact()
    exact = [(p, b) for p, b in zip(sweep.points, sweep.benches, strict=True) if not lists_of(b.encoder)]
    best = max(exact, key=lambda pair: (pair[0].quality.value, -pair[0].search_bytes))[1]
    dense = [bench for bench in sweep.benches if bench.dense]
    # The best view first, which is the reference's: should time run out, the comparison that matters is complete.
    dense.sort(key=lambda bench: (bench.chunker, bench.encoder) != (best.chunker, best.encoder))
    for bench in dense:
        fusion = sweep.fusion_of(bench)
        fused = fusion is not None and sweep.worth_sweeping(fusion)
        if fused or sweep.worth_sweeping(bench):
            n, dim = bench.real.passages.shape
            _measure(sweep, bench, recipes(bench.chunker, bench.encoder, dim, passages=n)[1:], screen(bench))
        if fusion is not None and fused:
            _measure(sweep, fusion, [with_fusion(recipe, fusion.fused) for recipe in sweep.promising(bench)])
    for bench in sweep.benches:
        if bench.several and sweep.worth_sweeping(bench):
            _measure(sweep, bench, token_recipes(bench))


def _measure(sweep: Sweep, bench: Bench, some: Sequence[Recipe], screen: Screen | None = None) -> None:
    from sememe import progress

    with progress.task(f"measuring {bench.full_precision}", total=len(some), unit="recipes") as step:
        for recipe in some:
            sweep.measure(recipe, bench, screen)
            step(1)


def _measure_structures(sweep: Sweep, chosen: Point) -> None:
    """The reference and the chosen recipe behind every structure of the catalogue that may beat a scan there."""
    assert sweep.reference is not None
    for point in {p.recipe: p for p in (chosen, sweep.reference)}.values():
        recipe = Recipe.parse(point.recipe)
        if recipe.index.name == "flat" and all(stage.name == "hybrid" for stage in recipe.rerankers):
            bench = sweep.bench_of(recipe)
            measured, dim = bench.real.passages.shape
            for stage in behind(recipe, dim, passages=point.passages, measured=measured):
                sweep.measure(with_index(recipe, stage), bench)


def _document(
    sweep: Sweep,
    chosen: Point,
    best: list[Point],
    context: list[Point],
    corpus: Corpus,
    judgement: Judgement,
    makers: Benches,
) -> dict[str, Any]:
    from sememe import __version__

    assert sweep.reference is not None and sweep.reference_bench is not None
    mean = sweep.reference.quality.value

    def show(point: Point) -> dict[str, Any]:
        return point.as_json(sweep.metric, mean)

    return {
        "sememe": {"version": __version__},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "corpus": {
            "source": corpus.source,
            "records": corpus.total_records,
            "measured_records": len(corpus.records),
            "passages": sweep.reference.passages,
            "characters": corpus.total_characters,
            "notices": corpus.notices,
        },
        "judgement": {
            "kind": judgement.kind,
            "explanation": judgement.explanation,
            "choose": len(judgement.split.choose),
            "report": len(judgement.split.report),
            "unlabelled": len(sweep.reference_bench.agreement),
            "fit": len(sweep.reference_bench.real.passages),
        },
        "metric": sweep.metric,
        "reference": show(sweep.reference),
        "chosen": show(chosen),
        "frontier": [show(p) for p in best],
        "points": [show(p) for p in sweep.points],
        "context": [show(p) for p in context],
        "steps": steps(best),
        "extrapolation": {
            "reference": extrapolate(sweep.reference, sweep, makers),
            "chosen": extrapolate(chosen, sweep, makers),
        },
        "samples": side_by_side(sweep, chosen, judgement.questions, corpus, makers),
        "unmeasured": sweep.unmeasured,
        "screened": [asdict(each) for each in sweep.screened],
    }
