"""Feature tables beside definitions written as slow loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.errors import BudgetError, InputError  # noqa: E402
from sememe.tokens.features import FieldTables, mixed  # noqa: E402
from sememe.tokens.interest import Dice, InterestPooling, batch_l2  # noqa: E402
from sememe.tokens.opt_embed import OptEmbed, PrunedTable, step  # noqa: E402
from sememe.tokens.unified import UnifiedEmbedding, overlap  # noqa: E402

SIZES = [5, 40, 3]
WORD = 1 << 64


def rows_of_ids(count: int, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    first = np.concatenate(([0], np.cumsum(SIZES)[:-1]))
    return torch.from_numpy(first + generator.integers(0, SIZES, size=(count, len(SIZES))))


def splitmix(value: int, seed: int) -> int:
    """The finaliser with Python's whole numbers."""
    x = (value * 0x9E3779B97F4A7C15 + seed * 0x9E3779B9 + 0x7F4A7C15) % WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return (x ^ (x >> 31)) & ((1 << 63) - 1)


def test_the_hash_is_splitmix() -> None:
    values = torch.tensor([0, 1, -1, 2**62, -(2**63), 123_456_789])
    for seed in (0, 7):
        assert mixed(values, seed).tolist() == [splitmix(int(value) % WORD, seed) for value in values]


def test_unified_is_the_hashed_rows_side_by_side() -> None:
    table = UnifiedEmbedding(17, 4, [1, 3, 2], seed=5)
    values = torch.from_numpy(np.random.default_rng(0).integers(-(2**62), 2**62, size=(6, 3)))
    out = table(values)
    assert out.shape == (6, 24)
    for row in range(6):
        parts = []
        for feature, count in enumerate((1, 3, 2)):
            for chunk in range(count):
                inner = splitmix(int(values[row, feature]) % WORD, 5) ^ (feature * 1_000 + chunk)
                parts.append(table.weight[splitmix(inner, 6) % 17])
        assert torch.equal(out[row], torch.cat(parts))


def test_unified_spreads_values_evenly_and_grows_without_a_change() -> None:
    table = UnifiedEmbedding(64, 2, [2, 2])
    places = table.places(torch.arange(20_000).reshape(-1, 2))
    counts = torch.bincount(places.flatten(), minlength=64).double()
    expected = counts.sum() / 64
    assert ((counts - expected).square() / expected).sum() < 120  # chi-square of 63 degrees: one in 10^5
    weight, values = table.weight.detach().clone(), torch.arange(12).reshape(-1, 2)
    before = table(values)
    assert table.add_feature(3) == 2
    after = table(torch.cat((values, values[:, :1]), dim=1))
    assert torch.equal(weight, table.weight)
    assert torch.equal(before, after[:, :8])
    assert after.shape == (6, 14)
    assert table.num_parameters == 128


def test_collisions_are_counted_as_a_loop_counts_them() -> None:
    table = UnifiedEmbedding(30, 2, [2, 1])
    values = torch.from_numpy(np.random.default_rng(1).integers(0, 25, size=(60, 2)))
    found = table.collisions(values)
    places = table.places(values)
    lookups, codes = set(), {}
    for row in range(len(values)):
        for feature, cut in ((0, slice(0, 2)), (1, slice(2, 3))):
            value = int(values[row, feature])
            codes[feature, value] = tuple(places[row, cut].tolist())
            lookups |= {(feature, value, chunk, place) for chunk, place in enumerate(codes[feature, value])}
    within = between = 0
    for feature, value, chunk, place in lookups:
        others = [other for other in lookups if other[3] == place and other != (feature, value, chunk, place)]
        within += any(other[0] == feature for other in others)
        between += any(other[0] != feature for other in others)
    confused = sum(
        any(other != key and other[0] == key[0] and codes[other] == code for other in codes)
        for key, code in codes.items()
    )
    assert found["within"] == pytest.approx(within / len(lookups))
    assert found["between"] == pytest.approx(between / len(lookups))
    assert found["confused"] == pytest.approx(confused / len(codes))


