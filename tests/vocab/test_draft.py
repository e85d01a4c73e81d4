"""Drafts: the text is the model's own, whatever is drafted."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.vocab.draft import AdjacencyDraft, TrigramDraft, balanced
from sememe.vocab.tree_decoding import Tree, TreeModel, decode

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
SIZE = 40


@pytest.fixture(scope="module")
def model() -> Any:
    from sememe.lab import Shape, seeded, small_llama

    torch.set_num_threads(1)
    with seeded(0):
        made = small_llama(SIZE, Shape(dim=32, layers=2, heads=4, context=256))
    return made.model.double().eval()  # float64: no ties to the last digit


def plain(model: Any, prompt: list[int], length: int) -> list[int]:
    """Greedy decoding without a cache: the oracle."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(length):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


class Guessing:
    """Random trees with the right token in them now and then, and duplicates among siblings."""

    def __init__(self, truth: list[int], begin: int, seed: int) -> None:
        self.truth, self.start, self.draw = truth, begin, random.Random(seed)

    def begin(self, prompt: Any) -> None: ...

    def propose(self, context: Any) -> Tree:
        tree = Tree([], [])
        depths = [0]
        for _ in range(self.draw.randrange(12)):
            parent = self.draw.randrange(-1, len(tree))
            depth = depths[parent + 1] + 1
            at = len(context) - self.start + depth - 1
            right = self.truth[at] if at < len(self.truth) and self.draw.random() < 0.7 else self.draw.randrange(SIZE)
            tree.tokens.append(right)
            tree.parents.append(parent)
            depths.append(depth)
        return tree

    def learn(self, context: Any, accepted: Any, tree: Tree, logits: np.ndarray) -> None:
        assert logits.shape == (len(tree) + 1, SIZE)
        assert list(context[-len(accepted) :]) == list(accepted)


def test_any_tree_gives_the_text_of_plain_decoding(model: Any) -> None:
    taken = []
    for seed in range(8):
        prompt = random.Random(seed).choices(range(SIZE), k=3 + seed)
        truth = plain(model, prompt, 40)
        answer = decode(model, prompt, Guessing(truth, len(prompt), seed), length=40)
        assert answer.tokens == truth
        assert sum(answer.lengths) + 1 == 40
        taken.append(answer.accepted)
    assert max(taken) > 1.3


def test_logits_of_a_tree_are_those_of_its_paths(model: Any) -> None:
    prompt = [3, 1, 4, 1, 5]
    tree = Tree([9, 2, 6, 5, 3], [-1, 0, 0, -1, 2])
    reader = TreeModel(model)
    reader.begin(prompt)
    logits = reader.read(7, tree)
    for place in range(len(tree)):
        path, at = [], place
        while at >= 0:
            path.insert(0, tree.tokens[at])
            at = tree.parents[at]
        with torch.inference_mode():
            alone = model(input_ids=torch.tensor([[*prompt, 7, *path]])).logits[0, -1].numpy()
        assert np.allclose(logits[place + 1], alone, atol=1e-5)
    reader.keep([0, 2, 4], len(tree))
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([[*prompt, 7, 9, 6, 3, 8]])).logits[0, -1].numpy()
    assert np.allclose(reader.read(8, Tree([], []))[0], alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["trigram", "adjacency", "none"])
def test_both_tables_keep_the_text_and_learn_it(model: Any, kind: str) -> None:
    prompt = [5, 6, 7, 5, 6]
    truth = plain(model, prompt, 60)
    draft: Any = {"trigram": TrigramDraft(nodes=12), "adjacency": AdjacencyDraft(SIZE, 4, nodes=12), "none": None}[kind]
    first = decode(model, prompt, draft, length=60)
    again = decode(model, prompt, draft, length=60)
    assert first.tokens == again.tokens == truth
    if draft is None:
        assert again.accepted == pytest.approx(60 / 59)
    else:
        assert again.passes < first.passes or again.accepted > 2
        assert again.accepted > 1.5


def test_decoding_ends_at_the_stop_and_at_the_length(model: Any) -> None:
    prompt = [1, 2]
    truth = plain(model, prompt, 30)
    stop = truth[10]
    until = truth[: truth.index(stop) + 1]
    for draft in (None, Guessing(truth, 2, 0)):
        assert decode(model, prompt, draft, length=30, stop=stop).tokens == until
        assert decode(model, prompt, draft, length=1).tokens == truth[:1]
        assert decode(model, prompt, draft, length=7).tokens == truth[:7]
    with pytest.raises(InputError, match="prompt is empty"):
        decode(model, [])


def test_a_trigram_tree_follows_the_counts() -> None:
    draft = TrigramDraft(nodes=4, depth=3, explore=0.0).fit([[1, 2, 3, 4, 5]] * 3 + [[1, 2, 7, 8]])
    tree = draft.propose([0, 1, 2])
    assert tree.tokens[:3] == [3, 4, 5]
    assert tree.parents[:3] == [-1, 0, 1]
    assert 7 in tree.tokens
    assert tree.parents[tree.tokens.index(7)] == -1
    draft.learn([1, 2, 7, 7, 7], [7, 7, 7], Tree([], []), np.zeros((1, 9), dtype=np.float32))
    assert draft.propose([0, 1, 2]).tokens[0] == 7
    assert TrigramDraft().fit([[1, 2]]).propose([9, 9]).tokens == []


def test_exploring_widens_the_tree_where_little_was_seen() -> None:
    corpus = [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 9]]
    narrow, wide = (TrigramDraft(nodes=4, explore=e).fit(corpus * 4) for e in (0.0, 5.0))

    def branches(draft: TrigramDraft) -> int:
        return draft.propose([1, 2]).parents[:2].count(-1)

    assert branches(narrow) <= branches(wide)
    assert branches(wide) == 2


def test_the_matrix_holds_the_last_candidates_best_first() -> None:
    draft = AdjacencyDraft(6, 3, shape=[(0,), (1,), (0, 0)])
    logits = np.array([[0, 5, 4, 3, 0, 0], [9, 0, 0, 8, 7, 0]], dtype=np.float32)
    draft.learn([2, 1], [1], Tree([1], [-1]), logits)
    assert draft.matrix_[2].tolist() == [1, 2, 3]
    assert draft.matrix_[1].tolist() == [0, 3, 4]
    tree = draft.propose([2])
    assert (tree.tokens, tree.parents) == ([1, 2, 0], [-1, -1, 0])
    assert draft.propose([5]).tokens == []
    assert draft.bytes == 6 * 3 * 4


def test_the_default_shape_is_a_tree_sorted_by_depth() -> None:
    ways = balanced(8, 48)
    assert len(ways) == 48
    assert all(way[:-1] in ways or len(way) == 1 for way in ways)
    assert [len(way) for way in ways] == sorted(len(way) for way in ways)
    for shape in ([(0, 0)], [(9,)], [(0, 0), (0,)], [()]):
        with pytest.raises(InputError):
            AdjacencyDraft(20, 8, shape=shape)
    with pytest.raises(InputError):
        TrigramDraft(nodes=0)
