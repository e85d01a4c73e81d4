"""Local and global estimates together against the mean of pieces, right after a change of tokenizer."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.omp import OTHER, OWN, STEPS
from sememe.evidence.transplants import DIM, byte_bpe, lines, trained, transplanted, wikitext
from sememe.vocab.initialize import Problem

METHODS = ("mean", "subword-mean", "hybrid")


@experiment(
    "hybrid-init",
    paper=Paper(
        "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken Learning",
        2025,
        "2505.09738",
    ),
    claim="The blend of both estimates has a perplexity ratio at least twice as good as the mean of pieces.",
    needs=("wikitext2", "agnews"),
)
def run(setting: Setting) -> Finding:
    """Bits a byte of a small model right after it got another tokenizer, on held-out text of WikiText-2."""
    from sememe import encode
    from sememe.lab.compare import spread

    corpus = wikitext(setting.data)
    news = [line.partition("\t")[2] for line in lines(setting.data, "agnews", "test.tsv.gz")]
    own, other = byte_bpe(corpus.train, OWN), byte_bpe(news, OTHER)
    problem = Problem.of(own, other, embed=encode.make("static").encode)
    bits: dict[str, list[np.ndarray]] = {name: [] for name in ("before", *METHODS)}
    for seed in setting.seeds:
        model = trained(own, corpus.train, steps=STEPS, seed=seed)
        bits["before"].append(model.bits(corpus.held_out))
        for name in METHODS:
            bits[name].append(transplanted(model, problem, name).bits(corpus.held_out))
    sizes = np.array([len(text.encode()) for text in corpus.held_out])
    # The same bytes before and after: a ratio of perplexities a byte is 2 to the bits that surgery costs.
    cost = {name: spread(np.array(bits[name]) - np.array(bits["before"]), sizes) for name in METHODS}
    gap = spread(np.array(bits["hybrid"]) - np.array(bits["subword-mean"]), sizes)
    ratio = {name: 2 ** cost[name][0] for name in METHODS}
    checks = {
        "the ratio of perplexities a byte is at most half that of the mean of pieces": ratio["hybrid"]
        <= ratio["subword-mean"] / 2,
        "fewer bits a byte than the mean of pieces, with confidence": gap[2] < 0,
        "fewer bits a byte than the mean of all rows, with confidence": spread(
            np.array(bits["hybrid"]) - np.array(bits["mean"]), sizes
        )[2]
        < 0,
    }
    return Finding(
        measured=ratio["hybrid"],
        baseline=ratio["subword-mean"],
        interval=(gap[1], gap[2]),
        unit="perplexity a byte after surgery, over that before: the blend, against the mean of pieces",
        interval_of="bits a byte of the blend minus those of the mean of pieces, over seeds and documents",
        checks=checks,
        details={"bits_a_byte": {name: spread(np.array(found), sizes) for name, found in bits.items()}, "cost": cost},
        conditions=f"A small Llama (two layers, width {DIM}, tied table, {STEPS} steps of 8 x 128 tokens of "
        f"WikiText-2), byte-level BPE of {OWN:,} tokens of WikiText-2 and {OTHER:,} of news; wordllama's static "
        "encoder compares tokens.",
        reason=""
        if all(checks.values())
        else "likely, not tested: "
        "most new tokens have two or three pieces, whose weights by meaning and length differ little from equal "
        "ones; the paper's ratios are per token and over tokenizers of large models",
    )
