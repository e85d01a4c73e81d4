"""What a model's vocabulary costs, and what of it a text uses."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.vocab.folder import ModelFolder
from sememe.vocab.metrics import TokenizerReport, affixes, is_spaced, measure_cuts
from sememe.vocab.sample import Sample, from_texts, read_sample, script_of_text, words
from sememe.vocab.tensors import FLOATS, Tensor, widen
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.tokenizer_keep import characters, complete
from sememe.vocab.trim import default_size, vocabulary_bytes
from sememe.vocab.unreachable import find_unreachable

_EXAMPLES = 12


def inspect(
    model: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | Sequence[tuple[str, str]] | None = None,
    lexicon: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Measure a model's vocabulary, on a text where there is one.

    Parameters
    ----------
    model : path
        A Hugging Face or sentence-transformers folder with safetensors.
    text : list of paths
        Files or folders to read the sample from; see `sememe.vocab.sample.read_sample`.
    texts : list of str, or of (str, str), optional
        The sample itself instead, texts or pairs of a text and its language.
    lexicon : iterable of str, optional
        Words of the language, for purity; without it, the words that the text has at least twice.

    Returns
    -------
    dict
        ``tables`` (sizes and shares), ``tokenizer``, ``duplicates``, ``unreachable``, and where there is a text
        ``text`` (the whole), ``groups`` (by language and script), ``used``, ``purity``, ``trim`` (what trimming would
        save).

    Examples
    --------
    >>> sememe.vocab.inspect("model", ["news.de.txt"])["used"]["never"]  # doctest: +SKIP
    """
    folder = ModelFolder.open(model)
    tokenizer = folder.tokenizer()
    sample = from_texts(texts) if texts is not None else read_sample(text) if text else None
    answer: dict[str, Any] = {
        "model": str(folder.path),
        "architecture": (folder.config.get("architectures") or [folder.config.get("model_type", "unknown")])[0],
        "parameters": folder.parameters,
        "tables": table_sizes(folder),
        "tokenizer": {
            "kind": tokenizer.kind,
            "tokens": sum(1 for token in tokenizer.tokens if token),
            "special": len(tokenizer.special),
            "added": len(tokenizer.added_ids),
            "rows_without_token": folder.size - sum(1 for token in tokenizer.tokens if token),
        },
        "duplicates": {"tokens": duplicate_tokens(tokenizer)}
        | {name: duplicate_rows(tensor, tokenizer) for name, tensor in folder.tables.items()},
    }
    seen: Counter[int] = Counter()
    if sample is not None:
        seen = _measure_text(answer, folder, tokenizer, sample, lexicon)
    answer["unreachable"] = find_unreachable(tokenizer, set(seen)).as_json(tokenizer)
    return answer


def table_sizes(folder: ModelFolder) -> dict[str, Any]:
    """Parameters, bytes and share of the model of each table; a tied table counts once."""

    def one(tensor: Tensor) -> dict[str, Any]:
        return {
            "tensor": tensor.name,
            "rows": tensor.shape[0],
            "dim": tensor.shape[1],
            "dtype": tensor.dtype,
            "parameters": tensor.parameters,
            "bytes": tensor.nbytes,
            "share": tensor.parameters / folder.parameters,
        }

    biases = folder.layout.biases
    parameters = sum(t.parameters for t in (*folder.tables.values(), *biases))
    return {
        "input": one(folder.layout.input),
        "output": one(folder.layout.output) if folder.layout.output else None,
        "tied": folder.tied,
        "head": folder.layout.head,
        "biases": sum(t.parameters for t in biases),
        "parameters": parameters,
        "bytes": sum(t.nbytes for t in folder.layout.all),
        "share": parameters / folder.parameters,
    }


