"""Damaged tokenizer and weight files: refused in one line or used, never a crash, a hang or half an output.

``SEMEME_MUTATIONS=1000 pytest tests/vocab/test_mutations.py`` tries as many as that.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sememe import vocab
from sememe.errors import SememeError
from sememe.vocab import ModelFolder

COUNT = int(os.environ.get("SEMEME_MUTATIONS", "60"))
FILES = (
    "tokenizer.json", "model.safetensors", "config.json", "tokenizer_config.json", "generation_config.json",
    "tokenizer.json", "model.safetensors", "modules.json", "special_tokens_map.json", "model.safetensors.index.json",
)  # fmt: skip


def mutate(data: bytes, generator: np.random.Generator) -> bytes:
    """Bytes flipped, a stretch cut out, doubled, replaced by another of the file, or a number or name exchanged."""
    if not data:
        return b"{}"
    how = int(generator.integers(7))
    # The beginning of a weight file is its header: half of the damage goes there.
    reach = len(data) if generator.random() < 0.5 else min(len(data), 2048)
    start = int(generator.integers(reach))
    stop = min(start + int(generator.integers(1, 64)), len(data))
    if how == 0:
        out = bytearray(data)
        for place in generator.integers(reach, size=int(generator.integers(1, 9))):
            out[place] ^= 1 << int(generator.integers(8))
        return bytes(out)
    if how == 1:
        return data[:start]
    if how == 2:
        return data[:start] + data[stop:]
    if how == 3:
        return data[:stop] + data[start:]
    if how == 4:
        other = int(generator.integers(len(data)))
        return data[:start] + data[other : other + stop - start] + data[stop:]
    if how == 5:
        digit = next((p for p in range(start, len(data)) if chr(data[p]).isdigit()), start)
        number = [b"-1", b"99999999999", b"1e400", b"null", b'"x"', b"[]", b"0"][int(generator.integers(7))]
        return data[:digit] + number + data[digit + 1 :]
    words = [b"true", b"null", b'"type"', b'"vocab"', b'"id"', b"{", b"}", b"[", b'"BPE"', b'"Unigram"']
    old, new = (words[int(generator.integers(len(words)))] for _ in range(2))
    return data.replace(old, new, int(generator.integers(1, 4)))


@pytest.mark.timeout(3600)
def test_damaged_files_neither_crash_nor_leave_half_an_output(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    kinds = list(models_by_kind)
    seen: dict[str, int] = {"refused": 0, "used": 0}
    for number in range(COUNT):
        generator = np.random.default_rng(number)
        model, out = tmp_path / "model", tmp_path / "out"
        shutil.copytree(models_by_kind[kinds[number % len(kinds)]], model)
        victim = model / FILES[number // len(kinds) % len(FILES)]
        if victim.name == "model.safetensors.index.json" and not victim.exists():
            names = ModelFolder.open(model).tensors
            victim.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
        victim.write_bytes(
            mutate(victim.read_bytes() if victim.exists() else b'[{"type": "x.Transformer", "path": ""}]', generator)
        )
        try:
            vocab.inspect(model, texts=["Der Zug kam niemals an."])
            vocab.trim(model, out, texts=["Der Zug kam niemals an."])
            seen["used"] += 1
            assert ModelFolder.open(out).tokenizer().encode("Der Zug") is not None
            assert (out / "surgery.json").is_file()
            shutil.rmtree(out)
        except SememeError as error:
            seen["refused"] += 1
            assert "\n" not in str(error)
            assert not out.exists(), f"mutation {number}"
        assert [p.name for p in tmp_path.iterdir()] == ["model"], f"mutation {number}"
        shutil.rmtree(model)
    assert seen["refused"] > COUNT // 10 and seen["used"] > 0, seen
