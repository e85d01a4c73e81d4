"""The small files beside a model: JSON that is read with care, and token ids in it that follow a new numbering."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sememe.errors import InputError

SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", "sentencepiece.model")
TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        *SENTENCEPIECE_FILES,
    }
)
_LIMIT = 512 << 20  # bytes of the largest JSON file that is read
_ID_KEYS = ("_token_id", "_token_ids", "_token_index", "suppress_tokens", "bad_words_ids", "forced_decoder_ids")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file.

    Raises
    ------
    InputError
        Where the file holds something else, or cannot be read.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise InputError("is too large for a JSON file of a model", where=str(path))
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"is not JSON ({error})", where=str(path)) from None
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", where=str(path))
    return content


def dump(document: Any) -> bytes:
    """JSON as it is written to disk."""
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass")


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def renumber(document: dict[str, Any], ids: Mapping[int, int | None]) -> None:
    """Change token ids in a configuration, in place and at any depth.

    Entries whose names end in ``_token_id`` and the like are numbers, lists or lists of lists of ids. A single id that
    is gone becomes None; in a list it is dropped.
    """
    for key, value in document.items():
        if isinstance(value, dict):
            renumber(value, ids)
        elif key == "forced_decoder_ids" and isinstance(value, list):  # pairs of a place and an id
            document[key] = [[pair[0], ids.get(pair[1])] for pair in value if isinstance(pair, list) and len(pair) == 2]
        elif key.endswith(_ID_KEYS):
            document[key] = _new(value, ids)


def named_ids(document: Mapping[str, Any]) -> set[int]:
    """All token ids that a configuration names, at any depth."""
    found: set[int] = set()
    for key, value in document.items():
        if isinstance(value, dict):
            found |= named_ids(value)
        elif key.endswith(_ID_KEYS):
            stack = [value]
            while stack:
                item = stack.pop()
                if isinstance(item, list):
                    stack += item
                elif type(item) is int and item >= 0:
                    found.add(item)
    return found


def _new(value: Any, ids: Mapping[int, int | None]) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if value < 0 else ids.get(value)
    if isinstance(value, list):
        changed = [_new(item, ids) for item in value]
        return [item for item in changed if item is not None and item != []]
    return value
