"""The fitted whole of a recipe's transforms and its quantizer: float vectors in, bytes out, scores back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sememe.codec.base import BlockScorer, Quantizer, Transform
from sememe.contracts import Codes, Vectors, as_vectors
from sememe.errors import InputError, NotFittedError
from sememe.recipe import Recipe, Stage


class Chain:
    """Transforms in order, then a quantizer. Fitted on the corpus or a sample of it, applied to corpus and queries.

    Parameters
    ----------
    transforms : sequence of Transform
    quantizer : Quantizer
    names : sequence of str, optional
        What the stages are called in ``state()``; their class names, in lower case, when not given.
    """

    def __init__(
        self, transforms: Sequence[Transform], quantizer: Quantizer, *, names: Sequence[str] | None = None
    ) -> None:
        self.transforms = tuple(transforms)
        self.quantizer = quantizer
        stages = [*self.transforms, quantizer]
        self.names = tuple(names) if names is not None else tuple(type(s).__name__.lower() for s in stages)
        if len(self.names) != len(stages):
            raise InputError(f"{len(self.names)} names were given for {len(stages)} stages")

    @classmethod
    def from_recipe(cls, recipe: str | Recipe) -> Self:
        """An unfitted chain of the recipe's transforms and quantizer (plain float32 where it names none)."""
        parsed = Recipe.parse(recipe)
        return cls.from_stages([*parsed.transforms, parsed.quantizer])

    @classmethod
    def from_stages(cls, stages: Sequence[Stage]) -> Self:
        """An unfitted chain of recipe stages, of which the last is a quantizer."""
        made = [stage.make() for stage in stages]
        return cls(made[:-1], made[-1], names=[stage.name for stage in stages])

    @classmethod
    def restore(cls, recipe: str | Recipe, state: dict[str, NDArray]) -> Self:
        """The fitted chain whose ``state()`` this is."""
        return cls.from_recipe(recipe).load_state(state)

    def __repr__(self) -> str:
        return f"Chain({' | '.join(repr(stage) for stage in self.stages)})"

    @property
    def stages(self) -> tuple[Transform | Quantizer, ...]:
        """Transforms and quantizer in order."""
        return (*self.transforms, self.quantizer)

    def fit(self, X: Vectors) -> Self:
        """Fit every stage on what the stages before it make of ``X`` ``(n, d)``."""
        rows = as_vectors(X)
        for name, stage in zip(self.names, self.stages, strict=True):
            try:
                if isinstance(stage, Transform):
                    rows = stage.fit_transform(rows)
                else:
                    stage.fit(rows)
            except InputError as error:
                raise InputError(error.what, where=error.where or f"stage {name}", fix=error.fix) from None
        return self

    def project(self, X: Vectors) -> Vectors:
        """The transforms only: float32 ``(n, dim_in_) -> (n, dim_out_)``."""
        self._check_fitted()
        rows = as_vectors(X, dim=self.dim_in_)
        for stage in self.transforms:
            rows = stage.transform(rows)
        return rows

    def encode(self, X: Vectors) -> Codes:
        """Codes, uint8 ``(n, code_bytes_)``, of rows ``(n, dim_in_)``."""
        return self.quantizer.encode(self.project(X))

    def decode(self, codes: Codes) -> Vectors:
        """Approximate rows in projected space, float32 ``(n, dim_out_)``."""
        return self.quantizer.decode(codes)

    def scores(self, Q: Vectors, codes: Codes) -> NDArray[np.float32]:
        """Inner products of raw queries ``(q, dim_in_)``, projected first, with codes; float32 ``(q, n)``."""
        return self.quantizer.scores(self.project(Q), codes)

    def scores_projected(self, Q: Vectors, codes: Codes) -> NDArray[np.float32]:
        """The same for queries that ``project`` has already mapped, ``(q, dim_out_)``."""
        return self.quantizer.scores(Q, codes)

    def scorer(self, Q: Vectors) -> BlockScorer:
        """Prepare projected queries ``(q, dim_out_)`` once, to score many blocks of codes."""
        return self.quantizer.scorer(Q)

    def bytes_per_vector(self, d: int) -> int:
        """Exact code bytes for input of width ``d``, before fitting."""
        for stage in self.transforms:
            d = stage.dim_out(d)
        return self.quantizer.bytes_per_vector(d)

    @property
    def dim_in_(self) -> int:
        """Width of the vectors that go in."""
        self._check_fitted()
        return int(self.stages[0].n_features_in_)

    @property
    def dim_out_(self) -> int:
        """Width of projected vectors."""
        self._check_fitted()
        return int(self.quantizer.n_features_in_)

    @property
    def code_bytes_(self) -> int:
        """Exact bytes a vector takes."""
        self._check_fitted()
        return int(self.quantizer.code_bytes_)

    @property
    def side_bytes_(self) -> int:
        """Bytes of learned arrays that an index stores once, whatever its size."""
        return sum(array.nbytes for array in self.state().values())

    def state(self) -> dict[str, NDArray]:
        """Everything learned, by names such as ``"0.pca.components_"`` (stage number, name, array)."""
        self._check_fitted()
        return {
            f"{number}.{name}.{key}": array
            for number, (name, stage) in enumerate(zip(self.names, self.stages, strict=True))
            for key, array in stage.state().items()
        }

    def load_state(self, state: dict[str, NDArray]) -> Self:
        """Put back what ``state`` returned for a chain of the same stages."""
        known = {f"{number}.{name}" for number, name in enumerate(self.names)}
        given = {key.rpartition(".")[0] for key in state}
        if known != given:
            odd = sorted(known ^ given)[0]
            raise InputError(f"this state does not belong to {self!r}: {odd!r} is on one side only")
        for number, (name, stage) in enumerate(zip(self.names, self.stages, strict=True)):
            prefix = f"{number}.{name}."
            stage.load_state({key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)})
        return self

    def _check_fitted(self) -> None:
        if not all(stage.__sklearn_is_fitted__() for stage in self.stages):
            raise NotFittedError("this chain is not fitted yet", fix="call fit with training vectors first")
