"""The unembedding filter on a small decoder's vectors of questions, and on static vectors in retrieval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec import PCA, Project, Truncate
from sememe.codec.base import Transform
from sememe.codec.unembed_filter import UnembedFilter, token_lens
from sememe.contracts import Vectors, unit_rows
from sememe.evidence import smollm
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.compression_bench import top_rows
from sememe.measure.retrieval import Judged
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

EACH = 4  # questions of each intent, to look among and to ask
NEIGHBOURS = 5
FREQUENT = 100
LENS = 20


@experiment(
    "unembed-filter",
    paper=Paper("Your UnEmbedding Matrix is Secretly a Feature Lens for Text Embeddings", 2026, "2606.07502"),
    claim="Dropping the edges of the unembedding matrix's spectrum removes frequent tokens from a language model's "
    "text embeddings and improves them at half the dimensions, without training.",
    needs=("banking77", "cranfield", "embeddings-minilm", "brown"),
    random=False,
)
def run(setting: Setting) -> Finding:
    """Nearest neighbours among intents with SmolLM2-135M, what its lens shows, and retrieval with static vectors."""
    decoder = smollm.load(bfloat16=True)
    matrix = decoder.unembedding
    known, asked = (chosen(setting, part) for part in ("train", "test"))
    X, T = (decoder.last_states([prompt(text) for _, text in rows]) for rows in (known, asked))
    frequent = frequent_tokens(decoder, [row[1] for row in setting.data.table("brown", "brown.tsv.gz")])
    half = X.shape[1] // 2
    maps = {
        "unfiltered": Truncate(),
        "filtered": UnembedFilter(2, matrix),
        "filtered, large edge only": UnembedFilter(2, matrix, top=1.0),
        "filtered, small edge only": UnembedFilter(2, matrix, top=0.0),
        "pca": PCA(half),
        "pca, centred": PCA(half, center=True),
        "random projection": Project(half),
    }
    labels, truth = np.array([row[0] for row in known]), np.array([row[0] for row in asked])
    right = {name: neighbours(fitted.fit(X), X, T, labels) == truth for name, fitted in maps.items()}
    accuracy = {name: float(values.mean()) for name, values in right.items()}
    gain = paired_bootstrap(right["filtered"].astype(float), right["unfiltered"].astype(float))
    over_pca = paired_bootstrap(right["filtered"].astype(float), right["pca"].astype(float))
    kept = UnembedFilter(2, matrix, renormalize=False).fit(T)
    shown = {
        "unfiltered": frequent_share(T, matrix, frequent),
        "filtered": frequent_share(kept.inverse_transform(kept.transform(T)), matrix, frequent),
    }
    retrieval = static_retrieval(setting)
    checks = {
        "frequent tokens under the lens are at most half of those before": bool(
            shown["filtered"].mean() <= 0.5 * shown["unfiltered"].mean()
        ),
        "nearest neighbours are at least as good as unfiltered, at half the dimensions": gain.value >= 0,
        "nearest neighbours are at least as good as with PCA of equal width": over_pca.value >= 0,
        "static vectors retrieve at least as well filtered": retrieval["filtered"] >= retrieval["unfiltered"],
    }
    return Finding(
        measured=accuracy["filtered"],
        baseline=accuracy["unfiltered"],
        interval=(gain.low, gain.high),
        unit="accuracy of 5 nearest neighbours on banking77, states of SmolLM2-135M: filtered to half the dimensions, "
        "against all of them",
        interval_of="filtered minus unfiltered, over questions",
        checks=checks,
        details={
            "accuracy": accuracy,
            "gain_over_pca": over_pca.as_json(),
            "share_of_lens_that_is_frequent": {name: bootstrap_mean(v).as_json() for name, v in shown.items()},
            "ndcg@10_on_cranfield_static_vectors": retrieval,
        },
        conditions=f"{len(X)} questions to look among and {len(T)} to ask, {EACH} of each intent; the state at the end "
        "of a prompt that asks for one word, weights from 4 bits, bfloat16. Frequent: tokens that spell one of the "
        "100 most frequent words of the Brown corpus; the lens is the 20 largest logits. "
        "The static encoder's token table stands for its unembedding matrix.",
        reason="" if all(checks.values()) else _reason(checks),
    )


def chosen(setting: Setting, part: str) -> list[tuple[str, str]]:
    """The first ``EACH`` questions of every intent: ``(intent, question)``."""
    seen: Counter[str] = Counter()
    rows = []
    for label, text in setting.data.table("banking77", f"{part}.tsv.gz"):
        seen[label] += 1
        if seen[label] <= EACH:
            rows.append((label, text))
    return rows


def prompt(text: str) -> str:
    """The question put so that the next token has to carry its meaning, as is usual for vectors without training."""
    return f'This sentence : "{text}" means in one word: "'


def neighbours(fitted: Transform, X: Vectors, T: Vectors, labels: NDArray[np.str_]) -> NDArray[np.str_]:
    """For each row of ``T`` the label with the largest sum of cosines among its nearest rows of ``X``."""
    cosines = unit_rows(fitted.transform(T)) @ unit_rows(fitted.transform(X)).T
    best = top_rows(cosines, NEIGHBOURS)
    out = []
    for row, places in enumerate(best):
        votes: Counter[str] = Counter()
        for place in places:
            votes[str(labels[place])] += float(cosines[row, place])  # type: ignore[assignment]
        out.append(max(votes, key=lambda label: votes[label]))
    return np.array(out)


def frequent_tokens(decoder: smollm.SmolLM, sentences: Sequence[str]) -> NDArray[np.int64]:
    """Ids of all tokens that spell one of the ``FREQUENT`` most frequent words or signs of a corpus."""
    counts = Counter(word for sentence in sentences for word in sentence.lower().split())
    frequent = {word for word, _ in counts.most_common(FREQUENT)}
    spelled = decoder.tokenizer.decode_batch([[token] for token in range(decoder.tokenizer.get_vocab_size())])
    return np.array([token for token, text in enumerate(spelled) if text.strip().lower() in frequent])


def frequent_share(X: Vectors, matrix: Vectors, frequent: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each row, the share of its lens that is frequent tokens."""
    return np.isin(token_lens(X, matrix, LENS), frequent).mean(axis=1)


