"""Measures: ours against trec_eval itself, formulas by hand, the stated rules, and TREC files."""

import gzip

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import InputError, UsageError
from sememe.measure.retrieval import Judged, evaluate, ndcg_from_gains, parse_metric, read_run, summarize, write_run

ALL = ("ndcg@10", "ndcg@3", "recall@5", "recall@100", "precision@5", "mrr@10", "mrr@2", "map@10", "success@3")


def random_case(seed, queries=12, documents=40, depth=15, grades=4):
    generator = np.random.default_rng(seed)
    ids = [f"d{i}" for i in range(documents)]
    names = [f"q{i}" for i in range(queries)]
    rows = np.stack([generator.permutation(documents)[:depth] for _ in names])
    qrels = {}
    for name in names:
        judged = generator.permutation(documents)[: generator.integers(1, 12)]
        qrels[name] = {ids[d]: int(generator.integers(-1, grades)) for d in judged}
    return names, ids, rows, qrels


@pytest.mark.parametrize("seed", range(8))
def test_bulk_measures_equal_trec_eval(seed):
    names, ids, rows, qrels = random_case(seed)
    judged = Judged(qrels, names, ids)
    bulk = judged.evaluate(rows, ALL)
    run = {name: [ids[d] for d in ranked] for name, ranked in zip(names, rows)}
    slow = evaluate(run, qrels, ALL)
    for metric in ALL:
        assert list(slow[metric]) == [name for name, keep in zip(names, judged.keep) if keep]
        np.testing.assert_allclose(bulk[metric][judged.keep], list(slow[metric].values()), atol=1e-12, err_msg=metric)


def test_evaluate_is_trec_eval_itself():
    names, ids, rows, qrels = random_case(99, grades=3)
    qrels = {q: {d: max(g, 0) for d, g in judged.items()} for q, judged in qrels.items()}
    run = {n: {ids[d]: float(100 - i) for i, d in enumerate(ranked)} for n, ranked in zip(names, rows)}
    reference = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank"}).evaluate(run)
    ours = evaluate(run, qrels, ("ndcg@10", "recall@100", "mrr@1000"))
    for query, value in ours["ndcg@10"].items():
        assert value == reference[query]["ndcg_cut_10"]
        assert ours["recall@100"][query] == reference[query]["recall_100"]
        assert ours["mrr@1000"][query] == reference[query]["recip_rank"]


def test_by_hand():
    run = {"q": ["a", "b", "c", "d"]}
    qrels = {"q": {"b": 2, "d": 1, "z": 1}}
    values = evaluate(run, qrels, ("ndcg@4", "recall@3", "mrr@1", "mrr@2", "map@4", "precision@4", "success@1"))
    dcg = 2 / np.log2(3) + 1 / np.log2(5)
    best = 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["ndcg@4"]["q"] == pytest.approx(dcg / best)
    assert values["recall@3"]["q"] == pytest.approx(1 / 3)
    assert (values["mrr@1"]["q"], values["mrr@2"]["q"]) == (0.0, 0.5)
    assert values["map@4"]["q"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert values["precision@4"]["q"] == 0.5
    assert values["success@1"]["q"] == 0.0


def test_rules_missing_zero_unjudged_and_ties():
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing": {"a": 0}, "negative": {"a": -1}}
    run = {"found": {"a": 0.5, "b": 0.5}, "unjudged": {"a": 1.0}}
    values = evaluate(run, qrels, ("mrr@10",))["mrr@10"]
    # b before a among equal scores, whatever the order given; the missing query is 0; the others do not count
    assert values == {"found": 0.5, "missing": 0.0}
    assert evaluate({"found": {"b": 1.0, "a": 1.0 + 1e-10}}, qrels, ("mrr@10",))["mrr@10"]["found"] == 0.5  # float32


def test_lists_keep_their_order_and_negative_rows_are_no_hit():
    qrels = {"q": {"a": 1}}
    assert evaluate({"q": ["a", "b"]}, qrels, ("mrr@5",))["mrr@5"]["q"] == 1.0
    judged = Judged(qrels, ["q"], ["a", "b"])
    assert judged.gains(np.array([[-1, 0, 1]])).tolist() == [[0.0, 1.0, 0.0]]
    assert judged.relevant_rows.tolist() == [0]
    assert Judged({}, ["q"], ["a"]).gains(np.array([[0]])).tolist() == [[0.0]]


def test_judged_document_outside_the_collection_still_counts():
    judged = Judged({"q": {"a": 1, "gone": 1}}, ["q"], ["a", "b"])
    values = judged.evaluate(np.array([[0, 1]]), ("recall@2", "ndcg@2"))
    assert values["recall@2"][0] == 0.5
    assert values["ndcg@2"][0] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_ndcg_from_gains_has_no_credit_without_relevant_documents():
    assert ndcg_from_gains(np.zeros((1, 3)), np.zeros((1, 3))).tolist() == [0.0]


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@0", "NDCG@10", "hits@10", "recall@-1", "mrr@1.5"])
def test_unknown_measures_are_refused(metric):
    with pytest.raises(UsageError, match="ndcg@k"):
        parse_metric(metric)


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({"q": {"a": float("nan")}}, {"q": {"a": 1}}, "NaN"),
        ({"q": ["a", "a"]}, {"q": {"a": 1}}, "twice"),
        ({"q": ["a"]}, {"q": {"a": 0}}, "no query"),
        ({}, {}, "no query"),
    ],
)
def test_bad_runs_are_refused(run, qrels, message):
    with pytest.raises(InputError, match=message):
        evaluate(run, qrels)


