"""Words hashed into a hundredth of a word table: news classified, as written and with typing errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM = 64
SHARE = 0.01
LARGER = 0.10


@experiment(
    "hash-bucket",
    paper=Paper("HashFormers: Towards Vocabulary-independent Pre-trained Transformers", 2022, "2210.07904"),
    claim="Hashing tokens needs 99.1 thousand parameters for embeddings instead of 12 to 38 million, at 0.4 points of "
    "GLUE; hashes that are sensitive to locality bear misspelling.",
    needs=("agnews",),
)
def run(setting: Setting) -> Finding:
    """AG News by a small network over word vectors, with a word table and with hashed layers."""
    from sememe.evidence.news_words import News, classify, gap
    from sememe.tokens.factory import build

    news = News.of(setting.data)
    budget = round(SHARE * news.known)

    def table(words: list[str], seed: int) -> Any:
        return build("table", words, DIM, seed=seed)

    def hashed(method: str, rows: int, hashes: int) -> Any:
        return lambda words, seed: build("hash-bucket", words, DIM, seed=seed, method=method, rows=rows, hashes=hashes)

    def digest(words: list[str], seed: int) -> Any:
        return build("hash-digest", words, DIM, seed=seed)

    makers = {
        "word table": table,
        "md5, one hash": hashed("md5", budget, 1),
        "md5": hashed("md5", budget, 4),
        "lsh": hashed("lsh", budget, 4),
        "bits of the digest, projected": digest,
        "md5, a tenth": hashed("md5", round(LARGER * news.known), 4),
        "lsh, a tenth": hashed("lsh", round(LARGER * news.known), 4),
    }
    clean: dict[str, Any] = {name: [] for name in makers}
    typed: dict[str, Any] = {name: [] for name in makers}
    sizes = {}
    for seed in setting.seeds:
        for name, make in makers.items():
            right, wrong, sizes[name] = classify(news, make, seed, open_ended=name != "word table")
            clean[name].append(right)
            typed[name].append(wrong)
    clean, typed = ({name: np.array(found) for name, found in part.items()} for part in (clean, typed))
    against = {name: gap(found, clean["word table"]) for name, found in clean.items()}
    typos = gap(typed["lsh"], typed["md5"])
    best = max(("md5", "lsh"), key=lambda name: float(clean[name].mean()))
    checks = {
        "with 1 % of the table's parameters the better hash is within 1 point of the word table": against[best][0]
        >= -0.01,
        "with typing errors lsh is better than md5, with confidence": typos[1] > 0,
        "every word has a vector, also those not seen in training": unseen_embed(news.words[news.known :]),
        "hashed layers have at most 1 % of the table's parameters": max(sizes["md5"], sizes["lsh"])
        <= 0.0101 * sizes["word table"],
    }
    return Finding(
        measured=float(clean[best].mean()),
        baseline=float(clean["word table"].mean()),
        interval=against[best][1:],
        unit=f"accuracy on AG News: {best} hashes into 1 % of the rows, and a table of all words",
        interval_of="the difference, over seeds and items",
        checks=checks,
        details={
            "accuracy": {name: float(found.mean()) for name, found in clean.items()},
            "accuracy_minus_word_table": against,
            "accuracy_with_typing_errors": {name: float(found.mean()) for name, found in typed.items()},
            "lsh_minus_md5_with_typing_errors": typos,
            "parameters": sizes,
            "words": {"of training": news.known, "in all": len(news.words)},
        },
        conditions=f"10,001 items of AG News to learn from, 7,600 to test; words in lower case, vectors of {DIM} "
        "dimensions, each through a network of one hidden layer, their mean, a linear layer; no pretraining; four "
        "passes; words unknown to the table are left out; four hashes where nothing else is said.",
        reason=""
        if all(checks.values())
        else f"at a hundredth some {news.known // budget} words share a row, and what tells them apart must be learned "
        "by the network from ten thousand items without pretraining; with a tenth of the rows the difference is "
        f"{against['md5, a tenth'][0]:+.3f} (md5) and {against['lsh, a tenth'][0]:+.3f} (lsh)",
    )


def unseen_embed(words: list[str]) -> bool:
    """Whether words that no layer was made for have vectors that are finite and mostly their own."""
    import torch

    from sememe.tokens.factory import build

    for name in ("hash-bucket", "hash-digest"):
        layer = build(name, ["a"], DIM)
        with torch.no_grad():
            found = layer.embed(words).numpy()  # type: ignore[operator]
        if not np.isfinite(found).all() or len(np.unique(found, axis=0)) < 0.99 * len(words):
            return False
    return True
