"""Merging tokens of a batch: exact ids back, words kept apart, the most frequent first, vectors for an encoder."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocab_small import KINDS, SENTENCES

from sememe.errors import InputError
from sememe.vocab import TokenizerFile
from sememe.vocab.dynamic import DynamicTokenizer

KNOWN = [sentence for sentences in SENTENCES.values() for sentence in sentences]
TEXTS = [*KNOWN, *(" ".join(word[::-1] for word in text.split()) for text in KNOWN)]  # reversed words are rare ones


class Letters:
    """Enough of a tokenizer for merging by ids: eight of them."""

    tokens = tuple("abcdefgh")
    special = added_ids = frozenset()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.4, 0.6, 0.8, 1.0]),
)
def test_ids_come_back_and_words_stay_apart(texts, share):
    sequences = [[n for n, _ in text] for text in texts]
    words = [np.cumsum([new for _, new in text]).tolist() for text in texts]
    batch = DynamicTokenizer(Letters, share).merge(sequences, words)
    assert batch.plain() == sequences
    total = sum(map(len, sequences))
    assert batch.before == total and batch.after <= total
    at_least = sum(len(set(of)) for of in words)
    assert batch.after >= at_least
    assert batch.after <= max(share * total, at_least)  # the target, or every word one token
    assert len(set(batch.merged)) == len(batch.merged) and all(len(numbers) > 1 for numbers in batch.merged)
    for sequence, of in zip(batch.sequences, words, strict=True):
        place = 0
        for number in sequence.tolist():
            size = len(batch.spelled(number))
            assert len(set(of[place : place + size])) == 1
            place += size


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6))
def test_the_most_frequent_pair_is_merged_first(sequences):
    words = [[0] * len(ids) for ids in sequences]
    counts = Counter(pair for ids in sequences for pair in itertools.pairwise(ids))
    total = sum(map(len, sequences))
    batch = DynamicTokenizer(Letters, 1 - 1e-9 if counts else 1.0).merge(sequences, words)
    if counts:
        # One merge shortens the batch by at least one token, which is all that was asked for.
        assert len(batch.merged) == 1 and batch.after < total
        assert counts[batch.merged[0]] == max(counts.values())


def test_tokens_that_are_never_merged():
    batch = DynamicTokenizer(Letters, 0.0).merge([[0, 1, 1, 2]], [[-1, -1, 3, 3]])
    assert batch.sequences[0].tolist() == [0, 1, 8] and batch.merged == [(1, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_real_tokenizers_keep_their_text(kind, tokenizers_by_kind):
    tokenizer = TokenizerFile.open(tokenizers_by_kind[kind])
    for share in (0.0, 0.8):
        batch = DynamicTokenizer(tokenizer, share)(TEXTS)
        assert batch.plain() == tokenizer.encode_batch(TEXTS, special=True)
        assert batch.after < batch.before and (share == 0 or batch.after <= share * batch.before)
        for numbers in batch.merged:
            spelled = [tokenizer.text_of(number) for number in numbers]
            assert not any(text is None or text.startswith(b" ") for text in spelled[1:])
            assert not tokenizer.special.intersection(numbers)


def test_vectors_are_rows_and_means(tokenizers_by_kind):
    tokenizer = TokenizerFile.open(tokenizers_by_kind["wordpiece"])
    table = np.random.default_rng(0).standard_normal((len(tokenizer.tokens), 6)).astype(np.float32)
    batch = DynamicTokenizer(tokenizer, 0.6)(TEXTS[:5])
    vectors, keep = batch.vectors(table)
    for row, sequence in enumerate(batch.sequences):
        assert keep[row].sum() == len(sequence) and not vectors[row, len(sequence) :].any()
        for place, number in enumerate(sequence.tolist()):
            np.testing.assert_allclose(vectors[row, place], table[list(batch.spelled(number))].mean(axis=0), rtol=1e-5)
    ones, _ = batch.vectors(table, lambda merged: np.ones((len(merged), 6), dtype=np.float32))
    assert all(
        (ones[r, p] == 1).all() == (n >= batch.base) for r, s in enumerate(batch.sequences) for p, n in enumerate(s)
    )
    with pytest.raises(InputError, match="vectors of shape"):
        batch.vectors(table, lambda merged: np.ones((len(merged), 5), dtype=np.float32))


def test_refuses(tokenizers_by_kind):
    tokenizer = TokenizerFile.open(tokenizers_by_kind["wordpiece"])
    with pytest.raises(InputError, match="share"):
        DynamicTokenizer(tokenizer, 1.5)(TEXTS)
    with pytest.raises(InputError, match="3 ids and 2 words"):
        DynamicTokenizer(tokenizer).merge([[1, 2, 3]], [[0, 0]])
    empty = DynamicTokenizer(tokenizer, 0.5, special=False)([""])
    assert empty.plain() == [[]] and empty.vectors(np.zeros((len(tokenizer.tokens), 3), np.float32))[0].shape == (
        1,
        0,
        3,
    )


def test_encoder_and_what_its_hypernetwork_learns(models_by_kind):
    """Without merging the encoder is the model's own; learning brings merged texts nearer to that."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from sememe.vocab.dynamic_encoder import DynamicEncoder
    from sememe.vocab.initialize import TokenizerHypernet

    torch.set_num_threads(1)
    folder = models_by_kind["wordpiece"]
    tokenizer = TokenizerFile.open(folder)
    transformers.logging.set_verbosity_error()
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = DynamicEncoder(model, DynamicTokenizer(tokenizer, 1.0)).encode(TEXTS)
    ids = torch.tensor([tokenizer.encode(TEXTS[0], special=True)])
    with torch.inference_mode():
        want = torch.nn.functional.normalize(model(ids).last_hidden_state.mean(dim=1), dim=1)[0]
    np.testing.assert_allclose(whole[0], want.numpy(), atol=1e-5)
    merged = DynamicEncoder(model, DynamicTokenizer(tokenizer, 0.5))
    mean = merged.encode(TEXTS)
    assert merged.after < 0.7 * merged.before
    losses = merged.learn(TokenizerHypernet(steps=25, warmup=0, rate=1e-2, width=32), TEXTS)
    assert len(losses) == 25
    learned = merged.encode(TEXTS)
    assert (learned * whole).sum(axis=1).mean() > (mean * whole).sum(axis=1).mean()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