def duplicate_tokens(tokenizer: TokenizerFile) -> dict[str, Any]:
    """Tokens that stand for the same bytes as another: entries beyond the first of each group."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number in range(len(tokenizer.tokens)):
        raw = tokenizer.text_of(number)
        if raw is not None:
            groups[raw].append(number)
    several = [numbers for numbers in groups.values() if len(numbers) > 1]
    return {
        "tokens": sum(len(numbers) - 1 for numbers in several),
        "groups": len(several),
        "examples": [[tokenizer.tokens[n] for n in numbers[:4]] for numbers in several[:_EXAMPLES]],
    }


def duplicate_rows(tensor: Tensor, tokenizer: TokenizerFile) -> dict[str, Any]:
    """Rows that equal another bit for bit, rows of zeros, and rows with NaN or infinity."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    zeros = damaged = 0
    for first, values in tensor.blocks():
        wide = widen(values, tensor.dtype)
        zeros += int((~wide.any(axis=1)).sum())
        damaged += int((~np.isfinite(wide).all(axis=1)).sum())
        for row, stored in enumerate(np.ascontiguousarray(values)):
            groups[hashlib.blake2b(stored.data, digest_size=16).digest()].append(first + row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    names = tokenizer.tokens
    return {
        "rows": sum(len(rows) - 1 for rows in several),
        "groups": len(several),
        "zero_rows": zeros,
        "rows_with_nan": damaged,
        "examples": [[names[n] if n < len(names) else f"row {n}" for n in rows[:4]] for rows in several[:_EXAMPLES]],
    }


def _measure_text(
    answer: dict[str, Any],
    folder: ModelFolder,
    tokenizer: TokenizerFile,
    sample: Sample,
    lexicon: Iterable[str] | None,
) -> Counter[int]:
    encoded = tokenizer.encode_batch(sample.texts)
    counts = Counter(number for ids in encoded for number in ids)
    seen = counts.copy()
    seen.update(n for ids in tokenizer.encode_batch(sample.pieces) for n in ids if n not in counts)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (line, language) in enumerate(zip(sample.texts, sample.languages, strict=True)):
        groups[language, script_of_text(line)].append(place)
    answer["text"] = measure_cuts(tokenizer, sample.texts, encoded, spaced=is_spaced(sample.texts)).as_json()
    answer["groups"] = []
    for (language, script), places in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines, ids = [sample.texts[p] for p in places], [encoded[p] for p in places]
        cuts = measure_cuts(tokenizer, lines, ids, spaced=is_spaced(lines)).as_json()
        used = len({number for line in ids for number in line})
        answer["groups"].append({"language": language, "script": script, **cuts, "tokens_used": used})
    total = answer["tokenizer"]["tokens"]
    ordered = np.sort(np.array(list(counts.values()), dtype=np.int64))[::-1]
    answer["used"] = {
        "tokens": len(seen),
        "share": len(seen) / total,
        "never": total - len(seen),
        "never_share": 1 - len(seen) / total,
        "once": sum(1 for count in counts.values() if count == 1),
        "coverage": _coverage(ordered),
    }
    answer["purity"] = _purity(tokenizer, sample, lexicon)
    answer["trim"] = _savings(folder, tokenizer, set(seen), total)
    answer["notices"] = sample.notices
    return seen


def _coverage(counts: NDArray[np.int64]) -> list[list[float]]:
    """Points ``[tokens, share of occurrences that the most frequent ones cover]`` at doubling numbers."""
    if not len(counts):
        return []
    sums = np.cumsum(counts) / counts.sum()
    places = [1 << power for power in range(len(counts).bit_length()) if 1 << power < len(counts)] + [len(counts)]
    return [[place, float(sums[place - 1])] for place in places]


def _purity(tokenizer: TokenizerFile, sample: Sample, lexicon: Iterable[str] | None) -> dict[str, Any]:
    known = set(lexicon) if lexicon is not None else set()
    source = "the given lexicon"
    if not known:
        counts = Counter(word.casefold() for line in sample.texts for word in words(line) if not word.isdigit())
        known = {word for word, count in counts.items() if count > 1} or set(counts) or {"-"}
        source = "words that the text has at least twice"
    report = TokenizerReport(known, affixes(set(sample.languages)))(tokenizer, sample.texts)
    return {"lexicon": source, **{key: value for key, value in report.items() if key not in ("vocabulary", "tokens")}}


def _savings(folder: ModelFolder, tokenizer: TokenizerFile, seen: set[int], total: int) -> dict[str, Any]:
    """Rows and bytes after trimming to what the text uses, and at the default size of `sememe.vocab.trim`."""
    kept = len(complete(tokenizer, seen | characters(tokenizer)))
    now = vocabulary_bytes(folder, folder.size)
    model_bytes = sum(
        t.parameters * FLOATS[t.dtype].itemsize if t.dtype in FLOATS else t.nbytes for t in folder.tensors.values()
    )
    out = {}
    for name, rows in (("smallest", kept), ("default", max(kept, default_size(total, len(seen))))):
        saved = now - vocabulary_bytes(folder, rows)
        out[name] = {
            "tokens": rows,
            "share": rows / folder.size,
            "saved_bytes": saved,
            "saved_share_of_model": saved / model_bytes,
        }
    return out
