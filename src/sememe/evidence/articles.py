"""Long documents with known answer places, stitched from short ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sememe.contracts import Span
from sememe.evidence.data import DataFolder


@dataclass(frozen=True, slots=True)
class Articles:
    """Stitched documents.

    Attributes
    ----------
    documents : dict of id to text
    paragraphs : dict of paragraph id to (document id, Span)
    queries : dict of id to text
    qrels : dict of query id to {paragraph id: grade}
    """

    documents: dict[str, str]
    paragraphs: dict[str, tuple[str, Span]]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]

    def answers(self) -> dict[str, tuple[str, Span]]:
        """Where the paragraph of each query stands (the first one where there are several)."""
        return {query: self.paragraphs[next(iter(found))] for query, found in self.qrels.items() if found}


def stitched(data: DataFolder, language: str) -> Articles:
    """XQuAD's articles, whole: paragraph ``AA-P`` is paragraph P of article AA."""
    corpus = data.retrieval(f"xquad/{language}")
    return _join(
        {name: (name.partition("-")[0], text) for name, text in corpus.documents.items()}, corpus.queries, corpus.qrels
    )


def titles(data: DataFolder, name: str, *, together: int, most: int, seed: int) -> Articles:
    """Abstracts stitched ``together`` at a time; the query of each is its title, which is left out of the text.

    Questions about a whole: a title sums up its abstract, and no single sentence answers it.
    """
    corpus = data.retrieval(name)
    order = np.random.default_rng(seed).permutation(len(corpus.documents))[:most]
    ids = [list(corpus.documents)[row] for row in order]
    bodies = {i: corpus.documents[i].removeprefix(corpus.titles[i]).strip() for i in ids if corpus.titles[i].strip()}
    groups = {i: (f"{row // together}", body) for row, (i, body) in enumerate(bodies.items()) if body}
    return _join(groups, {i: corpus.titles[i] for i in groups}, {i: {i: 1} for i in groups})


def _join(parts: dict[str, tuple[str, str]], queries: dict[str, str], qrels: dict[str, dict[str, int]]) -> Articles:
    texts: dict[str, str] = {}
    places: dict[str, tuple[str, Span]] = {}
    for name, (document, text) in parts.items():
        before = texts.get(document, "")
        start = len(before) + 1 if before else 0
        texts[document] = f"{before} {text}" if before else text
        places[name] = (document, Span(start, start + len(text)))
    return Articles(texts, places, queries, qrels)
