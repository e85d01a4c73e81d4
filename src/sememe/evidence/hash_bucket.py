"""Words hashed into a hundredth of a word table's parameters: news classified, as written and with typing errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM, HASHES = 256, 16
PASSES, LEFT_OUT = 8, 0.5
SHARE = 0.01


@experiment(
    "hash-bucket",
    paper=Paper("HashFormers: Towards Vocabulary-independent Pre-trained Transformers", 2022, "2210.07904"),
    claim="Hashing tokens needs 99.1 thousand parameters for embeddings instead of 12 to 38 million, at 0.4 points of "
    "GLUE; hashes that are sensitive to locality bear misspelling.",
    needs=("agnews",),
)
def run(setting: Setting) -> Finding:
    """AG News by a small network over word vectors, with a word table and with hashed layers."""
    from sememe.evidence.news_words import News, gap
    from sememe.tokens.factory import build
    from sememe.tokens.hashed import HashBucketEmbedding
    from sememe.tokens.vocabulary import Vocabulary

    news = News.of(setting.data)
    budget = round(SHARE * news.known * DIM)

    def table(words: list[str], seed: int) -> Any:
        return build("table", words, DIM, seed=seed)

    # sized by the words to learn from: those of the test part cost nothing
    options = HashBucketEmbedding.sized(Vocabulary(news.words[: news.known]), DIM, budget)
    rows = options["rows"]

    def hashed(method: str) -> Any:
        return lambda words, seed: build("hash-bucket", words, DIM, seed=seed, method=method, hashes=HASHES, **options)

    makers = {
        "word table": table,
        "md5": hashed("md5"),
        "lsh": hashed("lsh"),
    }
    clean, typed, sizes = classified(setting, news, makers)
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
        unit=f"accuracy on AG News: {best} hashes into 1 % of the parameters, and a table of all words",
        interval_of="the difference, over seeds and items",
        checks=checks,
        details={
            "accuracy": {name: float(found.mean()) for name, found in clean.items()},
            "accuracy_minus_word_table": against,
            "accuracy_with_typing_errors": {name: float(found.mean()) for name, found in typed.items()},
            "lsh_minus_md5_with_typing_errors": typos,
            "parameters": sizes,
            "layer": options,
            "words": {"of training": news.known, "in all": len(news.words)},
        },
        conditions=f"10,001 items of AG News to learn from, 7,600 to test; words in lower case, vectors of {DIM} "
        "dimensions, each through a network of one hidden layer, their mean, a linear layer; no pretraining; "
        f"{PASSES} passes with half of the words left out at random; words unknown to the table are left out. Hashed "
        f"layers add {HASHES} of {rows:,} rows of width {options['rank']} and project them, as `build` sizes them. All "
        "this was chosen on 2,000 items of the learning part, after a first run (rows of the full width, 64, four "
        "passes with all words) had given .795 beside .857.",
        reason=""
        if all(checks.values())
        else f"likely, not tested: some {news.known / rows:.0f} words share each row and must be told apart from ten "
        "thousand items, without the pretraining that the paper's models have",
    )


@experiment(
    "hash-digest",
    paper=Paper("HashFormers: Towards Vocabulary-independent Pre-trained Transformers", 2022, "2210.07904"),
    claim="Without a table, bits of a hash need 99.1 thousand parameters for embeddings instead of 12 to 38 million, "
    "at 0.4 points of GLUE.",
    needs=("agnews",),
)
def digests(setting: Setting) -> Finding:
    """The same classifier over projected, and over added, bits of hashes."""
    from sememe.evidence.news_words import News, gap
    from sememe.tokens.factory import build

    news = News.of(setting.data)
    makers = {
        "word table": lambda words, seed: build("table", words, DIM, seed=seed),
        "projected": lambda words, seed: build("hash-digest", words, DIM, seed=seed),
        "added": lambda words, seed: build("hash-digest", words, DIM, seed=seed, combine="add"),
    }
    clean, typed, sizes = classified(setting, news, makers)
    best = max(("projected", "added"), key=lambda name: float(clean[name].mean()))
    against = {name: gap(found, clean["word table"]) for name, found in clean.items()}
    checks = {
        "at most 1 % of the word table's parameters": max(sizes["projected"], sizes["added"])
        <= 0.01 * sizes["word table"],
        "accuracy is at most 1 point below the word table's": against[best][0] >= -0.01,
        "every word has a vector, also those not seen in training": unseen_embed(news.words[news.known :]),
    }
    return Finding(
        measured=float(clean[best].mean()),
        baseline=float(clean["word table"].mean()),
        interval=against[best][1:],
        unit=f"accuracy on AG News: bits of hashes, {best}, and a table of all words",
        interval_of="the difference, over seeds and items",
        checks=checks,
        details={
            "accuracy": {name: float(found.mean()) for name, found in clean.items()},
            "accuracy_minus_word_table": against,
            "accuracy_with_typing_errors": {name: float(found.mean()) for name, found in typed.items()},
            "parameters": sizes,
        },
        conditions=f"As for hash-bucket: 10,001 items of AG News to learn from, 7,600 to test, vectors of {DIM} "
        f"dimensions, {PASSES} passes with half of the words left out at random; no pretraining.",
        reason=""
        if all(checks.values())
        else "likely, not tested: what tells words apart must be learned by the one hidden layer behind the bits, from "
        "ten thousand items; the paper's twelve layers are pretrained",
    )


def classified(setting: Setting, news: Any, makers: dict[str, Any]) -> tuple[Any, Any, dict[str, int]]:
    """Which items each layer gets right ``(seeds, n)``, as they are and with typing errors, and its parameters."""
    from sememe.evidence.news_words import classify

    clean: dict[str, Any] = {name: [] for name in makers}
    typed: dict[str, Any] = {name: [] for name in makers}
    sizes = {}
    for seed in setting.seeds:
        for name, make in makers.items():
            right, wrong, sizes[name] = classify(
                news, make, seed, open_ended=name != "word table", dim=DIM, passes=PASSES, left_out=LEFT_OUT
            )
            clean[name].append(right)
            typed[name].append(wrong)
    clean, typed = ({name: np.array(found) for name, found in part.items()} for part in (clean, typed))
    return clean, typed, sizes


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
