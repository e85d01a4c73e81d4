"""Exact byte-level probabilities of a tokenized language model.

A model gives probabilities of token sequences. A text is a byte string, and a byte string that ends anywhere, in the
middle of a token too, has the probability of all its covers: token sequences that spell it, or spell it and run past
its end with their last token only. Sequences that the tokenizer would never give are no covers. The law of the next
byte is the probability of the text with each byte behind it, over their sum.

From one byte to the next little changes: a cover's tokens but the last (its stem) stay until a token ends at the new
byte, so a step costs at most about one evaluation of the model, and prompts may end anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.byte_completion import continue_bytes, drawing
from sememe.vocab.covers import NOTHING, Covers, Rule, Stem
from sememe.vocab.token_law import Law, law_of, load_model

if TYPE_CHECKING:
    from sememe.vocab.best_path_rule import BestPathRule
    from sememe.vocab.greedy_rule import GreedyRule
    from sememe.vocab.tokenizer import TokenizerFile


@dataclass(frozen=True, eq=False)
class ByteState:
    """A text as the model sees it: all stems of its covers.

    Attributes
    ----------
    table : Covers
    text : bytes
    stems : tuple of Stem
    """

    table: Covers
    text: bytes
    stems: tuple[Stem, ...]

    def advance(self, more: bytes | int) -> ByteState:
        """The state after further bytes. The model is not evaluated."""
        state = self
        for byte in (more,) if isinstance(more, int) else more:
            state = ByteState(self.table, state.text + bytes([byte]), self.table.step(state.stems, byte))
        return state

    @cached_property
    def log_prob(self) -> float:
        """Natural log-probability that a text begins with these bytes; minus infinity where no cover spells them."""
        if not self.text:
            return 0.0
        parts = [self.table.covered(stem) for stem in self.table.worth([self.stems])[0]]
        return float(np.logaddexp.reduce(parts)) if parts else NOTHING

    @cached_property
    def branches(self) -> Law:
        """Log-probability of this text with each byte behind it, and of its end here: float64 ``(257,)``."""
        return self.table.branches(self.stems)

    @cached_property
    def law(self) -> Law:
        """Log-probabilities of the next byte, and of the end at place 256: float64 ``(257,)``, normalised.

        Raises
        ------
        InputError
            Where the model gives nothing at all to this text.
        """
        total = float(np.logaddexp.reduce(self.branches))
        if total == NOTHING:
            raise InputError(
                f"the model has no token sequence for {self.text[-20:]!r}",
                fix="give text that its tokenizer can write, without ends of text inside",
            )
        return self.branches - total

    def covers(self) -> Iterator[tuple[tuple[int, ...], float]]:
        """Token sequences that cover this text, with their log-probabilities, stem by stem."""
        for stem in self.stems:
            if stem.depth:
                base, costs = self.table.score(stem.tokens), self.table.vector(stem.tokens)[0]
                for place in range(stem.low, stem.high):
                    if costs[place] > NOTHING:
                        yield (*stem.tokens, int(self.table.order[place])), base + float(costs[place])


@register(
    "byte-probs",
    room="vocab",
    kind="decoder",
    summary="exact byte-level probabilities of a tokenized language model, and prompts that end anywhere",
    paper=Paper(
        "Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles",
        2024,
        "2410.09303",
    ),
    claim="A tokenized model becomes an equivalent model of bytes without training, which mends prompts that end "
    "within a token and lets models with different tokenizers vote.",
)
class ByteLevelModel:
    """A causal language model as a model of bytes.

    Parameters
    ----------
    next_logits : function, TokenLaw, SmallLM, or model of transformers
        ``next_logits(prefixes)`` gives logits ``(b, v)`` of the token after each prefix; see `token_law.law_of`.
    token_bytes : sequence of bytes or None, of length v
        What each token spells; None for those that spell nothing.
    rule : Rule, optional
        Which sequences the tokenizer gives. Without one all do, and covers grow with the number of ways to cut the
        text, exponentially: for short texts only.
    end : collection of int
        Tokens that end a text.
    lead : bytes
        What the tokenizer puts before every text.
    start : int, optional
        For models of transformers: the id in front of every prefix.
    prune : float
        Stems whose share of the text's probability is at most this are dropped; 0 drops none and is exact.
    canonical : function, optional
        Bytes of a text to the bytes that the tokenizer reads, ``lead`` included.
    """

    def __init__(
        self,
        next_logits: Any,
        token_bytes: Sequence[bytes | None],
        *,
        rule: Rule | None = None,
        end: Collection[int] = (),
        lead: bytes = b"",
        start: int | None = None,
        prune: float = 0.0,
        canonical: Callable[[bytes], bytes] | None = None,
    ) -> None:
        if not 0 <= prune < 1:
            raise InputError(f"prune={prune} is no share", fix="give a number from 0 to below 1")
        self.table = Covers(law_of(next_logits, start), token_bytes, rule=rule, end=end, prune=prune)
        self._empty = ByteState(self.table, b"", (self.table.whole,))
        self._origin, self._canonical = self._empty.advance(lead), canonical
        self._lead_cost = self._origin.log_prob

    @classmethod
    def of(cls, model: Any, tokenizer: Any, *, start: int | None = None, prune: float = 0.0) -> ByteLevelModel:
        """A model with its tokenizer: a `TokenizerFile`, or one of the package tokenizers.

        Under WordPiece and Unigram many texts are one to the model (case, white space, forms of characters), and the
        bytes are those of the text as it is read; see `sememe.vocab.canonical`. Texts that are given are brought to
        that form, what is added comes in it.

        Raises
        ------
        InputError
            A tokenizer for which no exact law of bytes is known, with the reason.
        """
        file = tokenizer_file(tokenizer)
        end = {file.roles[role] for role in ("eos",) if role in file.roles}
        known: dict[str, Any] = {"end": end, "start": start, "prune": prune}
        if file.kind in ("wordpiece", "unigram"):
            rule = _spelled_rule(file)
            lead = rule.canonical.lead
            return cls(model, rule.texts, rule=rule, lead=lead, canonical=rule.canonical.bytes, **known)
        from sememe.vocab.pair_rule import PairRule

        _check_spelling(file)
        first = file.encode("a")
        lead = b"".join(file.text_of(n) or b"" for n in first).removesuffix(b"a")
        if lead not in (b"", b" "):
            raise InputError(f"the tokenizer writes 'a' as {lead + b'a'!r}", where=file.where)
        texts = [file.text_of(number) for number in range(len(file.tokens))]
        return cls(model, texts, rule=PairRule(file), lead=lead, **known)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, prune: float = 0.0) -> ByteLevelModel:
        """The model and tokenizer of a Hugging Face folder; contexts begin with its begin-of-text token, if any."""
        from sememe.vocab.tokenizer import TokenizerFile

        file = TokenizerFile.open(folder)
        if file.kind not in ("wordpiece", "unigram"):
            _check_spelling(file)
        model = load_model(os.fspath(folder))
        start = file.roles.get("bos", getattr(model.config, "bos_token_id", None))
        rows = model.get_output_embeddings().weight.shape[0]
        if len(file.tokens) > rows or (start is not None and not 0 <= start < rows):
            raise InputError(f"{len(file.tokens)} tokens for a model of {rows}", where=str(folder))
        return cls.of(model, file, start=start, prune=prune)

    # What users ask for

    def state(self, text: bytes | str = b"") -> ByteState:
        """The state after a text."""
        if self._canonical is None:
            return self._origin.advance(_raw(text))
        return self._empty.advance(self._canonical(_raw(text)))

    def law(self, text: bytes | str) -> Law:
        """See `ByteState.law`."""
        return self.state(text).law

    def log_prob(self, text: bytes | str) -> float:
        """Natural log-probability that a text begins with these bytes."""
        return self.state(text).log_prob - self._lead_cost

    def complete(
        self,
        text: bytes | str,
        length: int = 64,
        *,
        until: Callable[[bytes], bool] | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> bytes:
        """Continue a text that may end anywhere, byte by byte.

        Parameters
        ----------
        text : bytes or str
        length : int
            The most bytes to add.
        until : function, optional
            Asked with what was added so far; True ends it.
        temperature : float
            0 takes the likeliest byte each time, 1 draws from the model's law.
        seed : int
            Of the draws.

        Returns
        -------
        bytes
            What was added.
        """
        return continue_bytes(self.state(text), length, until, drawing(temperature, seed))


def _check_spelling(file: TokenizerFile) -> None:
    """Refuse a tokenizer whose tokens do not spell the bytes of a text in one way."""
    if file.kind != "byte-bpe" and not (file.kind == "bpe" and file.metaspace and file.model.get("byte_fallback")):
        raise InputError(
            f"a {file.kind} tokenizer writes what it does not know as one unknown token, whatever its bytes",
            where=file.where,
            fix="give a model with byte-level BPE, BPE with byte fall-back, WordPiece or Unigram",
        )


def _spelled_rule(file: TokenizerFile) -> GreedyRule | BestPathRule:
    """Which sequences a WordPiece or Unigram tokenizer gives, and what they spell."""
    from sememe.vocab.best_path_rule import BestPathRule
    from sememe.vocab.greedy_rule import GreedyRule

    return GreedyRule(file) if file.kind == "wordpiece" else BestPathRule(file)


def _raw(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def tokenizer_file(tokenizer: Any) -> TokenizerFile:
    """A `TokenizerFile` as it is, or that of a tokenizer of the packages tokenizers and transformers."""
    import json

    from sememe.vocab.tokenizer import TokenizerFile

    if isinstance(tokenizer, TokenizerFile):
        return tokenizer
    if hasattr(tokenizer, "backend_tokenizer"):
        tokenizer = tokenizer.backend_tokenizer
    if not hasattr(tokenizer, "to_str"):
        raise InputError(f"{type(tokenizer).__name__} is no tokenizer", fix="give a TokenizerFile")
    file = TokenizerFile(json.loads(tokenizer.to_str()))
    file.check()
    return file
