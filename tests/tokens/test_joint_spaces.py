"""Tables across modalities, pixels with bytes, and the space of a text diffusion model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, SmallLM, seeded, table  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.tokens.diffusion_space import Denoiser, DiffusionReadyEmbedding  # noqa: E402
from sememe.tokens.joint_table import BlockwiseLM, JointModalityTable, add_modalities  # noqa: E402
from sememe.tokens.pixel_bytes import PixelByteEmbedding, PixelBytes  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

V, DIM = 20, 16
SHAPE = Shape(dim=DIM, layers=1, heads=2, context=32)


@pytest.mark.parametrize("head", ["tied", "free"])
def test_text_is_what_it_was_and_only_new_rows_learn(head: str) -> None:
    with seeded(0):
        model = SmallLM(table(V, DIM), head, shape=SHAPE)
    ids = torch.randint(V, (3, 10), generator=torch.Generator().manual_seed(0))
    before_states, before = model.states(ids).detach(), model(ids).detach()
    old = {name: value.clone() for name, value in model.state_dict().items()}
    add_modalities(model, {"image": 5, "sound": 3}, {"sound": np.eye(3, 4)})
    joint = model.embedding
    mixed = torch.cat(
        (joint.ids("image", torch.tensor([[0, 4]] * 3)), ids[:, :3], joint.ids("sound", [[1]] * 3)), dim=1
    )
    train(model, (mixed.numpy() for _ in range(3)), Recipe(steps=3))
    assert torch.equal(model.states(ids), before_states)
    assert torch.equal(model.head.block(model.states(ids), "text"), before)
    frozen = [v for name, v in model.state_dict().items() if not name.endswith((".rows", "sound.weight", "book_sound"))]
    assert all(
        any(torch.equal(value, other) for other in old.values() if value.shape == other.shape) for value in frozen
    )
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["embedding.rows", "embedding.projections.sound.weight", "head.rows"]
    logits = model(ids)
    assert logits.shape[-1] == V + 7 + 5
    states = model.states(ids)
    torch.testing.assert_close(model.head.block(states, "image"), logits[..., V : V + 7])
    torch.testing.assert_close(model.head.block(states, "sound"), logits[..., V + 7 :])


def test_ids_of_modalities_are_their_own_and_come_back() -> None:
    joint = JointModalityTable(table(V, DIM), {"image": 5, "sound": 3}, DIM)
    assert joint.markers("image") == (V, V + 1)
    assert joint.markers("sound") == (V + 7, V + 8)
    assert joint.ids("sound", [0, 2]).tolist() == [V + 9, V + 11]
    assert joint.codes("sound", joint.ids("sound", [2, 0, 1])).tolist() == [2, 0, 1]
    everything = joint(torch.arange(joint.num_embeddings))
    assert torch.equal(everything[:V], joint.embedding.weight)
    assert torch.equal(everything[V:], joint.rows)
    book = np.random.default_rng(0).standard_normal((5, 3))
    projected = JointModalityTable(table(V, DIM), {"image": 5, "sound": 3}, DIM, {"image": book})
    wanted = projected.rows[2:7] + projected.projections["image"](torch.from_numpy(book).float())
    torch.testing.assert_close(projected(projected.ids("image", range(5))), wanted)
    wrong = (
        lambda: joint.ids("image", [5]),
        lambda: joint.ids("text", [0]),
        lambda: joint.codes("image", torch.tensor([0])),
        lambda: joint(torch.tensor([joint.num_embeddings])),
        lambda: JointModalityTable(table(V, DIM), {"text": 3}, DIM),
        lambda: JointModalityTable(table(V, DIM), {"a": 3}, DIM, {"a": np.zeros((2, 2))}),
    )
    for bad in wrong:
        with pytest.raises(InputError):
            bad()


@given(text=st.text(max_size=12), rows=st.integers(0, 5), columns=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_bytes_and_pixels_come_back(text: str, rows: int, columns: int, seed: int) -> None:
    symbols = PixelBytes(7)
    picture = np.random.default_rng(seed).integers(0, 7, (rows, columns))
    ids = symbols.encode(text, picture)
    assert len(ids) == len(text.encode()) + rows * (columns + 1)
    assert not len(ids) or ids.max() < len(symbols)
    assert symbols.decode(ids) == (text, picture.tolist())


def test_neighbours_are_those_of_the_plane() -> None:
    symbols = PixelBytes(50)
    picture = np.arange(20).reshape(4, 5)
    ids = torch.from_numpy(np.concatenate((symbols.encode("abc", picture), symbols.encode("de"))))[None]
    layer = PixelByteEmbedding(symbols, 8)
    places = layer.neighbours(ids)[0]
    for row in range(4):
        for column in range(5):
            at = 3 + row * 6 + column
            wanted = []
            for other in (row - 2, row - 1, row):
                for near in (column - 1, column, column + 1):
                    # the marker at a line's end is its sixth place, but never looked at from above
                    seen = other >= 0 and 0 <= near < 5 and (other < row or near <= column)
                    wanted.append(3 + other * 6 + near if seen else -1)
            assert places[at].tolist() == wanted, (row, column)
    assert places[2].tolist() == [-1] * 6 + [0, 1, 2]
    assert places[-1].tolist() == list(range(ids.shape[1] - 9, ids.shape[1]))


def test_pixel_vectors_are_mixed_by_the_gate_and_see_no_future() -> None:
    symbols = PixelBytes(4)
    layer = PixelByteEmbedding(symbols, 8, narrow=3)
    with torch.no_grad():
        layer.gate.weight.normal_()
    generator = np.random.default_rng(0)
    ids = torch.from_numpy(np.stack([symbols.encode("ab", generator.integers(0, 4, (4, 3))) for _ in range(3)]))
    out, places = layer(ids), layer.neighbours(ids)
    for at in range(ids.shape[1]):
        own = layer.weight[ids[0, at]]
        near = torch.cat([layer.near[ids[0, p]] if p >= 0 else torch.zeros(3) for p in places[0, at].tolist()])
        gate = torch.sigmoid(layer.gate(own))
        torch.testing.assert_close(out[0, at], 2 * (gate * own + (1 - gate) * layer.mix(near)), rtol=1e-4, atol=1e-5)
    changed = ids.clone()
    changed[:, 9:] = 256
    assert torch.equal(layer(changed)[:, :9], out[:, :9])
    assert layer(ids[:, :0]).shape == (3, 0, 8)
    with pytest.raises(InputError, match="ids outside"):
        layer(torch.tensor([[len(symbols)]]))
    with pytest.raises(InputError, match="colours"):
        symbols.encode("", [[4]])


def space(**options: Any) -> DiffusionReadyEmbedding:
    with seeded(0):
        return DiffusionReadyEmbedding(Vocabulary.of(V), DIM, **options)


def test_vectors_have_one_length_and_the_nearest_is_found() -> None:
    layer = space(factor=3.0)
    torch.testing.assert_close(layer.table().norm(dim=1), torch.full((V,), DIM**0.5), rtol=1e-4, atol=1e-4)
    x = torch.randn(4, 6, DIM)
    assert torch.equal(layer.rounded(x), torch.cdist(x.flatten(0, 1), layer.table()).argmin(1).view(4, 6))
    ids = torch.arange(V)
    assert torch.equal(layer.rounded(layer(ids)), ids)
    wanted = torch.stack([-(x @ layer.table().T).log_softmax(-1)[b, t, t] for b in range(4) for t in range(6)])
    torch.testing.assert_close(layer.anchor(x, ids[:6].expand(4, 6)).flatten(), wanted)


def test_noise_is_as_strong_as_it_says() -> None:
    layer = space(factor=3.0)
    clean, noise = torch.randn(2, 4, DIM), torch.randn(2, 4, DIM)
    out = layer.noised(clean, torch.tensor([0.0, 1.0]), noise)
    torch.testing.assert_close(out[0], clean[0])
    torch.testing.assert_close(out[1], 3 * noise[1])


def test_the_anchor_keeps_vectors_apart() -> None:
    ids = np.random.default_rng(0).integers(0, V, (8, 12))
    apart = {}
    for anchored in (False, True):
        model = Denoiser(space(normalize=False), SHAPE, anchored=anchored)
        train(model, (ids for _ in range(100)), Recipe(steps=100, rate=3e-2))
        apart[anchored] = float(torch.pdist(model.embedding.table()).mean())
    assert apart[True] > 1.5 * apart[False]


def test_every_symbol_is_told_among_its_own_modality() -> None:
    with seeded(0):
        model = SmallLM(table(V, DIM), "free", shape=SHAPE)
    ids = torch.randint(V, (2, 8), generator=torch.Generator().manual_seed(0))
    before = model.nll(ids).detach()
    reader = BlockwiseLM(add_modalities(model, {"image": 5}), {"image": 0.5}).eval()
    assert torch.equal(reader.nll(ids), before)
    assert (reader.context, reader.vocabulary) == (32, V + 7)
    mixed = torch.cat((ids[:, :3], model.embedding.ids("image", [[4, 0, 1]] * 2), ids[:, 3:]), dim=1)
    found = reader.nll(mixed)
    logits = model(mixed[:, :-1])
    for b in range(2):
        for t in range(mixed.shape[1]):
            low, high = (0, V) if mixed[b, t] < V else (V, V + 7)
            wanted = -logits[b, t, low:high].log_softmax(-1)[mixed[b, t] - low]
            torch.testing.assert_close(found[b, t], wanted)
    trained = reader.train().nll(mixed)
    torch.testing.assert_close(trained[:, 3:6], 0.5 * found[:, 3:6])
    with pytest.raises(InputError, match="modality"):
        BlockwiseLM(model, {"smell": 1.0})
