"""A hypernetwork on disk: weights as safetensors, and beside them what it learned from and with which settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.side_files import dump, read_json
from sememe.vocab.writing import staging

if TYPE_CHECKING:
    from sememe.vocab.initialize.rows import Vocabulary

_SETTINGS, _WEIGHTS = "hypernet.json", "hypernet.safetensors"
_FORMAT = 1


def write(
    folder: str | os.PathLike[str],
    state: Mapping[str, NDArray[Any]],
    params: Mapping[str, Any],
    tables: Sequence[Vectors],
    tokenizer: Vocabulary,
    losses: NDArray[np.float64],
) -> Path:
    """Write a folder that does not exist yet.

    Parameters
    ----------
    folder : path
    state : dict of name to ndarray
        Weights of the network.
    params : dict
        Constructor arguments.
    tables, tokenizer
        What it learned from, of which only digests are kept.
    losses : float64 ndarray
    """
    from safetensors.numpy import save_file

    target = Path(folder)
    document = {
        "format": _FORMAT,
        "params": dict(params),
        "tables": [_described(table) for table in tables],
        "tokens": _tokens(tokenizer),
        "losses": [float(value) for value in losses],
    }
    with staging(target, target) as stage:
        save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, stage / _WEIGHTS)
        (stage / _SETTINGS).write_bytes(dump(document))
    return target


def read(
    folder: str | os.PathLike[str], tables: Sequence[Vectors], tokenizer: Vocabulary
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Constructor arguments, weights and losses; see `write`.

    Raises
    ------
    InputError
        No such folder, damaged files, or other tables or another tokenizer than it learned from.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    place = Path(folder)
    document = read_json(place / _SETTINGS) if place.is_dir() else None
    if document is None:
        raise InputError("there is no hypernetwork here", where=str(folder), fix="give a folder that one was saved to")
    params, losses = document.get("params"), document.get("losses")
    if document.get("format") != _FORMAT or not isinstance(params, dict) or not isinstance(losses, list):
        raise InputError("holds no hypernetwork of this version", where=str(folder))
    if document.get("tokens") != _tokens(tokenizer):
        raise InputError("this hypernetwork learned from another tokenizer", where=str(folder))
    if document.get("tables") != [_described(table) for table in tables]:
        raise InputError(
            "this hypernetwork learned from other tables", where=str(folder), fix="give the model that it learned from"
        )
    try:
        state = load_file(place / _WEIGHTS)
        noted = np.array(losses, dtype=np.float64)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(place / _WEIGHTS)) from None
    for name, values in state.items():
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds NaN or infinity", where=str(place / _WEIGHTS))
    return params, state, noted


def fill(network: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Put weights into a network of their shapes."""
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})


def _described(table: Vectors) -> dict[str, Any]:
    return {"shape": list(table.shape), "sha256": hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()}


def _tokens(tokenizer: Vocabulary) -> dict[str, Any]:
    names = json.dumps(list(tokenizer.tokens), ensure_ascii=True).encode()
    return {"count": len(tokenizer.tokens), "sha256": hashlib.sha256(names).hexdigest()}
