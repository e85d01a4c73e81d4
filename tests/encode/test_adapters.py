"""Our encoders in sentence-transformers and mteb, and theirs in ours."""

from __future__ import annotations

import numpy as np
import pytest
from samples_of_text import SENTENCES

from sememe.contracts import Encoder
from sememe.encode.adapters import as_mteb, as_sentence_transformer
from sememe.encode.foreign import from_object
from sememe.encode.static import Static
from sememe.errors import InputError
from sememe.testing import HashingEncoder

sentence_transformers = pytest.importorskip("sentence_transformers")


class TwoSided(HashingEncoder):
    """Queries and passages are told apart."""

    asymmetric = True

    def encode(self, texts, *, kind="passage", batch_size=64, progress=False):
        return super().encode([f"{kind} {text}" for text in texts])


@pytest.fixture(scope="module")
def static():
    return Static(64)


def test_a_real_sentence_transformer(static):
    model = as_sentence_transformer(static)
    assert isinstance(model, sentence_transformers.SentenceTransformer)
    expected = static.encode(SENTENCES)
    np.testing.assert_allclose(model.encode(SENTENCES, batch_size=3), expected, atol=1e-6)
    assert model.encode("one text").shape == (64,)
    assert model.get_embedding_dimension() == 64
    similar = model.similarity(model.encode(SENTENCES), model.encode(SENTENCES)).numpy()
    np.testing.assert_allclose(similar, expected @ expected.T, atol=1e-5)


def test_its_evaluators_accept_it(static):
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    corpus = {str(n): text for n, text in enumerate(SENTENCES)}
    queries = {"a": "who approved the yearly budget", "b": "share prices after an announcement"}
    evaluator = InformationRetrievalEvaluator(queries, corpus, {"a": {"0"}, "b": {"4"}}, accuracy_at_k=[1])
    scores = evaluator(as_sentence_transformer(static))
    assert scores["dot_accuracy@1"] == 1.0


def test_queries_stay_queries():
    encoder = TwoSided(16)
    model = as_sentence_transformer(encoder)
    np.testing.assert_allclose(model.encode_query(SENTENCES), encoder.encode(SENTENCES, kind="query"), atol=1e-6)
    np.testing.assert_allclose(model.encode_document(SENTENCES), encoder.encode(SENTENCES), atol=1e-6)


def test_saved_and_loaded(static, tmp_path):
    as_sentence_transformer(static).save_pretrained(str(tmp_path))
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(loaded.encode(SENTENCES), static.encode(SENTENCES), atol=1e-6)


def test_there_and_back_through_sentence_transformers(static, minilm_folder):
    back = from_object(as_sentence_transformer(static))
    assert isinstance(back, Encoder)
    np.testing.assert_allclose(back.encode(SENTENCES), static.encode(SENTENCES), atol=1e-6)
    two = from_object(as_sentence_transformer(TwoSided(16)))
    np.testing.assert_allclose(
        two.encode(SENTENCES, kind="query"), TwoSided(16).encode(SENTENCES, kind="query"), atol=1e-6
    )
    model = sentence_transformers.SentenceTransformer(str(minilm_folder), device="cpu")
    theirs = from_object(model, name="theirs")
    assert (theirs.name, theirs.dim) == ("theirs", 384)
    np.testing.assert_allclose(theirs.encode(SENTENCES), model.encode(SENTENCES), atol=1e-5)
    assert theirs.digest == from_object(model).digest
    assert theirs.digest != from_object(as_sentence_transformer(static)).digest
    assert from_object(as_sentence_transformer(Static(128))).digest != back.digest


def test_mteb_evaluates_our_encoder(static):
    mteb = pytest.importorskip("mteb")
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask
    from mteb.mocks.mock_tasks.sts import MockSTSTask
    from mteb.models.models_protocols import EncoderProtocol

    ours = as_mteb(static)
    assert isinstance(ours, EncoderProtocol)
    assert ours.mteb_model_meta.name == "sememe/static-64"
    for task in (MockRetrievalTask(), MockSTSTask()):
        result = mteb.evaluate(ours, [task], cache=None, show_progress_bar=False).task_results[0]
        wrapped = mteb.evaluate(as_sentence_transformer(static), [task], cache=None, show_progress_bar=False)
        assert result.get_score() == pytest.approx(wrapped.task_results[0].get_score(), abs=1e-6)
        assert 0 < result.get_score() <= 1


def test_mteb_protocol_on_a_real_loader():
    pytest.importorskip("mteb")
    from datasets import Dataset
    from mteb.mocks.mock_tasks.sts import MockSTSTask
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    encoder = TwoSided(16)
    ours = as_mteb(encoder)
    options = {"task_metadata": MockSTSTask().metadata, "hf_split": "test", "hf_subset": "default"}
    loader = DataLoader(Dataset.from_dict({"text": SENTENCES}), batch_size=3)
    passages = ours.encode(loader, **options, prompt_type=PromptType.document)
    queries = ours.encode(loader, **options, prompt_type=PromptType.query)
    np.testing.assert_array_equal(passages, encoder.encode(SENTENCES))
    np.testing.assert_array_equal(queries, encoder.encode(SENTENCES, kind="query"))
    np.testing.assert_allclose(ours.similarity(queries, passages), queries @ passages.T, atol=1e-6)
    np.testing.assert_allclose(ours.similarity_pairwise(queries, passages), np.diag(queries @ passages.T), atol=1e-6)
    back = from_object(ours)
    np.testing.assert_allclose(back.encode(SENTENCES, kind="query"), queries, atol=1e-6)
    np.testing.assert_allclose(back.encode(SENTENCES), passages, atol=1e-6)


def test_an_mteb_wrapper_of_theirs(static):
    pytest.importorskip("mteb")
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    wrapper = SentenceTransformerEncoderWrapper(as_sentence_transformer(static))
    back = from_object(wrapper)
    np.testing.assert_allclose(back.encode(SENTENCES), static.encode(SENTENCES), atol=1e-6)


def test_anything_that_encodes():
    class Lengths:
        def encode(self, sentences):
            return [[len(s), 1.0] for s in sentences]

    encoder = from_object(Lengths())
    np.testing.assert_allclose(encoder.encode(["abc"]), [[3 / np.sqrt(10), 1 / np.sqrt(10)]], atol=1e-6)
    assert (encoder.name, encoder.dim) == ("lengths", 2)
    # Nothing is known of its weights, so its vectors are not taken for anybody else's.
    assert encoder.digest != from_object(Lengths()).digest
    assert from_object(Lengths(), digest="v1").digest == "v1"
    own = HashingEncoder()
    assert from_object(own) is own


def test_what_does_not_encode_is_refused():
    with pytest.raises(InputError, match="a dict has no encode method"):
        from_object({})

    class Wrong:
        def encode(self, texts):
            return np.zeros(3)

    with pytest.raises(InputError, match="shape"):
        from_object(Wrong())
