"""Transplanting tokenizers between small models: what is copied, what is written, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from vocab_small import SENTENCES, write_model

from sememe.errors import InputError, UsageError
from sememe.vocab import ModelFolder, TokenizerFile
from sememe.vocab.initialize import methods, shared_tokens
from sememe.vocab.transplant import transplant

TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]
PAIRS = [("byte-bpe", "bpe"), ("bpe", "byte-bpe"), ("wordpiece", "unigram"), ("bpe", "wordpiece")]


def letters(texts):
    """A text encoder of sorts: how often each letter occurs."""
    return np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("init", ["omp", "subword-mean"])
def test_tables_of_every_layout(old, new, init, models_by_kind, tmp_path):
    out = tmp_path / "out"
    answer = transplant(models_by_kind[old], models_by_kind[new], out, init=init)
    before, after = ModelFolder.open(models_by_kind[old]), ModelFolder.open(out)
    tokens = TokenizerFile.open(models_by_kind[new])
    assert after.tokenizer().tokens == tokens.tokens and after.size == len(tokens.tokens) == answer["tokens"]["after"]
    assert after.tied == before.tied and after.tables.keys() == before.tables.keys()
    shared = shared_tokens(before.tokenizer(), tokens)
    assert len(shared) > 50
    for role in before.tables:
        was, now = before.read(role), after.read(role)
        np.testing.assert_array_equal(now[shared[:, 0]].view(np.uint32), was[shared[:, 1]].view(np.uint32))
        assert np.isfinite(now).all()
    for bias in before.layout.biases:
        was, now = before.read(bias.name).reshape(-1), after.read(bias.name).reshape(-1)
        np.testing.assert_array_equal(now[shared[:, 0]], was[shared[:, 1]])
    for name, tensor in before.tensors.items():
        if tensor not in before.layout.all:
            np.testing.assert_array_equal(after.read(name), before.read(name))
    surgery = json.loads((out / "surgery.json").read_text())
    assert surgery["init"] == init and surgery["tables"]["input"]["copied"] == len(shared)


def test_special_tokens_go_by_their_role(models_by_kind, tmp_path):
    out = tmp_path / "out"
    transplant(models_by_kind["bpe"], models_by_kind["byte-bpe"], out, init="mean")
    new = TokenizerFile.open(out)
    before, after = ModelFolder.open(models_by_kind["bpe"]), ModelFolder.open(out)
    assert after.config["bos_token_id"] == new.roles["bos"] and after.config["eos_token_id"] == new.roles["eos"]
    begin = before.tokenizer().roles["bos"]
    np.testing.assert_array_equal(after.read("input")[new.roles["bos"]], before.read("input")[begin])


def test_output_table_is_made_from_the_donors_output_table(models_by_kind, tokenizers_by_kind, tmp_path):
    """GPT-2 here has two tables; a donor with two gives each side weights of its own."""
    donor = write_model(tmp_path / "donor", "byte-bpe", tokenizers_by_kind["bpe"])
    out = tmp_path / "out"
    transplant(models_by_kind["byte-bpe"], donor, out, init="omp", options={"k": 3})
    old, new, made = ModelFolder.open(models_by_kind["byte-bpe"]), ModelFolder.open(donor), ModelFolder.open(out)
    shared = shared_tokens(old.tokenizer(), new.tokenizer())
    fresh = np.setdiff1d(np.arange(new.size), shared[:, 0])
    for role in ("input", "output"):
        atoms, target = new.read(role)[shared[:, 0]].astype(np.float64), new.read(role)[fresh[0]].astype(np.float64)
        chosen, residual = [], target
        for _ in range(3):
            chosen.append(int(np.abs(atoms @ residual).argmax()))
            weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
            residual = target - weights @ atoms[chosen]
        want = weights @ old.read(role)[shared[chosen, 1]]
        np.testing.assert_allclose(made.read(role)[fresh[0]], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("init", sorted(set(methods()) - {"wechsel"}))
def test_every_method_makes_a_whole_model(init, models_by_kind, tmp_path):
    known = {"embed": letters} if init in ("hybrid", "ofa") else {}
    if init in ("convex-hull", "hypernet"):
        known = {"texts": TEXTS * 3}
    options = {"ofa": {"rank": 8}, "hypernet": {"steps": 2, "warmup": 2, "length": 32, "size": 64}}.get(init, {})
    args = (models_by_kind["bpe"], models_by_kind["byte-bpe"])
    one = transplant(*args, tmp_path / "one", init=init, options=options, **known)
    transplant(*args, tmp_path / "two", init=init, options=options, **known)
    digests = [json.loads((tmp_path / name / "surgery.json").read_text())["files"] for name in ("one", "two")]
    assert digests[0] == digests[1]
    table = one["tables"]["input"]
    assert table["copied"] + table["made"] + table["fallback"] == one["tokens"]["after"]
    assert np.isfinite(ModelFolder.open(tmp_path / "one").read("input")).all()


def test_loads_in_transformers_in_a_fresh_process(models_by_kind, tmp_path):
    out = tmp_path / "out"
    transplant(models_by_kind["byte-bpe"], models_by_kind["wordpiece"], out, init="subword-mean")
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T\n"
        "torch.set_num_threads(1); m, t = M.from_pretrained(sys.argv[1]), T.from_pretrained(sys.argv[1])\n"
        "assert m.get_input_embeddings().weight.shape[0] == len(t), (m.config.vocab_size, len(t))\n"
        "x = t('the baker kneads the dough', return_tensors='pt')\n"
        "assert torch.isfinite(m(x['input_ids']).logits).all(); assert 'sememe' not in sys.modules; print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr[-2000:]


def test_a_bare_tokenizer_file_is_enough_where_no_table_is_needed(models_by_kind, tokenizers_by_kind, tmp_path):
    answer = transplant(models_by_kind["bpe"], tokenizers_by_kind["wordpiece"], tmp_path / "out", init="subword-mean")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["pad_token"] == "[PAD]" and answer["tables"]["input"]["made"] > 0
    with pytest.raises(InputError, match="without a model"):
        transplant(models_by_kind["bpe"], tokenizers_by_kind["wordpiece"], tmp_path / "no", init="omp")
    assert not (tmp_path / "no").exists()


def test_refuses_vocabularies_with_nothing_in_common(models_by_kind, tmp_path):
    from tokenizers import Tokenizer, models

    marks = {chr(0x4E00 + i): i for i in range(300)}
    Tokenizer(models.WordLevel(marks, unk_token=None)).save(str(tmp_path / "other.json"))
    with pytest.raises(InputError, match="in common") as error:
        transplant(models_by_kind["wordpiece"], tmp_path / "other.json", tmp_path / "out", init="mean")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_refuses_a_donor_whose_table_does_not_fit(models_by_kind, tmp_path):
    donor = tmp_path / "donor"
    shutil.copytree(models_by_kind["wordpiece"], donor)
    shutil.copy(models_by_kind["bpe"] / "tokenizer.json", donor / "tokenizer.json")
    (donor / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(InputError, match="rows"):
        transplant(models_by_kind["byte-bpe"], donor, tmp_path / "out", init="omp")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", ["model", "donor"])
def test_refuses_rows_with_nan(side, models_by_kind, tmp_path):
    from safetensors.numpy import load_file, save_file

    kinds = {"model": "bpe", "donor": "wordpiece"}
    bad = tmp_path / "bad"
    shutil.copytree(models_by_kind[kinds[side]], bad)
    tensors = load_file(bad / "model.safetensors")
    name = next(name for name in tensors if name.endswith(("embed_tokens.weight", "word_embeddings.weight")))
    tensors[name] = tensors[name].copy()
    tensors[name][11] = np.nan
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    given = {key: models_by_kind[kind] for key, kind in kinds.items()} | {side: bad}
    with pytest.raises(InputError, match="NaN or infinity in row 11"):
        transplant(given["model"], given["donor"], tmp_path / "out", init="omp")
    assert not (tmp_path / "out").exists()


def test_refuses_what_is_no_model_or_no_method(models_by_kind, tmp_path):
    (tmp_path / "vision").mkdir()
    shutil.copy(models_by_kind["bpe"] / "config.json", tmp_path / "vision")
    from safetensors.numpy import save_file

    save_file({"conv.weight": np.zeros((3, 3), dtype=np.float32)}, tmp_path / "vision" / "model.safetensors")
    donor = models_by_kind["wordpiece"]
    with pytest.raises(InputError, match="no input table"):
        transplant(tmp_path / "vision", donor, tmp_path / "out")
    with pytest.raises(UsageError, match="no initializer"):
        transplant(models_by_kind["bpe"], donor, tmp_path / "out", init="ompp")
    with pytest.raises(UsageError, match="does not take"):
        transplant(models_by_kind["bpe"], donor, tmp_path / "out", init="omp", options={"q": 3})
    for init, need in (("wechsel", "word vectors"), ("hybrid", "encoder"), ("convex-hull", "text")):
        with pytest.raises(InputError, match=need):
            transplant(models_by_kind["bpe"], donor, tmp_path / "out", init=init)
    assert not (tmp_path / "out").exists()


def test_command_line(models_by_kind, tmp_path, capsys):
    from sememe.cli.main import main

    old, new = map(str, (models_by_kind["bpe"], models_by_kind["byte-bpe"]))
    out = tmp_path / "out"
    assert main(["vocab", "transplant", old, "--tokenizer", new, "--set", "k=4", "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["options"]["k"] == 4 and (out / "surgery.json").is_file()
    assert main(["vocab", "transplant", old, "--tokenizer", new, "-o", str(out)]) == 3
    assert "exists already" in capsys.readouterr().err
