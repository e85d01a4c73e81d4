"""Layers and models that read how symbols are spelled, against definitions written as slow loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from sememe.errors import InputError  # noqa: E402
from sememe.lab.data import batches, stream_of  # noqa: E402
from sememe.lab.model import Shape, Trunk, table  # noqa: E402
from sememe.lab.score import score_stream  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.tokens.byte_attention import ByteCrossAttention  # noqa: E402
from sememe.tokens.byte_words import END, begins  # noqa: E402
from sememe.tokens.char_dual import CharDualChannel, DualEncoder, Exchange, _disturbed  # noqa: E402
from sememe.tokens.char_mimic import CharMimic, MimickEmbedding, likeness  # noqa: E402
from sememe.tokens.hierarchical import HierarchicalByteWord  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402
from sememe.tokens.word_pooled import WordPooledTokens  # noqa: E402

PIECES = [bytes([byte]) for byte in range(256)] + [b" hello", b"world", b"", " мир".encode(), b"a" * 40]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(PIECES)


def test_byte_attention_is_attention(vocabulary: Vocabulary):
    layer = ByteCrossAttention(vocabulary, 12, width=8, heads=2, limit=6).double()
    for symbol in (65, 256, 257, 258, 259, 260):
        piece = list(PIECES[symbol][:6]) or [256]
        x = torch.stack([layer.bytes[byte] + layer.places[place] for place, byte in enumerate(piece)])
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = torch.stack([layer.queries[head] @ (layer.key.weight @ row)[part] for row in x]) / 2
            share = scores.softmax(0)
            heads.append(sum(s * (layer.value.weight @ row)[part] for s, row in zip(share, x)))
        expected = layer.out.weight @ (torch.cat(heads) + x.mean(0))
        torch.testing.assert_close(layer.vectors(torch.tensor([symbol]))[0], expected)
    with pytest.raises(InputError, match="multiple of heads"):
        ByteCrossAttention(vocabulary, 12, width=9, heads=2)


@pytest.mark.parametrize("kind", [CharMimic, MimickEmbedding])
def test_mimics_say_of_a_spelling_what_they_say_of_its_symbol(kind: type, vocabulary: Vocabulary):
    layer = kind(vocabulary, 12, width=16, limit=8).double().eval()
    known = torch.tensor([256, 257, 258, 65])
    torch.testing.assert_close(layer.of([PIECES[i] for i in known]), layer.vectors(known))
    alone = torch.cat([layer.vectors(symbol[None]) for symbol in known])
    torch.testing.assert_close(alone, layer.vectors(known))
    assert layer.of([]).shape == (0, 12)
    assert torch.equal(layer.of([b"a" * 8]), layer.of([b"a" * 9]))  # what is behind the limit is not read
    with pytest.raises(InputError, match="limit=0"):
        kind(vocabulary, 12, limit=0)


def test_mimick_is_an_lstm_both_ways(vocabulary: Vocabulary):
    layer = MimickEmbedding(vocabulary, 12, width=16, limit=8).double()
    piece = torch.tensor([256, *PIECES[257]])
    _, (last, _) = layer.lstm(F.embedding(piece, layer.bytes)[None])
    expected = layer.out(layer.up(torch.cat((last[0, 0], last[1, 0]))).tanh())
    torch.testing.assert_close(layer.vectors(torch.tensor([257]))[0], expected)


@pytest.mark.parametrize("kind", [CharMimic, MimickEmbedding])
def test_mimics_learn_a_rule_of_spelling_for_words_they_never_saw(kind: type):
    generator = np.random.default_rng(0)
    words = sorted({"".join(generator.choice(list("abcd"), size=3)) for _ in range(400)})  # all but a few of the 64
    generator.shuffle(words)
    rows = np.array([[word.count("a"), word.count("b"), len(set(word)), word[0] == "c"] for word in words], dtype=float)
    table_ = np.tile(rows, (1, 2)) * 0.05 + 1.0
    held = len(words) // 5
    layer = kind(Vocabulary(words[held:]), 8, width=16, limit=4, steps=100)
    layer.fit(table_[held:])
    assert layer.fit_.error < 0.4
    found = layer.of(words[:held]).numpy()
    error = np.square(found - table_[:held]).sum() / np.square(table_[:held] - table_[:held].mean(0)).sum()
    assert error < 0.7


def test_likeness_is_zero_for_equal_rows_only():
    rows = torch.randn(20, 6)
    assert float(likeness(rows, rows)) == pytest.approx(0, abs=1e-5)
    assert float(likeness(rows + 0.3 * torch.randn(20, 6), rows)) > 0.01
    assert float(likeness(rows[:2], rows[:2])) == pytest.approx(0, abs=1e-6)


# Words


def split(text: bytes, longest: int = 16) -> list[bytes]:
    starts = begins(torch.tensor([list(text)]), longest)[0].nonzero()[:, 0].tolist()
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)])]


def test_words_begin_where_the_rule_says():
    assert split(b"Hello, world!  It's 42 (ok)\n") == [
        b"Hello", b",", b" world", b"!", b" ", b" It", b"'", b"s", b" 42", b" (", b"ok", b")", b"\n",
    ]  # fmt: skip
    assert split("мир a".encode()) == ["мир".encode(), b" a"]
    assert split(b"abcdefgh ijk", 3) == [b"abc", b"def", b"gh", b" ij", b"k"]


MODELS = [
    lambda: WordPooledTokens(Shape(dim=16, layers=1, heads=2, context=64), slots=2),
    lambda: HierarchicalByteWord(Shape(dim=16, layers=1, heads=2, context=64)),
]


@pytest.mark.parametrize("make", MODELS)
def test_a_byte_costs_what_the_definition_says(make: object):
    torch.manual_seed(0)
    model = make().double().eval()  # type: ignore[operator]
    texts = [b"two words, and more.", b"a  much, much longer"]
    found = model.requires_grad_(False).nll(torch.tensor([list(text) for text in texts]))
    for row, text in enumerate(texts):
        words: list[bytes] = split(text)
        costs: list[list[float]] = []
        vectors = [model.read(torch.tensor([list(word)]), torch.tensor([len(word)]))[0] for word in words]
        for number, word in enumerate(words):
            known = torch.stack([model.start, *vectors[:number]])[None]
            state = model.backbone(known, causal=True)[0, -1]
            lead = model.split(state).view(1, model.slots, -1)
            symbols = [*word, END]
            x = torch.cat((lead, model.bytes[list(word)][None]), dim=1)
            logits = model.head(model.decoder(x, causal=True)[0, model.slots - 1 :]).log_softmax(-1)
            nats = [-float(logits[place, symbol]) for place, symbol in enumerate(symbols)]
            costs.append(nats)
        expected = []
        for number, nats in enumerate(costs):
            expected += [nats[0] + (costs[number - 1][-1] if number else 0.0), *nats[1:-1]]
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("make", MODELS)
def test_probabilities_of_all_texts_add_to_one_at_most_and_the_future_is_not_seen(make: object):
    torch.manual_seed(1)
    model = make().double().eval()  # type: ignore[operator]
    alphabet = torch.arange(256)
    two = torch.cartesian_prod(torch.tensor([65, 32, 44]), alphabet)
    with torch.no_grad():
        nats = model.nll(two)
        whole = (-nats[:, 1]).exp().view(3, 256).sum(1)  # what is missing are texts that are split otherwise
        assert bool(((whole <= 1 + 1e-9) & (whole > 0.1)).all())
        ids = torch.randint(256, (1, 30))
        other = ids.clone()
        other[0, 20] = (ids[0, 20] + 100) % 256
        torch.testing.assert_close(model.nll(ids)[0, :20], model.nll(other)[0, :20])


@pytest.mark.parametrize("make", MODELS)
def test_word_models_train_and_score_like_any_other(make: object):
    torch.manual_seed(0)
    model = make()  # type: ignore[operator]
    texts = ["the cat sat on the mat, the dog sat on the log. " * 20, "the cat sat on the log."]
    stream = stream_of(None, [list(text.encode()) for text in texts])
    before = score_stream(model, stream).value
    train(model, batches(stream, 2, 64), Recipe(steps=60, rate=1e-2))
    assert score_stream(model, stream).value < 0.5 * before
    right, first = model.exact(torch.tensor([list(b"the cat sat on the ")]))
    assert len(right) == len(first) == 6
    spelled = greedy(model, b"the cat sat on", 5)
    assert bool(right[4]) == (spelled == b" the")


@pytest.mark.parametrize("make", MODELS)
def test_what_is_no_byte_is_refused_and_no_text_costs_nothing(make: object):
    model = make()  # type: ignore[operator]
    for bad in (-1, 256):
        with pytest.raises(InputError, match=f"id {bad} is no byte"):
            model.nll(torch.tensor([[0, bad]]))
    assert model.nll(torch.zeros(3, 0, dtype=torch.long)).shape == (3, 0)
    together = model.nll(torch.tensor([list(b"ab, cd"), list(b"x    y")]))
    alone = torch.cat([model.nll(torch.tensor([list(text)])) for text in (b"ab, cd", b"x    y")])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("make", [*MODELS, lambda: _dual()])
def test_gradients_are_those_of_finite_differences(make: object):
    torch.manual_seed(2)
    model = make().double()  # type: ignore[operator]
    ids = torch.tensor([list(b"one, two three"), list(b"4 five's (six)")])

    def loss() -> object:
        torch.manual_seed(3)  # the same gaps
        return model.nll(ids).sum()

    loss().backward()  # type: ignore[attr-defined]
    slopes = [torch.randn_like(parameter) for parameter in model.parameters()]
    expected = sum(float((p.grad * s).sum()) for p, s in zip(model.parameters(), slopes) if p.grad is not None)
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, slope in zip(model.parameters(), slopes):
                parameter += step * slope
            ends.append(float(loss()))  # type: ignore[arg-type]
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(expected, rel=1e-4)


def _dual() -> DualEncoder:
    shape = Shape(dim=16, layers=1, heads=2, context=16)
    return DualEncoder(table(256, 16), CharDualChannel(Vocabulary(PIECES[:256]), 16, width=8), shape)


def greedy(model: object, text: bytes, most: int) -> bytes | None:
    """The next word, byte for byte, by always taking the likeliest; None where it does not end."""
    vectors = [model.read(torch.tensor([list(word)]), torch.tensor([len(word)]))[0] for word in split(text)]  # type: ignore[attr-defined]
    state = model.backbone(torch.stack([model.start, *vectors])[None], causal=True)[0, -1]  # type: ignore[attr-defined]
    lead = model.split(state).view(1, model.slots, -1)  # type: ignore[attr-defined]
    out: list[int] = []
    while len(out) < most:
        x = torch.cat((lead, model.bytes[out][None]), dim=1)  # type: ignore[attr-defined]
        symbol = int(model.head(model.decoder(x, causal=True)[0, -1]).argmax())  # type: ignore[attr-defined]
        if symbol == END:
            return bytes(out)
        out.append(symbol)
    return None


def test_a_backbone_of_ones_own_is_used():
    shape = Shape(dim=16, layers=3, heads=2, context=32)
    trunk = Trunk(shape, "learned")
    model = WordPooledTokens(shape, backbone=trunk)
    assert model.backbone is trunk
    assert torch.isfinite(model.nll(torch.randint(256, (2, 32)))).all()
    with pytest.raises(InputError, match="slots"):
        WordPooledTokens(shape, slots=3)


# Two channels


def test_the_second_channel_is_a_gru_over_all_bytes(vocabulary: Vocabulary):
    layer = CharDualChannel(vocabulary, 16, width=8, limit=6).double()
    ids = torch.tensor([[256, 257, 33, 258], [65, 66, 260, 67]])
    out = layer(ids)
    for row in range(2):
        line, ends = [], []
        for symbol in ids[row].tolist():
            piece = list(PIECES[symbol][:6]) or [256]
            ends.append((len(line), len(line) + len(piece) - 1))
            line += piece
        states = layer.gru(layer.bytes[line][None])[0][0]
        expected = torch.stack([torch.cat((states[a], states[b])) for a, b in ends])
        torch.testing.assert_close(out[row], expected)
    kept = layer(ids, torch.tensor([[True, True, False, False]] * 2))
    torch.testing.assert_close(kept[:, :2], layer(ids[:, :2]))
    assert not kept[:, 2:].any()
    assert layer(ids[:, :0]).shape == (2, 0, 16)
    with pytest.raises(InputError, match="no table"):
        layer.table()
    with pytest.raises(InputError, match="multiple of 4"):
        CharDualChannel(vocabulary, 18)
    with pytest.raises(InputError, match="id 261 "):
        layer(torch.tensor([[261]]))
    with pytest.raises(InputError, match="cannot be fitted"):
        layer.fit(np.zeros((261, 16)))


def test_disturbed_pieces_keep_their_length_and_change_two_bytes_at_most():
    pieces = torch.tensor([[*b"abcdef", 0, 0]] * 200)
    lengths = torch.full((200,), 6)
    out = _disturbed(pieces[None], lengths[None])[0]
    changed = (out != pieces).sum(1)
    assert int(changed.max()) <= 2
    assert float((changed > 0).float().mean()) > 0.9
    assert bool((out[:, 6:] == 0).all())
    one = _disturbed(torch.tensor([[[97, 0]]]), torch.tensor([[1]]))
    assert int(one[0, 0, 1]) == 0


def test_the_encoder_ignores_what_is_not_text_and_reads_a_gap_in_neither_channel(vocabulary: Vocabulary):
    shape = Shape(dim=16, layers=2, heads=2, context=8)
    model = DualEncoder(table(len(vocabulary), 16), CharDualChannel(vocabulary, 16), shape).double().eval()
    ids = torch.randint(len(vocabulary), (2, 6))
    keep = torch.arange(6) < torch.tensor([[4], [6]])
    torch.testing.assert_close(model.pooled(ids, keep)[:1], model.pooled(ids[:1, :4]))
    gaps = torch.zeros(2, 6, dtype=torch.bool)
    gaps[:, 2] = True
    other = ids.clone()
    other[:, 2] = (ids[:, 2] + 7) % len(vocabulary)
    for first, second in zip(model.states(ids, gaps=gaps), model.states(other, gaps=gaps)):
        torch.testing.assert_close(first, second)
    costs = model.train().nll(ids)
    assert costs.ndim == 1
    assert bool(torch.isfinite(costs).all())
    exchange = Exchange(8)
    assert [part.shape for part in exchange(torch.randn(2, 5, 8), torch.randn(2, 5, 8))] == [(2, 5, 8)] * 2
    with pytest.raises(InputError, match="share"):
        DualEncoder(model.embedding, model.channel, shape, share=0.6)
    with pytest.raises(InputError, match="dimensions"):
        DualEncoder(model.embedding, model.channel, Shape(dim=32))
