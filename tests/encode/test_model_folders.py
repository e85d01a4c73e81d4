"""``hf:`` and ``st:``: other people's model folders."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest
from samples_of_text import HOSTILE, SENTENCES

from sememe.encode.hf import HuggingFace
from sememe.encode.minilm import MiniLM
from sememe.encode.st import SentenceTransformers
from sememe.errors import InputError, MissingDependency

pytest.importorskip("sentence_transformers")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a local model touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A tiny untrained causal model with a tokenizer made of the words of the sentences."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("decoder")
    words = sorted({word for text in SENTENCES for word in text.split()})
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["?", *words])}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?").save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words) + 1, max_position_embeddings=64, **shape)
    LlamaModel(config).save_pretrained(folder)
    return folder


def test_a_folder_is_read_as_its_files_say(minilm_folder):
    ours, expected = HuggingFace(str(minilm_folder)), MiniLM("torch").encode(SENTENCES + HOSTILE)
    assert (ours.pooling, ours.max_tokens, ours.dim) == ("mean", 256, 384)
    np.testing.assert_allclose(ours.encode(SENTENCES + HOSTILE), expected, atol=1e-5)
    theirs = SentenceTransformers(str(minilm_folder))
    assert (theirs.max_tokens, theirs.dim, theirs.asymmetric) == (256, 384, False)
    np.testing.assert_allclose(theirs.encode(SENTENCES + HOSTILE), expected, atol=1e-5)


def test_pooling_of_a_causal_model(decoder):
    import torch
    from transformers import AutoModel

    encoder = HuggingFace(str(decoder), pooling="last")
    model = AutoModel.from_pretrained(decoder)
    rows = encoder.encode(SENTENCES)
    for row, text in zip(rows, SENTENCES):
        ids = torch.tensor([encoder._tokenizer(text)["input_ids"]])
        with torch.no_grad():
            state = model(ids)[0][0, -1].numpy()
        np.testing.assert_allclose(row, state / np.linalg.norm(state), atol=1e-5)
    assert not np.allclose(rows, HuggingFace(str(decoder), pooling="mean").encode(SENTENCES), atol=1e-2)
    assert not encoder.encode([""]).any()  # this tokenizer adds no special tokens: nothing to pool


def test_prompts_and_settings(decoder):
    plain = HuggingFace(str(decoder))
    prompted = HuggingFace(str(decoder), query="A cat ", passage="Who ")
    assert prompted.asymmetric
    assert not plain.asymmetric
    text = "may approve it?"
    np.testing.assert_allclose(prompted.encode([text], kind="query"), plain.encode(["A cat " + text]), atol=1e-6)
    np.testing.assert_allclose(prompted.encode([text]), plain.encode(["Who " + text]), atol=1e-6)
    variants = [plain, prompted, HuggingFace(str(decoder), pooling="cls"), HuggingFace(str(decoder), max_length=4)]
    assert len({v.digest for v in variants}) == 4
    np.testing.assert_allclose(
        variants[3].encode(["A cat sits on the mat."]), plain.encode(["A cat sits on"]), atol=1e-6
    )
    spans = prompted.encode_tokens([text]).spans
    pieces = [text[a:b] for a, b in spans if b > a]
    assert pieces[:2] == ["may", "approve"]
    assert "".join(pieces) == "mayapproveit?"


def test_st_prompts_are_honoured(minilm_folder, tmp_path):
    shutil.copytree(minilm_folder, tmp_path / "m", ignore=shutil.ignore_patterns("2_Normalize"))
    path = tmp_path / "m" / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "stock prices: ", "document": ""}}))
    encoder = SentenceTransformers(str(tmp_path / "m"))
    assert encoder.asymmetric
    plain = MiniLM("torch")
    np.testing.assert_allclose(encoder.encode(["fell"], kind="query"), plain.encode(["stock prices: fell"]), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["fell"]), plain.encode(["fell"]), atol=1e-5)
    assert encoder.digest != SentenceTransformers(str(minilm_folder)).digest


def test_the_digest_follows_the_weights(decoder, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(decoder, tmp_path / "m")
    assert HuggingFace(str(tmp_path / "m")).digest == HuggingFace(str(decoder)).digest
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1e-3)
    save_file(tensors, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    assert HuggingFace(str(tmp_path / "m")).digest != HuggingFace(str(decoder)).digest


@pytest.mark.parametrize("make", [HuggingFace, SentenceTransformers])
def test_pickled_weights_are_refused_unread(decoder, tmp_path, make):
    shutil.copytree(decoder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match="pickled"):
        make(str(tmp_path / "m"))


@pytest.mark.parametrize("make", [HuggingFace, SentenceTransformers])
@pytest.mark.parametrize("harm", ["truncate", "config", "empty"])
def test_a_damaged_folder_is_one_line(decoder, tmp_path, make, harm):
    shutil.copytree(decoder, tmp_path / "m")
    if harm == "truncate":
        content = (tmp_path / "m" / "model.safetensors").read_bytes()
        (tmp_path / "m" / "model.safetensors").write_bytes(content[: len(content) // 2])
    elif harm == "config":
        (tmp_path / "m" / "config.json").write_text("{broken")
    else:
        shutil.rmtree(tmp_path / "m")
        (tmp_path / "m").mkdir()
    with pytest.raises(InputError) as error:
        make(str(tmp_path / "m"))
    assert "\n" not in str(error.value)


def test_code_in_a_folder_is_not_run(decoder, tmp_path):
    shutil.copytree(decoder, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError):
        HuggingFace(str(tmp_path / "m"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing", "plain-name", "", " ", "a\x00b", "x" * 5000])
def test_paths_that_are_not_there(path):
    with pytest.raises(InputError):
        HuggingFace(path)


def test_a_hub_model_that_cannot_be_had(monkeypatch):
    with pytest.raises(InputError, match="cannot be had from the hub"):
        HuggingFace("an-organization/a-model-that-is-not-there")


def test_wrong_options(decoder):
    for options in ({"pooling": "max"}, {"max_length": 1}):
        with pytest.raises(InputError):
            HuggingFace(str(decoder), **options)


def test_without_torch_the_message_says_what_to_install(monkeypatch):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else original(name, *a))
    for make in (HuggingFace, SentenceTransformers):
        with pytest.raises(MissingDependency, match=r"pip install 'sememe\[torch\]'"):
            make("anything")
