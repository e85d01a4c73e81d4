"""Bags of pieces against the tokenizers library and exact sums, at every level that this machine has."""

import threading
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from sememe.kernels import bags, native, reference

COMPILED = [name for name in native.levels() if name != "numpy"]
needs_core = pytest.mark.skipif(not COMPILED, reason="the native core was not built here")
SPACE = "\u2581"
SEEDS = st.integers(0, 30)
MARKERS = ["<unk>", "<s>", "</s>"]
LETTERS = ["a", "b", "c", "<", "s", ">", "é", "日", "😀"]
TEXTS = st.lists(
    st.one_of(st.sampled_from([*LETTERS, " ", "  ", SPACE, "ab", "abc", *MARKERS, "\x00", "x"]), st.text(max_size=3)),
    max_size=30,
).map("".join)


@cache
def random_model(seed, merges=60):
    """Tokens and merges: any two tokens may merge unless a space would follow something else."""
    rng = np.random.default_rng(seed)
    tokens = [*MARKERS, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *LETTERS]
    grown, pairs = [SPACE, *LETTERS], []
    while len(pairs) < merges:
        left, right = (grown[i] for i in rng.integers(len(grown), size=2))
        if (SPACE in right and left.strip(SPACE)) or f"{left} {right}" in pairs or left + right in MARKERS:
            continue
        pairs.append(f"{left} {right}")
        if left + right not in tokens:
            tokens.append(left + right)
            grown.append(left + right)
    order = rng.permutation(len(pairs))
    return tokens, [pairs[i] for i in order]


@cache
def library(seed):
    """The same model in the tokenizers library."""
    tokens, merges = random_model(seed)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    made = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    made.add_special_tokens(MARKERS)
    return made


def table_for(rng, tokens, d, largest=8.0):
    table = rng.standard_normal((len(tokens), d)) * 10.0 ** rng.integers(-6, 1, (len(tokens), d))
    return (table / np.abs(table).max() * largest).astype(np.float16)


@needs_core
@settings(max_examples=200, deadline=None)
@given(SEEDS, st.lists(TEXTS, max_size=5))
def test_pieces_are_those_of_the_library_and_of_the_definition(seed, texts):
    tokens, merges = random_model(seed)
    oracle = library(seed)
    small = native.core().Bags(np.zeros((len(tokens), 8), np.uint16), 8, tokens, merges, [0, 1, 2], 1, 1)
    for _ in range(2):  # the second time from memory
        for text, ids in zip(texts, small.tokenize(texts)):
            assert ids == oracle.encode(text, add_special_tokens=False).ids
            assert ids == reference.byte_pairs(text, tokens, merges, [0, 1, 2])


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.lists(TEXTS, max_size=8), st.sampled_from([1, 5, 8, 64, 200, 256, 300]), st.booleans())
def test_rows_are_exact_sums_and_equal_at_every_level(seed, texts, d, normalize):
    rng = np.random.default_rng(seed)
    tokens, merges = random_model(seed)
    table = table_for(rng, tokens, d, largest=float(rng.choice([0.01, 8.0, 127.0])))
    ids = [reference.byte_pairs(text, tokens, merges, [0, 1, 2]) for text in texts]
    found = bags.rows(bags.whole(table), ids, normalize)
    assert found.shape == (len(texts), d) and found.dtype == np.float32
    for row, pieces in zip(found, ids):
        np.testing.assert_array_max_ulp(row, reference.bag(table, pieces, normalize).astype(np.float32), maxulp=1)
    for level in COMPILED:
        with native.using(level):
            compiled = bags.compiled(native.core(), table, d, tokens, merges, [0, 1, 2])
            np.testing.assert_array_equal(compiled.encode(texts, normalize, 1), found)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 4097, 20_000])
