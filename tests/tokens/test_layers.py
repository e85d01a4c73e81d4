"""The battery that every token layer of the catalogue passes: a new layer is tested by registering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import catalog, tokens  # noqa: E402
from sememe.errors import BudgetError, InputError, UsageError  # noqa: E402
from sememe.tokens.base import TokenEmbedding, largest  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

LAYERS = tokens.names()
DIM = 16
WORDS = ["the", "ing", "Haus", "été", "мир", "北京", "हिंदी", "😀", "a" * 80, "\n\n", "0", "1984", "...", "new york"]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """300 symbols: all bytes, words of several scripts with and without a space, empty and broken pieces."""
    pieces: list[bytes] = [bytes([byte]) for byte in range(256)]
    pieces += [f"{space}{word}".encode() for word in WORDS for space in ("", " ")]
    pieces += [b"", b"\xff\xfe", b"\xe5\x8c", b"<pad>"]
    pieces += [f" word{i}".encode() for i in range(300 - len(pieces))]
    counts = 1_000 / (1.0 + np.arange(len(pieces)))
    return Vocabulary(pieces, special=(len(pieces) - 1,), counts=counts)


def make(name: str, vocabulary: Vocabulary, seed: int = 0) -> TokenEmbedding:
    return tokens.build(name, vocabulary, DIM, seed=seed)


@pytest.mark.parametrize("name", LAYERS)
def test_is_a_drop_in_for_an_embedding(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary)
    ids = torch.randint(len(vocabulary), (3, 5))
    out = layer(ids)
    assert out.shape == (3, 5, DIM)
    assert torch.isfinite(out).all()
    assert layer.num_embeddings == len(vocabulary)
    assert layer.embedding_dim == DIM
    assert layer(ids[:, :0]).shape == (3, 0, DIM)
    assert layer(ids[0, 0]).shape == (DIM,)


@pytest.mark.parametrize("name", LAYERS)
def test_every_symbol_has_a_finite_vector(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary).eval()
    table = layer.table()
    assert table.shape == (len(vocabulary), DIM)
    assert torch.isfinite(table).all()
    ids = torch.arange(len(vocabulary))
    torch.testing.assert_close(layer(ids[None])[0], table, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_one_sequence_equals_many(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary).eval()
    ids = torch.randint(len(vocabulary), (4, 6))
    with torch.no_grad():
        together = layer(ids)
        alone = torch.cat([layer(row[None]) for row in ids])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_ids_that_do_not_exist_are_refused(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary)
    for bad in (-1, len(vocabulary)):
        with pytest.raises(InputError, match=f"id {bad} "):
            layer(torch.tensor([[0, bad]]))
    with pytest.raises(InputError, match="ids of type"):
        layer(torch.zeros(1, 2))


@pytest.mark.parametrize("name", LAYERS)
def test_is_determined_by_its_seed(name: str, vocabulary: Vocabulary) -> None:
    state = torch.random.get_rng_state()
    first, again = make(name, vocabulary), make(name, vocabulary)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.table(), again.table())
    if first.num_parameters:
        assert not torch.equal(first.table(), make(name, vocabulary, seed=1).table())


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary).double().eval()
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    if not trained:
        pytest.skip("this layer has no parameters")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(vocabulary), (2, 6), generator=generator)
    weight = torch.randn(2, 6, DIM, generator=generator, dtype=torch.float64)

    def loss() -> object:
        return (layer(ids) * weight).sum()

    loss().backward()  # type: ignore[attr-defined]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    for parameter in trained:
        slope = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        expected = 0.0 if parameter.grad is None else float((parameter.grad * slope).sum())
        step = 1e-5
        with torch.no_grad():
            parameter += step * slope
            high = float(loss())  # type: ignore[arg-type]
            parameter -= 2 * step * slope
            low = float(loss())  # type: ignore[arg-type]
            parameter += step * slope
        assert (high - low) / (2 * step) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_saved_and_opened_it_is_the_same(name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    layer = make(name, vocabulary, seed=3).eval()
    path = tokens.save(layer, tmp_path / "layer.safetensors")
    again = tokens.load(path, vocabulary).eval()
    assert torch.equal(layer.table(), again.table())
    assert layer.options == again.options
    assert [p.name for p in tmp_path.iterdir()] == ["layer.safetensors"]
    with pytest.raises(InputError, match="another vocabulary"):
        tokens.load(path, Vocabulary([b"a", b"b"]))


@pytest.mark.parametrize("name", LAYERS)
def test_only_a_counted_layer_looks_at_counts(name: str, vocabulary: Vocabulary) -> None:
    backwards = Vocabulary(vocabulary.pieces, sorted(vocabulary.special), np.arange(len(vocabulary)))
    layer, other = make(name, vocabulary), make(name, backwards)
    if not layer.counted:
        assert torch.equal(layer.table(), other.table())


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_are_what_is_stored(name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    layer = make(name, vocabulary)
    assert layer.num_parameters == sum(p.numel() for p in layer.parameters())
    path = tokens.save(layer, tmp_path / "layer.safetensors")
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size - header == layer.num_bytes
    assert layer.multiply_adds >= 0


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("share", ["100%", "25%", "10%"])
def test_keeps_its_budget_or_says_what_is_near(name: str, share: str) -> None:
    vocabulary = Vocabulary([f" {i:x}" for i in range(20_000)], counts=1 / (1.0 + np.arange(20_000)))
    wanted = round(float(share[:-1]) / 100 * 20_000 * 64)
    try:
        layer = tokens.build(name, vocabulary, 64, share)
    except BudgetError as error:
        assert "nearest" in str(error)
        return
    assert abs(layer.num_bytes / 4 - wanted) <= 0.05 * wanted


@pytest.mark.parametrize("name", LAYERS)
def test_fits_a_table_better_than_its_mean(name: str, vocabulary: Vocabulary) -> None:
    layer = make(name, vocabulary)
    generator = torch.Generator().manual_seed(0)
    # a table with something to find: spelled alike, similar vectors, plus a part of its own for each symbol
    spelled = torch.from_numpy(vocabulary.bytes(8)[0]).float() @ torch.randn(8, DIM, generator=generator) / 128
    table = spelled + torch.randn(len(vocabulary), DIM, generator=generator)
    layer.fit(table)
    assert layer.fit_ is not None
    assert np.isfinite(layer.fit_.error)
    if layer.num_parameters:
        assert layer.fit_.error < 1.0
    with pytest.raises(InputError, match="table of shape"):
        layer.fit(table[:-1])
    with pytest.raises(InputError, match="not finite"):
        layer.fit(table * torch.nan)


@pytest.mark.parametrize("name", ["multi-hash", "byte-attention", "fourier-id"])
def test_short_rows_are_fitted_as_well_as_long_ones(name: str, vocabulary: Vocabulary) -> None:
    table = torch.randn(len(vocabulary), DIM, generator=torch.Generator().manual_seed(0)) + 0.5
    errors = []
    for size in (1.0, 0.05):  # the latter is about the spread of a sentence encoder's table
        layer = make(name, vocabulary)
        layer.fit(size * table)
        assert layer.fit_ is not None
        errors.append(layer.fit_.error)
    assert errors[1] < min(1.0, 1.1 * errors[0] + 0.05)


def test_an_unknown_layer_and_a_wrong_option_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(UsageError, match="did you mean kronecker"):
        tokens.build("kroneker", vocabulary, DIM)
    with pytest.raises(InputError, match="unexpected keyword"):
        tokens.build("kronecker", vocabulary, DIM, place=3)


@pytest.mark.parametrize("bad", ["", "lots", "-1", "1.2.3M", float("nan"), -5])
def test_an_impossible_budget_is_refused(bad: str | float, vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match="budget"):
        tokens.build("kronecker", vocabulary, DIM, bad)


def test_budgets_are_read_in_all_their_spellings() -> None:
    from sememe.tokens.factory import parameters_of

    found = [parameters_of(budget, 2_000) for budget in ("1M", "250k", "25%", "1.5m", 7, 12.4)]
    assert found == [1_000_000, 250_000, 500, 1_500_000, 7, 12]


def test_the_largest_size_within_a_budget() -> None:
    assert [largest(lambda n: 10 * n, budget, 1, 9) for budget in (0, 14, 16, 50, 1_000)] == [1, 1, 2, 5, 9]


def test_a_damaged_file_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    path = tokens.save(make("table", vocabulary), tmp_path / "x")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="cannot be read"):
        tokens.load(path, vocabulary)


def test_every_entry_can_be_listed_without_its_class() -> None:
    for technique in catalog.techniques(room="tokens"):
        assert technique.summary
        assert technique.make.__name__
