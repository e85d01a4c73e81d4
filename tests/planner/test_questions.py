"""Stand-ins are honest: the leak is gone, names are unique, splits do not overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sememe.contracts import Record
from sememe.planner.questions import agreement_queries, judged, known_items, split
from sememe.testing import toy_records


def test_the_title_is_taken_out_of_its_own_document_and_of_all_others() -> None:
    records = [
        Record(f"r{i}", f"The part about widget number {i} explains widget number {i} in a dozen plain words here.",
               title=f"widget number {i}")
        for i in range(40)
    ]  # fmt: skip
    questions, searched = known_items(records, limit=20, seed=0)
    assert len(questions) == 20
    by_id = {r.id: r for r in searched}
    for text, relevant in zip(questions.texts, questions.relevant, strict=True):
        (name,) = relevant
        assert text.lower() not in by_id[name].content.lower()
    assert all(not r.title for r in searched)


def test_shared_titles_are_not_asked_for() -> None:
    records = [
        Record(f"r{i}", "Eight words of text must stay behind after removal.", title="same title") for i in range(9)
    ]
    assert len(known_items(records, limit=9, seed=0)[0]) == 0


def test_without_titles_the_first_sentence_is_taken_out() -> None:
    records = [
        Record(
            f"r{i}", f"Sentence number {i} opens the document. What follows it has more than eight words in it, {i}."
        )
        for i in range(5)
    ]
    questions, searched = known_items(records, limit=5, seed=0)
    assert len(questions) == 5
    for text, relevant in zip(questions.texts, questions.relevant, strict=True):
        assert text not in next(r for r in searched if r.id in relevant).text


def test_agreement_queries_leave_their_own_record_out() -> None:
    questions = agreement_queries(toy_records(50), limit=30, seed=0)
    assert len(questions) == 30
    assert all(questions.left_out) and not any(questions.relevant)


def test_unjudged_queries_and_zero_gains_are_not_judged() -> None:
    questions = judged({"a": "x", "b": "y", "c": " "}, {"a": {"d": 1}, "b": {"d": 0}, "c": {"d": 1}})
    assert questions.ids == ["a"]


@given(st.integers(0, 500), st.integers(0, 10))
def test_splits_cover_all_and_never_overlap(count: int, seed: int) -> None:
    parts = split(count, seed=seed)
    both = [*parts.choose.tolist(), *parts.report.tolist()]
    assert sorted(both) == list(range(count))


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_any_text_gives_questions_or_none(texts: list[str]) -> None:
    records = [Record(str(i), text) for i, text in enumerate(texts)]
    questions, searched = known_items(records, limit=10, seed=0)
    assert len(searched) == len(records)
    agreement_queries(records, limit=5, seed=0)
    assert all(text.strip() for text in questions.texts)
