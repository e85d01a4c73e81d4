"""What another input table does to a real model, measured on texts before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.encode.folder import loading
from sememe.errors import InputError, MissingDependency
from sememe.vocab.folder import ModelFolder
from sememe.vocab.subject import Subject, Trial, kind_of

_LONGEST = 128  # symbols of a text that an encoder reads here
_TOGETHER = 32
_SAMPLES = 2_000


def effect(folder: ModelFolder, table: NDArray[np.float32], texts: Sequence[str]) -> dict[str, Any]:
    """Compare a model with itself under another input table.

    Parameters
    ----------
    folder : ModelFolder
    table : float32 ndarray of shape (v, d)
    texts : sequence of str

    Returns
    -------
    dict
        Of a language model: ``kind`` (causal, masked), ``unit``, ``loss_before``, ``loss_after``, ``gap`` (``value``,
        ``low``, ``high``; 95 % over texts). Of an encoder: ``kind`` (encoder), ``cosine`` (``value``, ``low``,
        ``high``) of a text's mean-pooled vector with what it was, ``lowest`` (5th percentile over texts), and
        ``spearman`` of the similarities between all pairs of texts.
    """
    try:
        kind_of(folder)
    except InputError:
        return _of_encoder(folder, table, texts)
    return _of_language_model(folder, table, texts)


def _of_language_model(folder: ModelFolder, table: NDArray[np.float32], texts: Sequence[str]) -> dict[str, Any]:
    from sememe.lab.score import paired

    subject, tokenizer = Subject(folder), folder.tokenizer()
    trial = Trial(subject, texts, [tokenizer])
    start = folder.config.get("bos_token_id")
    start = start if type(start) is int and 0 <= start < folder.size else None
    before = trial.score(subject.wrapped(subject.model, tokenizer, start), tokenizer)
    tables = {"input": table, **{t.name: folder.read(t.name) for t in folder.layout.biases}}
    changed = subject.with_tables(tables)
    after = trial.score(subject.wrapped(changed, tokenizer, start), tokenizer)
    value, low, high = paired(after, before)
    return {
        "kind": subject.kind,
        "unit": trial.unit,
        "loss_before": before.value,
        "loss_after": after.value,
        "gap": {"value": value, "low": low, "high": high},
        "texts": len(trial.texts),
    }


def _of_encoder(folder: ModelFolder, table: NDArray[np.float32], texts: Sequence[str]) -> dict[str, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependency(error.name or "torch", extra="torch", need="the vectors of a model") from None
    with loading(str(folder.inner)):
        model = transformers.AutoModel.from_pretrained(str(folder.inner), dtype=torch.float32, local_files_only=True)
    model.eval()
    ids = [found[:_LONGEST] for found in folder.tokenizer().encode_batch(list(texts), special=True)]
    before = pooled(model, ids)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(table))
    after = pooled(model, ids)
    cosine = (before * after).sum(1)
    generator = np.random.default_rng(0)
    means = cosine[generator.integers(len(cosine), size=(_SAMPLES, len(cosine)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    upper = np.triu_indices(len(before), 1)
    return {
        "kind": "encoder",
        "cosine": {"value": float(cosine.mean()), "low": float(low), "high": float(high)},
        "lowest": float(np.quantile(cosine, 0.05)),
        "spearman": rank_correlation((before @ before.T)[upper], (after @ after.T)[upper]),
        "texts": len(texts),
    }


def pooled(model: Any, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Unit vectors ``(n, d)`` of texts given as ids: the mean of a model's last states."""
    import torch

    out = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)
    order = np.argsort([len(row) for row in ids], kind="stable")
    for first in range(0, len(order), _TOGETHER):
        rows = order[first : first + _TOGETHER]
        length = max(1, max(len(ids[row]) for row in rows))
        block = torch.zeros(len(rows), length, dtype=torch.int64)
        keep = torch.zeros(len(rows), length, dtype=torch.int64)
        for place, row in enumerate(rows):
            block[place, : len(ids[row])] = torch.as_tensor(ids[row])
            keep[place, : len(ids[row])] = 1
        with torch.inference_mode():
            states = model(input_ids=block, attention_mask=keep).last_hidden_state
        weight = keep[:, :, None].to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1).clamp_min(1)
        out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return out


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's correlation; 1 where nothing varies in either."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64) for values in (a, b)]
    if len(a) < 2:
        return 1.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
