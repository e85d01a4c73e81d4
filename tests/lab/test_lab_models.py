"""Small models, training and scoring, against direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from sememe.errors import InputError  # noqa: E402
from sememe.lab.causal import Causal, small_llama  # noqa: E402
from sememe.lab.compare import Contender, compare, spread  # noqa: E402
from sememe.lab.data import Corpus, batches, stream_of  # noqa: E402
from sememe.lab.model import Shape, SmallEncoder, SmallLM, count, seeded, table  # noqa: E402
from sememe.lab.score import loss_per_byte, paired, ratio_interval, score_stream  # noqa: E402
from sememe.lab.store import Store, small_llama_folder  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.positions.base import Positions  # noqa: E402

SMALL = Shape(dim=32, layers=2, heads=4, context=16)
TEXTS = [f"the {'small ' * (n % 5)}cat number {n} sat on mat {n * n}\n" for n in range(60)]


def as_bytes(text: str) -> list[int]:
    return list(text.encode())


def small(seed: int = 0, **options: object) -> SmallLM:
    with seeded(seed):
        return SmallLM(table(256, 32), shape=SMALL, **options)


def test_the_model_sees_only_what_came_before() -> None:
    for positions in ("rotary", "learned", "none"):
        model = small(positions=positions)
        ids = torch.randint(0, 256, (2, 12))
        other = ids.clone()
        other[:, 7:] = (other[:, 7:] + 1) % 256
        a, b = model(ids), model(other)
        assert a.shape == (2, 13, 256)
        assert torch.equal(a[:, :8], b[:, :8]) and not torch.equal(a[:, 8:], b[:, 8:])
        alone = torch.cat([model(ids[row : row + 1]) for row in range(2)])
        assert torch.allclose(a, alone, atol=1e-5)


def test_the_probabilities_of_all_short_texts_add_up_to_one() -> None:
    with seeded(0):
        model = SmallLM(table(3, 32), "free", shape=SMALL)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)  # all texts of three symbols
    with torch.no_grad():
        total = torch.exp(-model.nll(every).sum(dim=1).double()).sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


def test_attention_is_the_textbook_formula() -> None:
    class Slope(Positions):  # a bias, as in ALiBi
        def bias(self, length: int) -> object:
            place = torch.arange(length)
            return -0.1 * (place[:, None] - place[None, :]).abs().float()[None]

    model = small(positions=Slope())
    trunk, x = model.trunk, torch.randn(2, 9, 32)
    state = trunk.first(x)
    for block in trunk.blocks:
        q, k, v = block.mix(block.before_attention(state)).view(2, 9, 3, 4, 8).unbind(2)
        scores = torch.einsum("bihw,bjhw->bhij", q, k) / math.sqrt(8) + trunk.positions.bias(9)
        scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
        met = torch.einsum("bhij,bjhw->bihw", scores.softmax(-1), v).reshape(2, 9, 32)
        state = state + block.out(met)
        gate, value = block.up(block.before_feed(state)).split(block.down.in_features, -1)
        state = state + block.down(gate * torch.sigmoid(gate) * value)
    assert torch.allclose(trunk.last(state), trunk(x, causal=True), atol=1e-5)


def test_tied_tables_are_one_and_free_ones_two() -> None:
    tied, free = small(), small(head="free")
    assert count(free) - count(tied) == 256 * 32
    assert tied.vocabulary == free.vocabulary == 256
    names = set(tied.state_dict())
    assert "embedding.weight" in names and not any(name.startswith("head") for name in names)
    with pytest.raises(InputError, match="to tie"):
        SmallLM(nn.Identity(), shape=SMALL)
    with pytest.raises(InputError, match="how many symbols"):
        SmallLM(nn.Identity(), "free", shape=SMALL)
    with pytest.raises(InputError, match="no shape"):
        SmallLM(table(8, 30), shape=Shape(dim=30))


def test_the_scale_of_the_input_layer_does_not_matter() -> None:
    model, ids = small(head="free"), torch.randint(0, 256, (2, 12))
    before = model(ids)
    with torch.no_grad():
        model.embedding.weight *= 50
    assert torch.allclose(model(ids), before, atol=1e-3)


def test_the_encoder_sees_both_sides_and_ignores_what_is_hidden() -> None:
    with seeded(0):
        model = SmallEncoder(table(50, 32), shape=SMALL, share=0.3)
    ids, keep = torch.randint(0, 50, (2, 10)), torch.ones(2, 10, dtype=torch.bool)
    keep[1, 6:] = False
    other = ids.clone()
    other[1, 6:] = 1
    assert torch.equal(model.pooled(ids, keep)[1], model.pooled(other, keep)[1])
    assert torch.allclose(model.pooled(ids, keep)[1], model.pooled(ids[1:, :6])[0], atol=1e-5)
    assert not torch.allclose(model(ids)[0, 0], model(ids.flip(1))[0, 9])
    assert not model(ids, torch.zeros(2, 10, dtype=torch.bool)).isnan().any()
    pattern = (torch.arange(16) + torch.arange(8)[:, None]) % 50  # a gap follows from its neighbours
    history = train(model, (pattern.numpy() for _ in range(80)), Recipe(steps=80))
    assert history.losses[-1] < 0.6 * history.losses[0]


def test_training_learns_and_repeats_bit_for_bit() -> None:
    stream = stream_of(as_bytes, TEXTS)
    models = [small(), small(), small()]
    histories = [
        train(model, batches(stream, 8, 16, seed=seed), Recipe(steps=30)) for model, seed in zip(models, (0, 0, 1))
    ]
    assert histories[0].losses == histories[1].losses != histories[2].losses
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters()))
    assert histories[0].losses[-1] < 0.75 * histories[0].losses[0]
    assert histories[0].steps == 30 and histories[0].tokens == 30 * 8 * 16
    assert histories[0].memory > 4 * 4 * count(models[0])  # weights, gradients, two moments, and activations


def test_the_budget_may_be_time_a_stop_or_the_end_of_the_data() -> None:
    stream = stream_of(as_bytes, TEXTS)
    timed = train(small(), batches(stream, 4, 16), Recipe(steps=0, seconds=0.2))
    assert 0.2 <= timed.seconds < 5 and timed.steps > 0
    calls = iter(range(100))
    stopped = train(small(), batches(stream, 4, 16), Recipe(steps=50), stop=lambda: next(calls) == 3)
    assert stopped.steps == 3 and not stopped.finished
    assert train(small(), [next(batches(stream, 4, 16))] * 5, Recipe(steps=50)).steps == 5
    with pytest.raises(InputError, match="no budget"):
        train(small(), [], Recipe(steps=0))


def test_chosen_parameters_are_trained_and_nothing_else() -> None:
    model = small(head="free")
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, batches(stream_of(as_bytes, TEXTS), 4, 16), Recipe(steps=3), parameters=model.embedding.parameters())
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"embedding.weight"}


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = small()
    with torch.no_grad():
        model.embedding.weight[97] = torch.nan
    with pytest.raises(InputError, match="the loss is nan at step 1"):
        train(model, batches(stream_of(as_bytes, TEXTS), 4, 16), Recipe(steps=3))
    with pytest.raises(InputError, match="not finite"):
        loss_per_byte(model, as_bytes, ["a cat"])


def test_the_rate_rises_and_falls() -> None:
    recipe = Recipe(rate=1.0, warmup=0.1, floor=0.1)
    rates = [recipe.rate_at(share) for share in (0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0, 0.5, 1, 0.55, 0.1])


def test_a_score_is_the_sum_of_surprises_over_bytes() -> None:
    model = small().eval()
    texts = ["naïve", "x", "twelve bytes"]
    score = loss_per_byte(model, as_bytes, texts)
    with torch.no_grad():
        for row, text in enumerate(texts):
            ids, total = as_bytes(text), 0.0
            for place in range(len(ids)):  # one symbol at a time, each from a fresh run over what stands before it
                logits = model(torch.tensor([ids[:place]], dtype=torch.long).reshape(1, place))[0, -1].double()
                total -= float(logits.log_softmax(-1)[ids[place]]) / math.log(2)
            assert score.bits[row] == pytest.approx(total, abs=1e-4)
    assert score.sizes.tolist() == [6, 1, 12] and score.tokens == 19
    assert score.value == pytest.approx(score.bits.sum() / 19)
    assert score.low <= score.value <= score.high
    with pytest.raises(InputError, match="empty"):
        loss_per_byte(model, as_bytes, ["a", ""])


def test_long_documents_pay_for_every_symbol_once() -> None:
    class Clock(nn.Module):  # a symbol costs what it is, wherever it stands in the window
        context = 16

        def __init__(self) -> None:
            super().__init__()
            self.some = nn.Parameter(torch.zeros(1))

        def nll(self, ids: object) -> object:
            return ids.double()

    documents = [list(range(1, length + 1)) for length in (1, 15, 16, 17, 24, 25, 100)]
    stream = stream_of(None, documents)
    for stride in (1, 5, 16):
        bits = score_stream(Clock(), stream, stride=stride).bits
        assert bits * math.log(2) == pytest.approx([sum(document) for document in documents])
    with pytest.raises(InputError, match="leaves symbols out"):
        score_stream(Clock(), stream, stride=17)


def test_a_uniform_model_needs_the_log_of_its_vocabulary() -> None:
    model = small()
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert loss_per_byte(model, as_bytes, TEXTS).value == pytest.approx(8, abs=1e-5)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator, hits = np.random.default_rng(0), 0
    for seed in range(200):
        sizes = generator.integers(50, 150, size=60)
        bits = sizes * 2.0 + generator.normal(size=60) * 30
        low, high = ratio_interval(bits, sizes, seed)
        hits += low <= 2.0 <= high
    assert 180 <= hits <= 199
    same = spread(np.tile(bits, (3, 1)), sizes)
    assert same[1] < same[0] < same[2] and same[1] == pytest.approx(low, abs=0.05)


def test_pairing_scores() -> None:
    a, b = (loss_per_byte(small(seed), as_bytes, TEXTS) for seed in (0, 1))
    value, low, high = paired(a, b)
    assert value == pytest.approx(a.value - b.value) and low <= value <= high
    assert paired(a, a) == (0, 0, 0)
    with pytest.raises(InputError, match="different documents"):
        paired(a, loss_per_byte(small(), as_bytes, TEXTS[1:]))


def test_a_transformers_model_scores_as_its_own_loss_says() -> None:
    pytest.importorskip("transformers")
    with seeded(0):
        begun = small_llama(257, SMALL, start=256).eval()
    text = "a cat sat"
    ids = torch.tensor([[256, *as_bytes(text)]])
    with torch.no_grad():
        mean = float(begun.model(input_ids=ids, labels=ids).loss)
    found = loss_per_byte(begun, as_bytes, [text])
    assert found.bits[0] == pytest.approx(mean * 9 / math.log(2), rel=1e-5)
    unbegun = Causal(begun.model)
    with torch.no_grad():
        mean = float(begun.model(input_ids=ids[:, 1:], labels=ids[:, 1:]).loss)
    expected = (mean * 8 + math.log(257)) / math.log(2)
    assert loss_per_byte(unbegun, as_bytes, [text]).bits[0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="not a causal language model"):
        Causal(nn.Linear(2, 2))


def test_a_small_llama_becomes_a_folder_that_transformers_reads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    corpus, store = Corpus.split(TEXTS), Store(tmp_path / "store")
    options = {"shape": SMALL, "recipe": Recipe(steps=5), "start": 0, "batch": 2, "store": store}
    first = small_llama_folder(tmp_path / "a", tokenizer, corpus, **options)
    again = small_llama_folder(tmp_path / "b", tokenizer, corpus, **options)
    assert first.losses == again.losses and len(list(store.root.iterdir())) == 1
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert fast.bos_token_id == 0
    own, theirs = (loss_per_byte(Causal(model, 0), tokenizer, TEXTS[:5]), loss_per_byte(model, fast, TEXTS[:5]))
    assert own.value == pytest.approx(theirs.value)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_a_damaged_store_trains_again(tmp_path: Path) -> None:
    store, key = Store(tmp_path), {"what": "test"}
    data = [next(batches(stream_of(as_bytes, TEXTS), 4, 16))] * 3
    kept = small()
    history = store.trained(key, kept, lambda: data, Recipe(steps=3))
    loaded = small(1)
    assert store.trained(key, loaded, lambda: [], Recipe(steps=3)).losses == history.losses
    assert torch.equal(kept.start, loaded.start)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    assert store.trained(key, small(), lambda: data, Recipe(steps=3)).losses == history.losses
    assert store.trained(key, small(), lambda: data, Recipe(steps=2)).steps == 2


def test_a_comparison_ranks_and_pairs() -> None:
    corpus = Corpus.split(TEXTS, share=0.3)

    class Blind(nn.Module):  # an input layer that cannot tell symbols apart
        num_embeddings = 256

        def forward(self, ids: object) -> object:
            return torch.ones(*ids.shape, 32)

    def sees(seed: int) -> SmallLM:
        return SmallLM(table(256, 32), "free", shape=SMALL)

    def blind(seed: int) -> SmallLM:
        return SmallLM(Blind(), "free", shape=SMALL)

    contenders = [Contender.on(corpus, name, build, as_bytes) for name, build in (("sees", sees), ("blind", blind))]
    found = compare(contenders, seeds=(0, 1), steps=(20, 40), batch=8, length=16, also=lambda c, m, s: {"seed": s})
    assert [(row.name, row.steps) for row in found.rows] == [("sees", 20), ("sees", 40), ("blind", 20), ("blind", 40)]
    best, worst = found.row("sees"), found.row("blind")
    assert best.gap == (0, 0, 0) and worst.gap[1] > 0
    assert worst.loss[0] - best.loss[0] == pytest.approx(worst.gap[0])
    assert best.loss[0] == pytest.approx(np.mean(list(best.by_seed.values())))
    assert found.row("sees", 20).loss[0] > best.loss[0]
    assert best.parameters - worst.parameters == 256 * 32 and best.bytes == 4 * best.parameters
    assert best.also == {"seed": 0.5} and best.as_json()["loss"]["value"] == best.loss[0]
    with pytest.raises(InputError, match="same name"):
        compare([contenders[0]] * 2)


def test_a_comparison_by_bytes_gives_all_the_same_text() -> None:
    corpus = Corpus.split(TEXTS, share=0.3)

    def build(seed: int) -> SmallLM:
        return SmallLM(table(256, 32), shape=SMALL)

    plain = Contender.on(corpus, "bytes", build, as_bytes)
    twice = Contender.on(corpus, "twice", build, lambda text: [b for byte in as_bytes(text) for b in (byte, byte)])
    rows = compare([plain, twice], seeds=(0,), steps=(5,), batch=4, length=16, match="bytes").rows
    assert [row.steps for row in rows] == [5, 10]
