"""Random tokenizers, the network over pieces, and a hypernetwork that learns from a frozen model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from vocab_small import SENTENCES

from sememe.errors import InputError, UsageError
from sememe.vocab import TokenizerFile
from sememe.vocab.initialize import Problem, TokenizerHypernet, make
from sememe.vocab.initialize.random_unigram import RandomUnigram, words

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

TEXTS = tuple(sentence for sentences in SENTENCES.values() for sentence in sentences)
SMALL = {"steps": 3, "warmup": 3, "batch": 2, "length": 24, "size": 120}


def llama(tokenizer, *, tied=True, seed=0):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer.tokens),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer(tokenizers_by_kind):
    return TokenizerFile.open(tokenizers_by_kind["byte-bpe"])


def test_words_joined_are_the_text():
    text = "Two  words, 1,204 a_b\n\n  end\tÄpfel "
    assert "".join(words(text)) == text
    assert words("so it is.") == ["so", " it", " is", "."]


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_drawn_tokenizer_spells_every_text(noise):
    generator = np.random.default_rng(0)
    drawn = RandomUnigram.draw(TEXTS, 200, noise, generator)
    assert len(drawn.tokens) == len(set(drawn.tokens)) == 200
    for text in TEXTS:
        assert "".join(drawn.tokens[number] for number in drawn.encode(text)) == text
    again = RandomUnigram.draw(TEXTS, 200, noise, np.random.default_rng(0))
    other = RandomUnigram.draw(TEXTS, 200, noise, np.random.default_rng(1))
    assert again.tokens == drawn.tokens and (other.tokens != drawn.tokens) == (noise > 0)
    with pytest.raises(InputError, match="no text"):
        RandomUnigram.draw(["", ""], 200, noise, generator)


def test_a_drawn_tokenizer_takes_the_most_probable_spelling():
    """By trying every way to cut a word."""
    drawn = RandomUnigram.draw(["abab abc", "cab ba"] * 3, 12, 0.5, np.random.default_rng(4))
    scores = dict(zip(drawn.tokens, _scores(drawn), strict=True))

    def best(text):
        if not text:
            return 0.0
        return max(scores[text[:stop]] + best(text[stop:]) for stop in range(1, len(text) + 1) if text[:stop] in scores)

    for word in ("abab", " abc", "cab", " ba", "babab"):
        found = sum(scores[drawn.tokens[number]] for number in drawn.encode(word))
        assert found == pytest.approx(best(word))


def _scores(drawn):
    """What each token counts, from the text itself: noise-free up to the seed's draw."""
    generator = np.random.default_rng(4)
    counts = {}
    for word in [w for text in ["abab abc", "cab ba"] * 3 for w in words(text)]:
        for start in range(len(word)):
            for stop in range(start + 1, len(word) + 1):
                counts[word[start:stop]] = counts.get(word[start:stop], 0) + 1
    names = sorted(counts)
    values = dict(
        zip(names, np.log([counts[n] for n in names]) + 0.5 * generator.standard_normal(len(names)), strict=True)
    )
    total = math.log(sum(math.exp(values[token]) for token in drawn.tokens))
    return [values[token] - total for token in drawn.tokens]


def test_before_training_it_is_the_mean_of_pieces(tokenizer):
    tables = [
        np.random.default_rng(side).standard_normal((len(tokenizer.tokens), 16)).astype(np.float32) for side in (0, 1)
    ]
    net = TokenizerHypernet(warmup=0).prepare(tables, tokenizer)
    pieces = [[5, 9], [7], [], [3, 4, 3]]
    rows = net.rows(pieces)
    assert rows.shape == (2, 4, 16)
    for side in (0, 1):
        for place, found in enumerate(pieces):
            want = tables[side][found].mean(axis=0) if found else tables[side].mean(axis=0)
            np.testing.assert_allclose(rows[side, place], want, atol=1e-5)
    assert net.rows([]).shape == (2, 0, 16)


