"""Cross-layer equalization and bias correction: a network with planted range mismatch, and a real encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec.descent import Adam
from sememe.codec.weights import CrossLayerEqualizer, Layer, quantized, relu_mean
from sememe.contracts import Vectors, unit_rows
from sememe.errors import MissingDependency
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

HIDDEN = 256
MISMATCH = 1.5  # decades up or down that a planted channel is scaled by
SENTENCES = 256
F64 = NDArray[np.float64]


@experiment(
    "cross-layer",
    paper=Paper("Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, "1906.04721"),
    claim="Equalizing weight ranges across layers and correcting biases brings data-free int8 models near float.",
    needs=("banking77", "stsb"),
)
def run(setting: Setting) -> Finding:
    """Accuracy of a two-hidden-layer ReLU classifier of intents, and sentence vectors of MiniLM, in int8."""
    correct, kept = classifiers(setting)
    joined = {name: np.concatenate(parts) for name, parts in correct.items()}
    gain = paired_bootstrap(joined["equalized and corrected"], joined["naive"])
    lost = paired_bootstrap(joined["equalized and corrected"], joined["float"])
    errors = encoder_errors(setting)
    ratio = bootstrap_mean(errors["equalized"] / errors["naive"].mean())
    return Finding(
        measured=float(joined["equalized and corrected"].mean()),
        baseline=float(joined["naive"].mean()),
        interval=(gain.low, gain.high),
        unit="accuracy on banking77 of a ReLU network with planted range mismatch, int8 with one step a tensor: "
        "equalized and corrected, against naive",
        interval_of="the gain over naive rounding, over test questions and seeds",
        checks={
            "naive int8 loses at least 10 points": float((joined["float"] - joined["naive"]).mean()) >= 0.10,
            "equalized and corrected int8 is within 1 point of float": lost.low >= -0.01,
            "equalizing changes nothing in float": kept < 1e-4,
            "equalizing MiniLM's value and output projections lowers the int8 error of its sentence vectors": ratio.high
            < 1,
        },
        details={
            "accuracy": {name: float(values.mean()) for name, values in joined.items()},
            "loss_to_float": lost.as_json(),
            "largest_relative_change_of_float_logits": kept,
            "minilm_one_minus_cosine_to_float": {name: float(values.mean()) for name, values in errors.items()},
            "minilm_equalized_error_as_share_of_naive": ratio.as_json(),
        },
        conditions="256-256-256-77 network on static vectors, hidden channels scaled by up to 1.5 decades either way; "
        "means and deviations before each ReLU, as batch normalisation would hold them, from the training questions. "
        "MiniLM: only value and output projections are rounded, as its GELU is not positively homogeneous; means from "
        "the biases of its layer normalisations.",
        reason=""
        if ratio.high < 1 and lost.low >= -0.01
        else "MiniLM's value and output projections are already even enough for int8"
        if lost.low >= -0.01
        else "what is lost stems from the steps themselves, not from their ranges",
    )


def classifiers(setting: Setting) -> tuple[dict[str, list[F64]], float]:
    """Right answers (0 or 1) of every variant for each test question, seed after seed; and the change in float."""
    from sememe.encode import make

    train, test = (setting.data.table("banking77", f"{part}.tsv.gz") for part in ("train", "test"))
    names = sorted({row[0] for row in train})
    encoder = make("static")
    X, T = (encoder.encode([row[1] for row in rows]) for rows in (train, test))
    y, truth = (np.array([names.index(row[0]) for row in rows]) for rows in (train, test))
    correct: dict[str, list[F64]] = {}
    change = 0.0
    for seed in setting.seeds:
        layers = planted(trained(X, y, len(names), seed), seed)
        means, deviations = statistics(layers, X)
        equalizer = CrossLayerEqualizer()
        even = equalizer.equalize(layers)
        logits = apply(layers, T)
        change = max(change, float(np.abs(apply(even, T) - logits).max() / np.abs(logits).max()))
        absorbed = equalizer.equalize(layers, deviations)
        inputs = [X.mean(axis=0, dtype=np.float64)]
        for moved, layer, mean, deviation, scale in zip(
            absorbed[:-1], layers[:-1], means, deviations, equalizer.scales_, strict=True
        ):
            inputs.append(relu_mean(mean / scale + moved.bias - layer.bias / scale, deviation / scale))
        variants = {
            "float": layers,
            "naive": equalizer.quantize(layers),
            "naive, one step a channel": [Layer(quantized(x.weight, per_channel=True), x.bias) for x in layers],
            "equalized": equalizer.quantize(even),
            "equalized and corrected": equalizer.quantize(absorbed, inputs),
        }
        for name, network in variants.items():
            right = apply(network, T).argmax(axis=1) == truth
            correct.setdefault(name, []).append(right.astype(np.float64))
    return correct, change


def apply(layers: Sequence[Layer], rows: Vectors) -> Vectors:
    """Layers with ReLU between them."""
    for layer in layers[:-1]:
        rows = np.maximum(layer(rows), 0)
    return layers[-1](rows)


def trained(X: Vectors, y: NDArray[Any], classes: int, seed: int, *, passes: int = 12) -> list[Layer]:
    """A classifier with two hidden layers, by Adam on the cross entropy."""
    generator = np.random.default_rng(seed)
    widths = (X.shape[1], HIDDEN, HIDDEN, classes)
    layers = [
        Layer.of(generator.standard_normal((a, b)) * np.sqrt((6.0 if not i else 2.0) / a))
        for i, (a, b) in enumerate(pairwise(widths))
    ]
    adam = Adam([array for layer in layers for array in (layer.weight, layer.bias)], [2e-3] * 2 * len(layers))
    steps = passes * len(X) // 128
    for step in range(steps):
        chosen = generator.integers(len(X), size=128)
        states = [X[chosen]]
        for layer in layers[:-1]:
            states.append(np.maximum(layer(states[-1]), 0))
        logits = layers[-1](states[-1])
        slope = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope /= slope.sum(axis=1, keepdims=True)
        slope[np.arange(128), y[chosen]] -= 1
        slope /= 128
        gradients: list[Any] = []
        for layer, state in zip(reversed(layers), reversed(states), strict=True):
            gradients = [state.T @ slope, slope.sum(axis=0), *gradients]
            slope = (slope @ layer.weight.T) * (state > 0)
        adam.step(gradients, 1 - step / steps)
    return layers


def planted(layers: Sequence[Layer], seed: int) -> list[Layer]:
    """The same function with hidden channels scaled up or down by as much as ``MISMATCH`` decades."""
    generator = np.random.default_rng(1000 + seed)
    out = list(layers)
    for i in range(len(out) - 1):
        scale = 10.0 ** generator.uniform(-MISMATCH, MISMATCH, size=out[i].weight.shape[1])
        out[i] = Layer.of(out[i].weight * scale, out[i].bias * scale)
        out[i + 1] = Layer.of(out[i + 1].weight / scale[:, None], out[i + 1].bias)
    return out


def statistics(layers: Sequence[Layer], X: Vectors) -> tuple[list[F64], list[F64]]:
    """Mean and deviation of every hidden layer's output before its ReLU."""
    means, deviations, rows = [], [], X
    for layer in layers[:-1]:
        before = layer(rows)
        means.append(before.mean(axis=0, dtype=np.float64))
        deviations.append(before.std(axis=0, dtype=np.float64))
        rows = np.maximum(before, 0)
    return means, deviations


