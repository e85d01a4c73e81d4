"""A sentence encoder that reads the tokens of the batch, and how a hypernetwork learns their vectors from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.dynamic import DynamicBatch, DynamicTokenizer, Embed
from sememe.vocab.initialize.hypernet import TokenizerHypernet

if TYPE_CHECKING:
    from sememe.vocab.initialize.piece_network import PieceNetwork


class DynamicEncoder:
    """Mean of an encoder's last layer over the tokens of the batch.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        An encoder that takes ``inputs_embeds`` and ``attention_mask``. It does not change.
    tokenizer : DynamicTokenizer
    embed : function, optional
        Lists of ids to rows of merged tokens ``(m, d)``; the mean of the parts' rows when not given.
    batch : int
        Texts together, by length; merges are those of the batch.
    """

    def __init__(self, model: Any, tokenizer: DynamicTokenizer, embed: Embed | None = None, batch: int = 32) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.embed = embed
        self.batch = batch
        self.before = self.after = 0
        table = model.get_input_embeddings().weight.detach().float().numpy()
        if len(table) < len(tokenizer.tokenizer.tokens):
            raise InputError(
                f"the table has {len(table)} rows for a tokenizer of {len(tokenizer.tokenizer.tokens)} tokens",
                fix="give the tokenizer that the model was trained with",
            )
        self.table: Vectors = table

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts, float32 ``(n, d)``. ``before`` and ``after`` count their tokens."""
        import torch

        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        out = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        self.before = self.after = 0
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            tokens = self.tokenizer([texts[row] for row in rows])
            self.before += tokens.before
            self.after += tokens.after
            vectors, keep = tokens.vectors(self.table, self.embed)
            with torch.inference_mode():
                out[rows] = self._pooled(torch.from_numpy(vectors), torch.from_numpy(keep)).numpy()
        return out

    def learn(self, hypernet: TokenizerHypernet, texts: Sequence[str], *, seed: int = 0) -> list[float]:
        """Teach a hypernetwork vectors for merged tokens with which the encoder says what it says without merging.

        The loss is one minus the cosine of both vectors of a text; afterwards ``embed`` is the hypernetwork's.

        Parameters
        ----------
        hypernet : TokenizerHypernet
            Its ``steps`` and ``rate`` count.
        texts : sequence of str
        seed : int
            Of the order of texts.

        Returns
        -------
        list of float
            The loss of each step.
        """
        import torch

        from sememe.vocab.initialize.model_loss import without_gradients

        if not texts:
            raise InputError("a hypernetwork learns from text, and there is none", fix="give a sample of text")
        hypernet.prepare([self.table[: len(self.tokenizer.tokenizer.tokens)]], self.tokenizer.tokenizer)
        generator = np.random.default_rng(seed)
        whole = torch.from_numpy(self.table)
        order: list[int] = []

        def step(net: PieceNetwork) -> tuple[Any, float]:
            nonlocal order
            if len(order) < min(self.batch, len(texts)):
                order = generator.permutation(len(texts)).tolist()
            chosen, order = order[: self.batch], order[self.batch :]
            tokens = self.tokenizer([texts[row] for row in chosen])
            with torch.no_grad():
                wanted = self._pooled(*_read(whole, plain(tokens)))
            rows = torch.cat((whole[: tokens.base], net.of(tokens.merged)[0])) if tokens.merged else whole
            found = self._pooled(*_read(rows, tokens))
            # Texts without merged tokens say nothing, but keep the loss comparable from step to step.
            loss = (1 - (found * wanted).sum(dim=1)).mean() + 0 * sum(p.sum() for p in net.parameters())
            return loss, loss.item()

        with without_gradients(self.model):
            losses = hypernet.learn(step, hypernet.steps, "learning vectors of merged tokens")
        self.embed = lambda merged: hypernet.rows(merged)[0]
        return losses

    def _pooled(self, vectors: Any, keep: Any) -> Any:
        """Unit vectors ``(n, d)`` of what the model reads."""
        from torch.nn import functional as F

        states = self.model(inputs_embeds=vectors, attention_mask=keep.long()).last_hidden_state
        weight = keep[:, :, None].to(states.dtype)
        return F.normalize((states * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1), dim=1)


def plain(batch: DynamicBatch) -> DynamicBatch:
    """The same texts without merging."""
    sequences = [np.array(ids, dtype=np.int64) for ids in batch.plain()]
    return DynamicBatch(sequences, batch.base, [], batch.before)


def _read(rows: Any, batch: DynamicBatch) -> tuple[Any, Any]:
    """Rows of a batch's tokens as tensors ``(n, l, d)``, zero behind the end, and where there are tokens."""
    import torch

    length = max(map(len, batch.sequences), default=0)
    numbers = np.zeros((len(batch.sequences), length), dtype=np.int64)
    keep = np.zeros(numbers.shape, dtype=bool)
    for row, sequence in enumerate(batch.sequences):
        numbers[row, : len(sequence)], keep[row, : len(sequence)] = sequence, True
    there = torch.from_numpy(keep)
    return rows[torch.from_numpy(numbers)] * there[:, :, None], there
