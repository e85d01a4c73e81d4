"""A real model on which vocabularies are tried: loaded once, given tables, scored and trained."""

from __future__ import annotations

import copy
import ctypes
import gc
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.vocab.folder import ModelFolder
from sememe.vocab.sample import words
from sememe.vocab.tokenizer import TokenizerFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sememe.lab.score import Score
    from sememe.lab.train import History

_SHARE = 0.15  # of the words that are hidden from a masked model
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")


class Subject:
    """A language model whose vocabulary is exchanged in memory.

    Parameters
    ----------
    folder : ModelFolder
        Of a causal or a masked language model that transformers loads with its own code.

    Attributes
    ----------
    kind : {"causal", "masked"}
    model : transformers.PreTrainedModel
        float32; never changed.

    Raises
    ------
    InputError
        A model that is no language model of these two kinds, or that transformers does not load.
    """

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.kind = kind_of(folder)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingDependency(error.name or "torch", extra="torch", need="the loss of a model") from None
        loader = transformers.AutoModelForCausalLM if self.kind == "causal" else transformers.AutoModelForMaskedLM
        talk = transformers.utils.logging
        level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
        talk.set_verbosity_error()
        talk.disable_progress_bar()
        try:
            self.model = loader.from_pretrained(str(folder.inner), dtype=torch.float32, local_files_only=True).eval()
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"transformers does not load this model ({reason[:200]})", where=str(folder.inner)
            ) from None
        finally:
            talk.set_verbosity(level)
            if bars:
                talk.enable_progress_bar()

    def with_tables(self, tables: Mapping[str, NDArray[Any]]) -> Any:
        """A copy of the model with other tables, as `sememe.vocab.transplant.new_tables` gives them."""
        import torch

        model = copy.deepcopy(self.model)
        model.resize_token_embeddings(len(tables["input"]), mean_resizing=False)
        output = model.get_output_embeddings()
        biases = [tables[tensor.name] for tensor in self.folder.layout.biases]
        if biases and getattr(output, "bias", None) is None:
            raise InputError(
                "the bias of this model's head is not where transformers shows it", where=str(self.folder.inner)
            )
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(torch.from_numpy(tables["input"]))
            if "output" in tables:
                output.weight.copy_(torch.from_numpy(tables["output"]))
            if biases:
                output.bias.copy_(torch.from_numpy(biases[0].reshape(-1)))
        return model

    def wrapped(self, model: Any, tokenizer: TokenizerFile, start: int | None) -> Any:
        """The model behind what training and scoring use; ``start`` begins a causal model's contexts."""
        if self.kind == "causal":
            from sememe.lab.causal import Causal

            return Causal(model, start)
        from sememe.lab.masked import Masked

        roles = tokenizer.roles
        if "mask" not in roles:
            raise InputError(
                "this tokenizer has no token for a gap, and the model is a masked one",
                where=tokenizer.where,
                fix="give a tokenizer of a masked model",
            )
        return Masked(model, roles["mask"], first=roles.get("cls"), last=roles.get("sep"), share=_SHARE)

    def train(
        self, model: Any, tokenizer: TokenizerFile, texts: Sequence[str], *, steps: int, rate: float, seed: int
    ) -> History:
        """Train a wrapped model in place: batches of 8 windows of 128 symbols, or of what its context allows."""
        from sememe.lab.data import batches, stream_of
        from sememe.lab.model import seeded
        from sememe.lab.train import Recipe, train

        length = min(128, model.context or 128)
        order = batches(stream_of(tokenizer.backend, texts, vocabulary=model.vocabulary), 8, length, seed=seed)
        with seeded(seed):
            return train(model, order, Recipe(steps=steps, rate=rate))


class Trial:
    """Held-out texts, prepared so that every vocabulary is measured on the same bytes.

    Parameters
    ----------
    subject : Subject
    texts : list of str
    tokenizers : list of TokenizerFile
        That will be measured: what a masked model is shown must fit its context in all of them.

    Attributes
    ----------
    unit : str
        What the numbers are.
    bytes, left_out : int
        Bytes that are paid for, and texts that did not fit.
    """

    def __init__(self, subject: Subject, texts: Sequence[str], tokenizers: Sequence[TokenizerFile]) -> None:
        self.subject, self.texts = subject, [text for text in texts if text.strip()]
        self.left_out = 0
        self.hidden: list[list[tuple[int, int]]] = []
        if subject.kind == "causal":
            self.unit = "bits a byte"
            return
        from sememe.lab.masked import hidden_words

        self.unit = "bits a byte of hidden words"
        most = getattr(subject.model.config, "max_position_embeddings", None) or 512
        passages = [part for text in self.texts for part in _passages(text, most)]
        lengths = np.array([[len(ids) for ids in t.encode_batch(passages, special=True)] for t in tokenizers]).max(
            axis=0
        )
        spans = [_words(part) for part in passages]
        usable = [n for n, length in enumerate(lengths) if length <= most - 2 and spans[n]]
        self.left_out = sum(1 for n, length in enumerate(lengths) if length > most - 2)
        if not usable:
            raise InputError(f"no text has words and fits a context of {most} tokens", fix="give another text")
        self.texts = [passages[n] for n in usable]
        self.hidden = hidden_words([spans[n] for n in usable], share=_SHARE, seed=0)

    def score(self, model: Any, tokenizer: TokenizerFile) -> Score:
        """The loss of a wrapped model."""
        if self.subject.kind == "causal":
            from sememe.lab.data import stream_of
            from sememe.lab.score import score_stream

            return score_stream(model, stream_of(tokenizer.backend, self.texts, vocabulary=model.vocabulary))
        from sememe.lab.masked import gap_loss

        return gap_loss(model, tokenizer.backend, self.texts, self.hidden)


def kind_of(folder: ModelFolder) -> str:
    """``causal`` or ``masked``, by the architecture that config.json names.

    Raises
    ------
    InputError
        Any other model.
    """
    names = [str(name) for name in folder.config.get("architectures") or []]
    if folder.layout.head and any(name.endswith(_CAUSAL) for name in names):
        return "causal"
    if folder.layout.head and any(name.endswith(_MASKED) for name in names):
        return "masked"
    raise InputError(
        f"{', '.join(names) or 'this model'} is no language model with a head, so it has no loss to compare",
        where=str(folder.inner),
        fix="give a causal or a masked language model",
    )


def _words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end."""
    out, at = [], 0
    for word in words(text):
        at = text.index(word, at)
        out.append((at, at + len(word)))
        at += len(word)
    return out


def _passages(text: str, most: int) -> list[str]:
    """A text in parts of at most half as many characters as there are places in the context, cut at spaces."""
    size = max(most // 2, 16)
    out = []
    while len(text) > size:
        cut = text.rfind(" ", 1, size + 1)
        cut = cut if cut > 0 else size
        out.append(text[:cut])
        text = text[cut:].lstrip()
    return [*out, text] if text.strip() else out


@contextmanager
def peak_memory() -> Iterator[list[int | None]]:
    """Bytes that a block held at the most beyond what was there before, in the one entry of the list.

    Linux counts them, and starts anew on request; elsewhere the entry stays None.
    """
    found: list[int | None] = [None]
    _settle()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found[0] = max(_status("VmHWM") - before, 0)


def _settle() -> None:
    """Give back what is free, or it would be taken again unseen: models hang in cycles, the heap keeps its holes."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(name)
