"""Language models with different tokenizers that speak together, byte by byte.

Models whose tokens differ cannot be compared token by token; as models of bytes (`sememe.vocab.byte_probs`) they can. A
fused text is scored by the weighted sum of log-probabilities (shallow fusion: a recogniser that hears, a language model
that knows the language), or by the weighted mean of probabilities (an ensemble).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.byte_completion import continue_bytes, drawing
from sememe.vocab.byte_probs import ByteLevelModel, ByteState
from sememe.vocab.covers import END
from sememe.vocab.token_law import Law

How = Literal["product", "mixture"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One text of a beam.

    Attributes
    ----------
    text : bytes
        What was added to the prompts.
    score : float
        Fused log-probability of the text, given the prompts.
    ended : bool
        Whether the end was chosen; the score holds it then.
    """

    text: bytes
    score: float
    ended: bool


@dataclass(frozen=True, eq=False)
class FusedState:
    """The same added text behind each model's own prompt.

    Attributes
    ----------
    fusion : ByteFusion
    states : tuple of ByteState
    begun : tuple of float
        Log-probability of each model's prompt.
    """

    fusion: ByteFusion
    states: tuple[ByteState, ...]
    begun: tuple[float, ...]

    def advance(self, more: bytes | int) -> FusedState:
        """The state after further bytes."""
        return FusedState(self.fusion, tuple(state.advance(more) for state in self.states), self.begun)

    @cached_property
    def log_prob(self) -> float:
        """Fused log-probability of what was added."""
        costs = [s.log_prob - b for s, b in zip(self.states, self.begun)]
        return float(self.fusion._fuse(np.array(costs)[:, None])[0])

    @cached_property
    def branches(self) -> Law:
        """Fused log-probability of what was added with each byte behind it, and with the end: float64 ``(257,)``."""
        costs = [s.branches - b for s, b in zip(self.states, self.begun)]
        return self.fusion._fuse(np.stack(costs))

    @cached_property
    def law(self) -> Law:
        """Normalised log-probabilities of the next byte, and of the end: float64 ``(257,)``."""
        total = float(np.logaddexp.reduce(self.branches))
        if total == -np.inf:
            raise InputError("no text is possible for all models", fix="give prompts and models that fit together")
        return self.branches - total


