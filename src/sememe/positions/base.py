"""How a model knows where a symbol stands: the hooks that the small models of `sememe.lab` call, and the plain answers.

A subclass overrides what it needs: `place` changes what enters the first layer, `rotate` changes queries and keys in
every layer, `bias` is added to the attention scores of every layer, and `attend` is the whole meeting of queries and
keys, for those that need more than these. `read` is told the symbols, `layer` gives each layer a part of its own.
"""

from __future__ import annotations

import inspect
from typing import Any

from sememe.catalog import Paper, find, load, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


class Positions(nn.Module):  # type: ignore[misc]
    """No positions at all: a causal model can still count, a bidirectional one sees a bag.

    Attributes
    ----------
    at : int64 tensor of shape (b, l) or None
        Where the symbols of the next passes stand; None where they stand side by side, from 0. Rotary and learned
        positions heed it, and so do those built on them.
    """

    at: Any = None

    def read(self, ids: Any, start: int = 0) -> None:
        """Be told the symbols ``(b, l)`` of the next pass; ``start`` places stand before them."""

    def layer(self, number: int, x: Any) -> Positions:
        """The positions of a layer, which gets ``x (b, l, d)``."""
        return self

    def penalty(self) -> Any:
        """What training adds to the loss of every symbol; None for nothing."""
        return None

    def place(self, x: Any) -> Any:
        """What enters the first layer, ``(b, l, d)`` to ``(b, l, d)``."""
        return x

    def rotate(self, q: Any, k: Any) -> tuple[Any, Any]:
        """Queries and keys of a layer, both ``(b, h, l, w)``, as they shall meet."""
        return q, k

    def bias(self, length: int) -> Any:
        """Scores to add, ``(h, l, l)`` or ``(1, l, l)``, rows are queries; None for none."""
        return None

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """What each place gathers, ``(b, h, l, w)``; ``bias`` holds the causal mask where it is not None."""
        q, k = self.rotate(q, k)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal and bias is None)


@register(
    "rotary",
    room="positions",
    kind="positions",
    summary="pairs of dimensions of queries and keys turned by an angle that grows with the position",
    paper=Paper("RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, "2104.09864"),
)
class Rotary(Positions):
    """Pairs of dimensions turned by an angle that grows with the position.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv 2104.09864.

    Parameters
    ----------
    width : int
        Dimensions of a head, even.
    base : float
        Wavelengths run from ``2 pi`` to ``2 pi base``.
    """

    def __init__(self, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        if width % 2:
            raise InputError(f"rotary positions need heads of even width, got {width}")
        self.register_buffer("rates", base ** (-torch.arange(0, width, 2) / width), persistent=False)
        self._turned: tuple[Any, Any] | None = None

    def angles(self, length: int) -> Any:
        """Angle of each position and pair, ``(length, width / 2)``."""
        return torch.arange(length, device=self.rates.device)[:, None] * self.rates

    def rotate(self, q: Any, k: Any) -> tuple[Any, Any]:
        """Turn both by the angles of their positions."""
        length = q.shape[-2]
        if self.at is not None:
            angles = self.at[:, None, :length, None] * self.rates  # (b, 1, l, w / 2)
            cosine, sine = angles.cos().to(q.dtype), angles.sin().to(q.dtype)
            return turn(q, cosine, sine), turn(k, cosine, sine)
        known = self._turned
        if known is None or known[0].shape[0] < length or known[0].device != q.device:
            with torch.inference_mode(False):  # what scoring keeps, training uses
                angles = self.angles(length)
                self._turned = known = (angles.cos(), angles.sin())
        cosine, sine = (part[:length].to(q.dtype) for part in known)
        return turn(q, cosine, sine), turn(k, cosine, sine)


def turn(x: Any, cosine: Any, sine: Any) -> Any:
    """The two halves of each head are the two coordinates of its pairs."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


@register(
    "sinusoidal",
    room="positions",
    kind="positions",
    summary="sines and cosines of each position at many wavelengths, added once",
    paper=Paper("Attention Is All You Need", 2017, "1706.03762"),
)
class Sinusoidal(Positions):
    """Sines and cosines of each position at many wavelengths, added once.

    Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762. Multiplied by a learned number, which begins
    at 1: what enters the first layer here has been normalised.

    Parameters
    ----------
    dim : int
        Width of what enters, even.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise InputError(f"sinusoidal positions need an even width, got {dim}")
        self.register_buffer("rates", 10_000.0 ** (-torch.arange(0, dim, 2) / dim), persistent=False)
        self.gain = nn.Parameter(torch.ones(()))

    def place(self, x: Any) -> Any:
        """Add the waves at each position."""
        at = torch.arange(x.shape[1], device=x.device) if self.at is None else self.at[:, : x.shape[1]]
        angles = at[..., None] * self.rates
        return x + self.gain * torch.cat((angles.sin(), angles.cos()), dim=-1)


@register("learned", room="positions", kind="positions", summary="a vector for each position, added once")
class Learned(Positions):
    """A vector for each position, added once.

    Parameters
    ----------
    context, dim : int
        Positions that there are, and their width; a longer input is refused.
    """

    def __init__(self, context: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(context, dim))

    def place(self, x: Any) -> Any:
        """Add the vector of each position."""
        if self.at is not None:
            return x + self.table[self.at[:, : x.shape[1]]]
        if x.shape[1] > len(self.table):
            raise InputError(f"{x.shape[1]} positions in a model that learned {len(self.table)}", fix="cut the text")
        return x + self.table[: x.shape[1]]


def named(name: str, **sizes: int) -> Positions:
    """Positions of the catalogue by name; each class gets those of the sizes that it asks for.

    Parameters
    ----------
    name : str
        See ``sememe list positions``; ``none`` for no positions at all.
    sizes
        ``width`` of a head, ``heads``, ``layers``, ``context`` (positions trained on) and ``dim``.

    Raises
    ------
    UsageError
        An unknown name; the message suggests others.
    """
    if name == "none":
        return Positions()
    load("positions")
    made = find(name, kind="positions").make
    kind = made.resolve() if hasattr(made, "resolve") else made
    wanted = inspect.signature(kind).parameters
    missing = [size for size, given in wanted.items() if given.default is given.empty and size not in sizes]
    if missing:
        raise InputError(
            f"{name} positions need {', '.join(missing)}", fix=f"build {kind.__name__} and give the module"
        )
    return kind(**{size: value for size, value in sizes.items() if size in wanted})  # type: ignore[no-any-return]
