"""Byte-pair encoding of events and bytes, against a naive loop, the tokenizers package and dynamic programming."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import InputError, NotFittedError
from sememe.vocab.bpe import SequenceBPE, isotropy, mean_cosine
from sememe.vocab.byte_bpe import ByteBPE, recover

streams = st.lists(st.lists(st.integers(0, 3), max_size=30), min_size=1, max_size=5).filter(any)
TEXT = [
    "Der Fluss floss, und das Floß floss mit dem Fluss.",
    "the cat sat on the mat, the cats sat on the mats; thereafter they rested",
    "日本語のテキスト、日本語の文字。",
    "नमस्ते दुनिया, नमस्ते भारत",
    "مرحبا بالعالم",
    "🙂🙃🙂 naïve façade\n\n\tindent  two",
] * 3


def naive(sequences: list[list[int]], base: int, size: int, least: int) -> list[list[int]]:
    """The merges by counting everything again before each one."""
    sequences, spelled, merges = [list(s) for s in sequences], [(i,) for i in range(base)], []
    done: set[tuple[int, int]] = set()
    while len(spelled) < size:
        counts = Counter(pair for s in sequences for pair in pairwise(s))
        counts = Counter({pair: count for pair, count in counts.items() if pair not in done})
        if not counts:
            break
        pair = min(counts, key=lambda p: (-counts[p], p))
        if counts[pair] < least:
            break
        done.add(pair)
        whole = spelled[pair[0]] + spelled[pair[1]]
        made = spelled.index(whole) if whole in spelled else len(spelled)
        if made == len(spelled):
            spelled.append(whole)
        merges.append([*pair, made])
        sequences = [replaced(s, pair, made) for s in sequences]
    return merges


def one_by_one(sequence: list[int], merges: list[list[int]]) -> list[int]:
    """The lowest-ranked pair that is there, its leftmost place, until none is left."""
    ranks: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, (left, right, made) in enumerate(merges):
        ranks.setdefault((left, right), (rank, made))
    sequence = list(sequence)
    while True:
        found = [(*ranks[pair], at) for at, pair in enumerate(pairwise(sequence)) if pair in ranks]
        if not found:
            return sequence
        _, made, at = min(found, key=lambda entry: (entry[0], entry[2]))
        sequence[at : at + 2] = [made]


def replaced(sequence: list[int], pair: tuple[int, int], made: int) -> list[int]:
    out, at = [], 0
    while at < len(sequence):
        if tuple(sequence[at : at + 2]) == pair:
            out.append(made)
            at += 2
        else:
            out.append(sequence[at])
            at += 1
    return out


@settings(max_examples=200, deadline=None)
@given(streams, st.integers(4, 20), st.integers(1, 3))
def test_merges_are_those_of_the_naive_loop(sequences: list[list[int]], size: int, least: int) -> None:
    model = SequenceBPE(size, base=4, least=least).fit(sequences)
    expected = naive(sequences, 4, size, least)
    assert model.merges_.tolist() == expected
    for sequence, coded in zip(sequences, model.encode_batch(sequences)):
        assert model.decode(coded).tolist() == sequence
        assert coded.tolist() == one_by_one(sequence, expected)


def test_runs_are_joined_from_the_left() -> None:
    model = SequenceBPE(3, least=1).fit([[1, 1, 1, 1, 1, 0, 1, 1, 1]])
    assert model.encode([1, 1, 1, 1, 1, 0, 1, 1, 1]).tolist() == [2, 2, 1, 0, 2, 1]


def test_merges_respect_cuts_and_isolated_events() -> None:
    streams = [[0, 1, 2, 0, 1, 2, 0, 1]] * 4
    free = SequenceBPE(6).fit(streams)
    assert any(set(free.expand(symbol)) >= {1, 2} for symbol in range(3, free.vocabulary))
    barred = SequenceBPE(6, isolated=(2,)).fit(streams)
    assert barred.vocabulary == 4 and barred.expand(3) == (0, 1)
    assert barred.encode(streams[0]).tolist() == [3, 2, 3, 2, 3]
    cut = SequenceBPE(6).fit(streams, cuts=[[1, 4, 7]] * 4)
    assert all((0, 1) not in pairwise(t) for t in map(cut.expand, range(cut.vocabulary)))
    assert cut.decode(cut.encode([0, 1, 2], cuts=[1])).tolist() == [0, 1, 2]
    assert free.encode([0, 1], cuts=[1]).tolist() == [0, 1] != free.encode([0, 1]).tolist()
    assert SequenceBPE(30, longest=2).fit(streams).merges_.shape[1] == 3
    assert max(len(t) for t in SequenceBPE(30, longest=2).fit(streams).merge_list.spelled) == 2
    with pytest.raises(InputError, match="outside its 8 events"):
        SequenceBPE(6).fit(streams, cuts=[[9]] * 4)


def test_empty_streams_and_batches() -> None:
    model = SequenceBPE(4, least=1).fit([[], [0, 1, 0, 1], []])
    assert [ids.tolist() for ids in model.encode_batch([[], [0, 1], [], [1]])] == [[], [2], [], [1]]
    assert model.encode_batch([]) == [] and model.encode([]).tolist() == [] and model.decode([]).tolist() == []


def test_bad_streams_are_refused() -> None:
    with pytest.raises(InputError, match="negative event -1"):
        SequenceBPE().fit([[0, -1]])
    with pytest.raises(InputError, match="not a list of integers"):
        SequenceBPE().fit([[0.5]])
    with pytest.raises(InputError, match="no events"):
        SequenceBPE().fit([[]])
    with pytest.raises(InputError, match="cannot hold the 10 symbols"):
        SequenceBPE(5).fit([[9]])
    with pytest.raises(NotFittedError):
        SequenceBPE().encode([0])
    model = SequenceBPE(4, least=1).fit([[0, 1, 0, 1]])
    with pytest.raises(InputError, match="holds event 2"):
        model.encode([2])
    with pytest.raises(InputError, match="in a vocabulary of"):
        model.decode([99])


def test_the_report_counts() -> None:
    model = SequenceBPE(3, least=1).fit([[0, 1] * 10])
    table = np.eye(3)
    report = model.report([[0, 1, 0, 1, 0]], table=table)
    assert (report.events, report.symbols, report.used, report.vocabulary) == (5, 3, 2, 3)
    assert report.reduction == pytest.approx(0.4) and report.mean_length == 1.5
    assert report.evenness == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(3))
    assert report.cosine == pytest.approx(0)
    round_table = np.concatenate((table, -table))
    assert isotropy(round_table) == pytest.approx(1)
    narrow = table + 3
    assert isotropy(narrow) < 0.3
    assert mean_cosine(narrow) == pytest.approx(narrow[0] @ narrow[1] / (narrow[0] @ narrow[0]))


def test_bytes_merge_as_in_the_tokenizers_package() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    text = real_text()
    model = ByteBPE(1500).fit(text)

    def wide(raw: bytes) -> str:  # one character a byte, in the order of the bytes, so that ties fall alike
        return "".join(chr(0x4E00 + byte) for byte in raw)

    lines = [" ".join(map(wide, model._split(t.encode()))) for t in text]
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=list(wide(bytes(range(256)))), min_frequency=2, show_progress=False
    )
    other.train_from_iterator(lines, trainer)
    spec = json.loads(other.to_str())["model"]
    ids = spec["vocab"]
    assert model.merges_.tolist() == [[ids[a], ids[b], ids[a + b]] for a, b in spec["merges"]]
    found = other.encode_batch(lines)
    assert [ids.tolist() for ids in model.encode_batch(text)] == [encoding.ids for encoding in found]


def real_text() -> list[str]:
    folder = os.environ.get("SEMEME_DATA")
    file = Path(folder) / "wikitext2" / "test.txt.gz" if folder else None
    if file is None or not file.exists():
        return TEXT
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return lines.read()[:200_000].splitlines(keepends=True)


def test_the_exported_tokenizer_gives_the_same_ids_and_text(tmp_path: Path) -> None:
    for words in (True, False):
        model = ByteBPE(400, words=words).fit(TEXT)
        exported = model.tokenizer()
        for text in [*TEXT[:6], "unseen Žluťoučký kůň 1234 !!", "  "]:
            ids = model.encode(text)
            assert exported.encode(text).ids == ids
            assert exported.decode(ids) == model.decode(ids) == text
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=exported)
    assert fast(TEXT[0])["input_ids"] == model.encode(TEXT[0])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_come_back(raw: bytes) -> None:
    for model in _fitted:
        assert model.decode_bytes(model.encode(raw)) == raw
        assert model.decode(model.encode(raw)) == recover(raw)


_fitted = [ByteBPE(300, words=words).fit(TEXT) for words in (True, False)]


def most_characters(raw: bytes) -> int:
    """The paper's recurrence, literally."""
    best = [0] * (len(raw) + 1)
    for k in range(1, len(raw) + 1):
        best[k] = best[k - 1]
        for t in range(1, min(4, k) + 1):
            try:
                valid = len(raw[k - t : k].decode()) == 1
            except UnicodeDecodeError:
                valid = False
            best[k] = max(best[k], best[k - t] + valid)
    return best[-1]