def test_overlap_of_orthogonal_and_of_equal_projections() -> None:
    weight = torch.eye(6)
    assert torch.allclose(overlap(weight, [2, 4])[0, 1], torch.zeros((), dtype=torch.float64))
    same = torch.randn(6, 1).repeat(1, 2)
    assert float(overlap(same, [1, 1])[0, 1]) == pytest.approx(1.0)


def test_field_tables_keep_every_value_apart_where_there_is_room() -> None:
    table = FieldTables(SIZES, 4)
    ids = rows_of_ids(9)
    assert torch.equal(table(ids), table.weight[ids].flatten(1))
    small = FieldTables(SIZES, 4, [5, 7, 3])
    assert small.num_parameters == 15 * 4
    places = small.place.split(SIZES)
    assert places[1].min() >= 5
    assert places[1].max() < 12
    assert len(places[1].unique()) > 4
    with pytest.raises(InputError, match="column 1, whose ids are 5 to 44"):
        table(torch.tensor([[0, 3, 45]]))
    with pytest.raises(InputError, match="a column a field"):
        table(torch.zeros(2, 4, dtype=torch.int64))


@pytest.mark.parametrize("share", [FieldTables.equal_rows, FieldTables.proportional_rows])
@pytest.mark.parametrize("total", [3, 10, 23, 48])
def test_rows_are_shared_out_completely(share: object, total: int) -> None:
    rows = share(SIZES, total)  # type: ignore[operator]
    assert sum(rows) == total
    assert all(1 <= own <= size for own, size in zip(rows, SIZES))
    with pytest.raises(BudgetError):
        share(SIZES, 2)  # type: ignore[operator]


def test_the_step_has_the_long_tailed_slope() -> None:
    x = torch.tensor([-2.0, -0.7, -0.1, 0.1, 0.39, 0.5, 1.5], requires_grad=True)
    out = step(x)
    assert out.tolist() == [0, 0, 0, 1, 1, 1, 1]
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 0.4, 1.6, 1.6, 0.44, 0.4, 0], abs=1e-6)


def test_optembed_hides_rows_below_the_threshold_and_dimensions_beyond_the_width() -> None:
    table = OptEmbed(SIZES, 6, strength=0.5).eval()
    with torch.no_grad():
        table.weight.normal_(generator=torch.Generator().manual_seed(0))
        table.thresholds.copy_(torch.tensor([0.5, 0.8, 10.0]))
    table.kept_widths = [6, 2, 3]
    ids = rows_of_ids(20)
    out = table(ids).view(20, 3, 6)
    for row in range(20):
        for field in range(3):
            vector = table.weight[ids[row, field]].detach().clone()
            kept = vector.abs().mean() > table.thresholds[field]
            vector[table.kept_widths[field] :] = 0
            assert torch.equal(out[row, field], vector * kept)
    assert float(table.penalty().detach()) == pytest.approx(0.5 * float(np.exp([-0.5, -0.8, -10]).sum()), rel=1e-5)
    table.train()
    widths = {int((table(ids[:1]).view(3, 6)[0] != 0).sum()) for _ in range(60)}
    assert len(widths) >= 5
    table(ids).sum().backward()
    assert table.thresholds.grad is not None
    assert table.thresholds.grad.abs().sum() > 0


def test_the_search_finds_the_best_widths_within_the_budget() -> None:
    table = OptEmbed(SIZES, 8)
    with torch.no_grad():
        table.weight.fill_(1.0)
    wanted = (8, 3, 8)

    def score(widths: object) -> float:
        return -sum(abs(a - b) for a, b in zip(widths, wanted))  # type: ignore[call-overload]

    found = table.search(score, 5 * 8 + 40 * 3 + 3 * 8, seed=1)
    assert sum(size * width for size, width in zip(SIZES, found)) <= 184
    assert score(found) >= -2
    assert found == table.search(score, 184, seed=1)
    with pytest.raises(BudgetError, match="48 rows stay"):
        table.search(score, 40)


