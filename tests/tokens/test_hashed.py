"""Hashed layers against their definitions written as slow loops."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.tokens.dynamic_hash import DynamicHashEmbedding  # noqa: E402
from sememe.tokens.hashed import HashBucketEmbedding, HashDigestEmbedding  # noqa: E402
from sememe.tokens.multi_hash import MultiHashEmbed, features  # noqa: E402
from sememe.tokens.ngrams import Strings, distinct, mix, ranges  # noqa: E402
from sememe.tokens.trigram import TrigramHashEmbedding, TrigramHead, join_words, split_words  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

WORDS = [
    "the",
    "House",
    "house",
    "houses",
    "a",
    "",
    "été",
    "мир",
    "北京",
    "😀",
    "1984",
    "İstanbul",
    "x" * 70,
    "banana",
    " ",
]
MASK = (1 << 64) - 1


def text_of(strings: Strings) -> list[str]:
    return ["".join(map(chr, strings.points[a:b])) for a, b in zip(strings.offsets, strings.offsets[1:])]


def slow_mix(value: int, salt: int = 0) -> int:
    x = (value + (salt + 1) * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def slow_gram(gram: str) -> int:
    """The hash of an n-gram, one character after the other."""
    folded = 0
    for letter in gram:
        folded = (folded * 0x5851F42D4C957F2D + slow_mix(ord(letter))) & MASK
    return slow_mix((folded + len(gram)) & MASK)


def test_strings_and_bytes_are_read_alike_and_broken_bytes_stay_distinct() -> None:
    assert text_of(Strings.of(WORDS)) == WORDS
    assert text_of(Strings.of([word.encode() for word in WORDS])) == WORDS
    broken = Strings.of([b"\xff", b"\xfe", b"\xe5\x8c", b"\xe5"])
    assert len({int(value) for value in broken.hashes()}) == 4
    assert len(Strings.of([])) == 0
    assert Strings.of([]).hashes().shape == (0,)


def test_parts_of_strings() -> None:
    strings = Strings.of(["  Two Words", "a", "", "   ", "AbC12345!", "xxxxxxX"])
    assert text_of(strings.stripped()) == ["Two Words", "a", "", "   ", "AbC12345!", "xxxxxxX"]
    assert text_of(strings.head(2)) == ["  ", "a", "", "  ", "Ab", "xx"]
    assert text_of(strings.tail(3)) == ["rds", "a", "", "   ", "45!", "xxX"]
    assert text_of(strings.padded("#"))[:3] == ["#  Two Words#", "#a#", "##"]
    assert text_of(strings.shape()) == ["  Xxx Xxxxx", "x", "", "   ", "XxXdddd!", "xxxxX"]
    assert text_of(strings.lower())[0] == "  two words"


@pytest.mark.parametrize(("least", "most"), [(1, 1), (3, 3), (2, 4), (5, 9)])
def test_ngrams_are_those_of_a_loop(least: int, most: int) -> None:
    strings = Strings.of(WORDS)
    owner, hashes, starts = strings.grams(least, most)
    everything = "".join(WORDS)
    found = sorted((int(o), int(h)) for o, h in zip(owner, hashes))
    wanted = sorted(
        (row, slow_gram(word[place : place + size]))
        for row, word in enumerate(WORDS)
        for size in range(least, most + 1)
        for place in range(len(word) - size + 1)
    )
    assert found == wanted
    assert (np.diff(owner) >= 0).all()
    assert all(slow_gram(everything[s : s + least]) == h for s, h in zip(starts, hashes) if least == most)
    kept = distinct(owner, hashes)
    assert sorted(set(wanted)) == sorted((int(owner[k]), int(hashes[k])) for k in kept)


def test_ranges_and_mixing() -> None:
    assert ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    values = np.arange(2_000, dtype=np.uint64)
    assert [int(v) for v in mix(values, 3)[:50]] == [slow_mix(v, 3) for v in range(50)]
    assert len(np.unique(mix(values))) == 2_000


def test_md5_buckets_are_the_digest_modulo_the_rows() -> None:
    for rows in (1, 7, 4_096, 99_991, 2**31 - 1):
        layer = HashBucketEmbedding(Vocabulary(["a"]), 1, rows=min(rows, 50), hashes=1)
        layer.rows = rows
        wanted = [int(hashlib.md5(word.encode()).hexdigest(), 16) % rows for word in WORDS]
        assert layer.buckets(WORDS)[:, 0].tolist() == wanted


def test_lsh_buckets_are_smallest_hashes_and_meet_as_often_as_ngrams_overlap() -> None:
    layer = HashBucketEmbedding(Vocabulary(WORDS), 4, rows=1_000, method="lsh", hashes=3)

    def grams(word: str) -> set[str]:
        padded = f" {word} "
        return {padded[i : i + n] for n in (2, 3, 4) for i in range(len(padded) - n + 1)}

    for row, word in enumerate(WORDS):
        wanted = [min(slow_mix(slow_gram(g), j) for g in grams(word)) % 1_000 for j in range(3)]
        assert layer.buckets(WORDS)[row].tolist() == wanted
    many = HashBucketEmbedding(Vocabulary(["a"]), 1, rows=100_000, method="lsh", hashes=64)
    found = many.buckets(["government", "goverment", "weather"])
    a, b, c = grams("government"), grams("goverment"), grams("weather")
    assert np.mean(found[0] == found[1]) == pytest.approx(len(a & b) / len(a | b), abs=0.2)
    assert np.mean(found[0] == found[2]) == pytest.approx(len(a & c) / len(a | c), abs=0.1)


def test_narrow_rows_are_added_and_then_projected() -> None:
    layer = HashBucketEmbedding(Vocabulary(WORDS), 6, rows=40, hashes=3, rank=2)
    narrow, projection = layer.weight.detach().numpy(), layer.projection.detach().numpy()
    for word, rows, vector in zip(WORDS, layer.buckets(WORDS), layer.table().numpy()):
        wanted = layer.scale * sum(narrow[row] for row in rows) @ projection
        np.testing.assert_allclose(vector, wanted, rtol=1e-5, atol=1e-7, err_msg=word)
        np.testing.assert_allclose(layer.embed([word]).detach().numpy()[0], wanted, rtol=1e-5, atol=1e-7)
    assert layer.num_parameters == 40 * 2 + 2 * 6


def test_narrow_rows_are_fitted_as_well_as_their_rank_allows() -> None:
    words = [f"word{number}" for number in range(200)]
    made = HashBucketEmbedding(Vocabulary(words), 12, rows=30, hashes=2, rank=3)
    table = made.table()
    again = HashBucketEmbedding(Vocabulary(words), 12, rows=30, hashes=2, rank=3).fit(table)
    assert again.fit_ is not None and again.fit_.error < 1e-4
    # of a table of full rank: the leading directions of the least-squares fit, by another way
    table = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    code = np.zeros((200, 30))
    np.add.at(code, (np.repeat(np.arange(200), 2), made.buckets(words).ravel()), made.scale)
    full = code @ np.linalg.lstsq(code, table.numpy(), rcond=None)[0]
    u, s, v = np.linalg.svd(full, full_matrices=False)
    best = ((table.numpy() - (u[:, :3] * s[:3]) @ v[:3]) ** 2).sum()
    rebuilt = ((table - again.fit(table).table()) ** 2).sum().item()
    assert rebuilt == pytest.approx(best, rel=1e-3)


def test_a_small_budget_buys_narrow_rows_and_a_large_one_whole_ones() -> None:
    vocabulary = Vocabulary([f"word{number}" for number in range(5_000)])
    for share, narrow in ((0.01, True), (0.1, True), (0.3, False)):
        layer = tokens.build("hash-bucket", vocabulary, 64, f"{share:.0%}")
        assert layer.size == pytest.approx(share * 5_000 * 64, rel=0.02)
        assert (layer.rank > 0) == narrow
        assert not narrow or layer.rows == pytest.approx(1_000, rel=0.35)
    assert tokens.build("hash-bucket", vocabulary, 64, "10%", rank=0).rows == 500


def naive_trigram_rows(word: str, rows: int, hashes: int, lower: int, salt: int = 0) -> list[int]:
    """Rows of a word, string by string: what a layer without preparation does for every token of every batch."""
    padded = f" {word} "
    small = "".join(c.lower() if len(c.lower()) == 1 else c for c in padded)
    found = []
    for gram in {padded[i : i + 3]: small[i : i + 3] for i in range(len(padded) - 2)}.items():
        found += [slow_mix(slow_gram(gram[0]), salt + j) % rows for j in range(hashes - lower)]
        folded, power = 0, 1
        for letter in gram[1]:
            folded = (folded + slow_mix(ord(letter)) * power) & MASK
            power = (power * 0x5851F42D4C957F2D) & MASK
        number = slow_mix((folded + 3) & MASK)
        found += [slow_mix(number, (1 << 32) + salt + j) % rows for j in range(lower)]
    return found


def naive_trigram_forward(layer: TrigramHashEmbedding, pieces: list[str], ids: list[list[int]]) -> object:
    """The layer as a loop over tokens that hashes each string when it comes: the twin that benchmarks compare with."""
    out = [
        [
            layer.scale * sum((layer.weight[r] for r in rows), torch.zeros(layer.embedding_dim))
            for rows in (naive_trigram_rows(pieces[i], layer.rows, layer.hashes, layer.lower, layer.salt) for i in row)
        ]
        for row in ids
    ]
    return torch.stack([torch.stack(row) for row in out])


def test_trigram_vectors_are_those_of_a_loop_over_strings() -> None:
    layer = TrigramHashEmbedding(Vocabulary(WORDS), 8, rows=500, hashes=4, lower=1, salt=2)
    ids = [list(range(len(WORDS))), [1, 1, 2] + [0] * (len(WORDS) - 3)]
    torch.testing.assert_close(layer(torch.tensor(ids)), naive_trigram_forward(layer, WORDS, ids))
    assert not layer(torch.tensor([WORDS.index("")])).any()


def test_words_that_differ_in_case_share_the_rows_that_are_blind_to_it() -> None:
    layer = TrigramHashEmbedding(Vocabulary(["house", "HOUSE"]), 4, rows=100_000, hashes=10, lower=3)
    rows = [set(part.tolist()) for part in layer.bag_rows.split(layer.bag_offsets.diff().tolist())]
    assert len(rows[0] & rows[1]) == 5 * 3


@pytest.mark.parametrize("name", ["hash-bucket", "hash-digest", "trigram-hash", "dynamic-hash", "multi-hash"])
def test_any_string_has_the_vector_it_would_have_in_a_vocabulary(name: str) -> None:
    strange = ["zyzzyva", "Übermut", "", "\udcff", "new words", "数学"]
    small, large = tokens.build(name, ["a"], 16), tokens.build(name, [*strange, "a"], 16)
    found = small.embed(strange)
    assert found.shape == (6, 16)
    if name in ("hash-digest", "multi-hash"):
        large.load_state_dict(small.state_dict())
    elif name != "dynamic-hash":  # the scale follows the vocabulary, the rows do not
        with torch.no_grad():
            large.weight.copy_(small.weight * small.scale / large.scale)
    torch.testing.assert_close(found, large(torch.arange(6)))


def test_the_projected_digest_has_the_papers_99_1_thousand_parameters() -> None:
    layer = HashDigestEmbedding(Vocabulary(["word"]), 768)
    assert layer.num_parameters == 99_072
    bits = bin(int(hashlib.md5(b"word").hexdigest(), 16))[2:].zfill(128)
    signs = torch.tensor([1.0 if bit == "1" else -1.0 for bit in bits])
    torch.testing.assert_close(layer(torch.tensor([0]))[0], signs @ layer.weight + layer.bias)


def test_pooled_and_added_bits() -> None:
    pooled = HashDigestEmbedding(Vocabulary(["word", "other"]), 16, combine="pool", width=16)
    digest = int(hashlib.md5(b"word").hexdigest(), 16)
    bits = f"{digest:0128b}" + "".join(f"{slow_mix(digest & MASK, number):064b}" for number in (1, 2))
    wanted = torch.tensor([sum(1 if b == "1" else -1 for b in bits[16 * i : 16 * i + 16]) / 4 for i in range(16)])
    torch.testing.assert_close(pooled(torch.tensor([0]))[0], wanted * pooled.stretch + pooled.move)
    added = HashDigestEmbedding(Vocabulary(["government", "governments", "weather"]), 256, combine="add").features
    grams = [slow_gram(" weather "[i : i + n]) for n in (2, 3, 4) for i in range(10 - n)]
    for bit in (0, 63, 64, 200):
        wanted = sum(1 if slow_mix(gram, bit // 64) >> bit % 64 & 1 else -1 for gram in grams) / len(grams) ** 0.5
        assert float(added[2, bit]) == pytest.approx(wanted)
    near, far = (torch.cosine_similarity(added[0], added[k], dim=0) for k in (1, 2))
    assert near > 0.7 > 0.3 > far


def test_dynamic_vectors_are_those_of_a_loop_over_ngrams() -> None:
    layer = DynamicHashEmbedding(Vocabulary(WORDS), 6, least=1, most=3, salt=5)
    places = [slow_mix(i, 5) | 1 for i in range(6)]
    for row, word in enumerate(WORDS):
        padded = f" {word} "
        grams = [padded[i : i + n] for n in (1, 2, 3) for i in range(len(padded) - n + 1)]
        wanted = []
        for place in places:
            total = 0.0
            for gram in grams:
                folded = 0
                for letter in gram:
                    folded = (folded * place + slow_mix(ord(letter), 5)) & MASK
                total += ((folded - (1 << 64) if folded >> 63 else folded) >> 40) / 2**23
            wanted.append(total / len(grams))
        torch.testing.assert_close(layer(torch.tensor([row]))[0], torch.tensor(wanted), rtol=1e-4, atol=1e-6)


def test_dynamic_components_are_spread_evenly_and_independent() -> None:
    letters = [a + b + c for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyzabcd"]
    layer = DynamicHashEmbedding(Vocabulary(letters), 32, least=5, most=5, cached=True)
    table = layer.table()
    assert float(table.abs().max()) <= 1
    assert float(table.mean()) == pytest.approx(0, abs=0.02)
    assert float(table.var()) == pytest.approx(1 / 3, rel=0.05)
    assert torch.corrcoef(table.T).fill_diagonal_(0).abs().max() < 0.15
    assert layer.num_parameters == layer.num_bytes == 0


def test_features_and_mixing_are_those_of_their_definition() -> None:
    pieces = [" The", "the", "McDonald's", "U.S.", "2024", "", "Straße"]
    norm, prefix, suffix, shape = (text_of(part) for part in features(pieces))
    assert norm == [" the", "the", "mcdonald's", "u.s.", "2024", "", "straße"]
    assert prefix == ["T", "t", "M", "U", "2", "", "S"]
    assert suffix == ["The", "the", "d's", ".S.", "024", "", "aße"]
    assert shape == ["Xxx", "xxx", "XxXxxxx'x", "X.X.", "dddd", "", "Xxxxx"]
    layer = MultiHashEmbed(Vocabulary(pieces), 8, rows=[50, 10, 20, 20], hashes=2, width=4, pieces=3)
    places = layer.buckets(pieces)
    assert (places.max(axis=(0, 2)) < np.array([50, 10, 20, 20])).all()
    row = torch.cat([layer.tables[f][places[2, f]].sum(0) for f in range(4)])
    lines = (layer.mix.weight @ row + layer.mix.bias).view(3, 8)
    torch.testing.assert_close(layer(torch.tensor([2]))[0], layer.norm(lines.max(0).values))


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        "a  b   c",
        "x²y 3 14.15\n\tEnd",
        " lead and trail ",
        "",
        "हिन्दी में",
        "你好 world_wide",
        "-- -- a",
    ],
)
def test_words_joined_are_the_text(text: str) -> None:
    assert join_words(split_words(text)) == text


def test_words_are_split_at_white_space_digits_and_marks() -> None:
    assert split_words("It's 42, or so.") == ["It", "'", "s", " ", "4", "2", ",", " ", "or", "so", "."]


def test_the_head_scores_by_likelihood_and_decodes_exact_patterns() -> None:
    dictionary = ["the", "they", "them", "The", "aa", "aaa", "北京", "."]
    head = TrigramHead(12, dictionary, rows=300, hashes=3, lower=1)
    layer = TrigramHashEmbedding(Vocabulary(dictionary), 4, rows=300, hashes=3, lower=1)
    patterns = head.patterns(torch.arange(len(dictionary)))
    for row, part in enumerate(layer.bag_rows.split(layer.bag_offsets.diff().tolist())):
        assert set(patterns[row].nonzero()[:, 0].tolist()) == set(part.tolist())
    states = torch.randn(5, 12)
    logits = head.logits(states)
    # log-likelihood of each pattern under independent answers, which scores must equal but for a constant
    exact = torch.nn.functional.logsigmoid(logits) @ patterns.T + torch.nn.functional.logsigmoid(-logits) @ (
        1 - patterns.T
    )
    off = head.scores(states) - exact
    torch.testing.assert_close(off, off[:, :1].expand_as(off), rtol=1e-4, atol=1e-4)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, patterns[[1, 1, 0, 7, 4]], reduction="none")
    torch.testing.assert_close(head.loss(states, torch.tensor([1, 1, 0, 7, 4])), loss.mean(1))
    told = TrigramHead(300, dictionary, rows=300, hashes=3, lower=1)
    with torch.no_grad():
        told.weight.copy_(torch.eye(300))
    assert told.decode(2 * patterns - 1) == dictionary
    told.set_dictionary(["them", "new"])
    assert told.decode(2 * patterns[2:3] - 1) == ["them"]
    assert told(torch.randn(2, 3, 300)).shape == (2, 3, 2)


def test_the_head_learns_patterns_by_yes_or_no() -> None:
    torch.manual_seed(0)
    dictionary = [f"word{i}" for i in range(40)]
    head, states = TrigramHead(16, dictionary, rows=200, hashes=4), torch.randn(40, 16)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(150):
        loss = head.loss(states, torch.arange(40)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(a == b for a, b in zip(head.decode(states), dictionary)) >= 36


def test_wrong_options_are_refused() -> None:
    vocabulary = Vocabulary(["a"])
    for bad in ({"method": "sha"}, {"hashes": 0}, {"rows": 0}):
        with pytest.raises(InputError):
            HashBucketEmbedding(vocabulary, 4, **bad)
    for bad in ({"combine": "mix"}, {"bits": 0}, {"width": 12}):
        with pytest.raises(InputError):
            HashDigestEmbedding(vocabulary, 4, **bad)
    for bad in ({"lower": 11}, {"salt": -1}):
        with pytest.raises(InputError):
            TrigramHashEmbedding(vocabulary, 4, **bad)
    with pytest.raises(InputError):
        TrigramHead(4, ["a", ""])
    with pytest.raises(InputError):
        DynamicHashEmbedding(vocabulary, 4, least=4, most=3)
    with pytest.raises(InputError):
        MultiHashEmbed(vocabulary, 4, rows=[1, 2, 3])


def test_a_vocabulary_is_prepared_without_a_loop_over_its_ngrams() -> None:
    """Forward hashes nothing: the hash functions may be gone."""
    layer = TrigramHashEmbedding(Vocabulary(WORDS), 8, rows=100)
    layer.bags = None  # type: ignore[assignment]
    assert layer(torch.arange(len(WORDS))).shape == (len(WORDS), 8)
    assert math.isclose(layer.scale, 1 / max(len(layer.bag_rows) / len(WORDS), 1))


@pytest.mark.parametrize("name", ["hash-bucket", "trigram-hash"])
def test_vectors_begin_as_long_as_those_of_a_plain_table_and_move_as_far(name: str) -> None:
    words = [f"word{number}" for number in range(2_000)]
    layer, plain = (tokens.build(kind, words, 64) for kind in (name, "table"))
    begun = layer.table()
    assert begun.norm(dim=1).mean() == pytest.approx(float(plain.table().norm(dim=1).mean()), rel=0.1)
    with torch.no_grad():
        layer.weight += 0.003  # all rows one way, as a common gradient moves them
    moved = (layer.table() - begun).mean()
    assert moved == pytest.approx(0.003, rel=0.05)