shards = [b"\xe2\x82\xac", b"\xe2", b"\x82", b"\xf0\x9f\x99\x82", b"\xf0\x9f", b"a", b"\xc3\xa9", b"\xed\xa0\x80"]
broken = st.one_of(st.binary(max_size=24), st.lists(st.sampled_from(shards)).map(b"".join))


@settings(max_examples=400, deadline=None)
@given(broken)
def test_recovery_finds_as_many_characters_as_dynamic_programming(raw: bytes) -> None:
    text = recover(raw)
    assert len(text) == most_characters(raw)
    at = 0
    for character in text:  # and every one of them, in order
        at = raw.index(character.encode(), at) + len(character.encode())


def test_saving_and_opening(tmp_path: Path) -> None:
    events = SequenceBPE(8, isolated=(0,), least=1).fit([[0, 1, 2, 1, 2, 3, 1, 2]])
    opened = SequenceBPE.open(events.save(tmp_path / "events.json"))
    assert opened.get_params() == events.get_params()
    assert opened.encode([1, 2, 0]).tolist() == events.encode([1, 2, 0]).tolist()
    letters = ByteBPE(400).fit(TEXT)
    path = letters.save(tmp_path / "bytes.json")
    assert ByteBPE.open(path).encode(TEXT[0]) == letters.encode(TEXT[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bytes.json", "events.json"]
    with pytest.raises(InputError, match="not a sememe-bpe file of events"):
        SequenceBPE.open(path)
    with pytest.raises(InputError, match="cannot write"):
        letters.save(tmp_path / "missing" / "x.json")


def test_damaged_vocabularies_are_refused(tmp_path: Path) -> None:
    path = ByteBPE(300).fit(TEXT).save(tmp_path / "v.json")
    content = json.loads(path.read_text())
    doubling = [[256 + i, 256 + i] for i in range(-1, 60)]
    changes = [
        {"version": 2}, {"format": "x"}, {"base": 0}, {"base": "x"}, {"base": 300}, {"parameters": {"odd": 1}},
        {"parameters": []}, {"merges": [[0, 400]]}, {"merges": [[0, -1]]}, {"merges": [[0]]}, {"merges": [[True, 1]]},
        {"merges": 3}, {"merges": doubling},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError):
            ByteBPE.open(path)
    generator = np.random.default_rng(0)
    good = json.dumps(content).encode()
    for _ in range(100):
        raw = bytearray(good)
        for at in generator.integers(len(raw), size=3):
            raw[at] = generator.integers(256)
        path.write_bytes(raw[: generator.integers(len(raw))] if generator.random() < 0.3 else raw)
        try:
            ByteBPE.open(path)
        except InputError:
            continue


def test_the_context_reads_what_it_says() -> None:
    torch = pytest.importorskip("torch")
    from sememe.vocab.byte_context import byte_context

    ids = torch.randint(0, 300, (2, 12))
    for kind in ("conv", "gru"):
        for causal in (True, False):
            layer = byte_context(300, 8, kind, causal=causal).double()
            if kind == "conv":
                assert torch.equal(layer(ids), layer.embedding(ids))  # until it has learned something
                torch.nn.init.normal_(layer.mix.weight)
            changed = ids.clone()
            changed[:, 6] = (changed[:, 6] + 1) % 300
            moved = (layer(ids) != layer(changed)).any(-1).any(0)
            places = torch.arange(12)
            reach = {"conv": 5 if causal else 3, "gru": 12}[kind]
            expected = ((places >= 6) if causal else (places >= 6 - reach + 1)) & (places < 6 + reach)
            assert torch.equal(moved, expected)
            alone = torch.cat([layer(ids[:1]), layer(ids[1:])])
            assert torch.allclose(alone, layer(ids)) or kind == "gru"
            assert layer(ids[:, :0]).shape == (2, 0, 8)
            layer(ids).square().sum().backward()
            assert all(parameter.grad is not None for parameter in layer.parameters())
    table = layer.weight
    assert table.shape == (300, 8) and layer.num_embeddings == 300
    with pytest.raises(InputError, match="no context of kind"):
        byte_context(300, 8, "mean")
    with pytest.raises(InputError, match="both sides"):
        byte_context(300, 8, width=4, causal=False)
