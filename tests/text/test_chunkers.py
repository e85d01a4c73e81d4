"""Chunkers: the contract on any text, the sentence rules, and agreement on texts built from known units."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe import catalog
from sememe.errors import InputError
from sememe.text import Document, Paragraphs, Sentences, Tokens

CHUNKERS = [
    Document(),
    Sentences(1),
    Sentences(3, overlap=1),
    Paragraphs(16),
    Paragraphs(80),
    Tokens(1),
    Tokens(5, 2),
    Tokens(7, 6),
]
MARKS = [
    *".!?…。？\"'”)( \n\t-#1aA猫ก\u0301\u2028\u200b\x00\x1c\ud800",
    "Dr. ",
    "e.g. ",
    "\n\n",
    "1. ",
    "\r\n",
    "U.S. ",
]
TEXTS = st.one_of(st.text(st.characters(), max_size=300), st.lists(st.sampled_from(MARKS), max_size=120).map("".join))


@pytest.mark.parametrize("chunker", CHUNKERS, ids=repr)
@settings(max_examples=120, deadline=None)
@given(text=TEXTS)
def test_every_visible_character_is_covered_in_order_by_spans_that_are_not_empty(chunker, text):
    spans = chunker.spans(text)
    covered = bytearray(len(text))
    for span in spans:
        assert 0 <= span.start < span.stop <= len(text)
        assert not text[span.start : span.stop].isspace()
        covered[span.start : span.stop] = b"\1" * (span.stop - span.start)
    assert spans == sorted(spans, key=lambda s: (s.start, s.stop))
    assert len(set(spans)) == len(spans)
    missing = [i for i, c in enumerate(text) if not covered[i] and not c.isspace()]
    assert not missing


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, limit=st.integers(16, 60))
def test_paragraphs_keep_to_their_limit(text, limit):
    assert all(span.stop - span.start <= limit for span in Paragraphs(limit).spans(text))


def pieces(chunker, text):
    return [text[s.start : s.stop] for s in chunker.spans(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith paid 3.14 dollars, e.g. for tea.", "He left!", '"Really?" she asked.', "Fine."],
        ["J. R. Tolkien lived in the U.K. for long.", "The U.S. Army did not."],
        ["He moved to the U.S.", "The cat stayed."],
        ["See Fig. 3 and No. 5.", "No.", "He said no."],
        ["Smith et al. (2004) showed it.", "Cells need vitamin C.", "The end."],
        ["Visit www.example.com/a.b?c=1 or write to a.b@c.org.", "It was 9.5 km... or more.", "Good..."],
        ["“Come in.”", "She sat (quietly).", "Then (He left.)", "[A note.]", "All done."],
        ["我喜欢猫。", "你呢？", "“好！”", "是的。"],
        ["यह वाक्य है।", "दूसरा वाक्य।"],
        ["هل هذا صحيح؟", "نعم."],
        ["¿Qué tal?", "¡Bien!", "Él llegó."],
        ["A heading without a point", "A paragraph\nover two lines."],
    ],
    ids=lambda s: s[0][:20],
)
def test_sentence_rules(sentences):
    gap = "" if sentences[0].endswith("。") else "\n\n" if "heading" in sentences[0] else " "
    assert pieces(Sentences(1), gap.join(sentences)) == sentences


def test_lists_and_headings_start_sentences():
    text = "Intro line\n- one thing\n- another. With more\n1. First point. Next\n2. Second\n# Head\nText"
    expected = ["Intro line", "- one thing", "- another.", "With more", "1. First point.", "Next", "2. Second"]
    assert pieces(Sentences(1), text) == [*expected, "# Head\nText"]


def test_sentences_overlap_and_do_not_end_with_a_chunk_inside_the_last():
    text = "A one. B two. C three. D four. E five."
    assert pieces(Sentences(3, overlap=1), text) == ["A one. B two. C three.", "C three. D four. E five."]
    assert pieces(Sentences(2), text) == ["A one. B two.", "C three. D four.", "E five."]


def test_paragraphs_join_short_ones_and_cut_long_ones_at_sentences():
    assert pieces(Paragraphs(20), "one\n\ntwo\n \nthree\n\n" + "x" * 18) == ["one\n\ntwo\n \nthree", "x" * 18]
    assert pieces(Paragraphs(20), "Aaaa bbbb. Cccc dddd. Eeee ffff.") == ["Aaaa bbbb.", "Cccc dddd.", "Eeee ffff."]
    assert pieces(Paragraphs(16), "word " * 5 + "y" * 40) == [
        "word word word",
        "word word",
        "y" * 16,
        "y" * 16,
        "y" * 8,
    ]


def test_tokens_are_words_single_cjk_characters_and_marks():
    text = "Don't stop, 猫が好き हिन्दी " + "z" * 50
    expected = ["Don", "'", "t", "stop", ",", "猫", "が", "好", "き", "हिन्दी", "z" * 24, "z" * 24, "zz"]
    assert pieces(Tokens(1), text) == expected
    assert pieces(Tokens(3, 1), "a b c d e f g") == ["a b c", "c d e", "e f g"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sentences(0), "n must be"),
        (lambda: Sentences(2.5), "n must be"),
        (lambda: Sentences(True), "n must be"),
        (lambda: Sentences(2, 2), "overlap must be smaller"),
        (lambda: Sentences(2, -1), "overlap must be"),
        (lambda: Tokens(4, 4), "overlap must be smaller"),
        (lambda: Tokens("8"), "size must be"),
        (lambda: Paragraphs(3), "max_chars must be"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_catalogue_makes_them_by_name():
    made = {
        name: catalog.find(name, kind="chunker").make() for name in ("document", "sentences", "paragraphs", "tokens")
    }
    assert {type(c) for c in made.values()} == {Document, Sentences, Paragraphs, Tokens}


# A pattern that backtracks over each of these would take hours, not seconds.
HOSTILE = {
    "dots": "." * 400_000 + "x",
    "quotes": "." + "'" * 400_000 + "x",
    "spaces": "a." + " " * 400_000 + "b",
    "blank lines": "\n \n" * 130_000 + "x",
    "almost blank lines": ("\n" + " " * 600) * 600 + "x",
    "one word": "w" * 400_000,
    "end marks": "! " * 100_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_runs_take_linear_time(text):
    for chunker in (Sentences(4), Paragraphs(1000), Tokens(128, 32)):
        assert chunker.spans(text)


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys; from sememe import catalog; catalog.load('text');"
        "print([m for m in ('pyarrow', 'pypdf', 'torch', 'sklearn', 'rich', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True)
    assert out.stdout.strip() == "[]"
