"""Longer texts for loaded encoders of transformers that have a table of positions."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.extend import Handle, built, technique
from sememe.positions.tables import TunedTable

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="longer texts for a loaded model") from None


@register(
    "parallel-windows",
    room="positions",
    kind="extension",
    summary="a long text is read in windows that do not see each other",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    extends="table",
)
class ParallelWindows:
    """Windows of the trained size, read beside each other; mean pooling over their states is what LongEmbed does.

    The states of a text come back in their places, so the cost grows linearly with the text. Only the first window
    begins with the text's first special token, so take means, not the state of that token.

    Parameters
    ----------
    context : int
        Symbols in a window.
    """

    def __init__(self, context: int) -> None:
        if context < 1:
            raise InputError(f"windows of {context} symbols are not possible", fix="give a positive context")
        self.context = context

    def split(self, x: Any, fill: int) -> Any:
        """``(b, l)`` as windows ``(b n, context)``, the last one filled up."""
        missing = -x.shape[1] % self.context
        return nn.functional.pad(x, (0, missing), value=fill).reshape(-1, self.context)

    def join(self, states: Any, length: int) -> Any:
        """States of the windows ``(b n, context, d)`` as ``(b, l, d)``."""
        windows = -(-length // self.context)
        return states.reshape(-1, windows * self.context, states.shape[-1])[:, :length]


def apply(name: str, model: Any, context: int | None, options: dict[str, Any]) -> Handle:
    """See `sememe.positions.extend.apply`."""
    base = model.base_model
    part: Any = getattr(base, "embeddings", None)
    table = getattr(part, "position_embeddings", None)
    if isinstance(table, _Ruled) or "forward" in vars(base):
        raise InputError("this model is extended already", fix="undo that first")
    if not isinstance(table, nn.Embedding) or getattr(base.config, "is_decoder", False):
        raise InputError(f"{type(model).__name__} has no table of positions in an encoder", fix="use another model")
    first = 0 if table.padding_idx is None else table.padding_idx + 1  # some count positions from behind the padding
    rows = table.num_embeddings - first
    if context is not None and context > rows:
        raise InputError(f"context={context} in a model with {rows} positions", fix="give a window that it has")
    window = context or rows
    kind = technique(name, "table")
    if kind is ParallelWindows:
        return _windows(name, base, built(kind, options, context=window))
    with torch.device("meta"):  # only the rule of the class is used, on the model's own rows
        positions = built(kind, options, context=window, dim=table.embedding_dim)
    if isinstance(positions, TunedTable):
        positions.begin(table.weight.detach()[first : first + window])
    ruled = _Ruled(table, positions, first)
    buffers = {key: getattr(part, key) for key in ("position_ids", "token_type_ids") if hasattr(part, key)}

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [kwargs.get(key) for key in ("input_ids", "inputs_embeds")]
        x = next((value for value in given if value is not None), args[0] if args else None)
        if x is None:
            return
        length, mask = x.shape[1], kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        whole = torch.full((len(x),), length, device=x.device)
        ruled.sizes = mask.sum(1) if mask is not None and mask.ndim == 2 else whole
        needed = length + first
        if buffers and part.position_ids.shape[1] < needed:
            for key in buffers:
                old = getattr(part, key)
                more = torch.arange(old.shape[1], needed, device=old.device)[None]
                setattr(part, key, torch.cat((old, more if key == "position_ids" else torch.zeros_like(more)), dim=1))

    part.position_embeddings = ruled
    hook = base.register_forward_pre_hook(read, with_kwargs=True)

    def back() -> None:
        hook.remove()
        part.position_embeddings = table
        for key, value in buffers.items():
            setattr(part, key, value)

    return Handle(name, positions, back)


class _Ruled(nn.Module):  # type: ignore[misc]
    """A table of positions that is asked by a rule for texts which are too long for it."""

    def __init__(self, table: nn.Embedding, positions: Any, first: int) -> None:
        super().__init__()
        self.table, self.first = table, first
        self._positions = [positions]  # in a list: its own table is none
        self.sizes: Any = None

    def forward(self, position_ids: Any) -> Any:
        """``(b, l)`` to ``(b, l, d)``, each row by the length of its text."""
        at = position_ids - self.first
        whole = torch.full_like(position_ids[:, :1], position_ids.shape[1])
        sizes = whole if self.sizes is None else self.sizes[:, None]
        found = self._positions[0].vectors(self.table.weight[self.first :], at.clamp_min(0), sizes)
        padding = (at < 0)[..., None]  # rows that stand before the first position
        return torch.where(padding, self.table(position_ids.clamp_max(self.first)), found) if self.first else found


def _windows(name: str, base: Any, rule: ParallelWindows) -> Handle:
    plain = base.forward

    def forward(input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        if input_ids is None or input_ids.shape[1] <= rule.context:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        if kwargs.get("position_ids") is not None or kwargs.get("output_attentions"):
            raise InputError("parallel windows have positions and attentions of their own", fix="do not ask for them")
        b, length = input_ids.shape
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        kinds = kwargs.pop("token_type_ids", None)
        seen = rule.split(mask, 0)
        used = seen.any(dim=1)  # windows that are all padding are not read
        pad = base.config.pad_token_id or 0
        if kinds is not None:
            kwargs["token_type_ids"] = rule.split(kinds, 0)[used]
        out = plain(input_ids=rule.split(input_ids, pad)[used], attention_mask=seen[used], **kwargs)
        states = out.last_hidden_state
        whole = states.new_zeros(len(seen), *states.shape[1:]).index_copy(0, used.nonzero()[:, 0], states)
        out.last_hidden_state = rule.join(whole, length)
        if getattr(out, "pooler_output", None) is not None:
            first = torch.zeros(len(seen), dtype=torch.bool, device=seen.device)
            first[:: len(seen) // b] = True
            out.pooler_output = out.pooler_output[first[used]]
        return out

    base.forward = forward

    def back() -> None:
        del base.forward

    return Handle(name, rule, back)
