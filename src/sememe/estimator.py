"""scikit-learn's estimator contract by shape, without importing scikit-learn (that costs seconds).

A constructor stores its arguments under their own names and does nothing else; ``fit`` checks and learns; what it
learned ends in ``_``. ``sklearn.base.clone``, ``Pipeline`` and ``check_estimator`` accept the result.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np

from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError, NotFittedError


class _NotNumbers(InputError, TypeError):
    """Entries that are not numbers: scikit-learn expects a TypeError."""


def _table(X: object) -> Vectors:
    """``X`` as float32 ``(n, d)``; sparse, complex and non-numeric tables are refused as scikit-learn does."""
    if hasattr(X, "toarray"):
        raise InputError("X is sparse; sparse input is not supported", fix="pass X.toarray()")
    dtype = getattr(X, "dtype", None)
    if getattr(dtype, "kind", "") == "c":
        raise InputError("Complex data not supported", where="X", fix="pass real numbers")
    try:
        return as_vectors(X)
    except InputError as error:
        if getattr(dtype, "kind", "") == "O" and "not a table" in error.what:
            raise _NotNumbers(error.what) from None
        raise


class Estimator:
    """Parameters, tags, and learned state as arrays."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [p for p in inspect.signature(cls).parameters if p != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; an unknown name is refused."""
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"{type(self).__name__} has no parameter {name!r}", fix=f"known: {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        signature = inspect.signature(type(self)).parameters
        given = [f"{k}={v!r}" for k, v in self.get_params().items() if signature[k].default is not v]
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        transformer = TransformerTags(preserves_dtype=["float32"]) if hasattr(self, "transform") else None
        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=transformer,
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"this {type(self).__name__} instance is not fitted yet", fix="call fit with training vectors first"
            )

    def _check_fit_input(self, X: object) -> Vectors:
        """``X`` as float32 ``(n, d)`` with at least one row and column; records ``n_features_in_``."""
        array = _table(X)
        for axis, what in ((0, "sample(s)"), (1, "feature(s)")):
            if array.shape[axis] == 0:
                raise InputError(
                    f"Found array with 0 {what} (shape={array.shape}) while a minimum of 1 is required by "
                    f"{type(self).__name__}."
                )
        self.n_features_in_ = array.shape[1]
        return array

    def _check_input(self, X: object) -> Vectors:
        """``X`` as float32 of the width that ``fit`` saw."""
        self._check_fitted()
        array = _table(X)
        if array.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {array.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return array

    def state(self) -> dict[str, np.ndarray]:
        """Everything ``fit`` learned, as arrays by name: what an index stores."""
        self._check_fitted()
        learned = {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}
        return {name: np.asarray(value) for name, value in learned.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        """Put learned arrays back; scalars come back as Python numbers."""
        for name, value in state.items():
            setattr(self, name, value.item() if value.ndim == 0 else value)
        return self

    @property
    def side_bytes_(self) -> int:
        """Bytes of learned state that an index stores once, whatever its size."""
        return sum(array.nbytes for array in self.state().values())
