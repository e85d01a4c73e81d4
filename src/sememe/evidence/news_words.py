"""News classified by the words they contain: what experiments on hashed word layers share. Not an experiment."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.evidence.data import DataFolder

LENGTH = 64  # words of an item that are looked at
_WORDS = re.compile(r"\w+|[^\w\s]")
_TYPO = 0.5  # share of the longer words that get one

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class News:
    """Items of AG News as words.

    Attributes
    ----------
    words : list of str
        All distinct words, those of the training part first.
    known : int
        How many of them the training part has.
    train, test, typed : int64 ndarrays of shape (n, LENGTH)
        Word numbers, -1 where there is none; ``typed`` is the test part with typing errors.
    train_labels, test_labels : int64 ndarrays
    """

    words: list[str]
    known: int
    train: Ids
    test: Ids
    typed: Ids
    train_labels: Ids
    test_labels: Ids

    @classmethod
    def of(cls, data: DataFolder, *, seed: int = 0) -> News:
        """Read the sample of the training part and the whole test part; ``seed`` makes the typing errors."""
        parts = [data.table("agnews", f"{name}.tsv.gz") for name in ("train", "test")]
        labels = sorted({row[0] for row in parts[0]})
        train, test = ([_WORDS.findall(row[1].lower())[:LENGTH] for row in rows] for rows in parts)
        generator = np.random.default_rng(seed)
        typed = [[mistyped(w, generator) if generator.random() < _TYPO else w for w in item] for item in test]
        known = sorted({w for item in train for w in item})
        place = {w: number for number, w in enumerate(known)}
        for item in (*test, *typed):
            for word in item:
                place.setdefault(word, len(place))
        numbers = [[labels.index(row[0]) for row in rows] for rows in parts]
        tables = [_table(items, place) for items in (train, test, typed)]
        return cls(list(place), len(known), *tables, *(np.array(part, dtype=np.int64) for part in numbers))

    @cached_property
    def unseen(self) -> NDArray[np.float64]:
        """Share of the words of each test item that the training part has not."""
        return np.asarray((self.test >= self.known).sum(1) / np.maximum((self.test >= 0).sum(1), 1))


def mistyped(word: str, generator: np.random.Generator) -> str:
    """A letter behind the first dropped, doubled, swapped with the next or replaced; shorter words than four stay."""
    if len(word) < 4 or not word.isalpha():
        return word
    place, kind = int(generator.integers(1, len(word) - 1)), int(generator.integers(4))
    if kind == 0:
        return word[:place] + word[place + 1 :]
    if kind == 1:
        return word[:place] + word[place] + word[place:]
    if kind == 2:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + chr(97 + int(generator.integers(26))) + word[place + 1 :]


def _table(items: list[list[str]], place: dict[str, int]) -> Ids:
    out = np.full((len(items), LENGTH), -1, dtype=np.int64)
    for row, item in enumerate(items):
        out[row, : len(item)] = [place[word] for word in item]
    return out


def classify(
    news: News,
    make: Callable[[list[str], int], Any],
    seed: int,
    *,
    open_ended: bool,
    dim: int = 64,
    hidden: int = 256,
    passes: int = 4,
    rate: float = 3e-3,
    left_out: float = 0.0,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Train a layer with a small classifier behind it: vectors of words, their mean, a linear layer.

    Parameters
    ----------
    news : News
    make : function
        ``make(words, seed)`` gives a layer over these words.
    seed : int
        Of the weights and the order of items.
    open_ended : bool
        The layer has vectors for words that were not trained; otherwise it is made for the known words alone, and
        others are left out of the mean.
    dim : int
    hidden : int
        Width of a network that changes each word's vector before the mean; 0 for none.
    passes : int
        Over the training part, in batches of 64.
    rate : float
        Of Adam; halved after half the passes, or falling to zero along a line where words are left out.
    left_out : float
        Share of the words of an item that training does not see, drawn anew each time.

    Returns
    -------
    right, right_typed : bool ndarrays of shape (n,)
        Which test items were classified rightly, as they are and with typing errors.
    parameters : int
        Of the layer.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = make(news.words if open_ended else news.words[: news.known], seed)
            self.norm = nn.LayerNorm(dim)
            self.inside = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)) if hidden else None
            self.out = nn.Linear(dim, 4)

        def forward(self, ids: Any) -> Any:
            there = ids >= 0 if open_ended else (ids >= 0) & (ids < news.known)
            if self.training and left_out:
                there = there & (torch.rand(ids.shape, generator=hidden_words) >= left_out)
            found, place = torch.unique(ids.masked_fill(~there, 0), return_inverse=True)
            vectors = self.norm(self.layer(found))
            if self.inside is not None:
                vectors = vectors + self.inside(vectors)
            weight = there[..., None].to(vectors.dtype)
            return self.out((F.embedding(place, vectors) * weight).sum(1) / weight.sum(1).clamp_min(1))

    hidden_words = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network()
    trained = sum(p.numel() for p in network.layer.parameters())
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    generator = np.random.default_rng(seed)
    train, labels = torch.from_numpy(news.train), torch.from_numpy(news.train_labels)
    for number in range(passes):
        for group in optimizer.param_groups:
            falling = 1 - number / passes
            group["lr"] = rate * (falling if left_out else 1 if number < passes / 2 else 0.5)
        for rows in np.array_split(generator.permutation(len(train)), len(train) // 64):
            loss = F.cross_entropy(network(train[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def right(part: Ids) -> NDArray[np.bool_]:
        with torch.no_grad():
            found = [network(torch.from_numpy(block)).argmax(1).numpy() for block in np.array_split(part, 20)]
        return np.asarray(np.concatenate(found) == news.test_labels)

    network.eval()
    return right(news.test), right(news.typed), trained


def gap(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Difference of accuracies ``(seeds, n)``, with a 95 % interval over seeds and items."""
    generator = np.random.default_rng(0)
    difference = ours.astype(np.float64) - theirs
    seeds, n = difference.shape
    draws = [
        difference[generator.integers(seeds, size=seeds)].mean(0)[generator.integers(n, size=n)].mean()
        for _ in range(500)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)
