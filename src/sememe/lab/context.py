"""Input layers that mix each vector with those around it, before a model sees them."""

from __future__ import annotations

from typing import Any, Literal

from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a contextual input layer") from None


class ContextualEmbedding(nn.Module):  # type: ignore[misc]
    """The vectors of an input layer, plus what a convolution or a recurrent network reads around each of them.

    Parameters
    ----------
    embedding : nn.Module
        ``forward(ids (b, l)) -> (b, l, dim)``. Its ``weight``, where it has one, can still be tied to the output.
    dim : int
    kind : {"conv", "gru"}
        One weight a dimension and offset (depth-wise convolution), or a gated recurrent network.
    width : int
        Symbols that the convolution reads, odd where it reads both sides.
    causal : bool
        Read only what came before, as a model that predicts the next symbol must; otherwise both sides, and the
        recurrent network is bidirectional with half the width each way.
    """

    def __init__(
        self, embedding: nn.Module, dim: int, kind: Literal["conv", "gru"] = "conv", width: int = 5, causal: bool = True
    ) -> None:
        super().__init__()
        if kind not in ("conv", "gru"):
            raise InputError(f"there is no context of kind {kind!r}", fix="use conv or gru")
        if width < 1 or (not causal and (width % 2 == 0 or (kind == "gru" and dim % 2))):
            raise InputError(f"width={width}, dim={dim} cannot be read from both sides", fix="odd width, even dim")
        self.embedding, self.kind, self.width, self.causal = embedding, kind, width, causal
        if kind == "conv":
            self.mix: nn.Module = nn.Conv1d(dim, dim, width, groups=dim)
            nn.init.zeros_(self.mix.weight)  # it begins as if it were not there
            nn.init.zeros_(self.mix.bias)
        else:
            self.mix = nn.GRU(dim, dim if causal else dim // 2, batch_first=True, bidirectional=not causal)
            self.norm = nn.RMSNorm(dim)
            self.gain = nn.Parameter(
                torch.tensor(0.02)
            )  # what the network says begins as large as a fresh table's rows

    @property
    def weight(self) -> Any:
        """The table under the context, for tied output."""
        return getattr(self.embedding, "weight", None)

    @property
    def num_embeddings(self) -> int | None:
        """Symbols, where the embedding says."""
        return getattr(self.embedding, "num_embeddings", None)

    def forward(self, ids: Any) -> Any:
        """``(b, l)`` to ``(b, l, dim)``."""
        x = self.embedding(ids)
        if not x.shape[1]:
            return x
        if self.kind == "gru":
            return x + self.gain * self.mix(self.norm(x))[0]
        before = self.width - 1 if self.causal else self.width // 2
        padded = F.pad(x.transpose(1, 2), (before, self.width - 1 - before))
        return x + self.mix(padded).transpose(1, 2)
