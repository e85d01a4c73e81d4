"""One forward pass over a tree of drafted tokens, and the longest path of it that the model itself would have taken.

The nodes of a tree stand behind the context in one row: each has the position of its depth and looks at the context,
its ancestors and itself. Where the model's own choice after a node is one of the node's children, that child is
accepted. The result is what the model gives without drafts, token by token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tree:
    """Drafted tokens behind the last token of a context, parents before children.

    Attributes
    ----------
    tokens : list of int
    parents : list of int
        Place of each node's parent in the list; -1 for the context's last token.
    """

    tokens: list[int]
    parents: list[int]

    def __len__(self) -> int:
        return len(self.tokens)


class Draft(Protocol):
    """Where drafts come from."""

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text begins."""
        ...

    def propose(self, context: Sequence[int]) -> Tree:
        """Tokens that may come next."""
        ...

    def learn(self, context: Sequence[int], accepted: Sequence[int], tree: Tree, logits: Logits) -> None:
        """What came of a draft.

        Parameters
        ----------
        context : sequence of int
            With the accepted tokens.
        accepted : sequence of int
            The tokens that came.
        tree : Tree
        logits : float32 ndarray of shape (1 + nodes, v)
            After the last token of the old context, and after each node.
        """
        ...


@dataclass(slots=True)
class Decoded:
    """What decoding gave.

    Attributes
    ----------
    tokens : list of int
        What was added to the prompt.
    passes : int
        Forward passes after the prompt's.
    drafted : int
        Nodes of all trees.
    seconds, propose_seconds, learn_seconds : float
        Of everything, of making trees, and of learning from them.
    lengths : list of int
        Tokens that each pass gave.
    """

    tokens: list[int] = field(default_factory=list)
    passes: int = 0
    drafted: int = 0
    seconds: float = 0.0
    propose_seconds: float = 0.0
    learn_seconds: float = 0.0
    lengths: list[int] = field(default_factory=list)

    @property
    def accepted(self) -> float:
        """Mean tokens a pass, the model's own among them: 1 without drafts."""
        return len(self.tokens) / max(self.passes, 1)


class TreeModel:
    """A causal model of transformers with its cache, read a tree at a time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With ordinary attention over keys and values of all positions (Llama, GPT-2, ...).
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self._cache: Any = None

    def begin(self, prompt: Sequence[int]) -> Logits:
        """Read a prompt; logits ``(v,)`` after it."""
        import torch
        from transformers import DynamicCache

        if not prompt:
            raise InputError("the prompt is empty", fix="give at least one token")
        self._cache = DynamicCache()
        with torch.inference_mode():
            table = torch.tensor([list(prompt)])
            out = self.model(input_ids=table, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        if not all(hasattr(layer, "keys") for layer in self._cache.layers):
            raise InputError(f"{type(self.model).__name__} keeps no keys and values", fix="give another model")
        return out.logits[0, -1].float().numpy()  # type: ignore[no-any-return]

    def read(self, token: int, tree: Tree) -> Logits:
        """Logits after ``token`` and after each node behind it, float32 ``(1 + nodes, v)``."""
        import torch

        seen = self._cache.get_seq_length()
        n = len(tree) + 1
        table = torch.tensor([[token, *tree.tokens]])
        extra: dict[str, Any] = {}
        if n > 1:
            look = np.zeros((n, n), dtype=bool)
            look[0, 0] = True
            for place, parent in enumerate(tree.parents):
                look[place + 1] = look[parent + 1]
                look[place + 1, place + 1] = True
            dtype = self._cache.layers[0].keys.dtype
            mask = torch.zeros(1, 1, n, seen + n, dtype=dtype)
            mask[0, 0, :, seen:].masked_fill_(~torch.from_numpy(look), torch.finfo(dtype).min)
            depth = torch.from_numpy(look.sum(axis=1) - 1)
            extra = {"attention_mask": mask, "position_ids": (seen + depth)[None]}
        with torch.inference_mode():
            out = self.model(input_ids=table, past_key_values=self._cache, use_cache=True, **extra)
        return out.logits[0].float().numpy()  # type: ignore[no-any-return]

    def keep(self, path: Sequence[int], nodes: int) -> None:
        """Forget all nodes of the last tree but those on ``path`` (places in it)."""
        import torch

        dropped = nodes - len(path)
        if not dropped:
            return
        base = self._cache.get_seq_length() - nodes
        if list(path) == list(range(len(path))):  # the path lies in front
            for layer in self._cache.layers:
                layer.keys, layer.values = (
                    layer.keys[..., : base + len(path), :],
                    layer.values[..., : base + len(path), :],
                )
            return
        chosen = torch.tensor([base + place for place in path])
        for layer in self._cache.layers:
            layer.keys, layer.values = (
                torch.cat((part[..., :base, :], part.index_select(-2, chosen)), dim=-2)
                for part in (layer.keys, layer.values)
            )


def decode(
    model: Any, prompt: Sequence[int], draft: Draft | None = None, *, length: int = 64, stop: int | None = None
) -> Decoded:
    """Greedy decoding, with drafts where one is given; the tokens are the same either way.

    The same, that is, up to ties: a tree is another order of the same sums, so where two logits are equal to the last
    digits of float32 the choice may differ.

    Parameters
    ----------
    model : transformers.PreTrainedModel, lab.Causal or TreeModel
    prompt : sequence of int
    draft : Draft, optional
    length : int
        Tokens to add at the most.
    stop : int, optional
        The token after which decoding ends; it is the last one of the result.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingDependency("torch", extra="torch", need="running a language model") from None
    inner = model.model if hasattr(model, "nll") else model
    tree_model = inner if isinstance(inner, TreeModel) else TreeModel(inner)
    clock, out = time.perf_counter, Decoded()
    began = clock()
    context = list(prompt)
    choice = int(tree_model.begin(context).argmax())
    if draft is not None:
        draft.begin(context)
    context.append(choice)
    out.tokens.append(choice)
    while len(out.tokens) < length and choice != stop:
        at = clock()
        tree = draft.propose(context) if draft is not None else Tree([], [])
        out.propose_seconds += clock() - at
        logits = tree_model.read(context[-1], tree)
        path, came = _walk(tree, logits)
        came = came[: length - len(out.tokens)]
        if stop in came:
            came = came[: came.index(stop) + 1]
        tree_model.keep(path[: len(came) - 1], len(tree))
        context += came
        out.tokens += came
        choice = came[-1]
        out.passes += 1
        out.drafted += len(tree)
        out.lengths.append(len(came))
        if draft is not None:
            at = clock()
            draft.learn(context, came, tree, logits)
            out.learn_seconds += clock() - at
    out.seconds = clock() - began
    if out.tokens:
        out.passes = max(out.passes, 1)
    return out


def _walk(tree: Tree, logits: Logits) -> tuple[list[int], list[int]]:
    """Places of the accepted nodes, and the tokens that came: those nodes' and the model's own after them."""
    children: dict[tuple[int, int], int] = {}
    for place, (token, parent) in enumerate(zip(tree.tokens, tree.parents)):
        children.setdefault((parent, token), place)
    path: list[int] = []
    came: list[int] = []
    at = -1
    while True:
        token = int(logits[at + 1].argmax())
        came.append(token)
        following = children.get((at, token))
        if following is None:
            return path, came
        path.append(following)
        at = following