def test_summarize_takes_what_evaluate_gives():
    estimate = summarize({"a": 0.0, "b": 1.0, "c": 1.0})
    assert estimate.value == pytest.approx(2 / 3)
    assert estimate.low < estimate.value < estimate.high


IDS = st.text(st.characters(blacklist_characters="\t\r\n", blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)
SCORES = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(run=st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=4), max_size=4))
def test_run_files_round_trip(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("run") / "a.trec"
    write_run(run, path)
    assert read_run(path) == run


def test_run_file_is_what_pytrec_eval_reads(tmp_path):
    path = tmp_path / "run.trec.gz"
    write_run({"q1": {"a": 0.5, "c": 0.5, "b": 2.0}, "q2": ["z", "y"]}, path, tag="mine")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[:3] == ["q1 Q0 b 1 2.0 mine", "q1 Q0 c 2 0.5 mine", "q1 Q0 a 3 0.5 mine"]
    parsed = {q: dict(d) for q, d in pytrec_eval.parse_run(lines).items()}
    assert parsed == read_run(path) == {"q1": {"a": 0.5, "c": 0.5, "b": 2.0}, "q2": {"z": 2.0, "y": 1.0}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"q1 Q0 a 1 0.5 t\nq1 Q0 b 2\n", r"run.trec:2: 4 columns"),
        (b"q1 Q0 a 1 high t\n", r"run.trec:1: 'high' is not"),
        (b"q1 Q0 a 1 nan t\n", r"run.trec:1: 'nan' is not"),
        (b"q1 Q0 a 1 1 t\n\nq1 Q0 a 2 0 t\n", r"run.trec:3: document 'a' stands twice"),
        (b"q1 Q0 \xff 1 1 t\n", r"not UTF-8"),
    ],
)
def test_bad_run_files_name_the_line(tmp_path, content, message):
    path = tmp_path / "run.trec"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(path)


def test_run_files_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_run(tmp_path / "absent.trec")
    whole = gzip.compress(b"".join(b"q1 Q0 d%d 1 1 t\n" % i for i in range(99)))
    for broken in (whole[:-9], whole[:40] + bytes(8) + whole[48:]):
        (tmp_path / "broken.trec.gz").write_bytes(broken)
        with pytest.raises(InputError, match="cannot read"):
            read_run(tmp_path / "broken.trec.gz")
    with pytest.raises(InputError, match="cannot stand"):
        write_run({"q": {"a\tb": 1.0}}, tmp_path / "x.trec")
    with pytest.raises(InputError, match="NaN"):
        write_run({"q": {"a": float("inf")}}, tmp_path / "x.trec")
    with pytest.raises(InputError, match="cannot write"):
        write_run({"q": {"a": 1.0}}, tmp_path / "no" / "x.trec")
