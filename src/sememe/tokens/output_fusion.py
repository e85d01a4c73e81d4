"""Output of an encoder-decoder that also looks at the embeddings of what was read."""

from __future__ import annotations

from typing import Any, Literal

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="an output layer") from None


@register(
    "surface-fusion",
    room="tokens",
    kind="output layer",
    summary="logits of an encoder-decoder from its last state and from the source's embeddings that it attends to",
    paper=Paper(
        "Understanding and Improving Encoder Layer Fusion in Sequence-to-Sequence Learning", 2020, "2012.14768"
    ),
    claim="Fusing the encoder's embedding layer, and no other, with the output beats fusing all layers.",
)
class SurfaceFusion(nn.Module):  # type: ignore[misc]
    """Two opinions on the next symbol: of the decoder's last state, and of the source's embeddings it attends to.

    The second is ``head(V a)`` with ``a`` the attention-weighted mean of the source's embeddings, without positions.
    Where to look is asked by the decoder's states and told by the encoder's; neither learns from it, as in the authors'
    code: the embeddings alone carry what the second opinion teaches. ``hard`` adds the logarithms of the two
    distributions, ``share`` of the first and the rest of the second. That is each opinion's own loss in training, and
    the order of symbols of their geometric mean; the probabilities do not sum to one. ``soft`` adds the logits.

    Parameters
    ----------
    dim : int
    kind : {"hard", "soft"}
    share : float
        Of the decoder's state in hard fusion; the paper's 0.8 when not given.
    """

    def __init__(self, dim: int, kind: Literal["hard", "soft"] = "hard", share: float = 0.8) -> None:
        super().__init__()
        if kind not in ("hard", "soft") or not 0 < share < 1:
            raise InputError(f"there is no fusion of kind {kind!r} with a share of {share}", fix="use hard or soft")
        self.kind, self.share = kind, share
        self.ask, self.tell, self.take, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def attention(self, states: Any, source: Any, keep: Any) -> Any:
        """Weights ``(b, t, s)`` over the source's real places, summing to one."""
        scores = self.ask(states.detach()) @ self.tell(source.detach()).transpose(1, 2) * states.shape[-1] ** -0.5
        return scores.masked_fill(~keep[:, None, :], torch.finfo(scores.dtype).min).softmax(-1)

    def forward(self, states: Any, source: Any, surface: Any, keep: Any, head: Any) -> Any:
        """Log-probabilities ``(b, t, v)``, in hard fusion lower than those of a distribution.

        Parameters
        ----------
        states : Tensor of shape (b, t, d)
            The decoder's last layer.
        source : Tensor of shape (b, s, d)
            The encoder's last layer.
        surface : Tensor of shape (b, s, d)
            Embeddings of the source.
        keep : bool Tensor of shape (b, s)
            Its real places, at least one a row.
        head : nn.Module
            ``(..., d) -> (..., v)``, the same for both.
        """
        mean = self.attention(states, source, keep) @ self.take(surface)
        own, other = head(states), head(self.out(mean))
        if self.kind == "soft":
            return F.log_softmax(own + other, dim=-1)
        return self.share * F.log_softmax(own, dim=-1) + (1 - self.share) * F.log_softmax(other, dim=-1)


class LayerMix(nn.Module):  # type: ignore[misc]
    """What a decoder reads when all layers of the encoder are fused: their normalised states, by learned weights.

    The weights say which layers a decoder finds useful, and `without` shows what each is worth: the diagnosis by which
    the paper finds that the embedding layer matters most after the last one.

    Parameters
    ----------
    layers, dim : int
        Layers of the encoder with the embedding counted, and their width.
    """

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.left_out: int | None = None

    @property
    def weights(self) -> Any:
        """Share of each layer, ``(layers,)``."""
        scores = self.scores
        if self.left_out is not None:
            out = torch.arange(len(scores), device=scores.device) == self.left_out
            scores = scores.masked_fill(out, -torch.inf)
        return scores.softmax(0)

    def without(self, layer: int | None) -> LayerMix:
        """Leave a layer out from now on (None: none); the others share its weight."""
        if layer is not None and not 0 <= layer < len(self.scores):
            raise InputError(f"layer {layer} of {len(self.scores)}", fix="count from 0, the embedding")
        self.left_out = layer
        return self

    def forward(self, layers: list[Any]) -> Any:
        """``(b, s, d)`` of as many layers ``(b, s, d)``."""
        normed = torch.stack([norm(layer) for norm, layer in zip(self.norms, layers, strict=True)])
        return torch.einsum("n,nbsd->bsd", self.weights, normed)
