"""Layers by name and budget, and layers from files."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from sememe import catalog
from sememe.errors import BudgetError, InputError, MissingDependency, UsageError
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

WITHIN = 0.05  # how far from its budget a layer may be
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "%": 0.01}


def names(*, fitted: bool = False) -> list[str]:
    """Names of the token layers, sorted; with ``fitted`` also of those that nothing can train, only fit to a table."""
    kinds = ("layer", "fitted layer") if fitted else ("layer",)
    return [technique.name for technique in catalog.techniques(room="tokens") if technique.kind in kinds]


def layer_class(name: str) -> Any:
    """The class of that name, or a UsageError that suggests others."""
    known = names(fitted=True)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"there is no layer called {name!r}", fix=hint)
    make = catalog.find(name).make
    return make.resolve() if hasattr(make, "resolve") else make


def name_of(kind: type) -> str:
    """The catalogue's name of a layer's class, or the class's own where it is not there."""
    for technique in catalog.techniques(room="tokens"):
        if (technique.make.__module__, technique.make.__qualname__) == (kind.__module__, kind.__qualname__):
            return technique.name
    return kind.__name__


def parameters_of(budget: int | float | str, full: int) -> int:
    """A budget as a number of float32 parameters.

    ``1_000_000``, ``"1M"``, ``"250k"``, or ``"25%"`` of a table with ``full`` parameters.
    """
    if isinstance(budget, str):
        match = re.fullmatch(r"\s*([0-9._]+)\s*([kKmMgG%]?)\s*", budget)
        try:
            number = float(match[1]) * _UNITS[match[2].lower()] if match else -1.0
        except ValueError:
            number = -1.0
        if match and match[2] == "%":
            number *= full
    else:
        try:
            number = float(budget)
        except (TypeError, ValueError):
            number = -1.0
    if not 0 <= number < math.inf:
        raise InputError(f"budget={budget!r}", fix='give parameters, as in 1_000_000, "1M", "250k" or "25%"')
    return round(number)


def sized_layer(
    kind: Any, vocabulary: Vocabulary, dim: int, budget: int | float | str | None, seed: int, options: dict[str, Any]
) -> Any:
    """A layer of a class within `WITHIN` of a budget."""
    wanted = None if budget is None else parameters_of(budget, len(vocabulary) * dim)
    # most sizes hang on nothing but the budget; a class whose other options matter is told them
    told = options if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind.sized).parameters.values()) else {}
    chosen = dict(options) if wanted is None else {**kind.sized(vocabulary, dim, wanted, **told), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            layer = kind(vocabulary, dim, **chosen)
        except TypeError as error:
            raise InputError(f"{name_of(kind)}: {error}", fix="see its docstring for the options") from None
    if wanted is not None and abs(layer.size - wanted) > WITHIN * wanted:
        raise BudgetError(
            f"{name_of(kind)} cannot have {wanted:,} parameters for {len(vocabulary):,} symbols of {dim} dimensions",
            fix=f"the nearest it can have is {layer.size:,.0f}",
        )
    return layer


def build(
    name: str,
    tokenizer: Any,
    dim: int,
    budget: int | float | str | None = None,
    *,
    counts: Any = None,
    seed: int = 0,
    **options: Any,
) -> TokenEmbedding:
    """A token layer by name.

    Parameters
    ----------
    name : str
        See `names`, or ``sememe list tokens``.
    tokenizer
        As for `Vocabulary.of`: a tokenizer of any make, a list of pieces, or a number of symbols.
    dim : int
    budget : int, float or str, optional
        Parameters the layer may have, as in ``"1M"`` or ``"25%"`` (of the full table); stored codes count with their
        bytes. The usual size of the technique when not given.
    counts : array-like of shape (v,), optional
        How often each id occurs, for layers that give frequent symbols more.
    seed : int
        Of the first weights; PyTorch's generator is left as it was.
    options
        Of the technique, instead of what the budget would choose.

    Raises
    ------
    BudgetError
        Where the nearest size is more than 5 % away from the budget; the message names it.
    UsageError, InputError
        An unknown name or option.
    """
    return sized_layer(layer_class(name), Vocabulary.of(tokenizer, counts), dim, budget, seed, options)  # type: ignore[no-any-return]


def save(layer: TokenEmbedding, path: str | os.PathLike[str]) -> Path:
    """Write a layer as one safetensors file, whole or not at all; its name and options stand in the file's header."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    name = name_of(type(layer))
    if name not in names(fitted=True):
        raise InputError(f"{name} is not in the catalogue", fix="save its state dict")
    header = {
        "layer": name,
        "dim": str(layer.embedding_dim),
        "options": json.dumps(layer.options),
        "vocabulary": _digest(layer, layer.vocabulary),
    }
    place = Path(path)
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        save_file(
            {key: value.contiguous() for key, value in layer.state_dict().items()}, part, {"sememe": json.dumps(header)}
        )
        part.replace(place)
    except (SafetensorError, OSError) as error:
        raise InputError(f"the layer cannot be written ({error})", where=str(place)) from None
    finally:
        part.unlink(missing_ok=True)
    return place


def load(path: str | os.PathLike[str], tokenizer: Any, *, counts: Any = None) -> TokenEmbedding:
    """Open what `save` wrote, with the tokenizer (and counts) it was built for.

    Raises
    ------
    InputError
        A file that is no layer, is damaged, or belongs to another vocabulary.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("sememe", "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        known = {"layer": str, "dim": str, "options": str, "vocabulary": str}
        if not isinstance(header, dict) or any(not isinstance(header.get(key), kind) for key, kind in known.items()):
            raise InputError("this is no layer that Sememe wrote", where=str(path))
        dim, options = int(header["dim"]), json.loads(header["options"])
    except (SafetensorError, OSError, json.JSONDecodeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read: {error}", where=str(path)) from None
    vocabulary = Vocabulary.of(tokenizer, counts)
    known_as = header["vocabulary"] in (vocabulary.digest, vocabulary.counted_digest)
    layer = sized_layer(layer_class(header["layer"]), vocabulary, dim, None, 0, options) if known_as else None
    if layer is None or _digest(layer, vocabulary) != header["vocabulary"]:
        raise InputError(
            "this layer belongs to another vocabulary, or to other counts",
            where=str(path),
            fix="give the tokenizer and the counts that it was built with",
        )
    try:
        layer.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"its tensors do not fit: {error}", where=str(path)) from None
    return layer  # type: ignore[no-any-return]


def _digest(layer: Any, vocabulary: Vocabulary) -> str:
    return vocabulary.counted_digest if layer.counted else vocabulary.digest
