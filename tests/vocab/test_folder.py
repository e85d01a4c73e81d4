"""Model folders: what is found and refused, and writing whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from vocab_small import KINDS

from sememe.errors import InputError
from sememe.vocab import ModelFolder, write_folder
from sememe.vocab.side_files import digest, renumber
from sememe.vocab.tensors import narrow, widen


def copied(source: Path, to: Path) -> Path:
    return Path(shutil.copytree(source, to))


def change_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_those_of_transformers(kind: str, models_by_kind: dict[str, Path]) -> None:
    import transformers

    folder = ModelFolder.open(models_by_kind[kind])
    loader = (
        transformers.AutoModelForMaskedLM if kind in ("wordpiece", "unigram") else transformers.AutoModelForCausalLM
    )
    model = loader.from_pretrained(models_by_kind[kind])
    assert np.array_equal(folder.read("input"), model.get_input_embeddings().weight.detach().numpy())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert folder.tied == tied == (kind != "byte-bpe")
    if not tied:
        assert np.array_equal(folder.read("output"), model.get_output_embeddings().weight.detach().numpy())
    assert folder.parameters == sum(p.numel() for p in model.parameters())
    assert [t.shape for t in folder.layout.biases] == ([(folder.size,)] if kind in ("wordpiece", "unigram") else [])


def test_bad_folders_are_refused_in_one_line(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    good = models_by_kind["bpe"]

    def refused(name: str, spoil: Any, message: str) -> None:
        folder = copied(good, tmp_path / name)
        spoil(folder)
        with pytest.raises(InputError, match=message) as caught:
            ModelFolder.open(folder).tokenizer()
        assert "\n" not in str(caught.value)

    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    def pickle_only(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    def retyped(dtype: Any) -> Any:
        def change(folder: Path) -> None:
            tensors = load_file(folder / "model.safetensors")
            name = "model.embed_tokens.weight"
            save_file({**tensors, name: tensors[name].astype(dtype)}, folder / "model.safetensors")

        return change

    def stranger(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        size = len(tensors["model.embed_tokens.weight"])
        save_file({**tensors, "model.extra_table": np.zeros((size, 3), np.float32)}, folder / "model.safetensors")

    def renamed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file(
            {name.replace("embed_tokens", "mystery"): t for name, t in tensors.items()}, folder / "model.safetensors"
        )

    refused("config", lambda f: (f / "config.json").unlink(), "no config.json")
    refused("weights", lambda f: (f / "model.safetensors").unlink(), "no model.safetensors")
    refused("pickle", pickle_only, "save_pretrained")
    refused("gguf", lambda f: (f / "model.safetensors").rename(f / "model.gguf"), "GGUF")
    refused("cut", cut, "not a readable safetensors")
    refused("quantized", lambda f: change_config(f, quantization_config={"bits": 4}), "quantized")
    refused("int8", retyped(np.int8), "quantized tables")
    refused("stranger", stranger, "extra_table")
    refused("renamed", renamed, "no input table")
    refused("size", lambda f: change_config(f, vocab_size=7), "vocab_size 7")
    refused("untied", lambda f: change_config(f, tie_word_embeddings=False), "output table is missing")
    refused("tokenizer", lambda f: (f / "tokenizer.json").unlink(), "no tokenizer|how the files")
    good = models_by_kind["unigram"]
    refused("foreign", lambda f: shutil.copy(models_by_kind["bpe"] / "tokenizer.json", f), "only .* rows")
    with pytest.raises(InputError, match="no such model folder"):
        ModelFolder.open(tmp_path / "nowhere")


def test_a_row_with_nan_is_named(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models_by_kind["bpe"], tmp_path / "nan")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][41, 3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match="NaN or infinity in row 41"):
        ModelFolder.open(folder).read("input")


@pytest.mark.parametrize("kind", KINDS)
def test_new_tables_are_written_everywhere_they_belong(
    kind: str, models_by_kind: dict[str, Path], tmp_path: Path
) -> None:
    source = ModelFolder.open(models_by_kind[kind])
    before = {p.name: digest(p) for p in source.path.iterdir()}
    grown = source.tokenizer().extend([b" zweihundert"])
    generator = np.random.default_rng(0)
    size = len(grown.tokens)
    tables = {role: generator.standard_normal((size, 32)).astype(np.float32) for role in source.tables}
    tables |= {bias.name: generator.standard_normal(size).astype(np.float32) for bias in source.layout.biases}
    out = write_folder(source, tmp_path / "out", tokenizer=grown, tables=tables, surgery={"operation": "test"})
    new = ModelFolder.open(out)
    assert new.size == size == new.config["vocab_size"] and new.tied == source.tied
    for role in source.tables:
        assert np.array_equal(new.read(role), tables[role])
    changed = {t.name for t in source.layout.all}
    old_tensors, new_tensors = load_file(source.path / "model.safetensors"), load_file(out / "model.safetensors")
    for name, tensor in old_tensors.items():
        assert name in changed or np.array_equal(tensor, new_tensors[name])
    surgery = json.loads((out / "surgery.json").read_text())
    assert surgery["operation"] == "test" and surgery["source"]["model.safetensors"] == before["model.safetensors"]
    assert {name: entry["sha256"] for name, entry in surgery["files"].items()} == {
        p.name: digest(p) for p in out.iterdir() if p.name != "surgery.json"
    }
    assert before == {p.name: digest(p) for p in source.path.iterdir()}
    assert new.tokenizer().encode("zweihundert") == grown.encode("zweihundert")


def test_nothing_is_left_where_writing_fails(models_by_kind: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    from sememe.vocab import writing as module

    source = ModelFolder.open(models_by_kind["bpe"])
    rows = np.arange(source.size)
    arguments: dict[str, Any] = {"tokenizer": source.tokenizer(), "rows": rows, "surgery": {}}
    calls = planned = 0
    real = module._write

    def failing(path: Path, content: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == planned:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(module, "_write", failing)
    for place in range(1, 6):
        calls, planned = 0, place
        with pytest.raises(InputError, match="No space left"):
            write_folder(source, tmp_path / "out", **arguments)
        assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write_folder(source, tmp_path / "out", **arguments)
    with pytest.raises(InputError, match="inside the model"):
        write_folder(source, source.path / "out", **arguments)
    nan = {"input": np.full((source.size, 32), np.nan, dtype=np.float32)}
    with pytest.raises(InputError, match="NaN or infinity in row 0"):
        write_folder(source, tmp_path / "nan", tokenizer=source.tokenizer(), tables=nan, surgery={})
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_other_weights_are_left_out_and_modules_come_along(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models_by_kind["wordpiece"], tmp_path / "model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"old")
    (folder / "pytorch_model.bin").write_bytes(b"old")
    (folder / ".cache").mkdir()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    source = ModelFolder.open(folder)
    rows = np.arange(source.size)
    out = write_folder(source, tmp_path / "out", tokenizer=source.tokenizer(), rows=rows, surgery={})
    assert not (out / "onnx").exists() and not (out / "pytorch_model.bin").exists() and not (out / ".cache").exists()
    assert (out / "1_Pooling" / "config.json").read_text() == "{}"
    left_out = json.loads((out / "surgery.json").read_text())["left_out"]
    assert left_out == [".cache/", "onnx/model.onnx", "pytorch_model.bin"]


def test_half_precision_is_rounded_as_the_libraries_do() -> None:
    import ml_dtypes

    generator = np.random.default_rng(0)
    values = (generator.standard_normal((300, 7)) * 10.0 ** generator.integers(-6, 6, (300, 7))).astype(np.float32)
    stored = narrow(values, "BF16")
    assert np.array_equal(stored, values.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert np.array_equal(widen(stored, "BF16"), stored.view(ml_dtypes.bfloat16).astype(np.float32))
    with pytest.raises(InputError, match="too large for F16"):
        narrow(np.full((1, 1), 1e6, np.float32), "F16")


def test_ids_in_configurations_follow() -> None:
    document = {
        "eos_token_id": [5, 9],
        "pad_token_id": None,
        "bos_token_id": 4,
        "decoder": {"decoder_start_token_id": -1, "image_token_index": 5},
        "bad_words_ids": [[5, 4], [9]],
        "forced_decoder_ids": [[1, 5], [2, None]],
        "hidden_size": 5,
    }
    renumber(document, {5: 2})
    assert document == {
        "eos_token_id": [2],
        "pad_token_id": None,
        "bos_token_id": None,
        "decoder": {"decoder_start_token_id": -1, "image_token_index": 2},
        "bad_words_ids": [[2]],
        "forced_decoder_ids": [[1, 2], [2, None]],
        "hidden_size": 5,
    }


def test_rows_of_a_whole_block_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sememe.vocab import tensors

    monkeypatch.setattr(tensors, "BLOCK", 64)
    table = np.arange(60, dtype=np.float32).reshape(20, 3)
    save_file({"table": table}, tmp_path / "old.safetensors")
    held, metadata = tensors.read_header(tmp_path / "old.safetensors")
    rows = np.array([1, 2, 17])
    tensors.write_file(tmp_path / "new.safetensors", held, metadata, {"table": tensors.Rows(rows)})
    assert np.array_equal(load_file(tmp_path / "new.safetensors")["table"], table[rows])