def test_order_of_pieces_matters_after_training_and_padding_never(tokenizer):
    table = np.random.default_rng(0).standard_normal((len(tokenizer.tokens), 16)).astype(np.float32)
    net = TokenizerHypernet(warmup=20).prepare([table], tokenizer)
    one, turned = net.rows([[300, 301], [301, 300]])[0]
    assert np.abs(one - turned).max() > 1e-3
    beside = net.rows([[300, 301], [5, 6, 7, 8, 9]])[0, 0]
    np.testing.assert_allclose(beside, one, atol=1e-5)
    cut = net.rows([list(range(260, 280)), [*range(260, 264), *range(276, 280)]])[0]
    np.testing.assert_array_equal(cut[0], cut[1])  # eight pieces, half of them from either end


def test_warmup_learns_rows_that_follow_from_their_parts(tokenizer):
    """Rows that are a fixed turn of the sum of their bytes' rows are rebuilt better than by the mean of parts."""
    generator = np.random.default_rng(0)
    letters, turn = generator.standard_normal((256, 16)), np.linalg.qr(generator.standard_normal((16, 16)))[0]
    table = np.zeros((len(tokenizer.tokens), 16), dtype=np.float32)
    for number in range(len(table)):
        raw = tokenizer.text_of(number) or b""
        table[number] = letters[list(raw)].sum(axis=0) @ (turn if len(raw) > 1 else np.eye(16)) if raw else 0
    pairs = [n for n in range(len(table)) if len(tokenizer.text_of(n) or b"") == 2]
    pieces = [[tokenizer.ids[c] for c in tokenizer.tokens[n]] for n in pairs]
    net = TokenizerHypernet(warmup=150, rate=5e-3).prepare([table], tokenizer)
    made = net.rows(pieces)[0]
    mean = np.stack([table[found].mean(axis=0) for found in pieces])
    assert ((made - table[pairs]) ** 2).mean() < 0.5 * ((mean - table[pairs]) ** 2).mean()


