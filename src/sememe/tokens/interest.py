"""A user as the behaviours that matter for this target: pooling by a small network, without softmax."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="interest pooling") from None


class Dice(nn.Module):  # type: ignore[misc]
    """``p x + (1 - p) alpha x`` with ``p`` the sigmoid of the input, normalised over the batch.

    A PReLU whose bend lies at the mean of what comes in, and is smooth. In evaluation mean and variance are those that
    training kept.

    Parameters
    ----------
    width : int
        Columns of the input ``(b, width)``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Any) -> Any:
        """``(b, width)`` to the same."""
        if self.training and len(x) < 2:  # the variance of one row is not known
            gate = torch.sigmoid((x - self.norm.running_mean) * (self.norm.running_var + self.norm.eps).rsqrt())
        else:
            gate = torch.sigmoid(self.norm(x))
        return x * (gate + (1 - gate) * self.alpha)


@register(
    "interest",
    room="tokens",
    kind="feature table",
    summary="a user's behaviours summed with weights that a small network gives them for the target at hand",
    paper=Paper("Deep Interest Network for Click-Through Rate Prediction", 2018, "1706.06978"),
    claim="Weighing behaviours by the target beats models that pool them.",
)
class InterestPooling(nn.Module):  # type: ignore[misc]
    """``sum_i a(e_i, t) e_i`` with ``a`` a perceptron over ``[e_i, e_i - t, e_i * t, t]``.

    The weights are not normalised: their sum says how strongly the target meets the user's interests, which a softmax
    would take away. The perceptron runs over real behaviours only; padding costs nothing and does not enter the
    batch statistics of `Dice`. The paper takes the outer product of behaviour and target; here it is its
    diagonal, the elementwise product, with the difference.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    hidden : int
        Width inside the perceptron.
    """

    def __init__(self, dim: int, hidden: int = 32) -> None:
        super().__init__()
        if dim < 1 or hidden < 1:
            raise InputError(f"dim={dim}, hidden={hidden}", where="interest", fix="give positive numbers")
        self.dim = dim
        self.inner = nn.Linear(4 * dim, hidden)
        self.dice = Dice(hidden)
        self.out = nn.Linear(hidden, 1)

    def weights(self, behaviours: Any, target: Any, there: Any) -> Any:
        """Weight of each behaviour, ``(b, l)``, zero where there is none."""
        rows = behaviours[there]
        aim = target[:, None, :].expand_as(behaviours)[there]
        given = torch.cat((rows, rows - aim, rows * aim, aim), dim=1)
        found = self.out(self.dice(self.inner(given)))[:, 0] if len(rows) else given.new_zeros(0)
        return torch.zeros(there.shape, dtype=found.dtype, device=found.device).masked_scatter(there, found)

    def forward(self, behaviours: Any, target: Any, there: Any) -> Any:
        """A vector of the user for each target.

        Parameters
        ----------
        behaviours : Tensor of shape (b, l, d)
        target : Tensor of shape (b, d)
        there : bool Tensor of shape (b, l)
            False where a behaviour is padding.

        Returns
        -------
        Tensor of shape (b, d)
            Zeros for a user without behaviours.
        """
        if behaviours.shape[:2] != there.shape or behaviours.shape[::2] != target.shape:
            raise InputError(
                f"behaviours {tuple(behaviours.shape)}, target {tuple(target.shape)}, there {tuple(there.shape)}",
                where="interest",
                fix="give shapes (b, l, d), (b, d) and (b, l)",
            )
        return (self.weights(behaviours, target, there)[..., None] * behaviours).sum(1)


def batch_l2(weight: Any, ids: Any, counts: Any, strength: float, *, sparse: bool = True) -> Any:
    """Mini-batch aware L2: a penalty on the rows that a batch uses, those that occur often less.

    ``strength / 2 * sum over distinct ids j of the batch of |w_j|^2 / counts_j``. Only rows of the batch are read, and
    with ``sparse`` its gradient names only these, so its cost does not depend on the size of the table.

    Parameters
    ----------
    weight : Tensor of shape (v, d)
    ids : int64 Tensor of any shape
        Of the batch, repeated ones too.
    counts : Tensor of shape (v,)
        How often each id occurs in all rows to learn from.
    strength : float
    sparse : bool
        Give a sparse gradient; the table's own look-ups must do so too.
    """
    found = torch.unique(ids)
    rows = F.embedding(found, weight, sparse=sparse)
    return 0.5 * strength * (rows.square().sum(1) / counts[found].clamp_min(1).to(rows.dtype)).sum()
