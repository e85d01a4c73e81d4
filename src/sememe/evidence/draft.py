"""Lossless drafts: the same text in fewer passes, from trigrams and from recycled candidates."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.byte_models import byte_bpe, standard_library
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import bootstrap_mean
from sememe.vocab.draft import AdjacencyDraft, TrigramDraft
from sememe.vocab.tree_decoding import Decoded, TreeModel, decode

FILES, HELD, SIZE, STEPS = 140, 20, 8_000, 120
PROMPT, LENGTH, TEXTS, WARM = 40, 80, 6, 8
DIM, LAYERS = 96, 4
CONDITIONS = (
    f"Llama-shaped models of {LAYERS} layers of width {DIM} and {SIZE} tokens, trained for {STEPS} steps on Python's "
    f"standard library; {TEXTS} prompts a seed of {PROMPT} tokens from other files, {LENGTH} tokens each, greedy, keys "
    f"and values cached, one thread; {WARM} more texts come first, for the tables. Times are CPU time, drafts and "
    "plain decoding in turns. Greedy text of models this small repeats itself, which drafts like; details say what is "
    "accepted of text that people wrote."
)


@experiment(
    "trigram-draft",
    paper=Paper("Adaptive Draft-Verification for Efficient Large Language Model Decoding", 2024, "2407.12021"),
    claim="Drafts from a trigram table that follows the model's output speed decoding up; the output stays the same.",
)
def trigram(setting: Setting) -> Finding:
    """Trigrams of source files, and of what the model writes."""
    runs = [_race(seed, lambda known: TrigramDraft().fit(known)) for seed in setting.seeds]
    found = _summary(runs)
    share = sum(r.learn_seconds for run in runs for r, _ in run["drafted"]) / sum(
        r.seconds for run in runs for r, _ in run["drafted"]
    )
    checks = {
        "the text is that of plain greedy decoding": found["same"],
        "at least 1.8 tokens a pass": found["accepted"].value >= 1.8,
        "learning takes less than 1 % of the time": share < 0.01,
        "less CPU time than plain decoding": found["speed"].value > 1,
    }
    return _finding(found, checks, {"share_of_time_learning": share})


@experiment(
    "adjacency-draft",
    paper=Paper(
        "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
        2024,
        "2408.08696",
    ),
    claim="A matrix of under 2 MB of the candidates last seen after each token drafts trees that double the speed of "
    "decoding, without training.",
)
def adjacency(setting: Setting) -> Finding:
    """The last candidates after every token."""
    runs = [_race(seed, lambda known: AdjacencyDraft(SIZE)) for seed in setting.seeds]
    found = _summary(runs)
    size = AdjacencyDraft(SIZE).bytes
    checks = {
        "the text is that of plain greedy decoding": found["same"],
        "at least 2 tokens a pass": found["accepted"].value >= 2,
        "at least 1.3 times as fast in CPU time": found["speed"].value >= 1.3,
        "less than 2 MB": size < 2_000_000,
    }
    return _finding(found, checks, {"bytes": size})


@functools.lru_cache(maxsize=4)
def _trained(seed: int) -> tuple[TreeModel, list[Any], list[list[int]]]:
    """A small Llama, the token sequences it was trained on, and texts of other files."""
    from sememe.lab import Recipe, Shape, batches, seeded, small_llama, stream_of
    from sememe.lab.train import train

    texts = standard_library(FILES)
    held = texts[:: FILES // HELD]
    known = [text for text in texts if text not in held]
    tokenizer = byte_bpe(known, SIZE)
    stream = stream_of(tokenizer, known)
    shape = Shape(dim=DIM, layers=LAYERS, heads=4, context=128)
    with seeded(seed):
        model = small_llama(tokenizer.get_vocab_size(), shape)
    train(model, batches(stream, 4, 128, seed=seed), Recipe(steps=STEPS), label=f"small Llama, seed {seed}")
    return TreeModel(model.model), [stream[n] for n in range(len(stream))], _texts(tokenizer, held, seed)


def _race(seed: int, make: Any) -> dict[str, Any]:
    """The same prompts with drafts and without."""
    import torch

    reader, known, texts = _trained(seed)
    draft = make(known)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for text in texts[:WARM]:
            decode(reader, text[:PROMPT], draft, length=LENGTH)
        drafted: list[tuple[Decoded, float]] = []
        plain: list[tuple[Decoded, float]] = []
        for text in texts[WARM:]:
            for out, used in ((plain, None), (drafted, draft)):
                began = time.process_time()
                answer = decode(reader, text[:PROMPT], used, length=LENGTH)
                out.append((answer, time.process_time() - began))
        replayed = [_replay(reader, text, draft) for text in texts[WARM:]]
    finally:
        torch.set_num_threads(threads)
    return {"drafted": drafted, "plain": plain, "replayed": replayed}


def _replay(reader: TreeModel, text: list[int], draft: Any) -> float:
    """Tokens a pass if the model were to write what people wrote, which small models cannot."""
    context, passes = text[:PROMPT], 0
    reader.begin(context[:-1])
    draft.begin(context)
    while len(context) < len(text):
        tree = draft.propose(context)
        logits = reader.read(context[-1], tree)
        children = {(parent, token): n for n, (token, parent) in reversed([*enumerate(zip(tree.tokens, tree.parents))])}
        path: list[int] = []
        came = [text[len(context)]]
        while len(context) + len(came) < len(text):
            found = children.get((path[-1] if path else -1, came[-1]))
            if found is None:
                break
            path.append(found)
            came.append(text[len(context) + len(came)])
        reader.keep(path[: len(came) - 1], len(tree))
        context = context + came
        draft.learn(context, came, tree, logits)
        passes += 1
    return (len(text) - PROMPT) / max(passes, 1)


def _texts(tokenizer: Any, texts: list[str], seed: int) -> list[list[int]]:
    """Pieces of files from the beginning of a line on: a prompt, and what people wrote behind it."""
    generator = np.random.default_rng(seed)
    out = []
    for _ in range(WARM + TEXTS):
        text = texts[int(generator.integers(len(texts)))]
        lines = text.splitlines(keepends=True)
        ids = tokenizer.encode("".join(lines[int(generator.integers(len(lines) // 2)) :])).ids
        out.append(ids[: PROMPT + LENGTH])
    return out


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = [pair for run in runs for pair in zip(run["drafted"], run["plain"], strict=True)]
    accepted = [d.accepted for (d, _), _ in pairs]
    lengths = [length for (d, _), _ in pairs for length in d.lengths]
    texts = [d.tokens for (d, _), _ in pairs]
    return {
        "same": all(d.tokens == p.tokens for (d, _), (p, _) in pairs),
        "accepted": bootstrap_mean(accepted),
        "speed": bootstrap_mean([slow / quick for (_, quick), (_, slow) in pairs]),
        "details": {
            "tokens_a_pass_of_all_texts_together": _rate([d for (d, _), _ in pairs]),
            "passes_that_gave_one_token": float(np.mean([length == 1 for length in lengths])),
            "nodes_a_pass": sum(d.drafted for (d, _), _ in pairs) / sum(d.passes for (d, _), _ in pairs),
            "share_of_time_proposing": sum(d.propose_seconds for (d, _), _ in pairs)
            / sum(d.seconds for (d, _), _ in pairs),
            "tokens_a_pass_if_the_model_wrote_what_people_wrote": float(
                np.mean([r for run in runs for r in run["replayed"]])
            ),
            "distinct_runs_of_four_tokens_in_the_output": float(np.mean([_distinct(text) for text in texts])),
        },
    }


def _rate(runs: list[Decoded]) -> float:
    return sum(len(r.tokens) for r in runs) / sum(r.passes for r in runs)


def _distinct(tokens: list[int]) -> float:
    """Distinct runs of four tokens over all of them: near 0 where a text repeats itself."""
    runs = [tuple(tokens[at : at + 4]) for at in range(len(tokens) - 3)]
    return len(set(runs)) / max(len(runs), 1)


def _finding(found: dict[str, Any], checks: dict[str, bool], more: dict[str, Any]) -> Finding:
    accepted, speed = found["accepted"], found["speed"]
    failed = [statement for statement, held in checks.items() if not held]
    return Finding(
        measured=accepted.value,
        baseline=1.0,
        interval=(accepted.low, accepted.high),
        unit="tokens a forward pass, against plain decoding",
        interval_of="tokens a pass, over texts",
        checks=checks,
        details={
            "times_as_fast_in_cpu_time": {"value": speed.value, "low": speed.low, "high": speed.high},
            **found["details"],
            **more,
        },
        conditions=CONDITIONS,
        reason="" if not failed else f"not held: {'; '.join(failed)}; see details for where the time goes",
    )
