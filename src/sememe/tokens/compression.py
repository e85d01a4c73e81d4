"""A model folder with a smaller input table, and what that costs, measured before anything is written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.encode.folder import loading
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.effect import effect
from sememe.tokens.factory import layer_class, load, parameters_of, save
from sememe.tokens.sensitivity import sensitivity
from sememe.tokens.vocabulary import Vocabulary
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.sample import from_texts, read_sample
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.writing import without_name, write_without

LAYER = "token-layer.safetensors"
COMPACT = "token-layer.json"
_MOST = 400  # texts that are compared before and after
_APART = 3.0  # how much more an error of equal size may cost on text that is not the sample's


def compress(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    layer: str,
    budget: int | float | str,
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | None = None,
    plain: bool = False,
    even: bool = False,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Replace the input table of a model by a smaller layer fitted to it.

    Half of the text is what the fit learns from: how often each symbol occurs weighs its row (half and half with what
    its id says, see `importance`), and what the model does with it says what an error in each direction costs (see
    `sememe.tokens.sensitivity`). The other half compares the model before and after. Where the output table is tied to
    the input table it stays tied, so the output changes too.

    Parameters
    ----------
    model : path
        A Hugging Face or sentence-transformers folder with safetensors.
    out : path or None
        The new folder, which must not exist; None only measures.
    layer : str
        A token layer; see `sememe.tokens.names` with ``fitted=True``.
    budget : int, float or str
        Its size: ``"10%"`` of the table's bytes, or float32 parameters such as ``"1M"``.
    text, texts
        A sample of the text that the model will read; files, or texts themselves.
    plain : bool
        Write the rebuilt table, which is as large as before and opens everywhere, instead of the layer, which
        `open_model` opens.
    even : bool
        Take all rows and all directions as equally important: no gradients of the model are needed, and other text than
        the sample's is served as well as this.
    seed : int
    options
        Of the layer.

    Returns
    -------
    dict
        ``table`` (``rows``, ``dim``, ``bytes``), ``layer`` (``name``, ``parameters``, ``bytes``, ``share``), ``fit``
        (see `Fit`), ``effect`` (see below), ``tied``, ``out`` and ``bytes`` on disk before and after. The effect on an
        encoder is the cosine of a text's vector with what it was (``cosine``: mean and 95 % interval, ``lowest``: 5th
        percentile) and the rank correlation of similarities between texts (``spearman``); on a language model the
        ``loss`` before, after and the ``gap`` with its interval, in bits a byte. ``elsewhere`` is how far that may
        go on text of other symbols (see below): ``ratio``, and the ``cosine`` at least or the ``gap`` at most.

    Raises
    ------
    InputError, BudgetError, UsageError
        A model or layer that does not fit, a budget that cannot be had, no text.

    Notes
    -----
    The effect holds for text like the sample. On other text other symbols occur, whose rows may have worse codes:
    ``ratio`` is what an error costs on average over all symbols, by the metric, over what it costs on the symbols of
    the sample's second half (at least 1), times 3, since the metric is itself measured on the sample: a sentence
    encoder fitted to an English encyclopedia lost 1.5 times as much as the symbols explain on news, 1.6 times on
    French, up to 2.4 times on old Spanish. The unfavourable end of the effect's interval, times that, is what is
    promised elsewhere.
    """
    folder = ModelFolder.open(model)
    if out is not None and Path(out).exists():
        raise InputError("this exists already", where=str(out), fix="name a new folder, or remove this one")
    kind = layer_class(layer)
    table = folder.read("input")
    sample = from_texts(texts) if texts is not None else read_sample(text)
    usable = [item for item in sample.texts if item.strip()]
    if len(usable) < 4:
        raise InputError(f"{len(usable)} texts are too few to fit and to measure", fix="give at least 4")
    learn, judge = usable[::2], usable[1::2][:_MOST]
    vocabulary = _vocabulary(folder.tokenizer(), len(table), learn)
    stored = folder.tables["input"].nbytes  # a share is of what is stored, which is often less than float32
    wanted = parameters_of(budget, stored // 4)
    if wanted < 1:
        raise InputError(f"budget={budget!r}", fix='give a share above nothing, as in "10%"')
    metric = None if even or not kind.metrics else sensitivity(folder, learn, seed=seed)
    weights = None if even else importance(vocabulary.counts)
    if even and not kind.counted:
        vocabulary = _padded(Vocabulary.of(folder.tokenizer()), len(table))
    made = kind.from_pretrained(table, vocabulary, budget=wanted, weights=weights, metric=metric, seed=seed, **options)
    made.eval()
    rebuilt = made.table().float().numpy()
    answer: dict[str, Any] = {
        "model": str(folder.path),
        "table": {"rows": len(table), "dim": int(table.shape[1]), "bytes": stored},
        "layer": {
            "name": layer,
            "options": made.options,
            "parameters": made.num_parameters,
            "bytes": made.num_bytes,
            "share": made.num_bytes / stored,
        },
        "fit": made.fit_.as_json(),
        "tied": folder.tied,
        "effect": effect(folder, rebuilt, judge),
        "elsewhere": None,
        "texts": {"weighed": len(learn), "compared": len(judge)},
        "out": None,
        "notices": list(sample.notices),
    }
    answer["elsewhere"] = _elsewhere(
        answer["effect"], table - rebuilt, metric, _counts(folder.tokenizer(), judge, len(table))
    )
    if out is not None:
        done = {
            "operation": "compress",
            **{key: answer[key] for key in ("layer", "fit", "tied", "effect", "elsewhere")},
        }
        if plain:
            tables = {role: folder.read(role) for role in folder.tables} | {"input": rebuilt}
            tables |= {tensor.name: folder.read(tensor.name) for tensor in folder.layout.biases}
            write_folder(folder, out, tokenizer=folder.tokenizer(), tables=tables, surgery=done)
        else:
            _write_compact(folder, out, made, done)
        answer["out"] = str(out)
        answer["bytes"] = {"before": _size(folder.path), "after": _size(Path(out))}
    return answer


def open_model(path: str | os.PathLike[str]) -> Any:
    """Open what `compress` wrote, as a transformers model in evaluation mode.

    The layer itself stands in the model where its input table was. Where the output is tied to the table, a plain
    table is rebuilt, because the output needs all rows at once.

    Raises
    ------
    InputError
        A folder that is no compressed model, or is damaged.
    """
    try:
        import transformers
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependency(error.name or "torch", extra="torch", need="opening a model") from None
    place = Path(path)
    found = sorted(place.glob(f"**/{COMPACT}"))
    if not found:
        fix = "give a folder that compress wrote; others open with transformers"
        raise InputError(f"is no compressed model: there is no {COMPACT}", where=str(path), fix=fix)
    try:
        header = json.loads(found[0].read_text(encoding="utf-8"))
        inner = found[0].parent
        weights = [inner / str(name) for name in header["weights"]]
        missing, tied, rows = [str(name) for name in header["missing"]], bool(header["tied"]), int(header["rows"])
        kind = getattr(transformers, str(header["architecture"]))
        counts = header["counts"]
        state: dict[str, Any] = {}
        for file in weights:
            state |= load_file(file)
        config = transformers.AutoConfig.from_pretrained(str(inner), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, SafetensorError) as error:
        raise InputError(f"is no readable compressed model ({error})", where=str(path)) from None
    vocabulary = _padded(Vocabulary.of(TokenizerFile.open(inner)), rows)
    layer = load(inner / LAYER, vocabulary, counts=counts)
    if layer.num_embeddings != rows:
        raise InputError("the layer has another number of rows than the model", where=str(path))
    table = layer.table()
    state |= dict.fromkeys(missing, table)
    with loading(str(path)):
        model, report = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    if report["mismatched_keys"] or report["missing_keys"]:
        names = sorted(map(str, [*report["mismatched_keys"], *report["missing_keys"]]))
        raise InputError(f"tensors are missing or do not fit: {', '.join(names[:3])}", where=str(path))
    if not tied:
        model.set_input_embeddings(layer)
    return model.eval()


def importance(counts: Any) -> NDArray[np.float64]:
    """How much each row matters, ``(v,)``, as a weight of its error: the root of how often it is expected.

    A sample has not seen most symbols of a large vocabulary, and other text will; tokenizers number what is frequent
    first, so by Zipf's law id ``i`` has a share in proportion to ``1 / (i + 10)``. Half of what is expected comes from
    the counts in the text, half from the id. The root is what it costs least to be wrong with: on text like the sample
    it loses little to the shares themselves, and rare rows, of which other text has more, keep twice the bytes.
    """
    known = np.asarray(counts, dtype=np.float64)
    by_id = 1 / (np.arange(len(known)) + 10.0)
    total = known.sum()
    by_id /= by_id.sum()
    return np.asarray(np.sqrt(0.5 * (known / total if total > 0 else by_id) + 0.5 * by_id))


def _elsewhere(effect: dict[str, Any], error: Any, metric: Any, counts: NDArray[np.float64]) -> dict[str, float]:
    """How far the effect may go on text of other symbols."""
    away = error.astype(np.float64)
    cost = np.einsum("nd,nd->n", away if metric is None else away @ metric, away)
    here = float(counts @ cost) / max(float(counts.sum()), 1.0)
    ratio = _APART * max(float(cost.mean()) / here if here > 0 else 1.0, 1.0)
    if effect["kind"] == "encoder":
        return {"ratio": ratio, "cosine": max(1 - ratio * (1 - effect["cosine"]["low"]), -1.0)}
    return {"ratio": ratio, "gap": ratio * max(effect["gap"]["high"], 0.0)}


def _vocabulary(tokenizer: TokenizerFile, rows: int, texts: Sequence[str]) -> Vocabulary:
    """The tokenizer's symbols with their counts in texts; rows without a symbol are empty pieces."""
    return _padded(Vocabulary.of(tokenizer), rows, _counts(tokenizer, texts, rows))


def _counts(tokenizer: TokenizerFile, texts: Sequence[str], rows: int) -> NDArray[np.float64]:
    """How often each row is asked for."""
    counts = np.zeros(rows)
    for found in tokenizer.encode_batch(list(texts)):
        np.add.at(counts, [number for number in found if number < rows], 1.0)
    return counts


def _padded(vocabulary: Vocabulary, rows: int, counts: Any = None) -> Vocabulary:
    """As many symbols as the table has rows: tables are often longer than their vocabulary."""
    pieces = [*vocabulary.pieces, *[b""] * (rows - len(vocabulary))]
    special = [*sorted(vocabulary.special), *range(len(vocabulary), rows)]
    return Vocabulary(pieces[:rows], [number for number in special if number < rows], counts)


def _write_compact(
    folder: ModelFolder, out: str | os.PathLike[str], layer: TokenEmbedding, done: dict[str, Any]
) -> None:
    layout = folder.layout
    missing = [layout.input.name, *(tensor.name for tensor in layout.copies)]
    kept = {t.file.name for t in folder.tensors.values() if t.name not in missing}
    counts = layer.vocabulary.counts if layer.counted else None
    header = {
        "format": 1,
        "architecture": (folder.config.get("architectures") or ["AutoModel"])[0],
        "weights": [without_name(shard) for shard in folder.shards if shard in kept],
        "missing": missing,
        "tied": folder.tied,
        "rows": folder.size,
        "counts": None if counts is None else [round(count) for count in counts.tolist()],
        "done": done,
    }
    with tempfile.TemporaryDirectory() as scratch:
        file = save(layer, Path(scratch) / LAYER)
        write_without(folder, out, missing, {LAYER: file, COMPACT: json.dumps(header, indent=1).encode()})


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