def encoder_errors(setting: Setting) -> dict[str, F64]:
    """``1 - cosine`` between MiniLM's sentence vectors and those with int8 value and output projections."""
    try:
        import torch
    except ImportError:
        raise MissingDependency("torch", extra="torch", need="the experiment of cross-layer") from None
    from sememe.encode.minilm import MiniLM

    rows = setting.data.table("stsb", "stsb-test.tsv.gz")
    texts = sorted({row[1] for row in rows})[:: max(1, len(rows) // SENTENCES)][:SENTENCES]
    encoder = MiniLM("torch")
    exact = encoder.encode(texts)
    model = encoder._model
    equalizer = CrossLayerEqualizer()
    out: dict[str, F64] = {}
    original = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("naive", "equalized", "equalized and corrected"):
        mean = model.embeddings.LayerNorm.bias.detach().double().numpy()
        for block in model.encoder.layer:
            pair = (block.attention.self.value, block.attention.output.dense)
            layers = [Layer.of(x.weight.detach().numpy().T, x.bias.detach().numpy()) for x in pair]
            if name != "naive":
                layers = equalizer.equalize(layers)
            # What attention mixes has the mean of the values, whatever the weights of the mixture.
            means = [mean, mean @ layers[0].weight + layers[0].bias] if name.endswith("corrected") else None
            with torch.no_grad():
                for module, layer in zip(pair, equalizer.quantize(layers, means), strict=True):
                    module.weight.copy_(torch.from_numpy(layer.weight.T.copy()))
                    module.bias.copy_(torch.from_numpy(layer.bias))
            mean = block.output.LayerNorm.bias.detach().double().numpy()
        vectors = encoder.encode(texts)
        out[name] = 1 - np.einsum("ij,ij->i", unit_rows(vectors), unit_rows(exact), dtype=np.float64)
        model.load_state_dict(original)
    return out
