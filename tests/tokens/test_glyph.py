"""Glyphs: what is drawn, and that it is told apart and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("matplotlib")

from sememe import tokens  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.tokens.glyph import GlyphEmbedding, components  # noqa: E402
from sememe.tokens.glyph_font import boxed, characters_of, dejavu, draw  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402


def test_letters_of_several_scripts_are_drawn_and_others_boxed():
    characters = list("agOЯعשΩ")
    pictures = draw(characters)
    assert all(0.02 < picture.mean() < 0.5 for picture in pictures)
    for picture, character in zip(pictures, characters):
        assert not np.array_equal(picture, boxed(character))
    np.testing.assert_array_equal(draw(["北"])[0], boxed("北"))
    assert draw([" ", "\n"]).sum() == 0


def test_boxes_differ_by_their_number():
    numbers = [chr(code) for code in (0x5317, 0x5371, 0x1F600, 0x1F606, 0xDC8C, 0xDCC8)]
    flat = np.stack([boxed(character).ravel() for character in numbers])
    assert len(np.unique(flat, axis=0)) == len(numbers)
    assert characters_of(b"a\x8c") == "a\udc8c"


def test_components_keep_cosines_of_centred_pictures():
    pictures = draw(list("abcdefghijklmnop"))
    flat = pictures.reshape(16, -1).astype(np.float64)
    flat -= flat.mean(0)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    found = components(pictures, 20)  # more than there can be: nothing is lost, the rest is zero
    np.testing.assert_allclose(found @ found.T, flat @ flat.T, atol=1e-5)
    assert (found[:, 16:] == 0).all()


def test_tokens_are_sums_of_their_characters():
    vocabulary = Vocabulary(["a", "b", "ab", "ba", " ab", "", "abcdefghijklmnopqrstuvwxyz"])
    plain = GlyphEmbedding(vocabulary, 24, ordered=False)
    a, b, both, turned = plain.table()[:4]
    torch.testing.assert_close(both, (a + b) / 2**0.5)
    torch.testing.assert_close(both, turned)
    layer = GlyphEmbedding(vocabulary, 24)
    assert not torch.allclose(*layer.table()[2:4])
    signs = layer.signs[1]
    torch.testing.assert_close(layer.table()[2], (layer.table()[0] + signs * layer.table()[1]) / 2**0.5)
    assert layer.num_parameters == 0


def test_what_was_saved_does_not_depend_on_the_font(tmp_path: Path):
    vocabulary = Vocabulary([chr(code) for code in range(97, 123)])
    layer = GlyphEmbedding(vocabulary, 16)
    layer.glyphs.mul_(-1)  # as if another font had drawn them
    again = tokens.load(tokens.save(layer, tmp_path / "glyphs"), vocabulary)
    assert torch.equal(again.table(), layer.table())


def test_a_font_can_be_given_and_must_be_one(tmp_path: Path):
    vocabulary = Vocabulary(["a", "b"])
    given = GlyphEmbedding(vocabulary, 8, fonts=[str(dejavu())])
    assert torch.equal(given.table(), GlyphEmbedding(vocabulary, 8).table())
    assert given.options["fonts"] == [str(dejavu())]
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(InputError, match="this is no font"):
        GlyphEmbedding(vocabulary, 8, fonts=[str(tmp_path / "no.ttf")])
    with pytest.raises(InputError, match="list of paths"):
        GlyphEmbedding(vocabulary, 8, fonts="a.ttf")


def test_tokens_are_whole_characters_and_every_text_comes_back():
    from sememe.tokens.glyph_tokens import unicode_tokenizer

    known = ["один два три один два", "eins zwei drei eins zwei", "一二三 一二 one\n"] * 5
    tokenizer = unicode_tokenizer(known, 330)
    texts = [*known, "unknown 😀 characters: हिंदी, ﷽ and\ttabs ", ""]
    for text in texts:
        assert tokenizer.backend.decode(tokenizer.backend.encode(text).ids) == text
    pieces = Vocabulary.of(tokenizer).pieces
    assert list(pieces[:256]) == [bytes([byte]) for byte in range(256)]
    for piece in pieces[256:]:
        assert piece.decode("utf-8")
    assert " два".encode() in pieces
    found = tokenizer.backend.encode("два 一二").ids
    assert all(number >= 256 for number in found)
    with pytest.raises(InputError, match="at least"):
        unicode_tokenizer(known, 260)
