"""A causal model that reads merged tokens, and writes tokens of a vocabulary far larger than its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.dynamic import DynamicTokenizer, mean_of
from sememe.vocab.large_vocabulary import LargeVocabulary, MadeRows, whole_words


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes
    ----------
    text : str
    ids : tuple of int
        Its tokens in the tokenizer's own vocabulary.
    steps : int
        Tokens of the large vocabulary: how often the model was asked.
    read, plain : int
        Tokens of the prompt as it was read, and as the tokenizer cuts it.
    """

    text: str
    ids: tuple[int, ...]
    steps: int
    read: int
    plain: int


@register(
    "dynamic-decoder",
    room="vocab",
    kind="decoder",
    summary="prompts in merged tokens, and whole words written at once from a large vocabulary with made rows",
    paper=Paper("Retrofitting (Large) Language Models with Dynamic Tokenization", 2024, "2411.18553"),
    claim="Prompts up to 40 % shorter at nearly the same performance, and fast generation from a million tokens.",
)
class DynamicDecoder:
    """A frozen causal model with token boundaries that are not its tokenizer's.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Causal, taking ``inputs_embeds``. It does not change.
    tokenizer : DynamicTokenizer
        How far prompts are merged; merges are those of the prompt.
    rows : function, optional
        Tokens that spell each merged one, to rows ``(t, m, d)`` of one table or of input and output: a
        `TokenizerHypernet`'s ``rows``. The means of the parts' rows when not given.
    start : int, optional
        Id in front of every prompt.

    Examples
    --------
    >>> decoder = DynamicDecoder(model, DynamicTokenizer(tokenizer, 0.7), hypernet.rows)  # doctest: +SKIP
    >>> decoder.write("The capital of", 20, decoder.vocabulary(texts, 100_000)).text  # doctest: +SKIP
    """

    def __init__(
        self, model: Any, tokenizer: DynamicTokenizer, rows: MadeRows | None = None, start: int | None = None
    ) -> None:
        output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if output is None or "MaskedLM" in type(model).__name__:
            raise InputError(f"{type(model).__name__} is not a causal language model", fix="give one that is")
        self.model, self.tokenizer, self.start = model.eval(), tokenizer, start
        size = len(tokenizer.tokenizer.tokens)
        into = model.get_input_embeddings().weight
        if len(into) < size:
            raise InputError(f"the table has {len(into)} rows for a tokenizer of {size} tokens")
        self.into: Vectors = into.detach()[:size].float().numpy()
        self.out: Vectors = output.weight.detach()[:size].float().numpy()
        bias = getattr(output, "bias", None)
        self._bias = None if bias is None else bias.detach()[:size].float().numpy()
        self.rows = rows or self._means

    def _means(self, words: Sequence[Sequence[int]]) -> Vectors:
        return np.stack([mean_of(table)(words) for table in (self.into, self.out)])

    def prompt(self, text: str) -> tuple[Vectors, int, int]:
        """A prompt as the model reads it: rows ``(l, d)``, and its number of tokens merged and plain."""
        batch = self.tokenizer([text])
        vectors, _ = batch.vectors(self.into, lambda merged: self.rows(merged)[0])
        begin = self.into[[self.start]] if self.start is not None else self.into[:0]
        return np.concatenate((begin, vectors[0])), batch.after, batch.before

    def log_prob(self, text: str, more: str) -> tuple[float, int, int]:
        """Natural log-probability of a continuation, in the tokenizer's own tokens, behind a merged prompt.

        Parameters
        ----------
        text, more : str
            Prompt and continuation, which is tokenized by itself.

        Returns
        -------
        (float, int, int)
            With the prompt's tokens merged and plain.
        """
        import torch

        rows, read, plain = self.prompt(text)
        ids = self.tokenizer.tokenizer.encode(more)
        if not len(rows) or not ids:
            raise InputError("a prompt and a continuation are needed", fix="give text for both")
        whole = np.concatenate((rows, self.into[ids[:-1]]))
        with torch.inference_mode():
            logits = self.model(inputs_embeds=torch.from_numpy(whole)[None], use_cache=False).logits
            costs = torch.log_softmax(logits[0, len(rows) - 1 :].double(), dim=-1)
        return float(costs[torch.arange(len(ids)), torch.tensor(ids)].sum()), read, plain

    def vocabulary(self, texts: Sequence[str], size: int = 100_000, *, exact: bool = False) -> LargeVocabulary:
        """The tokenizer's tokens and the most frequent words of some text, with an index over their output rows.

        Parameters
        ----------
        texts : sequence of str
        size : int
            Words at the most.
        exact : bool
            Without an approximate index.
        """
        words = whole_words(self.tokenizer.tokenizer, texts, size)
        return LargeVocabulary(words, self.into, self.out, self.rows, bias=self._bias, exact=exact)

    def write(
        self,
        text: str,
        length: int,
        vocabulary: LargeVocabulary,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Written:
        """Continue a text.

        Parameters
        ----------
        text : str
        length : int
            The most tokens of the large vocabulary to add.
        vocabulary : LargeVocabulary
            Of `vocabulary`.
        temperature : float
            0 takes the best token; above, one is drawn among the best 64 that were found.
        seed : int
            Of the draws.
        """
        import torch

        if vocabulary.into.shape[1] != self.into.shape[1] or vocabulary.base != len(self.into):
            raise InputError("this large vocabulary belongs to another model")
        rows, read, plain = self.prompt(text)
        if length < 0 or not len(rows) or temperature < 0:
            raise InputError(f"nothing to write on, or length={length}", fix="give a prompt and a length from 0")
        tokenizer, generator = self.tokenizer.tokenizer, np.random.default_rng(seed)
        stop = tokenizer.roles.get("eos")
        added: list[int] = []
        steps, past, seen = 0, None, []
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0][0, -1]))
        try:
            while steps < length:
                with torch.inference_mode():
                    found = self.model(
                        inputs_embeds=torch.from_numpy(rows)[None],
                        past_key_values=past,
                        use_cache=True,
                        logits_to_keep=1,
                    )
                past = found.past_key_values
                state = seen.pop().float().numpy()
                numbers, scores = vocabulary.best(state, 64 if temperature else 1)
                number = int(numbers[0])
                if temperature:
                    chances = np.exp((scores - scores[0]) / temperature)
                    number = int(generator.choice(numbers, p=chances / chances.sum()))
                if number == stop:
                    break
                steps += 1
                added += vocabulary.spelled(number)
                rows = vocabulary.into[[number]]
        finally:
            hook.remove()
        written = b"".join(tokenizer.text_of(number) or b"" for number in added).decode("utf-8", "replace")
        return Written(written, tuple(added), steps, read, plain)
