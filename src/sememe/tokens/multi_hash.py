"""Words by hashed features: the word in lower case, its first and last letters, and its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.distill import distill, spread
from sememe.tokens.ngrams import Strings, mix
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_ROWS = (5_000, 1_000, 2_500, 2_500)  # of the tables of NORM, PREFIX, SUFFIX, SHAPE
_PREFIX, _SUFFIX = 1, 3


@register(
    "multi-hash",
    room="tokens",
    kind="layer",
    summary="four features of a word, each the sum of four hashed rows, mixed by a maxout layer",
    paper=Paper("Multi hash embeddings in spaCy", 2022, "2212.09255"),
    claim="Hash embeddings of a word's form and parts do as well as word tables with a fraction of the memory.",
)
class MultiHashEmbed(TokenEmbedding):
    """Features, hashed rows, one mixing layer.

    The features of a string are NORM (in lower case), PREFIX (its first character), SUFFIX (its last three) and SHAPE
    (capitals ``X``, letters ``x``, digits ``d``, the rest as it is, runs cut to four). Each feature has a table and
    ``hashes`` hash functions, and is the sum of the rows they point at. The four sums side by side go through
    ``pieces`` linear layers, of which each dimension keeps the largest, and a layer norm.

    A token's leading space belongs to NORM, so `` the`` and ``the`` differ, and not to the other features. Special
    tokens are words by their names. Strings with equal features have equal vectors.

    The mixing costs ``4 width d pieces`` multiply-adds, so each distinct id is worked out once in a batch.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : sequence of 4 int
        Of the four tables.
    hashes : int
        Rows for each feature.
    width : int
        Of the tables; 0 takes ``dim``.
    pieces : int
        Of the maxout.
    """

    distinct = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        rows: Sequence[int] = _ROWS,
        hashes: int = 4,
        width: int = 0,
        pieces: int = 3,
    ) -> None:
        super().__init__(vocabulary, dim)
        self.rows, self.hashes, self.width, self.pieces = [int(count) for count in rows], hashes, width, pieces
        if len(self.rows) != 4 or min(self.rows) < 1 or hashes < 1 or width < 0 or pieces < 1:
            raise InputError(
                f"rows={self.rows}, hashes={hashes}, width={width}, pieces={pieces}",
                where="multi-hash",
                fix="give four positive numbers of rows, and positive others",
            )
        columns = width or dim
        self.tables = nn.ParameterList(nn.Parameter(0.5 * torch.randn(count, columns)) for count in self.rows)
        self.mix = nn.Linear(4 * columns, pieces * dim)
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("places", torch.from_numpy(self.buckets(vocabulary.pieces)), persistent=False)

    def buckets(self, texts: Sequence[bytes | str]) -> NDArray[np.int64]:
        """Rows of each string in the four tables, ``(n, 4, hashes)``."""
        out = np.empty((len(texts), 4, self.hashes), dtype=np.int64)
        for feature, (strings, rows) in enumerate(zip(features(texts), self.rows, strict=True)):
            found = strings.hashes(feature)
            for number in range(self.hashes):
                out[:, feature, number] = (mix(found, number) % np.uint64(rows)).astype(np.int64)
        return out

    def _of(self, places: Any) -> Any:
        sums = [F.embedding_bag(places[:, feature], table, mode="sum") for feature, table in enumerate(self.tables)]
        mixed = self.mix(torch.cat(sums, dim=1)).view(len(places), self.pieces, self.embedding_dim)
        return self.norm(mixed.amax(1))

    def vectors(self, ids: Any) -> Any:
        """Features, mixed."""
        return self._of(self.places[ids])

    def embed(self, texts: Sequence[bytes | str]) -> Any:
        """Vectors ``(n, d)`` of any strings: there is no unknown one."""
        return self._of(torch.from_numpy(self.buckets(texts)).to(self.mix.weight.device))

    def _learn(self, table: Any, weights: Any) -> None:
        with torch.no_grad():  # the norm's vectors have unit spread: begin with the table's
            self.norm.weight.fill_(spread(table))
            self.norm.bias.copy_(table.mean(0))
        distill(self, table, weights, own=True)

    @property
    def multiply_adds(self) -> int:
        """Of the sums and the mixing."""
        columns = self.width or self.embedding_dim
        return 4 * columns * (self.hashes + self.pieces * self.embedding_dim)

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """The paper's proportion of rows; tables narrower than ``dim`` where the mixing would take half the budget."""
        pieces = 3
        fixed = pieces * dim + 2 * dim
        width = min(dim, max(1, (budget // 2 - fixed) // (4 * pieces * dim)))
        mixing = fixed + 4 * width * pieces * dim

        def rows(unit: int) -> list[int]:
            return [max(1, round(unit * count / _ROWS[1])) for count in _ROWS]

        unit = largest(lambda n: mixing + width * sum(rows(n)), budget, 1, max(2 * len(vocabulary), 2))
        return {"rows": rows(unit), "width": width, "pieces": pieces}


def features(texts: Sequence[bytes | str]) -> tuple[Strings, Strings, Strings, Strings]:
    """NORM, PREFIX, SUFFIX and SHAPE of each string."""
    strings = Strings.of(texts)
    word = strings.stripped()
    return strings.lower(), word.head(_PREFIX), word.tail(_SUFFIX), word.shape()
