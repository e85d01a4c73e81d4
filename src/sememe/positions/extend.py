"""Longer texts for a loaded model, in one call, and back in one call: nothing is trained and no weight is changed.

``apply("self-extend", model)`` reads the model's family: encoders with a table of positions (BERT and its kin), models
with rotary positions (Llama and its kin), or a small model of `sememe.lab`. What an architecture does with positions is
known for the families listed in `TABLE` and `ROTARY`; others are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sememe import catalog
from sememe.errors import InputError

TABLE = ("bert", "roberta", "xlm-roberta", "camembert")
ROTARY = ("llama", "mistral", "qwen2")


class Handle:
    """What `apply` did, and the way back. As a context manager it goes back at the end of the block.

    Attributes
    ----------
    name : str
    positions : Positions or None
        The module in force, whose settings may be changed.
    """

    def __init__(self, name: str, positions: Any, back: Callable[[], None]) -> None:
        self.name, self.positions = name, positions
        self._back: Callable[[], None] | None = back

    def undo(self) -> None:
        """Leave the model as it was; a second call does nothing."""
        back, self._back = self._back, None
        if back is not None:
            back()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def methods(family: str | None = None) -> list[str]:
    """Names that `apply` knows, of models with a ``"table"``, with ``"rotary"`` positions, or all."""
    return [
        technique.name
        for technique in catalog.techniques(room="positions")
        if "extends" in technique.traits and family in (None, technique.traits["extends"])
    ]


def apply(name: str, model: Any, *, context: int | None = None, **options: Any) -> Handle:
    """Let a loaded model read longer texts.

    Texts that fit the trained window are read as before, within rounding (``string`` works inside the window, and
    changes those longer than its shift). A model holds one method at a time. Two methods need to be told something
    before they change anything: ``dimension-wise`` its ``factors`` (`sememe.positions.rope_search.detect` finds them),
    ``hirope`` which symbols are ``borders``.

    Parameters
    ----------
    name : str
        See `methods`: for tables ``grouped``, ``recurrent``, ``interpolate``, ``tuned``, ``parallel-windows``; for
        rotary positions ``interpolate``, ``ntk``, ``yarn``, ``self-extend``, ``string``, ``dimension-wise``,
        ``hirope``.
    model : transformers.PreTrainedModel or SmallLM or SmallEncoder
    context : int, optional
        The trained window; what the model's configuration says when not given.
    options
        Of the technique, for example ``factor``.

    Raises
    ------
    InputError
        An architecture that is not known, a model that is changed already, or an impossible option.
    UsageError
        An unknown name.
    """
    if context is not None and context < 1:
        raise InputError(
            f"context={context} is no trained window", fix="give the symbols that the model was trained on"
        )
    if hasattr(getattr(model, "trunk", None), "positions"):
        return _small(name, model, context, options)
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    if kind in TABLE:
        from sememe.positions import extend_table as family
    elif kind in ROTARY:
        from sememe.positions import extend_rotary as family  # type: ignore[no-redef]
    else:
        raise InputError(
            f"{type(model).__name__} is of no known architecture ({kind})", fix=f"known: {', '.join(TABLE + ROTARY)}"
        )
    return family.apply(name, model, context, options)  # type: ignore[no-any-return]


def technique(name: str, family: str) -> Any:
    """The class of a technique for a family; a table's own form of a name is found by the common one."""
    known = methods(family)
    chosen = name if name in known else f"{name}-{family}"
    if chosen not in known:
        catalog.find(name)  # a name that nobody knows says so, with what is near
        raise InputError(f"{name!r} does not fit a model with {family} positions", fix=f"use {', '.join(known)}")
    make = catalog.find(chosen).make
    return make.resolve() if hasattr(make, "resolve") else make


def built(kind: Any, options: dict[str, Any], **sizes: Any) -> Any:
    """An instance, or an InputError that names the option at fault."""
    try:
        return kind(**sizes, **options)
    except TypeError as error:
        raise InputError(f"{kind.__name__}: {error}", fix="see its docstring for the options") from None


def _small(name: str, model: Any, context: int | None, options: dict[str, Any]) -> Handle:
    from sememe.positions.base import Learned, Rotary
    from sememe.positions.tables import TunedTable

    trunk = model.trunk
    plain = trunk.positions
    if type(plain) is Rotary:
        width = 2 * len(plain.rates)
        window = context or trunk.shape.context + 1
        positions = built(technique(name, "rotary"), options, width=width, context=window)
        positions.rates = plain.rates
    elif type(plain) is Learned:
        positions = built(technique(name, "table"), options, context=len(plain.table), dim=plain.table.shape[1])
        positions.table = plain.table
        if isinstance(positions, TunedTable):
            positions.begin(plain.table.detach())
    else:
        raise InputError(f"{type(plain).__name__} positions cannot be extended", fix="use rotary or learned ones")
    trunk.positions = positions

    def back() -> None:
        trunk.positions = plain

    return Handle(name, positions, back)
