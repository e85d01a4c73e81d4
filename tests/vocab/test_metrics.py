"""Measures of tokenizers: known extremes, alignment of single units, unreachable tokens, inspect and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from vocab_small import KINDS, SENTENCES

from sememe import vocab
from sememe.errors import InputError
from sememe.vocab import TokenizerFile, plot
from sememe.vocab.atomic import AtomicAlignment
from sememe.vocab.metrics import TokenizerReport, measure_cuts
from sememe.vocab.sample import language_of_name, read_sample, script_of, script_of_text
from sememe.vocab.unreachable import find_unreachable

TEXTS = [sentence for sentences in SENTENCES.values() for sentence in sentences]


def word_level(words: list[str]) -> TokenizerFile:
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["<unk>", *words]))}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    found = TokenizerFile({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model})
    found.check()
    return found


def test_words_and_characters_are_the_extremes() -> None:
    text = "the harbour masters waited for the unfinished harbour"
    words = word_level(text.split())
    letters = word_level(sorted(set(text) - {" "}))
    report = TokenizerReport(
        ["the", "harbour", "master", "masters", "waited", "for", "unfinished", "finished"], ["s", "un"]
    )
    whole, single = report(words, [text]), report(letters, [" ".join(text)])
    assert whole["words"] == 1.0 and whole["distinct"] == 6
    assert single["words"] == 0.0 and single["tokens"] == len(text.replace(" ", ""))
    assert whole["pure"] == pytest.approx(4 / 6)  # masters and unfinished are not one unit
    assert not report.is_unit("masters") and report.is_unit("master") and report.is_unit("un")
    with pytest.raises(InputError, match="no words"):
        TokenizerReport([])


def test_cuts_are_counted() -> None:
    tokenizer = word_level(["one", "two"])
    cuts = measure_cuts(tokenizer, ["one two zwei"], tokenizer.encode_batch(["one two zwei"]))
    assert (cuts.tokens, cuts.words, cuts.bytes) == (3, 3, 12)
    assert cuts.unknown == pytest.approx(1 / 3) and cuts.fertility == 1.0 and cuts.fragmentation == 0.0
    assert cuts.bytes_per_word == pytest.approx(10 / 3) and cuts.bytes_per_token == 4.0


def test_atomic_units_in_a_byte_level_tokenizer(tokenizers_by_kind: dict[str, Path]) -> None:
    judge = AtomicAlignment(TokenizerFile.open(tokenizers_by_kind["byte-bpe"]), "letters")
    raw = judge.score(["harbour", "waited"])
    delimited = [judge.reformat(word) for word in ("harbour", "waited")]
    assert raw["atomic"] < 0.5 < raw["units_per_token"] and judge.score(delimited) == {
        "atomic": 1.0,
        "units_per_token": 1.0,
    }
    assert [text.replace(" ", "") for text in delimited] == ["harbour", "waited"]
    assert judge.disagreement("waited", delimited[1]) == pytest.approx(0.4)
    assert judge.disagreement("waited", "waited") == 0.0
    with pytest.raises(InputError, match="different letters"):
        judge.disagreement("ab", "ba")
    with pytest.raises(InputError, match="no text holds"):
        judge.score(["12"])
    with pytest.raises(InputError, match="regular expression"):
        AtomicAlignment(judge.tokenizer, "[")


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_some_text_gives_is_never_called_unreachable(
    kind: str, tokenizers_by_kind: dict[str, Path]
) -> None:
    tokenizer = TokenizerFile.open(tokenizers_by_kind[kind])
    found = find_unreachable(tokenizer)
    used = {number for text in TEXTS for word in [text, *text.split()] for number in tokenizer.encode(word)}
    assert not used & set(found.reasons)
    assert found.judged + found.unjudged == len(tokenizer.tokens)


def test_tokens_made_unreachable_are_found(tokenizers_by_kind: dict[str, Path]) -> None:
    spec = json.loads(tokenizers_by_kind["wordpiece"].read_text())
    size = len(spec["model"]["vocab"])
    added = [token for token in spec["added_tokens"] if token["id"] < size]
    spec["added_tokens"] = added
    spec["model"]["vocab"] |= {"Capital": size, "two words": size + 1, "x" * 120: size + 2}
    found = find_unreachable(TokenizerFile(spec))
    assert found.reasons[size] == found.reasons[size + 1] == "text" and found.reasons[size + 2] == "length"
    spec = json.loads(tokenizers_by_kind["byte-bpe"].read_text())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] != "<extra>"]
    spec["model"]["vocab"]["qqzzq"] = len(spec["model"]["vocab"])
    assert find_unreachable(TokenizerFile(spec)).reasons[len(spec["model"]["vocab"]) - 1] == "merges"


def test_inspect_adds_up(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    for language, sentences in SENTENCES.items():
        (tmp_path / f"text.{language}.txt").write_text("\n".join(sentences), encoding="utf-8")
    answer = vocab.inspect(models_by_kind["byte-bpe"], [tmp_path])
    tables = answer["tables"]
    assert not tables["tied"] and tables["parameters"] == 2 * tables["input"]["parameters"]
    assert tables["share"] == pytest.approx(tables["input"]["share"] + tables["output"]["share"])
    assert {(g["language"], g["script"]) for g in answer["groups"]} == {
        ("en", "Latin"), ("de", "Latin"), ("fr", "Latin"), ("ru", "Cyrillic"), ("zh", "Han"),
    }  # fmt: skip
    assert sum(g["bytes"] for g in answer["groups"]) == answer["text"]["bytes"] == sum(len(t.encode()) for t in TEXTS)
    assert answer["used"]["tokens"] + answer["used"]["never"] == answer["tokenizer"]["tokens"]
    assert answer["used"]["coverage"][-1][1] == pytest.approx(1.0)
    chinese = next(g for g in answer["groups"] if g["language"] == "zh")
    assert chinese["fertility"] is None and chinese["bytes_per_token"] < 3.5
    picture = ElementTree.parse(plot.save(answer, tmp_path / "plot.svg")).getroot()
    assert picture.tag.endswith("svg") and len(picture) > 20
    assert "<svg" in plot.save(answer, tmp_path / "plot.html").read_text()
    with pytest.raises(InputError, match=r"\.svg or \.html"):
        plot.save(answer, tmp_path / "plot.png")


def test_equal_rows_are_counted(models_by_kind: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(models_by_kind["bpe"], tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][[3, 9, 11]] = tensors["model.embed_tokens.weight"][5]
    tensors["model.embed_tokens.weight"][20] = 0
    tensors["model.embed_tokens.weight"][21, 1] = np.nan
    save_file(tensors, folder / "model.safetensors")
    found = vocab.inspect(folder)["duplicates"]["input"]
    assert (found["rows"], found["groups"], found["zero_rows"], found["rows_with_nan"]) == (3, 1, 1, 1)
    with pytest.raises(InputError, match="NaN or infinity in row 21"):
        vocab.trim(folder, tmp_path / "out", texts=TEXTS, size=1.0)


def test_samples_know_their_languages(tmp_path: Path) -> None:
    names = {
        "news.de.txt": "de",
        "de_news.txt": "de",
        "train.fr.gz": "fr",
        "text-zh.txt": "zh",
        "notes.txt": "",
        "zh_cn.txt": "zh",
    }
    assert {name: language_of_name(name) for name in names} == names
    assert language_of_name("deu.txt") == "de" and language_of_name("a.jsonl.gz") == ""
    lines = [{"text": "Guten Tag", "lang": "de-AT"}, {"content": "Bonjour", "language": "fra"}, {"text": "?"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sample = read_sample([tmp_path / "x.jsonl"])
    assert sample.languages == ["de", "fr", ""] and sample.only(["de"]).texts == ["Guten Tag"]
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{"other": 1}')
    with pytest.raises(InputError, match=r"x\.jsonl:2"):
        read_sample([tmp_path / "x.jsonl"])
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n")
    assert "not UTF-8" in read_sample([tmp_path / "bad.txt"]).notices[0]
    assert [script_of(c) for c in "aжあ中ア1é"] == ["Latin", "Cyrillic", "Hiragana", "Han", "Katakana", "", "Latin"]
    assert script_of_text("Жук and ёж большой") == "Cyrillic" and script_of_text("123") == ""