def test_long_bags_do_not_overflow(length):
    """The largest values that are allowed, all of one sign: a 32-bit sum would overflow at the second."""
    tokens, merges = random_model(0)
    table = np.full((len(tokens), 64), 127.9375, np.float16)
    ids = reference.byte_pairs("x" * (length - 1), tokens, merges, []) if length > 1 else [0]
    for bag in ([ids], [ids] * 5):
        np.testing.assert_array_equal(bags.rows(bags.whole(table), bag, False), 127.9375)
    for level in COMPILED:
        with native.using(level):
            compiled = bags.compiled(native.core(), table, 64, tokens, merges, [0, 1, 2])
            np.testing.assert_array_equal(compiled.encode(["x" * length], False, 1), 127.9375)


@needs_core
def test_a_leading_part_of_wider_rows():
    rng = np.random.default_rng(1)
    tokens, merges = random_model(1)
    table = table_for(rng, tokens, 256)
    texts = ["a bc", "", "日 <s> ab"]
    wide = native.core().Bags(table.view(np.uint16), 256, tokens, merges, [0, 1, 2], 4, 1).encode(texts, False, 1)
    narrow = native.core().Bags(table.view(np.uint16), 64, tokens, merges, [0, 1, 2], 4, 1).encode(texts, False, 1)
    np.testing.assert_array_equal(narrow, wide[:, :64])


@needs_core
def test_neither_memory_nor_threads_change_a_bit():
    rng = np.random.default_rng(2)
    tokens, merges = random_model(2)
    table = table_for(rng, tokens, 64)
    parts = ["ab", "abc", "a" * 31, "b" * 32, "é日", "x", "", "<s>", "sss>", "日日日日日日日日日日日", "😀 "]
    texts = [" ".join(rng.choice(parts, size=rng.integers(1, 40))) for _ in range(3000)]
    expected = bags.rows(
        bags.whole(table), [e.ids for e in library(2).encode_batch_fast(texts, add_special_tokens=False)], True
    )
    shared = native.core().Bags(table.view(np.uint16), 64, tokens, merges, [0, 1, 2], 1, 2)
    found: list = [None] * 6
    for threads in (1, 4, 2):
        np.testing.assert_array_equal(shared.encode(texts, True, threads), expected)

    def work(i):
        found[i] = shared.encode(texts[::-1] if i % 2 else texts, True, 1 + i % 3)[:: -1 if i % 2 else 1]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(found))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one in found:
        np.testing.assert_array_equal(one, expected)


@needs_core
def test_half_a_surrogate_pair_is_a_replacement_character():
    tokens, merges = random_model(3)
    made = native.core().Bags(np.zeros((len(tokens), 8), np.uint16), 8, tokens, merges, [], 1, 1)
    assert made.tokenize(["a\ud800b", "\udfff😀"]) == made.tokenize(["a\ufffdb", "\ufffd😀"])


@needs_core
def test_what_does_not_fit_together_is_refused():
    tokens, merges = random_model(4)
    core, zeros = native.core(), np.zeros((len(tokens), 8), np.uint16)
    good = [zeros, 8, tokens, merges, [0, 1, 2], 1, 1]
    wrong = {
        0: [zeros[:-1], np.full_like(zeros, np.float16(128).view(np.uint16)), np.full_like(zeros, 0x7E00)],
        1: [0, 9],
        2: [tokens[:-1], [t for t in tokens if t != "<0x41>"], [*tokens, *map(str, range(1 << 16))]],
        3: [[*merges, "a nothing"], ["ab"], [" a"], ["a "], [merges[0], merges[0]]],
        4: [[-1], [len(tokens)], [0, tokens.index("a")]],
        5: [0, 30],
        6: [0],
    }
    for place, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError):
                core.Bags(*good[:place], value, *good[place + 1 :])
    with pytest.raises(TypeError):
        core.Bags(*good).encode(["a", b"b"], True, 1)


def test_no_bags_are_no_rows():
    assert bags.rows(bags.whole(np.ones((3, 8), np.float16)), [], True).shape == (0, 8)