@register(
    "byte-fusion",
    room="vocab",
    kind="decoder",
    summary="language models with different tokenizers decode one text together, scored in bytes",
    paper=Paper(
        "Let's Fuse Step by Step: A Generative Fusion Decoding Algorithm with LLMs for Multi-modal Text Recognition",
        2024,
        "2405.14259",
    ),
    claim="A recogniser and a language model with other tokens, fused in bytes while decoding, make fewer errors "
    "than the recogniser alone.",
)
class ByteFusion:
    """Autoregressive models with any byte-spelling tokenizers, fused.

    Parameters
    ----------
    models : sequence of ByteLevelModel
    weights : sequence of float, optional
        Not negative, with sum 1; equal when not given. For a recogniser and a language model: ``(1 - w, w)``.
    how : {"product", "mixture"}
        Weighted sum of log-probabilities, or logarithm of the weighted sum of probabilities. In a mixture a model that
        predicted the text so far better has more to say about what follows, as Bayes' rule has it.
    """

    def __init__(
        self, models: Sequence[ByteLevelModel], weights: Sequence[float] | None = None, how: How = "product"
    ) -> None:
        given = np.full(len(models), 1 / max(len(models), 1)) if weights is None else np.array(weights, dtype=float)
        if not models or given.shape != (len(models),) or (given < 0).any() or abs(given.sum() - 1) > 1e-6:
            raise InputError(f"weights {given.tolist()} for {len(models)} models", fix="one a model, with sum 1")
        if how not in ("product", "mixture"):
            raise InputError(f"there is no fusion called {how!r}", fix="use product or mixture")
        self.models, self.weights, self.how = tuple(models), given, how

    def _fuse(self, costs: Law) -> Law:
        """``(models, n)`` log-probabilities to ``(n,)``."""
        used = self.weights > 0  # a model without weight must not say minus infinity times zero
        costs, weights = costs[used], self.weights[used, None]
        if self.how == "product":
            return (costs * weights).sum(axis=0)  # type: ignore[no-any-return]
        return cast(Law, np.logaddexp.reduce(costs + np.log(weights), axis=0))

    def state(self, prompts: bytes | str | Sequence[bytes | str] = b"") -> FusedState:
        """The state after a prompt for all models, or one for each."""
        given = [prompts] * len(self.models) if isinstance(prompts, (bytes, str)) else list(prompts)
        if len(given) != len(self.models):
            raise InputError(f"{len(given)} prompts for {len(self.models)} models", fix="one for all, or one for each")
        states = tuple(model.state(prompt) for model, prompt in zip(self.models, given))
        begun = tuple(state.log_prob for state in states)
        if min(begun) == -np.inf:
            raise InputError("a model has no token sequence for its prompt", fix="give text its tokenizer can write")
        return FusedState(self, states, begun)

    def log_prob(self, text: bytes | str, prompts: bytes | str | Sequence[bytes | str] = b"") -> float:
        """Fused log-probability that what follows the prompts begins with these bytes, as each model reads them."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        begun = self.state(prompts)
        given = [prompts] * len(self.models) if isinstance(prompts, (bytes, str)) else list(prompts)
        whole = [(p.encode("utf-8", "surrogatepass") if isinstance(p, str) else p) + raw for p in given]
        states = tuple(model.state(text) for model, text in zip(self.models, whole))
        return FusedState(self, states, begun.begun).log_prob

    def complete(
        self,
        prompts: bytes | str | Sequence[bytes | str],
        length: int = 64,
        *,
        until: Callable[[bytes], bool] | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> bytes:
        """Continue a text byte by byte; as `ByteLevelModel.complete`."""
        return continue_bytes(self.state(prompts), length, until, drawing(temperature, seed))

    def _prepare(self, states: Sequence[FusedState]) -> None:
        """One batch a model for all texts of a beam."""
        for place, model in enumerate(self.models):
            model.table.worth([state.states[place].stems for state in states])

    def beam(
        self,
        prompts: bytes | str | Sequence[bytes | str] = b"",
        *,
        length: int = 64,
        width: int = 4,
        until: Callable[[bytes], bool] | None = None,
        penalty: float = 0.0,
    ) -> list[Hypothesis]:
        """The likeliest texts by beam search over bytes.

        Parameters
        ----------
        prompts : text, or one for each model
        length : int
            The most bytes to add.
        width : int
            Texts kept after every byte.
        until : function, optional
            Asked with what was added; True ends that text.
        penalty : float
            Ended texts are ordered by score over ``length ** penalty``; 0 orders by score.

        Returns
        -------
        list of Hypothesis
            Up to ``width`` of them, best first. Scores are those of `log_prob`, up to the end where it was chosen.
        """
        if width < 1 or length < 1:
            raise InputError(f"width={width}, length={length} give no beam", fix="give positive numbers")
        live: list[tuple[bytes, FusedState]] = [(b"", self.state(prompts))]
        done: list[Hypothesis] = []
        for _ in range(length):
            self._prepare([state for _, state in live])
            found: list[tuple[float, int, int]] = []
            for place, (_, state) in enumerate(live):
                branches = state.branches
                for byte in np.argsort(-branches, kind="stable")[: width + 1].tolist():
                    if branches[byte] > -np.inf:
                        found.append((float(branches[byte]), place, byte))
            found.sort(key=lambda item: -item[0])
            following: list[tuple[bytes, FusedState]] = []
            for score, place, byte in found[: width + 1]:
                text, state = live[place]
                if byte == END:
                    done.append(Hypothesis(text, score, True))
                elif until is not None and until(text + bytes([byte])):
                    done.append(Hypothesis(text + bytes([byte]), score, True))
                elif len(following) < width:
                    following.append((text + bytes([byte]), state.advance(byte)))
            live = following
            best = sorted((h.score for h in done), reverse=True)[:width]
            if not live or (len(best) == width and not penalty and best[-1] >= max(s.log_prob for _, s in live)):
                break  # longer texts only lose probability
        done += [Hypothesis(text, state.log_prob, False) for text, state in live]
        done.sort(key=lambda h: -h.score / max(len(h.text), 1) ** penalty)
        return done[:width]