def test_learning_lowers_the_frozen_models_loss_and_leaves_it_as_it_is(tokenizer):
    model = llama(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {**SMALL, "steps": 40, "rate": 1e-2, "size": 100, "imitation": 0.0, "warmup": 0}
    net = TokenizerHypernet(**settings).fit(model, tokenizer, TEXTS)
    assert len(net.losses_) == 40 and net.losses_[-8:].mean() < net.losses_[:8].mean() - 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_model_loss_is_the_models_own(tokenizer):
    from sememe.vocab.initialize.model_loss import ModelLoss, tables_of

    model = llama(tokenizer, tied=False)
    into, out = map(torch.from_numpy, tables_of(model, len(tokenizer.tokens)))
    ids = np.random.default_rng(0).integers(len(tokenizer.tokens), size=(3, 20))
    with torch.no_grad():
        want = model(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss
        assert float(ModelLoss(model, 3, 20)(into, out, ids)) == pytest.approx(float(want), rel=1e-5)
    with pytest.raises(InputError, match="more than the model's 64"):
        ModelLoss(model, 3, 65)


@pytest.mark.parametrize("tied", [True, False])
def test_initializer(tied, tokenizer, tokenizers_by_kind):
    model = llama(tokenizer, tied=tied)
    new = TokenizerFile.open(tokenizers_by_kind["wordpiece"])
    problem = Problem.of(tokenizer, new, model=model, text=TEXTS)
    method = make("hypernet", **SMALL)
    sides = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    made = []
    for side in sides:
        table = np.array(side.detach().numpy())
        rows = method.weights(problem, table)
        made.append(rows.apply(table))
        assert np.isfinite(made[-1]).all() and rows.counts["made"] == len(problem.fresh)
        shared = problem.shared
        np.testing.assert_array_equal(made[-1][shared[:, 0]], table[shared[:, 1]])
    again = make("hypernet", **SMALL).weights(problem, table).apply(table)
    np.testing.assert_array_equal(again, made[-1])
    assert np.array_equal(made[0], made[1]) == tied


def test_transplants_a_folder(models_by_kind, tokenizers_by_kind, tmp_path):
    from sememe.vocab import ModelFolder, transplant

    answer = transplant(
        models_by_kind["byte-bpe"], tokenizers_by_kind["unigram"], tmp_path / "out", init="hypernet", options=SMALL,
        texts=TEXTS,
    )  # fmt: skip
    folder = ModelFolder.open(tmp_path / "out")
    assert set(answer["tables"]) == {"input", "output"}
    assert all(np.isfinite(folder.read(role)).all() for role in folder.tables)
    with pytest.raises(InputError, match="no causal language model"):
        transplant(
            models_by_kind["wordpiece"], tokenizers_by_kind["bpe"], tmp_path / "no", init="hypernet", options=SMALL,
            texts=TEXTS,
        )  # fmt: skip


def test_refuses(tokenizer):
    model = llama(tokenizer)
    table = np.array(model.get_input_embeddings().weight.detach().numpy())
    new = TokenizerFile(tokenizer.spec)
    with pytest.raises(InputError, match="the model itself"):
        make("hypernet").weights(Problem.of(tokenizer, new, text=TEXTS), table)
    with pytest.raises(InputError, match="needs text"):
        make("hypernet").weights(Problem.of(tokenizer, new, model=model), table)
    with pytest.raises(InputError, match="cannot learn"):
        TokenizerHypernet(batch=0, length=24).fit(model, tokenizer, TEXTS)
    with pytest.raises(InputError, match="there is none"):
        TokenizerHypernet(**SMALL).fit(model, tokenizer, ["", " "])


def test_saved_and_read_again_it_gives_the_same_rows(tokenizer, tmp_path):
    model = llama(tokenizer, tied=False)
    from sememe.vocab.initialize.model_loss import tables_of

    net = TokenizerHypernet(**SMALL, width=16).fit(model, tokenizer, TEXTS)
    tables = tables_of(model, len(tokenizer.tokens))
    pieces = [[5, 9], [7], [], [3, 4, 3]]
    net.save_to(tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["hypernet.json", "hypernet.safetensors"]
    again = TokenizerHypernet.open(tmp_path / "net", tables, tokenizer)
    np.testing.assert_array_equal(again.rows(pieces), net.rows(pieces))
    np.testing.assert_array_equal(again.losses_, net.losses_)
    assert again.width == 16
    with pytest.raises(InputError, match="exists already"):
        net.save_to(tmp_path / "net")
    with pytest.raises(InputError, match="other tables"):
        TokenizerHypernet.open(tmp_path / "net", tables[:1], tokenizer)
    with pytest.raises(InputError, match="other tables"):
        TokenizerHypernet.open(tmp_path / "net", [tables[0], tables[1] + 1e-6], tokenizer)
    fewer = tokenizer.keep(range(400))[0]
    with pytest.raises(InputError, match="another tokenizer"):
        TokenizerHypernet.open(tmp_path / "net", tables, fewer)
    with pytest.raises(InputError, match="no hypernetwork here"):
        TokenizerHypernet.open(tmp_path / "none", tables, tokenizer)
    whole = (tmp_path / "net" / "hypernet.safetensors").read_bytes()
    (tmp_path / "net" / "hypernet.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        TokenizerHypernet.open(tmp_path / "net", tables, tokenizer)


def test_transplants_with_one_that_was_saved(models_by_kind, tokenizers_by_kind, tmp_path):
    from sememe.vocab import ModelFolder, transplant

    arguments = models_by_kind["byte-bpe"], tokenizers_by_kind["unigram"]
    options = {**SMALL, "save": str(tmp_path / "net")}
    transplant(*arguments, tmp_path / "one", init="hypernet", options=options, texts=TEXTS)
    transplant(*arguments, tmp_path / "two", init=f"hypernet:{tmp_path / 'net'}")
    one, two = (ModelFolder.open(tmp_path / name) for name in ("one", "two"))
    assert set(one.tables) == {"input", "output"}
    for role in one.tables:
        np.testing.assert_array_equal(one.read(role), two.read(role))
    with pytest.raises(UsageError, match="does not take"):
        transplant(*arguments, tmp_path / "no", init="mean:folder")
