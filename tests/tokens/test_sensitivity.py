"""What errors cost, measured on a model, and codes that spend their bytes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocab_small import SENTENCES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from sememe import tokens  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.tokens.char_mimic import CharMimic  # noqa: E402
from sememe.tokens.compression import importance  # noqa: E402
from sememe.tokens.quantized import CodedTable  # noqa: E402
from sememe.tokens.row_code import RowCode, shared_bits  # noqa: E402
from sememe.tokens.sensitivity import sensitivity  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402
from sememe.vocab.folder import ModelFolder  # noqa: E402

TEXTS = [sentence for some in SENTENCES.values() for sentence in some][:6]


def table_and_metric(rows: int = 6_000, dim: int = 24) -> tuple[Any, Any]:
    """Rows with wide and narrow axes, and errors that cost in other directions."""
    generator = np.random.default_rng(0)
    table = generator.standard_normal((rows, dim)) * np.geomspace(1, 0.1, dim)
    turn = np.linalg.qr(generator.standard_normal((dim, dim)))[0]
    return table.astype(np.float32), (turn * np.geomspace(1, 1e-3, dim)) @ turn.T


def cost(layer: CodedTable, table: Any, metric: Any) -> Any:
    """Of each row's error."""
    away = layer.table().numpy().astype(np.float64) - table
    return np.einsum("nd,de,ne->n", away, metric, away)


def test_a_causal_model_is_measured_as_by_hand(small_models: dict[str, Path]) -> None:
    folder = ModelFolder.open(small_models["byte-bpe"])
    found = sensitivity(folder, TEXTS)
    model = transformers.AutoModelForCausalLM.from_pretrained(small_models["byte-bpe"]).eval()
    width = model.get_input_embeddings().weight.shape[1]
    total, count = torch.zeros(width, width, dtype=torch.float64), 0
    for text in TEXTS:
        ids = torch.tensor(folder.tokenizer().encode(text)[:128])[None]
        given = model.get_input_embeddings().weight.detach()[ids].requires_grad_(True)
        logits = model(inputs_embeds=given, output_hidden_states=True)
        said = logits.logits[0, :-1].log_softmax(-1)
        loss = -said.gather(1, ids[0, 1:, None]).sum()
        slope = torch.autograd.grad(loss, given)[0][0].double()
        total += 0.5 * slope.T @ slope
        if folder.tied:
            last = logits.hidden_states[-1][0, :-1].detach().double()
            unsure = 1 - said.detach().exp().square().sum(1).double()
            total += 0.5 * (last * unsure[:, None]).T @ last
        count += ids.shape[1] - 1
    mean = (total / count).numpy()
    alike = 0.05 * np.trace(mean) / count * np.eye(width)  # few symbols say little about directions
    np.testing.assert_allclose(found, mean + alike, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_every_kind_of_model_has_a_metric(kind: str, small_models: dict[str, Path]) -> None:
    found = sensitivity(ModelFolder.open(small_models[kind]), TEXTS)
    assert np.isfinite(found).all()
    assert np.linalg.eigvalsh(found).min() > -1e-9 * np.trace(found)
    assert np.trace(found) > 0
    with pytest.raises(InputError, match="symbols enough"):
        sensitivity(ModelFolder.open(small_models[kind]), [""])


def test_codes_with_a_metric_cost_less_of_it_at_the_same_bytes() -> None:
    table, metric = table_and_metric()
    plain = CodedTable(Vocabulary.of(len(table)), 24, 8).fit(table)
    ours = CodedTable(Vocabulary.of(len(table)), 24, 8).fit(table, metric=metric)
    assert ours.num_bytes == pytest.approx(plain.num_bytes, rel=0.01)
    assert cost(ours, table, metric).mean() < 0.7 * cost(plain, table, metric).mean()
    assert plain.fit_.error < ours.fit_.error  # type: ignore[union-attr]


def test_heavy_rows_get_more_bytes_within_the_same_number(tmp_path: Path) -> None:
    table, _ = table_and_metric(40_000, 32)
    weights = 1 / (1.0 + np.arange(len(table)))
    even = CodedTable(Vocabulary.of(len(table)), 32, 16).fit(table)
    layer = CodedTable(Vocabulary.of(len(table)), 32, 16).fit(table, weights=weights)
    assert layer.num_bytes <= 1.01 * even.num_bytes
    sizes = [code.code_bytes_ for code in layer._codes]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    errors = cost(layer, table, np.eye(32)), cost(even, table, np.eye(32))
    assert (weights * errors[0]).sum() < 0.5 * (weights * errors[1]).sum()
    assert errors[0][:300].mean() < 0.2 * errors[1][:300].mean()
    again = tokens.load(tokens.save(layer, tmp_path / "layer"), Vocabulary.of(len(table)))
    assert torch.equal(again.table(), layer.table())
    ids = torch.tensor([[3, 39_999], [3, 20_000]])
    torch.testing.assert_close(layer(ids), layer.table()[ids])


def _mimic(vocabulary: Vocabulary, options: dict[str, int]) -> CharMimic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CharMimic(vocabulary, 12, **options)


def test_a_mimic_learns_what_errors_cost() -> None:
    """The term of equal logits: rows are told where the metric looks, at the price of other directions."""
    vocabulary = Vocabulary([f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"])
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(64, 12, generator=generator)
    metric = np.diag([1.0, 1.0] + 10 * [1e-4])
    options = {"width": 32, "layers": 1, "heads": 2, "limit": 4, "steps": 200}
    without, given = (_mimic(vocabulary, options).fit(table, metric=told).table() - table for told in (None, metric))
    assert given[:, :2].square().mean() < 0.8 * without[:, :2].square().mean()


def test_bits_go_where_they_lower_the_cost_most() -> None:
    variance = [np.repeat([4.0, 1.0], 8), np.repeat([4.0, 1.0], 8)]
    bits = shared_bits(variance, [1.0, 16.0], [100, 100], 100 * (2 + 10))
    assert sum(int(own.sum()) for own in bits) == 10
    assert bits[1].sum() > bits[0].sum()
    assert all((np.diff(own) <= 0).all() and (own > 0).all() for own in bits)
    (alone,) = shared_bits([np.ones(5)], [1.0], [10], 1_000)
    assert alone.tolist() == [8]


def test_a_row_code_opens_again_and_shrinks_to_the_mean() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32) + 3
    code = RowCode([2, 1]).fit(rows)
    codes = code.encode(rows)
    assert codes.shape == (500, 4)
    again = RowCode.restored({name: np.array(value) for name, value in code.state().items()})
    np.testing.assert_array_equal(again.rebuilt(codes), code.rebuilt(codes))
    away, wanted = code.rebuilt(codes) - code.middle, rows - code.middle
    assert (away * wanted).sum() == pytest.approx((away * away).sum(), rel=1e-3)  # no other length is nearer


def test_importance_is_of_what_was_seen_and_of_low_ids() -> None:
    counts = np.zeros(1_000)
    counts[700] = 50
    found = importance(counts)
    assert found.argmax() == 700
    assert (np.diff(np.delete(found, 700)) < 0).all()
    assert (found > 0).all()
    assert (found**2).sum() == pytest.approx(1)
    assert (importance(np.zeros(10)) > 0).all()