def static_retrieval(setting: Setting) -> dict[str, float]:
    """nDCG@10 on Cranfield with the static encoder: as it is, filtered, and other ways to half the width."""
    from safetensors.numpy import load

    from sememe.encode import make
    from sememe.encode.static import WEIGHTS

    table = next(iter(load(WEIGHTS.read()).values())).astype(np.float32)
    data = setting.data.retrieval("cranfield")
    encoder = make("static")
    X, Q = (encoder.encode(list(texts.values())) for texts in (data.documents, data.queries))
    judged = Judged(data.qrels, list(data.queries), list(data.documents))
    half = X.shape[1] // 2
    maps = {
        "unfiltered": Truncate(),
        "filtered": UnembedFilter(2, table),
        "truncated": Truncate(half),
        "pca": PCA(half),
        "pca, centred": PCA(half, center=True),
    }
    out = {}
    for name, fitted in maps.items():
        rows = fitted.fit(X).transform(X)
        ranked = top_rows(fitted.transform(Q) @ rows.T, 10)
        out[name] = float(judged.evaluate(ranked, ("ndcg@10",))["ndcg@10"][judged.keep].mean())
    return out


def _reason(checks: dict[str, bool]) -> str:
    lens, plain, pca, static = checks.values()
    reasons = []
    if not lens or not plain:
        reasons.append(
            "the paper's models have billions of parameters and wide states; with 576 dimensions the edges of the "
            "spectrum hold much of what tells texts apart"
        )
    if not pca:
        reasons.append("PCA sees the vectors themselves, the filter only the matrix")
    if not static:
        reasons.append(
            "a static token table is trained as an embedding, with frequent words already made short, so its edges are "
            "not the directions of frequent words"
        )
    return "; ".join(reasons)
