"""Layers that are worked out from the number or the look of a symbol: exactness, distinctness, bijections."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, SmallLM  # noqa: E402
from sememe.tokens.binary_codes import AffineBinaryCodes, BinaryCodeEmbedding, inverse, random_invertible  # noqa: E402
from sememe.tokens.fourier_id import FourierIdEmbedding  # noqa: E402
from sememe.tokens.lexinvariant import LexinvariantEmbedding, LexinvariantHead  # noqa: E402
from sememe.tokens.one_hot_bytes import FirstCoordinates, OneHotBytes, TokenDropout  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402


def test_binary_codes_are_the_bits_repeated():
    layer = BinaryCodeEmbedding(Vocabulary.of(300), 20)
    table = layer.table().numpy()
    for number in (0, 1, 2, 255, 256, 299):
        bits = [1.0 if number >> place & 1 else -1.0 for place in range(9)]
        assert table[number].tolist() == (bits * 3)[:20]
    assert layer.num_parameters == layer.num_bytes == 0


@pytest.mark.parametrize("size", [1, 2, 3, 256, 257, 5_000])
def test_every_symbol_has_a_code_of_its_own(size: int):
    for layer in (BinaryCodeEmbedding(Vocabulary.of(size), 16), AffineBinaryCodes(Vocabulary.of(size), 16, key=5)):
        assert len(np.unique(layer.table().numpy(), axis=0)) == size
        assert torch.equal(layer.ids(layer.codes(torch.arange(size))), torch.arange(size))


def test_the_affine_map_is_a_bijection_of_all_codes_and_affine():
    layer = AffineBinaryCodes(Vocabulary.of(1_000), 10, key=3)
    codes = layer.codes(torch.arange(1_024)).numpy()
    assert len(np.unique(codes, axis=0)) == 1_024
    a, b = np.random.default_rng(0).integers(1_024, size=(2, 200))
    np.testing.assert_array_equal(codes[a] ^ codes[b] ^ codes[0], codes[a ^ b])  # what makes a map affine
    assert not np.array_equal(codes, AffineBinaryCodes(Vocabulary.of(1_000), 10, key=4).codes(torch.arange(1_024)))


def test_matrices_are_invertible_modulo_two():
    generator = np.random.default_rng(0)
    for size in range(1, 20):
        matrix = random_invertible(size, generator)
        np.testing.assert_array_equal(matrix @ inverse(matrix) % 2, np.eye(size))
    with pytest.raises(InputError, match="no inverse"):
        inverse(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]))


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="9 bits"):
        BinaryCodeEmbedding(Vocabulary.of(300), 8)


def test_fourier_features_are_sines_of_the_rank_and_all_differ():
    counts = np.random.default_rng(0).permutation(2_000)
    vocabulary = Vocabulary.of(2_000, counts)
    layer = FourierIdEmbedding(vocabulary, 15)
    features = layer.features(torch.arange(2_000)).double()
    rank = 1_999 - counts  # the most frequent symbol has rank 0
    for k in (1, 4, 8):
        x = math.pi * k * (2 * rank / 2_000 - 1)
        np.testing.assert_allclose(features[:, k - 1], np.sin(x), atol=1e-6)
        if 8 + k <= 15:
            np.testing.assert_allclose(features[:, 7 + k], np.cos(x), atol=1e-6)
    apart = torch.cdist(layer.table().double(), layer.table().double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert float((apart + torch.eye(2_000)).min()) > 0
    plain = FourierIdEmbedding(vocabulary, 15, by_frequency=False)
    np.testing.assert_allclose(plain.features(torch.tensor([1_000]))[0, :8], 0, atol=1e-6)  # sines of zero


def test_lexinvariant_vectors_repeat_within_a_sequence_only():
    layer = LexinvariantEmbedding(Vocabulary.of(50), 64, seed=1)
    ids = torch.randint(50, (3, 40))
    out = layer(ids)
    for row in range(3):
        for symbol in ids[row].unique():
            same = out[row][ids[row] == symbol]
            assert torch.equal(same, same[:1].expand_as(same))
    shared = [(a, b) for a in range(40) for b in range(40) if ids[0, a] == ids[1, b]]
    assert shared
    assert all(not torch.equal(out[0, a], out[1, b]) for a, b in shared)
    drawn = layer.draw(200)
    assert float(drawn.square().sum(-1).mean()) == pytest.approx(1, abs=0.01)
    again = LexinvariantEmbedding(Vocabulary.of(50), 64, seed=1)
    assert torch.equal(again(ids), out)


def test_orthogonal_vectors_are_and_differ_from_sequence_to_sequence():
    layer = LexinvariantEmbedding(Vocabulary.of(9), 12, orthogonal=True)
    drawn = layer.draw(3)
    torch.testing.assert_close(drawn @ drawn.transpose(1, 2), torch.eye(9).expand(3, 9, 9), atol=1e-5, rtol=0)
    assert float((drawn[0] - drawn[1]).abs().mean()) > 0.1
    with pytest.raises(InputError, match="orthogonal"):
        LexinvariantEmbedding(Vocabulary.of(13), 12, orthogonal=True)


def test_lexinvariant_models_do_not_see_which_symbols_there_are():
    layer = LexinvariantEmbedding(Vocabulary.of(30), 32)
    model = SmallLM(layer, LexinvariantHead(layer), shape=Shape(dim=32, layers=1, heads=2, context=20)).double().eval()
    ids = torch.randint(30, (2, 20))
    cipher = torch.randperm(30)
    with torch.no_grad():
        table = layer.draw(2)
        layer.draw = lambda batch: _set(layer, table)
        plain = model.nll(ids)
        ciphered_table = torch.empty_like(table)
        ciphered_table[:, cipher] = table  # symbol cipher[v] stands where v stood
        layer.draw = lambda batch: _set(layer, ciphered_table)
        torch.testing.assert_close(model.nll(cipher[ids]), plain)
        assert model.nll(ids[:, :1]).shape == (2, 1)


def _set(layer: LexinvariantEmbedding, table: object) -> object:
    layer._drawn = table
    return table


def test_a_share_of_random_symbols_keeps_the_others_trained():
    layer = LexinvariantEmbedding(Vocabulary.of(40), 16, share=0.25)
    drawn = layer.draw(5)
    trained = (drawn == layer.weight).all(-1).sum(1)
    assert trained.tolist() == [30] * 5
    with pytest.raises(InputError, match="share"):
        LexinvariantEmbedding(Vocabulary.of(40), 16, share=0)
    with pytest.raises(InputError, match="no table"):
        layer.table()
    with pytest.raises(InputError, match="cannot be fitted"):
        layer.fit(np.zeros((40, 16)))
    with pytest.raises(InputError, match="id 40 "):
        layer(torch.tensor([[40]]))


def test_one_hot_bytes_have_no_parameters_at_either_end():
    layer = OneHotBytes(Vocabulary.of(256), 260)
    ids = torch.tensor([[0, 7, 255]])
    assert layer(ids).argmax(-1).tolist() == ids.tolist()
    assert float(layer(ids).sum()) == 3
    head = FirstCoordinates(256)
    states = torch.randn(2, 3, 260)
    assert torch.equal(head(states), states[..., :256])
    assert layer.num_parameters == layer.num_bytes == sum(p.numel() for p in head.parameters()) == 0
    assert layer(ids[:, :0]).shape == (1, 0, 260)
    with pytest.raises(InputError, match="id 256 "):
        layer(torch.tensor([[256]]))
    with pytest.raises(InputError, match="dimension"):
        OneHotBytes(Vocabulary.of(256), 255)


def test_dropped_tokens_are_zeros_in_training_only():
    layer = TokenDropout(OneHotBytes(Vocabulary.of(4), 8), 0.3)
    ids = torch.randint(4, (100, 50))
    torch.manual_seed(0)
    kept = layer.train()(ids).sum(-1)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.03)
    assert float(layer.eval()(ids).sum(-1).min()) == 1
    with pytest.raises(InputError, match="share"):
        TokenDropout(layer, 1.0)
