"""Text in: readers that stream records and count what they leave out, chunkers, and the text every Python carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "BeirLayout": "beir",
    "Document": "chunkers",
    "Notice": "report",
    "Paragraphs": "chunkers",
    "ReadReport": "report",
    "Reader": "reader",
    "Sentences": "chunkers",
    "Tokens": "chunkers",
    "beir_layout": "beir",
    "demo_questions": "demo",
    "demo_records": "demo",
    "read": "reader",
    "read_qrels": "beir",
    "read_queries": "beir",
}
__all__ = [
    "BeirLayout",
    "Document",
    "Notice",
    "Paragraphs",
    "ReadReport",
    "Reader",
    "Sentences",
    "Tokens",
    "beir_layout",
    "demo_questions",
    "demo_records",
    "read",
    "read_qrels",
    "read_queries",
]

if TYPE_CHECKING:
    from sememe.text.beir import BeirLayout, beir_layout, read_qrels, read_queries
    from sememe.text.chunkers import Document, Paragraphs, Sentences, Tokens
    from sememe.text.demo import demo_questions, demo_records
    from sememe.text.reader import Reader, read
    from sememe.text.report import Notice, ReadReport

__getattr__, __dir__ = lazy(__name__, _LAZY)
