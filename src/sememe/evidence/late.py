"""Late chunking against encoding each chunk by itself, at equal bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe import catalog
from sememe.catalog import Paper
from sememe.contracts import Span, Vectors, unit_rows
from sememe.encode.late import TokenEncoder
from sememe.evidence.articles import Articles, stitched
from sememe.evidence.data import RetrievalSet
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.retrieval import Judged
from sememe.measure.stats import paired_bootstrap

CLAIMS, DISTRACTORS = 150, 150


@experiment(
    "late",
    paper=Paper("Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models", 2024, "2409.04701"),
    claim="Chunks pooled from token vectors of the whole document retrieve better than chunks encoded alone, without "
    "training, on most data sets.",
    needs=("xquad", "scifact", "embeddings-minilm"),
    random=False,
)
def run(setting: Setting) -> Finding:
    """nDCG@10 by the best chunk: paragraphs of stitched articles (XQuAD), abstracts (SciFact); MiniLM."""
    from sememe.encode import encode_spans, make

    encoder: Any = make("minilm")
    articles = stitched(setting.data, "en")
    found = compare(encoder, articles, 1)
    gain = paired_bootstrap(found["late"], found["alone"])
    abstracts = compare(encoder, sampled(setting.data.retrieval("scifact"), CLAIMS, DISTRACTORS, setting.seeds[0]), 2)
    second = paired_bootstrap(abstracts["late"], abstracts["alone"])
    text = min(articles.documents.values(), key=len)
    short = text[: text.find(" ", 600)]  # within one window, so that one mean is meant
    whole = encode_spans(encoder, short, [Span(0, len(short))])[0]
    difference = float(np.abs(whole - encoder.encode([short])[0]).max())
    checks = {
        "XQuAD: late chunking gains at least 2 points, with confidence": gain.value >= 0.02 and gain.low > 0,
        "SciFact: late chunking gains, with confidence": second.low > 0,
        "one span over a whole text gives the ordinary vector to 1e-5": difference <= 1e-5,
    }
    return Finding(
        measured=float(found["late"].mean()),
        baseline=float(found["alone"].mean()),
        interval=(gain.low, gain.high),
        unit="nDCG@10 of XQuAD's paragraphs by their best sentence: late chunking, against sentences encoded alone",
        interval_of="late minus alone, over questions",
        checks=checks,
        details={
            "xquad": {key: float(values.mean()) for key, values in found.items()},
            "xquad_gain": gain.as_json(),
            "xquad_gain_of_mean_of_both": paired_bootstrap(found["mean of both"], found["alone"]).as_json(),
            "scifact": {key: float(values.mean()) for key, values in abstracts.items()},
            "scifact_gain": second.as_json(),
            "whole_text_difference": difference,
        },
        conditions=f"XQuAD English: {len(articles.documents)} articles of stitched paragraphs, sentence by sentence, "
        f"{len(articles.queries):,} questions. SciFact: {CLAIMS} claims, their abstracts and {DISTRACTORS} others, two "
        "sentences a chunk. Windows of 256 tokens, the length MiniLM was trained for; as many vectors either way.",
        reason=""
        if all(checks.values())
        else "XQuAD's questions ask for facts that stand in one sentence and are nearly all answered already; MiniLM "
        "was "
        "trained on short texts, and pooling from a wider window blurs what tells sentences apart, while the paper's "
        "models read 8,192 tokens",
    )


def compare(encoder: TokenEncoder, articles: Articles, sentences: int) -> dict[str, np.ndarray]:
    """nDCG@10 of each query with chunks of so many sentences, encoded alone, late, and the mean of both vectors."""
    from sememe.encode import encode_spans

    chunker = catalog.find("sentences", kind="chunker").make(sentences)
    queries = encoder.encode(list(articles.queries.values()), kind="query")
    spans = {name: chunker.spans(text) for name, text in articles.documents.items()}
    texts = [articles.documents[name][span.start : span.stop] for name, cut in spans.items() for span in cut]
    alone = encoder.encode(texts)
    late = np.concatenate([encode_spans(encoder, articles.documents[name], cut) for name, cut in spans.items()])
    variants = {"alone": alone, "late": late, "mean of both": unit_rows(alone + late)}
    return {name: paragraph_ndcg(articles, spans, queries, vectors) for name, vectors in variants.items()}


def sampled(data: RetrievalSet, queries: int, others: int, seed: int) -> Articles:
    """The first ``queries`` queries over their own documents and so many others, each document one paragraph."""
    asked = dict(list(data.queries.items())[:queries])
    qrels = {query: data.qrels[query] for query in asked}
    wanted = {document for found in qrels.values() for document in found}
    rest = [document for document in data.documents if document not in wanted]
    drawn = np.random.default_rng(seed).permutation(len(rest))[:others]
    kept = [*sorted(wanted), *(rest[row] for row in drawn)]
    documents = {name: data.documents[name] for name in kept}
    return Articles(documents, {name: (name, Span(0, len(text))) for name, text in documents.items()}, asked, qrels)


def paragraph_ndcg(articles: Articles, spans: dict[str, list[Span]], queries: Vectors, chunks: Vectors) -> np.ndarray:
    """nDCG@10 of each question, a paragraph scoring as its best chunk."""
    owners = []
    for name, cut in spans.items():
        inside = [(row, where) for row, (article, where) in enumerate(articles.paragraphs.values()) if article == name]
        for span in cut:
            # the paragraph that holds most of the chunk
            owners.append(
                max(inside, key=lambda item: min(item[1].stop, span.stop) - max(item[1].start, span.start))[0]
            )
    judged = Judged(articles.qrels, list(articles.queries), list(articles.paragraphs))
    return best_chunk_ndcg(queries @ chunks.T, owners, len(articles.paragraphs), judged)


def best_chunk_ndcg(scores: np.ndarray, owners: list[int], count: int, judged: Judged) -> np.ndarray:
    """nDCG@10 where each of ``count`` owners scores as the best of its chunks; ``scores`` is ``(q, chunks)``."""
    best = np.full((len(scores), count), -np.inf, dtype=np.float32)
    for chunk, owner in enumerate(owners):
        np.maximum(best[:, owner], scores[:, chunk], out=best[:, owner])
    ranked = np.argsort(-best, axis=1, kind="stable")[:, :10]
    return judged.evaluate(ranked, ("ndcg@10",))["ndcg@10"]
