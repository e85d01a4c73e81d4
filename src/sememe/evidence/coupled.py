"""Coupled channels at 1 bit each, on the keys and values of a real transformer and on sentence vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec.coupled import Coupled
from sememe.contracts import Vectors
from sememe.errors import MissingDependency
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.whiten import spearman
from sememe.measure.stats import bootstrap_mean

FIT, HELD = 3072, 2048  # tokens
PAIRS = 150
ONE_BIT = {f"c={c}": (c, c) for c in (1, 2, 4, 8)}  # channels and bits of a group: always 1 bit a channel


@experiment(
    "coupled",
    paper=Paper(
        "KV Cache is 1 Bit Per Channel: Efficient Large Language Model Inference with Coupled Quantization",
        2024,
        "2405.03917",
    ),
    claim="Channels of keys and values depend on each other, so coding several together at 1 bit a channel keeps "
    "what coding each alone loses.",
    needs=("embeddings-minilm", "scifact", "stsb"),
)
def run(setting: Setting) -> Finding:
    """Squared error on held-out tokens of every layer, joint entropy, and what coded keys and values do to meaning."""
    encoder, model = load()
    data = setting.data.retrieval("scifact")
    fit, held = (states(encoder, model, texts, most) for texts, most in _halves(list(data.documents.values())))
    errors: dict[str, list[float]] = {name: [] for name in ONE_BIT}
    codecs: dict[str, dict[str, Coupled]] = {}
    for seed in setting.seeds:
        for name, (channels, bits) in ONE_BIT.items():
            for place in fit:
                codec = Coupled(channels, bits, seed=seed).fit(fit[place])
                errors[name].append(relative_error(codec, held[place]))
                if seed == setting.seeds[0]:
                    codecs.setdefault(name, {})[place] = codec
    ratio = bootstrap_mean(np.array(errors["c=8"]) / np.array(errors["c=1"]))
    share = {c: float(np.mean([entropy_share(rows, c) for rows in fit.values()])) for c in (2, 4)}
    rows = data.vectors()[0]
    vectors = {
        name: relative_error(Coupled(channels, bits).fit(rows[::2]), rows[1::2])
        for name, (channels, bits) in ONE_BIT.items()
    }
    quality = similarity(setting, encoder, model, codecs)
    checks = {
        "on keys and values, coupling 8 channels leaves at most 0.85 of the error of single ones": ratio.high <= 0.85,
        "the error falls with every doubling of the coupled channels": bool(
            (np.diff([np.mean(errors[name]) for name in ONE_BIT]) < 0).all()
        ),
        "four channels hold less than the sum of their entropies": share[4] < share[2] < 1,
        "sentence similarity with coupled keys and values is nearer to float than with single ones": abs(
            quality["float"] - quality["c=8"]
        )
        < abs(quality["float"] - quality["c=1"]),
    }
    return Finding(
        measured=float(np.mean(errors["c=8"])),
        baseline=float(np.mean(errors["c=1"])),
        interval=(ratio.low, ratio.high),
        unit="squared error at 1 bit a channel, as a share of the variance: 8 channels coupled, against each alone",
        interval_of="the ratio of the two, over layers, keys and values, and seeds",
        checks=checks,
        details={
            "error": {name: float(np.mean(values)) for name, values in errors.items()},
            "error_ratio": ratio.as_json(),
            "error_of_keys_and_values": {
                kind: {
                    name: float(np.mean([e for e, p in zip(values, _places(fit, setting), strict=True) if kind in p]))
                    for name, values in errors.items()
                }
                for kind in ("key", "value")
            },
            "joint_entropy_as_share_of_sum": share,
            "error_of_sentence_vectors": vectors,
            "spearman_on_sts_with_coded_keys_and_values": quality,
        },
        conditions="all-MiniLM-L6-v2, all six layers, abstracts of SciFact; fitted on 3072 tokens, measured on 2048 "
        "tokens of other texts. The paper codes the cache of large decoders, keys before the rotary encoding; this "
        "encoder adds positions to its input, so its keys are never rotated. No Fisher weights, no perplexity.",
        reason=""
        if all(checks.values())
        else "few tokens to learn 256 centres from, and keys of a small encoder that depend on each other less",
    )


def load() -> tuple[Any, Any]:
    """The encoder and its PyTorch model."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingDependency("torch", extra="torch", need="the experiment of coupled") from None
    from sememe.encode.minilm import MiniLM

    encoder = MiniLM("torch")
    encoder.encode(["load it"])
    return encoder, encoder._model


