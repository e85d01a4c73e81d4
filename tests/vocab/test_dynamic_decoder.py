"""Merged prompts and a large vocabulary for causal models: exact where nothing is merged, and a faithful index."""

from __future__ import annotations

import numpy as np
import pytest
from vocab_small import SENTENCES

from sememe.errors import InputError
from sememe.vocab import DynamicDecoder, DynamicTokenizer, TokenizerFile
from sememe.vocab.large_vocabulary import LargeVocabulary, whole_words

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
KINDS = ("byte-bpe", "bpe")


@pytest.fixture(scope="module")
def models(models_by_kind):
    transformers.logging.set_verbosity_error()
    load = transformers.AutoModelForCausalLM.from_pretrained
    return {kind: (load(models_by_kind[kind]).eval(), TokenizerFile.open(models_by_kind[kind])) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_without_merging_it_is_the_model(kind, models):
    model, tokenizer = models[kind]
    decoder = DynamicDecoder(model, DynamicTokenizer(tokenizer, 1.0, special=False), start=2)
    first, more = TEXTS[0][:30], TEXTS[0][30:]
    ids, then = tokenizer.encode(first), tokenizer.encode(more)
    with torch.inference_mode():
        logits = model(torch.tensor([[2, *ids, *then]])).logits[0].double().log_softmax(-1)
    want = sum(float(logits[len(ids) + place, number]) for place, number in enumerate(then))
    value, read, plain = decoder.log_prob(first, more)
    assert value == pytest.approx(want, abs=1e-4) and read == plain == len(ids)
    none = decoder.vocabulary([], 10, exact=True)
    with torch.inference_mode():
        best = model.generate(
            torch.tensor([[2, *ids]]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    assert decoder.write(first, 8, none).ids == tuple(best[0, len(ids) + 1 :].tolist())


def test_merged_prompts_are_shorter_and_read_rows_that_are_made(models):
    model, tokenizer = models["byte-bpe"]
    asked = []

    def rows(words):
        asked.extend(words)
        return np.zeros((1, len(words), 32), dtype=np.float32)

    plain = DynamicDecoder(model, DynamicTokenizer(tokenizer, 0.6))
    own = DynamicDecoder(model, DynamicTokenizer(tokenizer, 0.6), rows)
    made, read, before = own.prompt(TEXTS[1])
    assert read < before and len(made) == read and asked
    assert (made == 0).all(axis=1).sum() > 0 and all(len(word) > 1 for word in asked)
    means, _, _ = plain.prompt(TEXTS[1])
    (sequence,) = (batch := plain.tokenizer([TEXTS[1]])).sequences
    for row, number in zip(means, sequence.tolist(), strict=True):
        np.testing.assert_allclose(row, plain.into[list(batch.spelled(number))].mean(axis=0), atol=1e-6)


def test_words_of_a_text_come_by_their_number(models):
    _, tokenizer = models["byte-bpe"]
    words = whole_words(tokenizer, ["zq xyzzy", "a xyzzy b", "xyzzy"], 2)
    assert [b"".join(tokenizer.text_of(n) for n in word) for word in words] == [b" xyzzy", b"xyzzy"]
    assert all(len(word) > 1 for word in words) and whole_words(tokenizer, [""], 5) == []


def test_the_index_finds_what_trying_all_finds():
    generator = np.random.default_rng(0)
    table = (generator.standard_normal((4_000, 24)) * generator.uniform(0.5, 1.5, (4_000, 1))).astype(np.float32)
    words = [tuple(generator.integers(4_000, size=3).tolist()) for _ in range(2_000)]

    def rows(found):
        made = [table[list(word)].mean(axis=0) * 1.6 for word in found]
        return np.array(made, dtype=np.float32).reshape(1, -1, 24)

    bias = generator.standard_normal(4_000).astype(np.float32)
    near, exact = (LargeVocabulary(words, table, table, rows, bias=bias, exact=e) for e in (False, True))
    whole = np.concatenate((table, rows(words)[0]))
    same = 0
    for _ in range(100):
        state = generator.standard_normal(24).astype(np.float32)
        scores = whole @ state + np.pad(bias, (0, 2_000))
        numbers, values = exact.best(state, 3)
        assert numbers.tolist() == np.argsort(-scores)[:3].tolist()
        np.testing.assert_allclose(values, np.sort(scores)[::-1][:3], rtol=1e-4)
        same += near.best(state)[0][0] == numbers[0]
    assert same >= 95
    assert len(near) == 6_000 and near.spelled(4_001) == words[1] and near.spelled(7) == (7,)


def test_a_word_is_written_in_one_step(models):
    """With an output row that wins everywhere, the word comes each time, and is spelled by its tokens."""
    model, tokenizer = models["byte-bpe"]
    decoder = DynamicDecoder(model, DynamicTokenizer(tokenizer, 1.0))
    ids = tokenizer.encode(" xyzzy")

    def rows(words):
        with torch.inference_mode():
            states = model.transformer(torch.tensor([tokenizer.encode(TEXTS[0])])).last_hidden_state[0, -1]
        made = np.repeat(1e3 * states.numpy()[None, None], len(words), axis=1)
        return np.concatenate((np.zeros_like(made), made))

    large = LargeVocabulary([ids], decoder.into, decoder.out, rows)
    found = decoder.write(TEXTS[0], 1, large)
    assert found.text == " xyzzy" and found.ids == tuple(ids) and found.steps == 1
    drawn = [decoder.write(TEXTS[0], 5, decoder.vocabulary(TEXTS, 50), temperature=1.0, seed=n).ids for n in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_refuses(models, models_by_kind):
    model, tokenizer = models["byte-bpe"]
    decoder = DynamicDecoder(model, DynamicTokenizer(tokenizer))
    with pytest.raises(InputError, match="prompt"):
        decoder.log_prob("", "a")
    with pytest.raises(InputError, match="another model"):
        decoder.write("a", 3, LargeVocabulary([], decoder.into[:9], decoder.out[:9], decoder.rows))
    with pytest.raises(InputError, match="outside the table"):
        LargeVocabulary([(10**6,)], decoder.into, decoder.out, decoder.rows)
    with pytest.raises(InputError, match="rows of shape"):
        LargeVocabulary([(1, 2)], decoder.into, decoder.out, lambda words: np.zeros((1, 2, 3), np.float32))
    masked = transformers.AutoModelForMaskedLM.from_pretrained(models_by_kind["wordpiece"])
    with pytest.raises(InputError, match="not a causal"):
        DynamicDecoder(masked, DynamicTokenizer(tokenizer))