def test_a_pruned_table_stores_what_stays(tmp_path: Path) -> None:
    kept = torch.zeros(48, dtype=torch.bool)
    kept[[0, 4, 5, 30, 47]] = True
    table = PrunedTable(SIZES, 6, [6, 2, 1], kept)
    assert table.num_parameters == 2 * 6 + 2 * 2 + 1
    assert table.num_bytes == 4 * table.num_parameters + 6
    out = table(torch.tensor([[4, 30, 47], [1, 6, 45]])).view(2, 3, 6)
    assert torch.equal(out[0, 0], table.weights[0][1])
    assert torch.equal(out[0, 1], torch.cat((table.weights[1][1], torch.zeros(4))))
    assert torch.equal(out[0, 2], torch.cat((table.weights[2][0], torch.zeros(5))))
    assert not out[1].any()
    again = PrunedTable(SIZES, 6, [6, 2, 1], kept)
    again.load_state_dict(table.state_dict())
    assert torch.equal(again(rows_of_ids(9)), table(rows_of_ids(9)))
    assert torch.equal(again.kept, kept)


def test_dice_is_its_formula() -> None:
    dice = Dice(3)
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.1, -0.5, 0.0]))
    x = torch.randn(50, 3)
    p = torch.sigmoid((x - x.mean(0)) / (x.var(0, correction=0) + 1e-8).sqrt())
    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.alpha * x)
    assert torch.isfinite(dice(x[:1])).all()


def test_pooling_is_the_weighted_sum_and_ignores_padding() -> None:
    pooling = InterestPooling(4, hidden=8).eval()
    behaviours, target = torch.randn(3, 5, 4), torch.randn(3, 4)
    there = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    out = pooling(behaviours, target, there)
    for row in range(3):
        total = torch.zeros(4)
        for place in range(5):
            if there[row, place]:
                e, t = behaviours[row, place], target[row]
                given = torch.cat((e, e - t, e * t, t))[None]
                total = total + pooling.out(pooling.dice(pooling.inner(given)))[0, 0] * e
        torch.testing.assert_close(out[row], total, rtol=1e-4, atol=1e-5)
    assert not out[1].any()
    changed = torch.where(there[..., None], behaviours, 1e6)
    torch.testing.assert_close(pooling(changed, target, there), out)
    pooling.train()
    assert torch.equal(pooling(changed, target, there), pooling(behaviours, target, there))
    with pytest.raises(InputError, match="give shapes"):
        pooling(behaviours, target[:2], there)


@pytest.mark.parametrize("sparse", [True, False])
def test_the_batch_penalty_names_only_rows_of_the_batch(sparse: bool) -> None:
    weight = torch.randn(1_000, 4, requires_grad=True)
    ids, counts = torch.tensor([[3, 7], [7, 999]]), torch.arange(1_000)
    loss = batch_l2(weight, ids, counts, 0.1, sparse=sparse)
    expected = sum(0.05 * float(weight[j].detach().square().sum()) / j for j in (3, 7, 999))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert weight.grad is not None
    dense = weight.grad.to_dense()
    assert torch.nonzero(dense.abs().sum(1))[:, 0].tolist() == [3, 7, 999]
    torch.testing.assert_close(dense[7], 0.1 * weight[7].detach() / 7)
    if sparse:
        assert weight.grad.is_sparse
        assert weight.grad._indices().numel() == 3


def test_pooling_learns_to_look_at_what_the_target_resembles() -> None:
    """A click where the target is among the behaviours: its weight must rise above those of the others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        items, pooling = torch.nn.Embedding(30, 8), InterestPooling(8, hidden=16)
        read = torch.nn.Linear(8, 1)
    generator = np.random.default_rng(0)
    there = torch.ones(128, 5, dtype=torch.bool)
    optimizer = torch.optim.Adam([*items.parameters(), *pooling.parameters(), *read.parameters()], lr=0.02)

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        past = generator.integers(30, size=(128, 5))
        target = np.where(generator.random(128) < 0.5, past[:, 2], generator.integers(30, size=128))
        return torch.from_numpy(past), torch.from_numpy(target)

    for _ in range(200):
        past, target = drawn()
        clicked = (past == target[:, None]).any(1).float()
        user = pooling(items(past), items(target), there)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(read(user * items(target))[:, 0], clicked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    past, target = drawn()
    with torch.no_grad():
        weights = pooling.eval().weights(items(past), items(target), there).abs()
    same = past == target[:, None]
    assert weights[same].mean() > 2 * weights[~same].mean()
