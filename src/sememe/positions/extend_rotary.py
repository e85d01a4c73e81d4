"""Other rotary angles in loaded models of transformers.

The model's own rotation is made to do nothing, and its attention calls that of a module of
`sememe.positions.rope_bands`, which turns queries and keys itself. Keys in a cache stay unturned, so that angles may
change while a text grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from sememe.errors import InputError, MissingDependency
from sememe.positions.extend import Handle, built, technique

try:
    import torch
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
except ImportError:
    raise MissingDependency("transformers", extra="torch", need="longer texts for a loaded model") from None

_NAME = "sememe_positions"
_IN_FORCE: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # attention modules and the positions they use


def apply(name: str, model: Any, context: int | None, options: dict[str, Any]) -> Handle:
    """See `sememe.positions.extend.apply`."""
    base = model.base_model
    rotary, config = getattr(base, "rotary_emb", None), base.config
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    attentions = [module for module in base.modules() if hasattr(module, "q_proj") and hasattr(module, "scaling")]
    if rotary is None or not attentions or kind != "default":
        raise InputError(f"{type(model).__name__} has {kind} rotary positions", fix="give one with the default ones")
    width = attentions[0].head_dim
    if 2 * len(rotary.inv_freq) != width or any(abs(a.scaling - width**-0.5) > 1e-9 for a in attentions):
        raise InputError(f"{type(model).__name__} turns only a part of each head", fix="use another model")
    if "forward" in vars(rotary):
        raise InputError("this model is extended already", fix="undo that first")
    positions = built(
        technique(name, "rotary"), options, width=width, context=context or int(config.max_position_embeddings)
    ).to(rotary.inv_freq.device)
    positions.rates = rotary.inv_freq.detach().float()

    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, eager_mask)
    configs = list({id(a.config): a.config for a in [base, *attentions]}.values())
    before = [found._attn_implementation for found in configs]
    rotary.forward = _still(rotary)
    hook = base.register_forward_pre_hook(_reader(positions), with_kwargs=True)
    for attention in attentions:
        _IN_FORCE[attention] = positions
    for found in configs:
        found._attn_implementation = _NAME

    def back() -> None:
        hook.remove()
        del rotary.forward
        for attention in attentions:
            del _IN_FORCE[attention]
        for found, old in zip(configs, before):
            found._attn_implementation = old

    return Handle(name, positions, back)


def _still(rotary: Any) -> Callable[..., tuple[Any, Any]]:
    """A rotation by nothing: cosines of 1 and sines of 0 ``(b, l, w)``."""
    width = 2 * len(rotary.inv_freq)

    def forward(x: Any, position_ids: Any) -> tuple[Any, Any]:
        shape = (*position_ids.shape, width)
        return torch.ones(shape, dtype=x.dtype, device=x.device), torch.zeros(shape, dtype=x.dtype, device=x.device)

    return forward


def _reader(positions: Any) -> Callable[..., None]:
    """A hook that tells the positions how long the texts of a batch are, and their symbols."""

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if getattr(kwargs.get("past_key_values"), "is_compileable", False):
            raise InputError("a cache of fixed size cannot be used with longer positions", fix="use a DynamicCache")
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        positions.sizes = None
        if mask is not None and mask.ndim == 2 and not bool(mask.all()):
            positions.sizes = mask.sum(1)
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is not None:
            positions.read(ids)

    return read


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, dropout: float = 0.0, **options: Any
) -> tuple[Any, None]:
    """What transformers calls: ``(b, h, m, w)`` queries, keys and values of fewer heads, an additive mask or None."""
    if dropout:
        raise InputError("longer positions do not drop attention weights", fix="call model.eval()")
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    positions = _IN_FORCE[module].layer(module.layer_idx or 0, query)
    met = positions.attend(query, key, value, causal=module.is_causal, bias=attention_mask)
    return met.transpose(1, 2).contiguous(), None
