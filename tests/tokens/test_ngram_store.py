"""N-gram tables against a dictionary, and the layer with and without its store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.tokens.ngram_store import NgramStore, SconeEmbedding  # noqa: E402
from sememe.tokens.ngram_table import NgramTable  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

DOCUMENTS = [np.random.default_rng(seed).integers(0, 6, size=120 + seed) for seed in range(4)]


def counted(documents: list[Any], longest: int) -> Counter[tuple[int, ...]]:
    return Counter(
        tuple(int(symbol) for symbol in row[at : at + n])
        for row in documents
        for n in range(2, longest + 1)
        for at in range(len(row) - n + 1)
    )


def as_tuples(table: NgramTable) -> list[tuple[int, ...]]:
    spelled, sizes = table.spelled()
    return [tuple(int(s) for s in row[len(row) - size :]) for row, size in zip(spelled, sizes)]


@given(
    longest=st.integers(2, 5), most=st.integers(0, 300), least=st.integers(1, 6), offset=st.sampled_from([0, 2**32 - 6])
)
@settings(max_examples=40, deadline=None)
def test_frequent_ngrams_are_those_of_a_counter(longest: int, most: int, least: int, offset: int) -> None:
    documents = [row + offset for row in DOCUMENTS]
    counts = {gram: count for gram, count in counted(documents, longest).items() if count >= least}
    found = as_tuples(NgramTable.frequent(documents, most, longest, least))
    assert len(found) == len(set(found)) == min(most, len(counts))
    assert set(found) <= set(counts)
    if found and len(found) < len(counts):
        lowest = min(counts[gram] for gram in found)
        assert all(count <= lowest for gram, count in counts.items() if gram not in set(found))
    assert all(gram[1:] in set(found) for gram in found if len(gram) > 2)


@given(seed=st.integers(0, 1_000), most=st.integers(0, 200), longest=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_the_longest_match_is_that_of_a_dictionary(seed: int, most: int, longest: int) -> None:
    table = NgramTable.frequent(DOCUMENTS, most, longest, 2)
    known = {gram: number for number, gram in enumerate(as_tuples(table))}
    ids = np.random.default_rng(seed).integers(0, 7, size=(3, 20))
    number, size = table.match(ids)
    for row in range(3):
        for at in range(20):
            grams = [tuple(int(s) for s in ids[row, at - n + 1 : at + 1]) for n in range(2, longest + 1) if n <= at + 1]
            best = max((gram for gram in grams if gram in known), key=len, default=None)
            assert number[row, at] == (known[best] if best else -1)
            assert size[row, at] == (len(best) if best else 1)


def test_ngrams_do_not_cross_documents() -> None:
    table = NgramTable.frequent([np.array([1, 2]), np.array([3, 4]), np.array([], dtype=np.int64)], 10, 3, 1)
    assert as_tuples(table) == [(1, 2), (3, 4)]
    assert table.match(np.zeros((2, 0), dtype=np.int64))[0].shape == (2, 0)


def test_packed_tables_are_the_same() -> None:
    table = NgramTable.frequent(DOCUMENTS, 50, 4, 2)
    again = NgramTable.unpacked(*table.packed(80))
    assert as_tuples(again) == as_tuples(table)
    with pytest.raises(InputError, match="do not fit"):
        table.packed(49)


@pytest.fixture
def layer() -> SconeEmbedding:
    torch.manual_seed(0)
    return SconeEmbedding(Vocabulary([f" {i}" for i in range(8)]), 8, ngrams=40, longest=3).collect(DOCUMENTS, 2)


def test_places_with_and_without_ngrams(layer: SconeEmbedding) -> None:
    ids = torch.tensor([[1, 7, 7, *DOCUMENTS[0][:9].tolist()]])
    number, size = NgramTable.unpacked(layer.keys.numpy(), layer.starts.numpy()).match(ids.numpy())
    assert (number < 0).any()
    assert (number >= 0).any()
    out = layer(ids)
    assert out.shape == (1, 12, 8)
    for at in range(12):
        if number[0, at] < 0:
            torch.testing.assert_close(out[0, at], layer.weight[ids[0, at]])
        else:
            wanted = slow(layer, ids[0, at - size[0, at] + 1 : at + 1])
            torch.testing.assert_close(out[0, at], wanted, rtol=1e-4, atol=1e-5)
    assert layer(ids[:, :0]).shape == (1, 0, 8)
    assert torch.equal(layer(ids[0]), out[0])


def slow(layer: SconeEmbedding, gram: Any) -> Any:
    """One n-gram by itself, without padding."""
    from sememe.positions.base import Rotary

    x = layer.first(layer.weight[gram])[None]
    for block in layer.blocks:
        x = block(x, Rotary(4), causal=False, bias=None)
    return x[0, -1] * layer.weight[gram[-1]].square().mean().sqrt()


def test_only_the_past_is_read(layer: SconeEmbedding) -> None:
    ids = torch.randint(6, (4, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 6
    assert torch.equal(layer(ids)[:, :7], layer(changed)[:, :7])
    assert torch.allclose(torch.cat([layer(row[None]) for row in ids]), layer(ids), atol=1e-5)


def test_an_ngram_begins_as_its_last_symbol(layer: SconeEmbedding) -> None:
    with torch.no_grad():
        for block in layer.blocks:
            block.out.weight.zero_()
            block.down.weight.zero_()
    ids = torch.from_numpy(np.stack([row[:30] for row in DOCUMENTS]))
    torch.testing.assert_close(layer(ids), layer.weight[ids], rtol=1e-3, atol=1e-6)


def test_gradients_reach_everything(layer: SconeEmbedding) -> None:
    ids = torch.from_numpy(np.stack([row[:30] for row in DOCUMENTS]))
    layer(ids).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_a_store_gives_what_the_model_gives(layer: SconeEmbedding, tmp_path: Path) -> None:
    ids = torch.from_numpy(np.stack([row[:30] for row in DOCUMENTS]))
    before = layer(ids).detach()
    store = layer.precompute(tmp_path / "store")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert isinstance(store.vectors, np.memmap)
    after = layer.attach(store)(ids)
    torch.testing.assert_close(after.detach(), before, rtol=2e-3, atol=2e-3)
    again = SconeEmbedding(layer.vocabulary, 8, ngrams=40, longest=3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(ids).detach(), before)
    assert torch.equal(layer.attach(None)(ids).detach(), before)


def test_what_is_no_store_or_another_is_refused(layer: SconeEmbedding, tmp_path: Path) -> None:
    layer.precompute(tmp_path / "store")
    with pytest.raises(InputError, match="already"):
        layer.precompute(tmp_path / "store")
    with pytest.raises(InputError, match="another vocabulary"):
        NgramStore(tmp_path / "store", Vocabulary([b"a"]))
    with pytest.raises(InputError, match="no store"):
        NgramStore(tmp_path, layer.vocabulary)
    data = (tmp_path / "store" / "vectors.npy").read_bytes()
    (tmp_path / "store" / "vectors.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"no store|do not belong"):
        NgramStore(tmp_path / "store", layer.vocabulary)
    with pytest.raises(InputError, match="no plain table"):
        layer.table()
    with pytest.raises(InputError, match="cannot be fitted"):
        layer.fit(np.zeros((8, 8)))
    with pytest.raises(InputError, match="id 8 "):
        layer(torch.tensor([[8]]))