def _halves(texts: list[str]) -> Iterator[tuple[list[str], int]]:
    """Texts to fit on and others to measure on."""
    yield texts[: len(texts) // 2], FIT
    yield texts[len(texts) // 2 :], HELD


def _places(fit: dict[str, Vectors], setting: Setting) -> list[str]:
    return list(fit) * len(setting.seeds)


def projections(model: Any) -> dict[str, Any]:
    """The modules whose outputs are keys and values, by name."""
    return {
        f"{layer}.{kind}": getattr(block.attention.self, kind)
        for layer, block in enumerate(model.encoder.layer)
        for kind in ("key", "value")
    }


@contextmanager
def hooked(model: Any, make: Callable[[str], Callable[[Any], Any]]) -> Iterator[None]:
    """Pass the output of every key and value projection through ``make(its name)``."""

    def hook_of(name: str) -> Callable[[Any, Any, Any], Any]:
        change = make(name)
        return lambda module, inputs, output: change(output)

    handles = [module.register_forward_hook(hook_of(name)) for name, module in projections(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def states(encoder: Any, model: Any, texts: list[str], most: int) -> dict[str, Vectors]:
    """Keys and values of the first ``most`` tokens of texts, float32 ``(most, 384)`` for each projection."""
    found: dict[str, list[Vectors]] = {name: [] for name in projections(model)}

    def keep(name: str) -> Callable[[Any], Any]:
        def change(output: Any) -> None:
            found[name].append(output[0].float().numpy().copy())

        return change

    with hooked(model, keep):
        for text in texts:
            encoder.encode([text])
            if sum(map(len, next(iter(found.values())))) >= most:
                break
    return {name: np.concatenate(parts)[:most] for name, parts in found.items()}


def relative_error(codec: Coupled, rows: Vectors) -> float:
    """Squared error as a share of the variance of ``rows``."""
    gap = rows - codec.decode(codec.encode(rows))
    centred = rows - rows.mean(axis=0)
    return float(np.sum(gap * gap, dtype=np.float64) / np.sum(centred * centred, dtype=np.float64))


def entropy_share(rows: Vectors, channels: int) -> float:
    """Joint entropy of neighbouring channels, cut into quartiles, as a share of the sum of their own entropies."""
    cuts = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    levels = (rows[None] > cuts[:, None]).sum(axis=0)  # 0 to 3
    joint, own = 0.0, 0.0
    for first in range(0, rows.shape[1] - channels + 1, channels):
        part = levels[:, first : first + channels]
        joint += _entropy(part @ (4 ** np.arange(channels)), 4**channels)
        own += sum(_entropy(column, 4) for column in part.T)
    return joint / own


def _entropy(symbols: NDArray[np.int64], kinds: int) -> float:
    """Entropy in bits, with Miller and Madow's correction for the finite sample."""
    counts = np.bincount(symbols, minlength=kinds)
    share = counts[counts > 0] / len(symbols)
    return float(-(share * np.log2(share)).sum() + (len(share) - 1) / (2 * len(symbols) * np.log(2)))


def similarity(setting: Setting, encoder: Any, model: Any, codecs: dict[str, dict[str, Coupled]]) -> dict[str, float]:
    """Spearman on pairs of the STS benchmark with keys and values as they are, and coded in every layer."""
    import torch

    rows = setting.data.table("stsb", "stsb-test.tsv.gz")
    rows = rows[:: max(1, len(rows) // PAIRS)][:PAIRS]
    gold = np.array([float(row[0]) for row in rows])

    def score() -> float:
        left, right = (encoder.encode([row[side] for row in rows]) for side in (1, 2))
        return spearman(np.einsum("ij,ij->i", left, right).astype(np.float64), gold)

    out = {"float": score()}
    for name in ("c=1", "c=8"):

        def coded(place: str, name: str = name) -> Callable[[Any], Any]:
            codec = codecs[name][place]

            def change(output: Any) -> Any:
                flat = output.reshape(-1, output.shape[-1]).float().numpy()
                return torch.from_numpy(codec.decode(codec.encode(flat))).reshape(output.shape)

            return change

        with hooked(model, coded):
            out[name] = score()
    return out
