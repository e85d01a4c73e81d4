"""Symbols by what they look like: characters drawn with a font, made small by PCA, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.glyph_font import SIDE, characters_of, draw
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_LONGEST = 16


@register(
    "glyph",
    room="tokens",
    kind="layer",
    summary="frozen vectors of how a token's characters look, drawn with a font",
    paper=Paper(
        "Emergent Semantics Beyond Token Embeddings: Transformer LMs with Frozen Visual Unicode Representations",
        2025,
        "2507.04886",
    ),
    claim="A transformer over frozen vectors of glyphs does as well as one over a trained table: meaning arises above.",
    extra="glyph",
)
class GlyphEmbedding(TokenEmbedding):
    """``v(t) = L^-1/2 sum_i s_i * g(c_i)`` over the first characters ``c_1 .. c_L``; nothing is trained.

    ``g(c)`` is the picture of a character, 16 x 16 grey pixels, minus the mean picture, on the first ``d`` principal
    components of all pictures of the vocabulary, of unit length; where there are fewer components than dimensions the
    rest is zero. ``s_i`` is a fixed vector of signs for each place (all positive for the first), so that ``no`` and
    ``on`` differ; with ``ordered=False`` all are positive and the vector is the plain mean of the paper. A character
    that no font has, and a byte that is no character, is drawn as a box with its hexadecimal number. Symbols without
    characters, and white space, have the vector of a blank picture.

    The vectors of the characters are stored (``characters x d`` numbers, for one script a few hundred rows), so that a
    saved layer does not depend on the fonts of the machine that opens it, although it needs some font to be opened.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    fonts : sequence of str
        Font files; a character is drawn with the first that has it. DejaVu Sans (Latin, Greek, Cyrillic, Arabic,
        Hebrew, Armenian, Georgian and more), which matplotlib brings, when empty.
    ordered : bool
        Tell the order of characters.

    Raises
    ------
    MissingDependency
        Without Pillow, or without matplotlib's font where no other is given.
    InputError
        A file that is no font.
    """

    distinct = True
    glyphs: Any

    def __init__(self, vocabulary: Vocabulary, dim: int, fonts: Sequence[str] = (), ordered: bool = True) -> None:
        super().__init__(vocabulary, dim)
        if isinstance(fonts, str):
            raise InputError("fonts is one text", where="glyph", fix="give a list of paths")
        self.fonts, self.ordered = list(fonts), ordered
        spelled = [characters_of(piece)[:_LONGEST] for piece in vocabulary.pieces]
        self.characters = sorted({character for characters in spelled for character in characters} | {" "})
        place = {character: row for row, character in enumerate(self.characters)}
        rows = np.full((len(spelled), _LONGEST), place[" "], dtype=np.int64)
        for row, characters in enumerate(spelled):
            rows[row, : len(characters)] = [place[character] for character in characters]
        lengths = np.maximum([len(characters) for characters in spelled], 1)
        weights = (np.arange(_LONGEST) < lengths[:, None]) / np.sqrt(lengths)[:, None]
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_LONGEST, dim)) if ordered else np.ones((1, dim))
        signs[0] = 1.0
        self.register_buffer("glyphs", torch.from_numpy(components(draw(self.characters, self.fonts), dim)))
        self.register_buffer("rows", torch.from_numpy(rows), persistent=False)
        self.register_buffer("weights", torch.from_numpy(weights).float(), persistent=False)
        self.register_buffer("signs", torch.from_numpy(signs).float(), persistent=False)

    def vectors(self, ids: Any) -> Any:
        """Sums of the glyphs' vectors."""
        weights = self.weights[ids].to(self.glyphs.dtype)
        there = weights > 0  # (n, places)
        counts = there.sum(1)
        seen = F.embedding(self.rows[ids][there], self.glyphs)
        if self.ordered:
            seen = seen * F.embedding(there.nonzero()[:, 1], self.signs)
        numbers = torch.arange(len(seen), device=seen.device)
        begins = counts.cumsum(0) - counts
        return F.embedding_bag(numbers, seen, begins, mode="sum", per_sample_weights=weights[there])

    @property
    def multiply_adds(self) -> int:
        """Two a character and dimension: the sign and the weight."""
        return 2 * _LONGEST * self.embedding_dim

    def _empty(self, shape: Any) -> Any:
        return self.glyphs.new_zeros(*shape, self.embedding_dim)


def components(pictures: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Unit rows ``(n, dim)`` of pictures ``(n, SIDE, SIDE)`` on their principal components, zeros where these end.

    A picture that is the mean picture itself has no direction and gets zeros.
    """
    flat = pictures.reshape(len(pictures), SIDE * SIDE).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    # the sign of a component is arbitrary: its largest entry shall be positive
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    found = flat @ axes[:dim].T
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    out = np.zeros((len(found), dim), dtype=np.float32)
    out[:, : found.shape[1]] = np.where(lengths > 1e-9, found / np.maximum(lengths, 1e-9), 0.0)
    return out
