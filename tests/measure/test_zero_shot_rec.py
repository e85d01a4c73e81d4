"""Recommendation from text vectors: ranks by hand, popularity, and real co-imports of the standard library."""

import ast
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.zero_shot_rec import ZeroShotRecEval

ITEMS = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.7, 0.7]], dtype=np.float32)


def test_ranks_by_hand():
    result = ZeroShotRecEval("last", k=2).vectors(ITEMS, [[0, 1], [0, 3], [2, 0, 3]])
    # from item 0: 1, 4, 3, 2; from item 2 (0 was the last seen): 1 is nearest to 0
    assert result.recall.tolist() == [1.0, 0.0, 0.0]
    assert result.ndcg.tolist() == [1.0, 0.0, 0.0]
    mean = ZeroShotRecEval("mean", k=1).vectors(ITEMS, [[0, 2, 4]])
    assert mean.recall.tolist() == [1.0]


def test_a_constant_score_earns_no_more_than_chance():
    sessions = [[0, answer] for answer in (1, 2, 3, 4)]
    flat = ZeroShotRecEval(k=1).vectors(np.ones((5, 3), dtype=np.float32), sessions)
    assert flat.recall.sum() == 0
    popular = ZeroShotRecEval(k=1).popularity(5, sessions, [[3, 2, 3], [3]])
    assert popular.recall.tolist() == [0.0, 0.0, 1.0, 0.0]


def imports():
    """Sessions of real use: the standard library modules that each of its files imports, in order."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(root.glob("*.py")):
        tree = ast.parse(path.read_bytes())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        found.append(list(dict.fromkeys(name for name in names if "." not in name)))
    return found


def test_real_co_imports_follow_popularity_more_than_word_overlap_of_docstrings():
    from sememe.testing import HashingEncoder

    root = Path(sysconfig.get_path("stdlib"))
    docs = {p.stem: ast.get_docstring(ast.parse(p.read_bytes())) or p.stem for p in sorted(root.glob("*.py"))}
    places = {name: row for row, name in enumerate(docs)}
    sessions = [[places[name] for name in session if name in places] for session in imports()]
    sessions = [session for session in sessions if len(session) >= 3]
    assert len(sessions) > 40
    evaluator = ZeroShotRecEval("mean", k=10)
    vectors = HashingEncoder(256).encode(list(docs.values()))
    text = evaluator.vectors(vectors, sessions).estimate()["recall"]
    popular = evaluator.popularity(len(docs), sessions, sessions).estimate()["recall"]
    chance = 10 / len(docs)
    assert popular.low > 2 * chance
    assert text.high < popular.low
    assert set(evaluator.usage(vectors)) == {"isoscore", "participation"}


@pytest.mark.parametrize(
    ("sessions", "message"), [([], "no session"), ([[1]], "two items"), ([[0, 9]], "outside"), ([[-1, 0]], "outside")]
)
def test_bad_sessions_are_refused(sessions, message):
    with pytest.raises(InputError, match=message):
        ZeroShotRecEval().vectors(ITEMS, sessions)


def test_bad_query_kind_is_refused():
    with pytest.raises(InputError, match="mean"):
        ZeroShotRecEval("first")
