"""Mixed-vocabulary distillation: words in both writings, what is learned, and the folder that comes out."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from vocab_small import SENTENCES

from sememe.errors import InputError
from sememe.vocab import MixedVocabDistiller, TokenizerFile, mixed
from sememe.vocab.mixed_words import two_ways, written

TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
SMALL = {"width": 16, "layers": 1, "heads": 2, "align_steps": 8, "steps": 12, "batch": 6, "most": 40}


@pytest.fixture(scope="module")
def pair(tokenizers_by_kind):
    """A tokenizer and the same with every second of its longer tokens gone."""
    large = TokenizerFile.open(tokenizers_by_kind["wordpiece"])
    return large, large.keep([n for n in range(len(large.tokens)) if len(large.tokens[n]) < 4 or n % 2])[0]


def test_both_writings_spell_the_same_words(pair):
    large, small = pair
    generator = np.random.default_rng(0)
    ways = two_ways(large, small, TEXTS, 200)
    for text, way in zip(TEXTS, ways, strict=True):
        assert [n for word in way.large for n in word] == large.encode(text, special=True)
        assert [n for word in way.small for n in word] == small.encode(text, special=True)
        assert way.fixed[0] and way.fixed[-1] and not any(way.fixed[1:-1])
    base = len(large.tokens)
    plain = written(ways, base, 0.0, generator)
    assert [row[row_keep].tolist() for row, row_keep in zip(plain.numbers, plain.keep, strict=True)] == (
        large.encode_batch(TEXTS, special=True)
    )
    other = written(ways, base, 1.0, generator)
    assert (other.numbers[other.keep] >= base).all()
    both = written(ways, base, 0.5, generator)
    count = 0
    for row, way in enumerate(ways):
        for one, two in zip(way.large, way.small, strict=True):
            found = both.numbers[row][both.words[row] == count].tolist()
            assert found in (list(one), [base + n for n in two])
            count += 1
    assert count == len(both.fixed)
    share = (both.numbers[both.keep] >= base).mean()
    assert 0.3 < share < 0.8


def test_long_texts_lose_whole_words_at_the_end(pair):
    large, small = pair
    for most in (4, 9, 15):
        for way in two_ways(large, small, TEXTS, most):
            assert max(sum(map(len, way.large)), sum(map(len, way.small))) <= most
            assert way.fixed[0] and way.fixed[-1]


def test_refuses_tokenizers_of_other_words(pair, tokenizers_by_kind):
    other = TokenizerFile.open(tokenizers_by_kind["unigram"])
    with pytest.raises(InputError, match="different words"):
        two_ways(pair[0], other, TEXTS, 100)


@pytest.fixture(scope="module")
def teacher(models_by_kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    return transformers.BertModel.from_pretrained(models_by_kind["wordpiece"]).eval()


def test_both_stages_learn_and_the_teacher_stays(pair, teacher):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # runs are equal bit for bit with one thread
    try:
        _both_stages(pair, teacher)
    finally:
        torch.set_num_threads(threads)


def _both_stages(pair, teacher):
    import torch

    large, small = pair
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    made = MixedVocabDistiller(**{**SMALL, "align_steps": 40, "steps": 60, "align_rate": 1e-2}).fit(
        teacher, large, small, TEXTS
    )
    assert made.align_losses_[-8:].mean() < made.align_losses_[:8].mean()  # the tokenizers differ from run to run
    assert made.losses_[-8:].mean() < 0.9 * made.losses_[:8].mean()
    assert made.rows_.shape == (len(small.tokens), 16) and made.lift_.shape == (16, 32)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    config = made.student.config
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (16, 1, len(small.tokens))
    again = MixedVocabDistiller(**{**SMALL, "align_steps": 40, "steps": 60, "align_rate": 1e-2}).fit(
        teacher, large, small, TEXTS
    )
    np.testing.assert_array_equal(again.rows_, made.rows_)
    np.testing.assert_array_equal(again.losses_, made.losses_)


def test_rows_begin_as_the_teachers_in_principal_directions(pair, teacher):
    large, small = pair
    whole = MixedVocabDistiller(**{**SMALL, "width": 32, "align_steps": 0, "steps": 0}).fit(
        teacher, large, small, TEXTS
    )
    table = teacher.get_input_embeddings().weight.detach().numpy()
    old = table[[large.ids[token] for token in small.tokens]]
    gaps = ((whole.rows_[:, None] - whole.rows_[None]) ** 2).sum(-1)  # distances survive a change of directions
    np.testing.assert_allclose(gaps, ((old[:, None] - old[None]) ** 2).sum(-1), atol=1e-4)
    random = MixedVocabDistiller(**{**SMALL, "align_steps": 0, "steps": 0, "rows": "random"})
    random.fit(teacher, large, small, TEXTS)
    assert np.abs(random.rows_ - random.fit(teacher, large, small, TEXTS).rows_).max() == 0
    assert random.rows_.std() == pytest.approx(whole.rows_[:, :16].std(), rel=0.1)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_a_folder_of_a_model_that_fills_gaps(kind, models_by_kind, tmp_path):
    import transformers

    answer = mixed(models_by_kind[kind], tmp_path / "small", texts=TEXTS, size=0.7, **SMALL)
    assert answer["parameters"]["after"] < answer["parameters"]["before"]
    assert answer["tokens"]["after"] < answer["tokens"]["before"]
    assert set(answer["losses"]) == {"aligning", "teaching"}
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "small").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "small")
    given = tokenizer(TEXTS[:3], return_tensors="pt", padding=True)
    assert model(**given).logits.shape[-1] == answer["tokens"]["after"] == model.config.vocab_size
    assert (tmp_path / "small" / "surgery.json").is_file()


def test_a_sentence_encoder_stays_one(models_by_kind, tmp_path, teacher):
    """Vectors of the student come in the teacher's width, and near the teacher's own."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    source = tmp_path / "teacher"
    shutil.copytree(models_by_kind["wordpiece"], source)
    teacher.save_pretrained(source)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(parts)
    ]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}'
    )
    whole = sentence_transformers.SentenceTransformer(str(source))
    options = {**SMALL, "steps": 80, "align_steps": 4}
    mixed(source, tmp_path / "small", texts=TEXTS, size=0.8, **options)
    student = sentence_transformers.SentenceTransformer(str(tmp_path / "small"))
    one, two = (model.encode(TEXTS, normalize_embeddings=True) for model in (whole, student))
    assert two.shape == one.shape
    assert (one * two).sum(axis=1).mean() > 0.8


def test_what_cannot_be_is_said_in_one_line(pair, teacher, models_by_kind, tmp_path):
    large, small = pair
    for options, message in (
        ({"width": 15}, "multiple of heads"),
        ({"rows": "copied"}, "no student"),
        ({"share": 0.0}, "cannot learn"),
        ({"width": 64}, "wider"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            MixedVocabDistiller(**{**SMALL, **options}).fit(teacher, large, small, TEXTS)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there is none"):
        MixedVocabDistiller(**SMALL).fit(teacher, large, small, ["", "  "])
    with pytest.raises(InputError, match="no parameter"):
        mixed(models_by_kind["wordpiece"], tmp_path / "no", texts=TEXTS, breadth=3)
    with pytest.raises(InputError, match="no encoder"):
        mixed(models_by_kind["bpe"], tmp_path / "no", texts=TEXTS, **SMALL)
    with pytest.raises(InputError, match="exists already"):
        mixed(models_by_kind["wordpiece"], tmp_path, texts=TEXTS, **SMALL)
    assert not (tmp_path / "no").exists()
