"""Patches by entropy, and the small model over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sememe.errors import InputError, NotFittedError  # noqa: E402
from sememe.lab.data import batches, stream_of  # noqa: E402
from sememe.lab.model import Shape, SmallLM, seeded, table  # noqa: E402
from sememe.lab.patches import HashedNgrams, PatchLM, PatchPooling, Windowed  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.vocab.patching import EntropyPatcher, cut, marked, next_byte_entropies, strided, threshold  # noqa: E402

TEXTS = [f"the {'small ' * (n % 5)}cat number {n} sat on mat {n * n}\n" for n in range(60)]
SHAPE = Shape(dim=32, layers=2, heads=4, context=64)


@pytest.fixture(scope="module")
def patcher() -> EntropyPatcher:
    return EntropyPatcher(4.0, steps=30, dim=32).fit(TEXTS)


def test_patches_join_to_the_text_and_have_the_size_asked_for(patcher: EntropyPatcher) -> None:
    for monotonic in (False, True):
        same = EntropyPatcher(4.0, monotonic, model=patcher._model).fit(TEXTS)
        found = [same.patches(text) for text in TEXTS]
        assert [b"".join(patches).decode() for patches in found] == TEXTS
        assert np.mean([len(patch) for patches in found for patch in patches]) == pytest.approx(4, rel=0.05)
    assert patcher.patches("") == [] and patcher.patches("é")[0][:1] == "é".encode()[:1]
    capped = EntropyPatcher(4.0, longest=6, model=patcher._model).fit(TEXTS)
    sizes = [len(patch) for text in TEXTS for patch in capped.patches(text)]
    assert max(sizes) <= 6 and np.mean(sizes) == pytest.approx(4, rel=0.05)


def test_a_cut_depends_on_earlier_bytes_only(patcher: EntropyPatcher) -> None:
    text = TEXTS[4] + TEXTS[7]
    other = text[:40] + text[40:].upper()
    for monotonic in (False, True):
        same = EntropyPatcher(4.0, monotonic, model=patcher._model).fit(TEXTS)
        assert np.array_equal(same.starts(text)[:41], same.starts(other)[:41])
        assert not np.array_equal(same.starts(text), same.starts(other))


def test_entropies_are_those_of_the_model(patcher: EntropyPatcher) -> None:
    raw = np.frombuffer(TEXTS[3].encode(), np.uint8)
    found = patcher.entropies(TEXTS[3])
    for place in range(len(raw)):
        before = torch.from_numpy(raw[:place].astype(np.int64)).reshape(1, place)
        with torch.no_grad():
            chance = patcher._model(before)[0, -1].double().softmax(-1).numpy()
        assert found[place] == pytest.approx(-(chance * np.log(chance)).sum(), abs=1e-4)
    assert len(patcher.entropies("")) == 0


@pytest.mark.parametrize("length", [1, 15, 16, 17, 24, 25, 200, 1_000])
def test_long_texts_are_read_in_windows_without_gaps(length: int) -> None:
    class Counting(torch.nn.Module):  # as many sure bits as bytes were seen in the window
        context = 16

        def forward(self, ids: object) -> object:
            seen = torch.arange(ids.shape[1] + 1).float()
            logits = torch.full((len(ids), ids.shape[1] + 1, 256), -torch.inf)
            logits[:, :, :2] = torch.stack((seen, torch.zeros_like(seen)), -1)
            return logits.nan_to_num(neginf=-1e9)

    found = next_byte_entropies(Counting(), np.zeros(length, np.uint8))
    place = np.arange(length)
    seen = np.where(place < 16, place, 8 + (place - 16) % 8)
    chance = 1 / (1 + np.exp(-seen))
    assert found == pytest.approx(-(chance * np.log(chance) + (1 - chance) * np.log1p(-chance)), abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0, 5), st.integers(1, 9))
def test_no_patch_is_longer_than_allowed(rise: list[float], level: float, longest: int) -> None:
    values = np.array(rise)
    free, starts = cut(values, level), cut(values, level, longest)
    assert starts[0] and (starts | ~free).all()
    lengths = np.diff(np.append(np.flatnonzero(starts), len(values)))
    assert lengths.max() <= longest
    expected, since = free.copy(), 0
    for place in range(1, len(values)):
        since = 0 if free[place] else since + 1
        expected[place] = free[place] or since % longest == 0
    assert np.array_equal(starts, expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(1.2, 9))
def test_thresholds_hit_their_size(seed: int, size: float) -> None:
    rises = [np.random.default_rng(seed).exponential(size=n) for n in (500, 900)]
    level = threshold(rises, size)
    sizes = 1_400 / sum(cut(rise, level).sum() for rise in rises)
    assert sizes == pytest.approx(size, rel=0.05)


def test_strides() -> None:
    assert np.flatnonzero(strided(12, 4)).tolist() == [0, 4, 8]
    assert strided(9_000, 4.5).sum() == 2_000 and strided(0, 3).shape == (0,)


def test_the_patch_model_never_looks_ahead() -> None:
    with seeded(0):
        model = PatchLM(SHAPE, window=4, buckets=64)
    ids = torch.randint(0, 256, (2, 40)) + 256 * (torch.rand(2, 40) < 0.3)
    before = model(ids)
    for place in (0, 1, 17, 39):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] % 256 + 7) % 256 + 256 * (changed[:, place] >= 256)
        after = model(changed)
        assert torch.equal(before[:, : place + 1], after[:, : place + 1])
        assert place == 39 or not torch.equal(before[:, place + 1], after[:, place + 1])
    alone = torch.cat([model(ids[:1]), model(ids[1:])])
    assert torch.allclose(alone, before, atol=1e-4)
    surprise = -before.log_softmax(-1).gather(2, (ids % 256)[..., None])[..., 0]
    assert torch.allclose(model.nll(ids), surprise, atol=1e-5)


def test_far_bytes_are_known_through_their_patches_only() -> None:
    with seeded(0):
        model = PatchLM(SHAPE, window=2, buckets=64)
    ids = torch.randint(0, 256, (1, 40))
    ids[:, 20] += 256
    changed = ids.clone()
    changed[:, 2] = (changed[:, 2] + 5) % 256
    moved = (model(ids) != model(changed)).any(-1)[0]
    assert not moved[13:20].any() and moved[20:].all()  # beyond window and n-grams, until its patch has ended


def test_pooling_is_attention_within_each_patch() -> None:
    with seeded(1):
        pooling = PatchPooling(8, 2)
    x, patch = torch.randn(1, 7, 8), torch.tensor([[0, 0, 0, 1, 1, 1, 2]])
    found = pooling(x, patch, 4)[0]
    for number in range(3):
        rows = x[0, patch[0] == number]
        mean = rows.mean(0)
        parts = []
        for head in (slice(0, 4), slice(4, 8)):
            weight = (pooling.key(rows)[:, head] @ pooling.query(mean)[head] / 2).softmax(0)
            parts.append(weight @ pooling.value(rows)[:, head])
        assert torch.allclose(found[number], mean + pooling.out(torch.cat(parts)), atol=1e-5)
    assert not found[3].any()


def test_ngrams_share_a_row_wherever_they_stand() -> None:
    layer = HashedNgrams(8, buckets=1_000)
    text = b"abcdefghij--abcdefghij"
    rows = layer.rows(torch.tensor([list(text)]))[0]
    for place, size in enumerate(layer.sizes):
        assert (rows[: size - 1, place] == -1).all() and (rows[size - 1 :, place] >= 0).all()
        assert torch.equal(rows[size - 1 : 10, place], rows[12 + size - 1 :, place])
        assert ((rows[size - 1 :, place] // 1_000) == place).all()
    generator = np.random.default_rng(0)
    many = layer.rows(torch.from_numpy(generator.integers(0, 256, (1, 50_000))))[0, 8:]
    for place in range(len(layer.sizes)):
        counts = np.bincount(many[:, place].numpy() - 1_000 * place, minlength=1_000)
        assert abs(counts.var() / counts.mean() - 1) < 0.25  # as random rows are


def test_the_patch_model_learns(patcher: EntropyPatcher) -> None:
    stream = stream_of(None, [marked(text, patcher.starts(text)) for text in TEXTS], vocabulary=512)
    assert (stream.ids >= 256).sum() * 3.5 < len(stream.ids)
    with seeded(0):
        model = PatchLM(SHAPE, buckets=64)
    history = train(model, batches(stream, 4, 64), Recipe(steps=25))
    assert history.losses[-1] < 0.7 * history.losses[0]


def test_windows_end() -> None:
    seen = Windowed(8, 3).bias(6)[0].isfinite().tril().sum(1)
    assert seen.tolist() == [1, 2, 3, 3, 3, 3]


def test_bad_requests_are_refused() -> None:
    with pytest.raises(InputError, match="no text"):
        EntropyPatcher().fit(["", b""])
    with pytest.raises(InputError, match="not possible"):
        EntropyPatcher(0.5, model=SmallLM(table(256, 32), shape=SHAPE)).fit(TEXTS)
    with pytest.raises(NotFittedError):
        EntropyPatcher().starts("a")
    with pytest.raises(InputError, match="not possible"):
        PatchLM(window=0)
