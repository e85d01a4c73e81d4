"""Documents, streams and batches."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import InputError
from sememe.lab.data import Corpus, Stream, batches, encode, pack, stream_of

TEXTS = [f"document {n} says {'word ' * (n % 7 + 3)}\n" for n in range(40)]


def as_bytes(text: str) -> list[int]:
    return list(text.encode())


def test_the_package_imports_without_torch() -> None:
    code = (
        "import sememe.lab, sys; from sememe.lab import Corpus; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_split_is_disjoint_seeded_and_without_repeats() -> None:
    corpus = Corpus.split([*TEXTS, *TEXTS, "  ", ""], share=0.2, seed=1)
    assert len(corpus.held_out) == 8 and len(corpus.train) == 32
    assert not set(corpus.train) & set(corpus.held_out)
    assert corpus == Corpus.split(TEXTS, share=0.2, seed=1)
    assert corpus.digest != Corpus.split(TEXTS, share=0.2, seed=2).digest
    assert corpus.train_bytes + corpus.held_out_bytes == sum(map(len, TEXTS))
    with pytest.raises(InputError, match="cannot be split"):
        Corpus.split(["one"])


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab\n\r é\u2028", max_size=200), st.integers(1, 50))
def test_packing_loses_nothing(text: str, size: int) -> None:
    documents = pack(text, size)
    assert "".join(documents) == text
    assert all(len(document) >= size for document in documents[:-1])


def test_streams_know_their_bytes() -> None:
    texts = ["naïve\n", "日本\n", "x"]
    stream = stream_of(as_bytes, texts)
    assert stream.sizes.tolist() == [7, 7, 1] and stream.tokens_per_byte == 1.0
    assert bytes(stream[1].tolist()).decode() == "日本\n"
    events = stream_of(None, [[5, 6], [7]], [20, 10])
    assert events.ids.tolist() == [5, 6, 7] and events.tokens_per_byte == 0.1
    with pytest.raises(InputError, match="ids from"):
        stream_of(as_bytes, texts, vocabulary=100)
    with pytest.raises(InputError, match="one size a document"):
        stream_of(as_bytes, texts, [1, 2])


def test_every_kind_of_tokenizer_is_understood() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[U]": 0, "a": 1, "b": 2, "[CLS]": 3}, unk_token="[U]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.enable_truncation(2)
    inner.enable_padding(length=9)
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(inner.to_str()), cls_token="[CLS]")

    class Own:
        def encode(self, text: str) -> list[int]:
            return [{"a": 1, "b": 2}[word] for word in text.split()]

    class Batched:
        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [Own().encode(text) for text in texts]

    for tokenizer in (inner, fast, Own(), Own().encode, Batched()):
        assert [ids.tolist() for ids in encode(tokenizer, ["a b a", "b"])] == [[1, 2, 1], [2]]
    assert inner.truncation is not None, "the caller's tokenizer was changed"
    with pytest.raises(InputError, match="no tokenizer"):
        encode(3, ["a"])


def test_batches_go_through_the_same_documents_in_the_same_order_for_every_tokenizer() -> None:
    first = stream_of(as_bytes, TEXTS)
    doubled = Stream(np.repeat(first.ids, 2), first.offsets * 2, first.sizes)
    a, b = batches(first, 1, 300, seed=3), batches(doubled, 1, 600, seed=3)
    for _ in range(8):  # more than one pass
        assert np.array_equal(np.repeat(next(a), 2, axis=1), next(b))
    once = [next(batches(first, 2, 50, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(once[0], once[1]) and not np.array_equal(once[0], once[2])
    assert once[0].shape == (2, 50) and once[0].dtype == np.int64
    with pytest.raises(InputError, match="do not fill one batch"):
        next(batches(first, 64, 128))


def test_a_pass_shows_every_window_once() -> None:
    stream = stream_of(None, [list(range(n * 10, n * 10 + 10)) for n in range(12)])
    made = batches(stream, 3, 8, seed=0)
    seen = np.concatenate([next(made).ravel() for _ in range(len(stream.ids) // 24)])
    assert len(np.unique(seen)) == len(seen) == 120


def test_a_byte_budget_becomes_steps() -> None:
    stream = stream_of(None, [[0] * 100], [400])
    assert stream.steps_for(4_000, 2, 50) == 10
