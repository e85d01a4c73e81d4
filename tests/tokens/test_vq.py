"""Classes of words against brute force, and the model that attends by class."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, SmallLM, seeded  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402
from sememe.tokens.vq import StructureVQ, SystematicLM, slot_classes  # noqa: E402

WORDS = ["walk", "run", "look", "jump", "left", "right", "twice", "thrice", "and", "after"]
PLACE = {word: number for number, word in enumerate(WORDS)}


def sentences(count: int = 600, seed: int = 0) -> list[list[int]]:
    """Verb, perhaps a direction, perhaps a number, perhaps another such; ``jump`` stands alone."""
    generator = np.random.default_rng(seed)

    def part() -> list[str]:
        found = [str(generator.choice(WORDS[:3]))]
        found += [str(generator.choice(WORDS[4:6]))] if generator.random() < 0.5 else []
        return found + ([str(generator.choice(WORDS[6:8]))] if generator.random() < 0.5 else [])

    out = [
        part() + ([str(generator.choice(WORDS[8:])), *part()] if generator.random() < 0.6 else []) for _ in range(count)
    ]
    out += [[word] for word in ("jump",) * 40 + ("walk", "run", "look") * 20]
    return [[PLACE[word] for word in sentence] for sentence in out]


def likelihood(documents: list[list[int]], codes: np.ndarray, count: int) -> float:
    """Log-likelihood of the class bigram model, counted pair by pair."""
    known = [*codes.tolist(), int(codes.max()) + 1]
    pairs: dict[tuple[int, int], int] = {}
    words: dict[int, int] = {}
    for ids in documents:
        row = [count, *ids, count]
        for a, b in itertools.pairwise(row):
            pairs[known[a], known[b]] = pairs.get((known[a], known[b]), 0) + 1
            words[b] = words.get(b, 0) + 1
    left: dict[int, int] = {}
    right: dict[int, int] = {}
    for (a, b), number in pairs.items():
        left[a] = left.get(a, 0) + number
        right[b] = right.get(b, 0) + number
    total = sum(n * math.log(n / left[a]) for (a, _), n in pairs.items())
    return total + sum(n * math.log(n / right[known[w]]) for w, n in words.items())


def test_words_that_take_the_same_places_share_a_class() -> None:
    codes = slot_classes(sentences(), len(WORDS), 4)
    groups = [{WORDS[i] for i in np.flatnonzero(codes == c)} for c in range(4)]
    assert {"left", "right"} in groups
    assert {"twice", "thrice"} in groups
    assert {"and", "after"} in groups
    assert {"walk", "run", "look", "jump"} in groups


def test_no_single_move_makes_the_text_likelier() -> None:
    documents = sentences(200, seed=3)
    codes = slot_classes(documents, len(WORDS), 3)
    best = likelihood(documents, codes, len(WORDS))
    for word in range(len(WORDS)):
        for other in range(3):
            changed = codes.copy()
            changed[word] = other
            if len(set(changed.tolist())) == 3:
                assert likelihood(documents, changed, len(WORDS)) <= best + 1e-6


def test_symbols_that_do_not_occur_and_ids_that_do_not_exist() -> None:
    assert slot_classes([[0, 1], [0, 1]], 5, 2)[2:].tolist() == [0, 0, 0]
    assert slot_classes([], 3, 2).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="ids from"):
        slot_classes([[7]], 5, 2)


def test_quantized_vectors_are_class_means_and_teach_all_rows_of_the_class() -> None:
    layer = StructureVQ(Vocabulary(WORDS), 6, classes=4).learn_classes(sentences())
    ids = torch.tensor([[0, 3], [4, 8]])
    codes = layer.codes.long()
    for row, word in ((0, 0), (0, 3)):
        wanted = layer.weight[codes == codes[word]].mean(0)
        torch.testing.assert_close(layer.quantized(ids)[row, 0 if word == 0 else 1], wanted)
    assert torch.equal(layer.quantized(torch.tensor([0])), layer.quantized(torch.tensor([3])))
    layer.quantized(torch.tensor([3])).sum().backward()
    assert (layer.weight.grad[:4] != 0).all() and not layer.weight.grad[4:].any()
    before = float(layer.commitment().detach())
    with torch.no_grad():
        layer.weight.copy_(layer.centres()[codes])
    assert before > 0 and float(layer.commitment().detach()) == pytest.approx(0, abs=1e-12)


def systematic(strength: float | None = None) -> SystematicLM:
    with seeded(0):
        layer = StructureVQ(Vocabulary(WORDS), 16, classes=4).learn_classes(sentences())
        return SystematicLM(layer, "free", shape=Shape(dim=16, layers=2, heads=2, context=12), strength=strength)


def test_sentences_of_one_structure_are_attended_to_alike() -> None:
    model = systematic().eval()
    seen: list[object] = []
    weights = model._weights
    model._weights = lambda q, k, bias: seen.append(weights(q, k, bias)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    a, b, c = (
        torch.tensor([[PLACE[w] for w in text.split()]])
        for text in ("walk left twice", "jump right thrice", "walk and run")
    )
    for ids in (a, b, c):
        model.states(ids)
    assert all(torch.equal(x, y) for x, y in zip(seen[:2], seen[2:4]))
    assert not all(torch.equal(x, y) for x, y in zip(seen[:2], seen[4:]))
    assert not torch.equal(model.states(a), model.states(b))  # the words themselves are gathered


def test_with_classes_of_one_word_it_is_the_plain_model() -> None:
    with seeded(1):
        layer = StructureVQ(Vocabulary(WORDS), 16, classes=10)
        layer.codes.copy_(torch.arange(10))
        ours = SystematicLM(layer, "free", shape=Shape(dim=16, layers=2, heads=2, context=12))
        plain = SmallLM(layer, "free", shape=Shape(dim=16, layers=2, heads=2, context=12))
    plain.load_state_dict(ours.state_dict())
    ids = torch.randint(10, (3, 7))
    torch.testing.assert_close(ours.eval()(ids), plain.eval()(ids), rtol=1e-4, atol=1e-5)
    soft = SystematicLM(layer, plain.head, shape=Shape(dim=16, layers=2, heads=2, context=12), strength=1.0)
    soft.load_state_dict(ours.state_dict())
    torch.testing.assert_close(soft.train().nll(ids), plain.nll(ids), rtol=1e-4, atol=1e-5)  # nothing to add


@pytest.mark.parametrize("strength", [None, 0.5])
def test_it_cannot_see_what_comes(strength: float | None) -> None:
    model = systematic(strength).eval()
    ids = torch.randint(10, (1, 8))
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 10
    a, b = model(ids), model(changed)
    torch.testing.assert_close(a[:, :6], b[:, :6])
    assert not torch.allclose(a[:, 6:], b[:, 6:])


def test_the_softer_form_adds_a_divergence_in_training_only() -> None:
    model = systematic(2.0)
    ids = torch.randint(10, (2, 6), generator=torch.Generator().manual_seed(0))
    added = model.train().nll(ids) - model.eval().nll(ids)
    assert float(added.detach().min()) > 0
    torch.testing.assert_close(added, added[0, 0].expand_as(added), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="strength"):
        systematic(-1.0)
