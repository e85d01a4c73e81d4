"""What a ``tokenizer.json`` must satisfy before anything is built from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sememe.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TYPES = ("BPE", "WordPiece", "Unigram", "WordLevel")


def model_type(model: dict[str, Any]) -> str:
    """The type of the model; where a file does not name it, its entries tell."""
    named = model.get("type")
    if isinstance(named, str):
        return named
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"


def check_spec(spec: dict[str, Any], where: str) -> None:
    """Refuse damaged entries with one line each.

    Raises
    ------
    InputError
    """

    def refuse(what: str) -> InputError:
        return InputError(what, where=where, fix="give a tokenizer.json of the library tokenizers")

    model = spec.get("model")
    if not isinstance(model, dict) or "vocab" not in model:
        raise refuse("is not a tokenizer: it has no model with a vocabulary")
    kind = model_type(model)
    if kind not in _TYPES:
        raise refuse(f"holds a model of the unknown type {kind!r}")
    added = spec.get("added_tokens") or []
    if not isinstance(added, list) or not all(_is_added(token) for token in added):
        raise refuse("has a damaged list of added tokens")
    pairs = _vocabulary(model["vocab"], kind, refuse)
    numbers = {number: token for token, number in pairs}
    if len(numbers) != len(pairs):
        raise refuse("gives one id to two tokens")
    if "" in numbers.values():
        raise refuse("has an empty token")
    for token in added:
        if numbers.setdefault(token["id"], token["content"]) != token["content"]:
            raise refuse(f"gives the id {token['id']} to {numbers[token['id']]!r} and {token['content']!r}")
    if not numbers:
        raise refuse("has an empty vocabulary")
    if max(numbers) > 4 * len(numbers) + 65_536:
        raise refuse(f"numbers {len(numbers)} tokens up to {max(numbers)}")
    if kind == "BPE":
        merges = model.get("merges")
        if not isinstance(merges, list) or any(merge_parts(m) is None for m in merges):
            raise refuse("has damaged merges")
        if model.get("dropout"):
            raise refuse("drops merges at random, so that one text has many encodings")
    limit = model.get("max_input_chars_per_word")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise refuse("has a damaged max_input_chars_per_word")


def _vocabulary(vocabulary: Any, kind: str, refuse: Any) -> list[tuple[str, int]]:
    if kind == "Unigram":
        good = isinstance(vocabulary, list) and all(
            isinstance(e, list) and len(e) == 2 and isinstance(e[0], str) and _is_number(e[1]) for e in vocabulary
        )
        if not good:
            raise refuse("has a damaged vocabulary: pairs of a token and a score are expected")
        return [(entry[0], number) for number, entry in enumerate(vocabulary)]
    if not isinstance(vocabulary, dict) or not all(type(n) is int and 0 <= n < 2**31 for n in vocabulary.values()):
        raise refuse("has a damaged vocabulary: tokens with their ids are expected")
    return list(vocabulary.items())


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and value == value and abs(value) < 1e30


def _is_added(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and bool(token["content"])
        and type(token.get("id")) is int
        and 0 <= token["id"] < 2**31
    )


def merge_parts(merge: Any) -> tuple[str, str] | None:
    """The two parts of a merge, written as ``"a b"`` or as a pair; None where it is neither."""
    if isinstance(merge, str):
        parts = merge.split(" ")
        return (parts[0], parts[1]) if len(parts) == 2 else None
    if isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge):
        return merge[0], merge[1]
    return None


def build(spec: dict[str, Any], where: str) -> Tokenizer:
    """The library's tokenizer, with padding and truncation switched off.

    Raises
    ------
    InputError
        Whatever the library says, on one line.
    """
    from tokenizers import Tokenizer

    plain = {**spec, "truncation": None, "padding": None}
    try:
        return Tokenizer.from_str(json.dumps(plain, ensure_ascii=False))
    except BaseException as error:  # the library's panics are no Exceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the tokenizer cannot be built ({reason[:200]})", where=where) from None
