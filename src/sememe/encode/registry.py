"""One encoder for each way of writing it: built once in a process, shared by everything that asks."""

from __future__ import annotations

import threading

from sememe.contracts import Encoder
from sememe.errors import RecipeError
from sememe.recipe import Recipe, Stage

_lock = threading.RLock()
_made: dict[str, Encoder] = {}


def make(stage: Stage | str) -> Encoder:
    """The encoder that a recipe's stage names, the same object each time.

    Parameters
    ----------
    stage : Stage or str
        ``Recipe.parse(...).encoder``, or the text of one encoder stage, such as ``"minilm:onnx"``.

    Raises
    ------
    RecipeError
        Where the text is not one encoder.
    MissingDependency
        Where a package that the encoder needs is not installed.
    WeightsError
        Where a weight file is not the pinned one.

    Examples
    --------
    >>> make("static:64").encode(["a cat sits on the mat"]).shape
    (1, 64)
    """
    if isinstance(stage, str):
        stage = _parse(stage)
    key = str(stage)
    with _lock:
        if key not in _made:
            _made[key] = stage.make()
        return _made[key]


def _parse(text: str) -> Stage:
    recipe = Recipe.parse(f"{text} | flat")
    if len(recipe.stages) != 2 or recipe.query_encoder != recipe.encoder:
        raise RecipeError(f"{text!r} is not one encoder", fix="give one encoder stage, for example: static:128")
    return recipe.encoder
