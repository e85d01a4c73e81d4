"""What a causal language model says about the next token, as float64 log-probabilities, with little work a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.errors import InputError, MissingDependency

Law = NDArray[np.float64]
Tokens = Sequence[int]
_CELLS = 1 << 24  # logits held at a time


class TokenLaw(Protocol):
    """A law of the next token. It may also offer ``score(tokens) -> (n,)``, the log-probability of each in turn."""

    def log_probs(self, prefixes: Sequence[Tokens]) -> Law:
        """Natural log-probabilities of the token after each prefix, float64 ``(b, v)``."""
        ...


def log_softmax(logits: ArrayLike) -> Law:
    """Natural log-probabilities along the last axis, in float64."""
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.max(axis=-1, keepdims=True)
    return cast(Law, values - np.log(np.exp(values).sum(axis=-1, keepdims=True)))


def score(law: TokenLaw, tokens: Tokens) -> Law:
    """Log-probability of each token given those before it, float64 ``(n,)``."""
    own = getattr(law, "score", None)
    if own is not None:
        return cast(Law, own(tokens))
    rows = law.log_probs([tokens[:n] for n in range(len(tokens))]) if tokens else np.zeros((0, 1))
    return np.array([row[token] for row, token in zip(rows, tokens)], dtype=np.float64)


class FunctionLaw:
    """A function from prefixes to logits ``(b, v)``, of any scale."""

    def __init__(self, next_logits: Callable[[Sequence[Tokens]], ArrayLike]) -> None:
        self.next_logits = next_logits

    def log_probs(self, prefixes: Sequence[Tokens]) -> Law:
        """See `TokenLaw`."""
        logits = np.asarray(self.next_logits(prefixes), dtype=np.float64)
        if logits.ndim != 2 or len(logits) != len(prefixes) or np.isnan(logits).any():
            raise InputError(f"next_logits gave {logits.shape} for {len(prefixes)} prefixes, or NaN in it")
        return log_softmax(logits)


class SmallLaw:
    """A `sememe.lab.SmallLM`: prefixes of one call are one batch, padded behind, where a causal model does not look.

    The model sees at most its last ``context`` tokens.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self.context = int(model.context)

    def _states(self, rows: Sequence[Tokens]) -> Any:
        import torch

        length = max(map(len, rows))
        table = torch.zeros(len(rows), length, dtype=torch.long)
        for place, row in enumerate(rows):
            table[place, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        return self.model.states(table)

    def log_probs(self, prefixes: Sequence[Tokens]) -> Law:
        """See `TokenLaw`."""
        import torch

        rows = [prefix[max(len(prefix) - self.context, 0) :] for prefix in prefixes]
        with torch.inference_mode():
            states = self._states(rows)
            last = states[torch.arange(len(rows)), torch.tensor([len(row) for row in rows])]
            return log_softmax(self.model.head(last).float().numpy())

    def score(self, tokens: Tokens) -> Law:
        """See `TokenLaw`."""
        import torch

        if len(tokens) > self.context:
            head = self.score(tokens[: self.context])
            tail = [tokens[:n] for n in range(self.context, len(tokens))]
            step = max(1, _CELLS // (self.context * 64))
            rows = [self.log_probs(tail[at : at + step]) for at in range(0, len(tail), step)]
            picked = np.concatenate(rows)[np.arange(len(tail)), list(tokens[self.context :])]
            return np.concatenate((head, picked))
        if not tokens:
            return np.zeros(0)
        with torch.inference_mode():
            logits = self.model.head(self._states([tokens])[0, :-1])
        return log_softmax(logits.float().numpy())[np.arange(len(tokens)), list(tokens)]


class CachedLaw:
    """A causal model of transformers that keeps the keys and values of the last prefix, so that a longer one is cheap.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    start : int, optional
        Id in front of every prefix. Without one, all tokens are equally likely to be the first.
    """

    def __init__(self, model: Any, start: int | None = None) -> None:
        self.model = model.eval()
        self.start = start
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._seen: list[int] = []
        self._costs: list[float] = []  # log-probability of each token seen, given those before it
        self._cache: Any = None

    def log_probs(self, prefixes: Sequence[Tokens]) -> Law:
        """See `TokenLaw`."""
        return np.stack([self._last(prefix) for prefix in prefixes])

    def score(self, tokens: Tokens) -> Law:
        """See `TokenLaw`."""
        self._last(tokens)
        return np.array(self._costs[len(self._costs) - len(tokens) :], dtype=np.float64)

    def _last(self, prefix: Tokens) -> Law:
        import torch
        from transformers import DynamicCache

        whole = [*([] if self.start is None else [self.start]), *prefix]
        if not whole:
            self._costs = []
            return np.full(self.vocabulary, -np.log(self.vocabulary))
        same = next((n for n, (a, b) in enumerate(zip(whole, self._seen)) if a != b), min(len(whole), len(self._seen)))
        begin = same - 1  # the last shared token is read again, for what it predicts
        if self._cache is None or begin < 1:
            self._cache, begin = DynamicCache(), 0
            self._costs = [0.0 if self.start is not None else -float(np.log(self.vocabulary))]
        elif begin < len(self._seen):
            self._cache.crop(begin - len(self._seen))
        self._seen, self._costs = self._seen[:begin], self._costs[: begin + 1]
        step = max(1, _CELLS // self.vocabulary)
        law = np.zeros(self.vocabulary)
        for at in range(begin, len(whole), step):
            block = whole[at : at + step]
            with torch.inference_mode():
                logits = self.model(input_ids=torch.tensor([block]), past_key_values=self._cache, use_cache=True).logits
            if not torch.isfinite(logits).all():
                self._cache = None
                raise InputError("the model gives NaN or infinity", fix="check its weights")
            rows = torch.log_softmax(logits[0].double(), dim=-1).numpy()
            following = whole[at + 1 : at + len(block) + 1]
            self._costs += [float(rows[place, token]) for place, token in enumerate(following)]
            self._seen += block
            law = rows[-1]
        return law


def law_of(model: Any, start: int | None = None) -> TokenLaw:
    """The law of a model.

    Parameters
    ----------
    model : SmallLM, Causal, transformers model, TokenLaw, or function from prefixes to logits
    start : int, optional
        For models of transformers: see `CachedLaw`.
    """
    if hasattr(model, "log_probs"):
        return cast(TokenLaw, model)
    if hasattr(model, "trunk") and hasattr(model, "states"):
        return SmallLaw(model)
    if hasattr(model, "model") and hasattr(model, "nll"):  # sememe.lab.Causal
        return CachedLaw(model.model, model.start if start is None else start)
    if hasattr(model, "get_output_embeddings"):
        if model.get_output_embeddings() is None or "MaskedLM" in type(model).__name__:
            raise InputError(f"{type(model).__name__} is not a causal language model", fix="give one that is")
        return CachedLaw(model, start)
    if callable(model):
        return FunctionLaw(model)
    raise InputError(f"{type(model).__name__} gives no law of the next token", fix="give a causal model or a function")


def load_model(folder: str) -> Any:
    """The causal model of a Hugging Face folder, in float32.

    Raises
    ------
    InputError
        A model that transformers does not load as a causal one, or that looks at both sides.
    """
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingDependency("transformers", extra="torch", need="running a language model") from None
    shown = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        names = [str(name) for name in model.config.architectures or []]
        if any("MaskedLM" in name or name.endswith("ForPreTraining") for name in names):
            raise InputError(f"{names[0]} looks at both sides and gives no law of the next token", where=folder)
        return model
    except InputError:
        raise
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"transformers cannot load a causal model here ({error})", where=folder) from None
    finally:
        transformers.logging.set_verbosity(shown[0])
        if shown[1]:
            transformers.logging.enable_progress_bar()
