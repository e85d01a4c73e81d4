"""A smaller input table in a real model folder: what is written, what opens again, and what is promised of it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocab_small import SENTENCES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from sememe import tokens  # noqa: E402
from sememe.cli.main import main  # noqa: E402
from sememe.errors import BudgetError, InputError  # noqa: E402
from sememe.tokens.effect import rank_correlation  # noqa: E402
from sememe.tokens.quantized import CodedTable  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

TEXTS = [f"{sentence} {number}" for number in range(4) for some in SENTENCES.values() for sentence in some]
MODELS = {
    "byte-bpe": "AutoModelForCausalLM",
    "bpe": "AutoModelForCausalLM",
    "wordpiece": "AutoModelForMaskedLM",
    "unigram": "AutoModelForMaskedLM",
}


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 45).reshape(2, 20)).logits


@pytest.mark.parametrize("kind", MODELS)
def test_the_compact_and_the_plain_form_are_the_same_model(
    kind: str, small_models: dict[str, Path], tmp_path: Path
) -> None:
    source = small_models[kind]
    answer = tokens.compress(source, tmp_path / "compact", "codes", "20%", texts=TEXTS)
    tokens.compress(source, tmp_path / "plain", "codes", "20%", texts=TEXTS, plain=True)
    compact = tokens.open_model(tmp_path / "compact")
    plain = getattr(transformers, MODELS[kind]).from_pretrained(tmp_path / "plain").eval()
    torch.testing.assert_close(logits(compact), logits(plain), rtol=1e-4, atol=1e-5)
    original = getattr(transformers, MODELS[kind]).from_pretrained(source).eval()
    assert not torch.allclose(logits(plain), logits(original), atol=1e-5)
    assert isinstance(compact.get_input_embeddings(), CodedTable) != answer["tied"]
    assert answer["layer"]["share"] == pytest.approx(0.2, rel=0.05)
    assert answer["effect"]["gap"]["low"] <= answer["effect"]["gap"]["value"] <= answer["effect"]["gap"]["high"]
    assert answer["elsewhere"]["gap"] >= max(3 * answer["effect"]["gap"]["high"], 0)


def test_a_trained_layer_goes_in_too(small_models: dict[str, Path], tmp_path: Path) -> None:
    answer = tokens.compress(small_models["byte-bpe"], tmp_path / "out", "hash-bucket", "60%", texts=TEXTS)
    model = tokens.open_model(tmp_path / "out")
    assert type(model.get_input_embeddings()).__name__ == "HashBucketEmbedding"
    assert answer["fit"]["cosine"] > 0.2
    assert answer["bytes"]["after"] < answer["bytes"]["before"]


def test_even_codes_need_no_gradients_and_take_all_rows_alike(small_models: dict[str, Path]) -> None:
    source = small_models["bpe"]
    even = tokens.compress(source, None, "codes", "20%", texts=TEXTS, even=True)
    again = tokens.compress(source, None, "codes", "20%", texts=[text.upper() for text in TEXTS], even=True)
    assert {**even["fit"], "seconds": 0} == {**again["fit"], "seconds": 0}
    measured = tokens.compress(source, None, "codes", "20%", texts=TEXTS)
    assert measured["fit"]["error"] > even["fit"]["error"]


def test_an_encoder_is_promised_less_elsewhere(small_models: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "encoder"
    shutil.copytree(small_models["wordpiece"], source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    answer = tokens.compress(source, None, "codes", "20%", texts=TEXTS)
    assert answer["effect"]["kind"] == "encoder"
    assert answer["elsewhere"]["cosine"] < answer["effect"]["cosine"]["low"]
    assert answer["elsewhere"]["ratio"] >= 3


def test_nothing_opens_the_compact_form_as_a_whole_model(small_models: dict[str, Path], tmp_path: Path) -> None:
    tokens.compress(small_models["wordpiece"], tmp_path / "out", "codes", "20%", texts=TEXTS)
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")


def test_the_source_is_not_touched_and_an_old_folder_not_overwritten(
    small_models: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(small_models["bpe"], source)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    tokens.compress(source, tmp_path / "out", "codes", "20%", texts=TEXTS)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    with pytest.raises(InputError, match="exists already"):
        tokens.compress(source, tmp_path / "out", "codes", "20%", texts=TEXTS)
    with pytest.raises(InputError, match="exists already"):
        tokens.compress(source, tmp_path / "out", "codes", "20%", texts=TEXTS, plain=True)


def test_what_cannot_be_done_is_refused_and_leaves_nothing(small_models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BudgetError, match="nearest"):
        tokens.compress(small_models["bpe"], out, "table", "10%", texts=TEXTS)
    with pytest.raises(BudgetError, match="two bytes"):
        tokens.compress(small_models["bpe"], out, "codes", "0.1%", texts=TEXTS)
    with pytest.raises(InputError, match="too few"):
        tokens.compress(small_models["bpe"], out, "codes", "20%", texts=["one text"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("victim", ["token-layer.json", "token-layer.safetensors", "without-model.safetensors"])
@pytest.mark.parametrize("how", ["gone", "cut", "noise"])
def test_a_damaged_folder_is_refused_in_one_line(
    victim: str, how: str, small_models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tokens.compress(small_models["wordpiece"], out, "codes", "20%", texts=TEXTS)
    path = out / victim
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"\x80noise" * 40)
    with pytest.raises(InputError) as caught:
        tokens.open_model(out)
    assert "\n" not in str(caught.value)


def test_another_layer_than_the_models_is_refused(small_models: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("wordpiece", "byte-bpe"):
        tokens.compress(small_models[kind], tmp_path / kind, "codes", "20%", texts=TEXTS)
    shutil.copy(tmp_path / "byte-bpe" / "token-layer.safetensors", tmp_path / "wordpiece")
    with pytest.raises(InputError, match="another vocabulary"):
        tokens.open_model(tmp_path / "wordpiece")


def test_codes_grow_truer_with_their_bytes() -> None:
    generator = np.random.default_rng(0)
    table = (generator.standard_normal((400, 24)) @ generator.standard_normal((24, 24))).astype(np.float32)
    vocabulary = Vocabulary.of(400)
    errors = [CodedTable(vocabulary, 24, size).fit(table).fit_ for size in (4, 8, 16, 25)]
    assert all(a.error > b.error for a, b in itertools.pairwise(errors))  # type: ignore[union-attr]
    assert errors[-1].cosine > 0.999  # type: ignore[union-attr]
    assert errors[0].error < 1  # type: ignore[union-attr]


def test_a_coded_table_opens_again(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    layer = CodedTable.from_pretrained(table, Vocabulary.of(300), size=8)
    again = tokens.load(tokens.save(layer, tmp_path / "layer"), Vocabulary.of(300))
    assert torch.equal(layer.table(), again.table())
    assert again.num_bytes == layer.num_bytes


def test_rank_correlation_is_scipys() -> None:
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    a = generator.standard_normal(200)
    b = a + generator.standard_normal(200)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_on_the_command_line(small_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "sample.txt"
    text.write_text("\n".join(TEXTS))
    command = [
        "tokens",
        "compress",
        str(small_models["bpe"]),
        "--layer",
        "codes",
        "--budget",
        "20%",
        "--text",
        str(text),
    ]
    assert main([*command, "--quiet", "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "tied to the output" in out
    assert "bits a byte" in out
    assert main([*command, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] is None
