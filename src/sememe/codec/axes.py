"""Principal axes dealt to groups of columns, so that each group is equally hard to code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors


def balanced_axes(X: Vectors, widths: Sequence[int]) -> NDArray[np.float32]:
    """An orthogonal map ``(d, d)``: the principal axes of rows ``(n, d)``, in an order that suits the groups.

    Each axis goes to the group whose product of variances is smallest so far (the eigenvalue allocation of "Optimized
    Product Quantization", 2013).

    Parameters
    ----------
    X : ndarray of shape (n, d)
    widths : sequence of int
        Columns of each group, ``d`` together.
    """
    from sememe.codec.moments import Moments

    values, vectors = Moments().update(X).spectrum()
    logs = np.log(np.maximum(values, max(float(values[0]), 1e-300) * 1e-9))
    total = [0.0] * len(widths)
    order: list[list[int]] = [[] for _ in widths]
    for axis in range(len(values)):
        group = min((g for g in range(len(widths)) if len(order[g]) < widths[g]), key=lambda g: (total[g], g))
        order[group].append(axis)
        total[group] += float(logs[axis] - logs[-1])
    return np.ascontiguousarray(vectors[np.concatenate(order).astype(int)], dtype=np.float32)
