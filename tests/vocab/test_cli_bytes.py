"""``sememe vocab bytes`` on small models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sememe.cli.main import main


def test_the_next_byte_and_a_completion(models_by_kind: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(models_by_kind["byte-bpe"])
    assert main(["vocab", "bytes", folder, "The bak", "--complete", "6", "--top", "257", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(entry["probability"] for entry in answer["next"]) == pytest.approx(1, abs=1e-6)
    assert answer["log_prob"] < 0
    assert answer["tokens_that_cover_the_end"]
    assert sum(entry["share"] for entry in answer["tokens_that_cover_the_end"]) <= 1 + 1e-9
    assert 0 < len(answer["added"]) <= 6
    assert main(["vocab", "bytes", folder, "The bak", "--complete", "6"]) == 0
    assert "Next byte" in capsys.readouterr().out


def test_models_with_different_tokenizers_speak_together(
    models_by_kind: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (str(models_by_kind[kind]) for kind in ("byte-bpe", "bpe"))
    costs = []
    for more in ([], ["--also", second, "--weights", "1", "0"], ["--also", second, "--fusion", "mixture"]):
        assert main(["vocab", "bytes", first, "The", *more, "--json"]) == 0
        costs.append(json.loads(capsys.readouterr().out)["log_prob"])
    assert costs[0] == pytest.approx(costs[1], abs=1e-6)
    assert costs[2] != costs[0]


def test_a_model_without_causal_bytes_is_refused(
    models_by_kind: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vocab", "bytes", str(models_by_kind["wordpiece"]), "The"]) == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
