"""Fewer tokens, and yet the same tokens for every text that needs no others.

Why the segmentation stays: WordPiece takes the longest token that fits and Unigram the best-scored path; what was
longest or best among all tokens is so among fewer, if it is still there. Byte-pair encoding applies the first merge
that fits; all merges on the way to a kept token are kept, in their old order, and none is added
(`sememe.vocab.merges`). Unigram's penalty for unknown characters hangs on the lowest score, so the token that has it
stays.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab.merges import Merges
from sememe.vocab.token_text import byte_token
from sememe.vocab.tokenizer_check import merge_parts

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_CONTROL = re.compile(r"<\|[^|\s]+\|>")  # chat and control tokens, also where the file does not declare them


def always_kept(tokenizer: TokenizerFile) -> set[int]:
    """Tokens that nothing may take: added, special and control ones, spaces, bytes, Unigram's lowest score."""
    from sememe.vocab.tokenizer import BYTE_OF, MARKER

    out = set(tokenizer.special) | set(tokenizer.added_ids)
    out |= {number for number, token in enumerate(tokenizer.tokens) if _CONTROL.fullmatch(token)}
    if tokenizer.metaspace and MARKER in tokenizer.ids:
        out.add(tokenizer.ids[MARKER])  # a space spelled in bytes would be decoded as this mark
    if tokenizer.kind == "byte-bpe":
        out |= {tokenizer.ids[c] for c in BYTE_OF if c in tokenizer.ids}
    if tokenizer.model.get("byte_fallback"):
        out |= {number for number, token in enumerate(tokenizer.tokens) if byte_token(token) is not None}
    if tokenizer.kind == "unigram":
        scores = [score for _, score in tokenizer.model["vocab"]]
        out.add(int(np.argmin(scores)))
    return out


def characters(tokenizer: TokenizerFile) -> set[int]:
    """Single characters: what unseen text falls back on where there are no byte tokens; empty where there are."""
    if tokenizer.kind in ("byte-bpe", "wordlevel") or tokenizer.model.get("byte_fallback"):
        return set()
    out = set()
    for number in range(len(tokenizer.tokens)):
        text = tokenizer.text_of(number)
        if text is not None and len(text.decode("utf-8", "replace").strip(" ")) <= 1:
            out.add(number)
    return out


def complete(tokenizer: TokenizerFile, ids: Iterable[int]) -> set[int]:
    """``ids``, what is always kept, and what merges pass through on the way."""
    kept = set(ids) | always_kept(tokenizer)
    if tokenizer.model_type == "BPE":
        tokens = Merges(tokenizer.model).closure(tokenizer.tokens[n] for n in kept)
        kept |= {tokenizer.ids[token] for token in tokens}
    return kept


def keep(tokenizer: TokenizerFile, ids: Sequence[int] | NDArray[np.int64]) -> tuple[TokenizerFile, NDArray[np.int64]]:
    """See `TokenizerFile.keep`."""
    wanted = {int(number) for number in ids}
    if wanted and (min(wanted) < 0 or max(wanted) >= len(tokenizer.tokens)):
        raise InputError(f"ids to keep must lie within 0 ... {len(tokenizer.tokens) - 1}", where=tokenizer.where)
    kept = sorted(n for n in complete(tokenizer, wanted) if tokenizer.tokens[n])
    if not kept:
        raise InputError("no token would be left", where=tokenizer.where)
    old_ids = np.array(kept, dtype=np.int64)
    new: dict[int, int] = {number: place for place, number in enumerate(kept)}
    vocabulary = tokenizer.model["vocab"]
    model = {key: value for key, value in tokenizer.model.items() if key not in ("vocab", "merges")}
    if isinstance(vocabulary, dict):
        model["vocab"] = {t: new[n] for t, n in sorted(vocabulary.items(), key=lambda pair: pair[1]) if n in new}
    else:
        model["vocab"] = [entry for number, entry in enumerate(vocabulary) if number in new]
        unknown = model.get("unk_id")
        model["unk_id"] = new[unknown] if isinstance(unknown, int) else None
    if "merges" in tokenizer.model:
        model["merges"] = kept_merges(tokenizer.model, model["vocab"])
    spec = {key: copy.deepcopy(value) for key, value in tokenizer.spec.items() if key != "model"} | {"model": model}
    renumber_spec(spec, new)
    changed = tokenizer.with_spec(spec, new)
    changed.check()
    return changed, old_ids


def kept_merges(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[Any]:
    """The merges whose parts and result are all in ``vocabulary``, as they were written and in their order."""
    prefix = len(model.get("continuing_subword_prefix") or "")
    out = []
    for merge in model["merges"]:
        left, right = merge_parts(merge) or ("", "")
        if left in vocabulary and right in vocabulary and left + right[prefix:] in vocabulary:
            out.append(merge)
    return out


def renumber_spec(spec: dict[str, Any], new: Mapping[int, int]) -> None:
    """Change the ids outside the model, in place: added tokens, padding, and what the post-processor inserts."""
    for token in spec.get("added_tokens") or []:
        token["id"] = new[token["id"]]
    padding = spec.get("padding")
    if isinstance(padding, dict) and isinstance(padding.get("pad_id"), int):
        padding["pad_id"] = new.get(padding["pad_id"], 0)
    stack = [spec.get("post_processor")]
    while stack:
        entry = stack.pop()
        if isinstance(entry, list):
            stack += entry
        elif isinstance(entry, dict):
            if isinstance(entry.get("ids"), list):
                entry["ids"] = [new[number] for number in entry["ids"]]
            for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
                pair = entry.get(name)
                if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int):
                    entry[name] = [pair[0], new[pair[1]]]
            stack += [value for key, value in entry.items() if key not in ("ids", "sep", "cls")]


def exchange(tokenizer: TokenizerFile, one: int, other: int) -> TokenizerFile:
    """The same tokenizer with the ids of two tokens exchanged.

    Raises
    ------
    InputError
        Where the order of the vocabulary is its numbering, and one of the two is no entry of it.
    """
    if one == other:
        return tokenizer
    new = {number: number for number in range(len(tokenizer.tokens))} | {one: other, other: one}
    vocabulary = tokenizer.model["vocab"]
    model = dict(tokenizer.model)
    if isinstance(vocabulary, dict):
        entries = {token: new[number] for token, number in vocabulary.items()}
        # An added token among the others must be an entry, or it would be numbered behind them.
        entries |= {tokenizer.tokens[number]: new[number] for number in (one, other) if tokenizer.tokens[number]}
        model["vocab"] = dict(sorted(entries.items(), key=lambda pair: pair[1]))
    else:
        if max(one, other) >= len(vocabulary):
            raise InputError(
                f"{tokenizer.tokens[max(one, other)]!r} is no entry of the vocabulary, so it cannot get another id",
                where=tokenizer.where,
            )
        entries_list = list(vocabulary)
        entries_list[one], entries_list[other] = entries_list[other], entries_list[one]
        model["vocab"] = entries_list
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = new[model["unk_id"]]
    spec = {key: copy.deepcopy(value) for key, value in tokenizer.spec.items() if key != "model"} | {"model": model}
    renumber_spec(spec, new)
    changed = tokenizer.with_spec(spec, new)
    changed.check()
    return changed
