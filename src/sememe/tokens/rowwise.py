"""Optimisers that touch only the rows of a table that a batch used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from sememe.errors import InputError, MissingDependency
from sememe.kernels.row_steps import step_rows

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="an optimiser") from None


class _Rowwise(torch.optim.Optimizer):  # type: ignore[misc]
    """Hands the sparse gradient of each table to the kernel, with the moments and factors that a subclass names."""

    def _prepared(self, parameter: Any, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `step_rows` after the gradients; makes the state the first time."""
        raise InputError(f"{type(self).__name__} has no rule")

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the rows that the gradients name.

        Raises
        ------
        InputError
            A gradient that is not sparse, or a table that is not a contiguous float32 matrix on the processor.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    ids, values = _rows_of(parameter)
                    how = self._prepared(parameter, self.state[parameter], group)
                    first, second = how.pop("first"), how.pop("second")
                    mean = None if first is None else first.numpy()
                    step_rows(parameter.detach().numpy(), mean, second.numpy(), ids, values, **how)
        return loss


class RowwiseAdam(_Rowwise):
    """Adam over the rows of a batch.

    With ``moments="full"`` a step equals that of ``torch.optim.SparseAdam`` (both moments a number for each weight, as
    many steps as the table saw correct their bias). With ``moments="row"`` the second moment is one number a row, the
    mean of squares over the row: the state is ``d + 1`` numbers a row instead of ``2 d``, and a third less memory is
    touched. A row that a batch does not use keeps its moments, so they fade by batches that used the row, not by steps.

    Parameters
    ----------
    params : iterable
        float32 tables on the processor, whose gradients are sparse: ``torch.nn.Embedding(..., sparse=True)``, or
        ``torch.nn.functional.embedding(..., sparse=True)`` in a layer.
    lr : float
    betas : (float, float)
    eps : float
    moments : {"full", "row"}
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        moments: Literal["full", "row"] = "full",
    ) -> None:
        if lr <= 0 or eps <= 0 or not all(0 <= beta < 1 for beta in betas) or moments not in ("full", "row"):
            raise InputError(
                f"lr={lr}, betas={betas}, eps={eps}, moments={moments!r} cannot train", where="RowwiseAdam"
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "moments": moments})

    def _prepared(self, parameter: Any, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            wide = parameter if group["moments"] == "full" else parameter[:, 0]
            state["exp_avg_sq"] = torch.zeros(wide.shape)
        state["step"] += 1
        one, two = group["betas"]
        corrected = (1 - two ** state["step"]) ** 0.5 / (1 - one ** state["step"])
        return {
            "first": state["exp_avg"],
            "second": state["exp_avg_sq"],
            "keep_first": one,
            "keep_second": two,
            "add_second": 1 - two,
            "rate": group["lr"] * corrected,
            "eps": group["eps"],
        }


class RowwiseAdagrad(_Rowwise):
    """Adagrad with one number a row: the sum over steps of the mean square of the row's gradient.

    The leanest of the three: the state is a ``d``-th of the table, and only the weights themselves are touched beside
    it. The usual choice for the tables of click-through models.

    Parameters
    ----------
    params : iterable
        As for `RowwiseAdam`.
    lr, eps : float
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, eps: float = 1e-10) -> None:
        if lr <= 0 or eps <= 0:
            raise InputError(f"lr={lr}, eps={eps} cannot train", where="RowwiseAdagrad")
        super().__init__(params, {"lr": lr, "eps": eps})

    def _prepared(self, parameter: Any, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        if not state:
            state["sum"] = torch.zeros(len(parameter))
        return {
            "first": None,
            "second": state["sum"],
            "keep_second": 1.0,
            "add_second": 1.0,
            "rate": group["lr"],
            "eps": group["eps"],
        }


def _rows_of(parameter: Any) -> tuple[Any, Any]:
    """Row numbers and gradients of a table's sparse gradient, repeats and all, as arrays that share its memory."""
    gradient = parameter.grad
    if not gradient.is_sparse or gradient.sparse_dim() != 1:
        raise InputError(
            f"the gradient of a table of shape {tuple(parameter.shape)} is not sparse over rows",
            fix="look rows up with sparse=True",
        )
    fits = parameter.ndim == 2 and parameter.dtype == torch.float32 and parameter.is_contiguous()
    if not fits or parameter.device.type != "cpu":
        raise InputError(
            f"a {parameter.dtype} table of shape {tuple(parameter.shape)} on {parameter.device}",
            fix="row-wise optimisers move contiguous float32 tables (rows, width) on the processor",
        )
    return gradient._indices()[0].contiguous().numpy(), gradient._values().contiguous().numpy()
