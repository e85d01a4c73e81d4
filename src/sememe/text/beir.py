"""Evaluation sets: the BEIR folder, its queries and its relevance judgements, and TREC qrels."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from sememe.errors import InputError
from sememe.text.jsonl import parse_object
from sememe.text.lines import Input, numbered_lines, open_bytes
from sememe.text.report import ReadReport

_SPLITS = ("test", "dev", "validation", "valid", "val", "train")
_ID_NAMES = {"id", "_id", "qid", "query-id", "query_id", "queryid"}
_QUERY_CHARS = 1_000_000


class BeirLayout(NamedTuple):
    """The files of a BEIR folder; ``qrels`` tells by its name which split was found."""

    corpus: Path
    queries: Path | None
    qrels: Path | None


def beir_layout(folder: str | PathLike[str]) -> BeirLayout | None:
    """The files of a BEIR folder, or None where it holds no ``corpus.jsonl`` or ``corpus.jsonl.gz``.

    Queries are ``queries.jsonl``. Judgements are ``qrels/test.tsv``, then ``dev``, ``validation``, ``valid``, ``val``
    and ``train``; then ``qrels.tsv`` beside the corpus. Each may end in ``.gz``.
    """
    root = Path(folder)
    corpus = _present(root / "corpus.jsonl")
    if corpus is None:
        return None
    candidates = [*(root / "qrels" / f"{split}.tsv" for split in _SPLITS), root / "qrels.tsv"]
    qrels = next((found for path in candidates if (found := _present(path)) is not None), None)
    return BeirLayout(corpus, _present(root / "queries.jsonl"), qrels)


def _present(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def read_queries(path: str | PathLike[str]) -> dict[str, str]:
    """Queries by id, in the order of the file.

    Parameters
    ----------
    path : str or path
        JSON lines with ``_id`` (or ``id``, ``query_id``, ``qid``) and ``text`` (or ``query``); lines of
        ``id<TAB>text``, with or without a header; or one query a line, which get the ids ``q1``, ``q2``, ... May be
        gzipped. Blank lines are passed over.

    Raises
    ------
    InputError
        With ``file:line`` for a line that does not parse, is not UTF-8, repeats an id or has no text; also for a
        file without queries. Labels must be right, so nothing is skipped here.
    """
    queries: dict[str, str] = {}
    style = ""
    label = str(Path(path))
    for where, line in _strict_lines(path):
        style = style or ("json" if line.lstrip().startswith("{") else "tab" if "\t" in line else "line")
        if style == "json":
            identity, text = _json_query(line, where)
        elif style == "tab":
            identity, _, text = line.partition("\t")
            if not queries and identity.strip().lower() in _ID_NAMES:
                continue
        else:
            identity, text = f"q{len(queries) + 1}", line
        identity, text = identity.strip(), text.strip()
        if not identity or not text:
            raise InputError(f"the query has no {'text' if identity else 'id'}", where=where)
        if identity in queries:
            raise InputError(f"the query id {identity!r} came before", where=where, fix="make the ids unique")
        queries[identity] = text
    if not queries:
        raise InputError("there are no queries in this file", where=label)
    return queries


def _json_query(line: str, where: str) -> tuple[str, str]:
    try:
        fields = parse_object(line)
    except ValueError as error:
        raise InputError(f"malformed JSON line ({error})", where=where) from None
    identity = next((fields[key] for key in ("_id", "id", "query_id", "qid") if key in fields), None)
    text = next((fields[key] for key in ("text", "query") if key in fields), None)
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise InputError("the query has no id (a field _id or id of text or a whole number)", where=where)
    if not isinstance(text, str):
        raise InputError("the query has no text (a field text or query)", where=where)
    return str(identity), text


def read_qrels(path: str | PathLike[str]) -> dict[str, dict[str, int]]:
    """Relevance judgements: ``{query_id: {document_id: score}}``; a score above 0 is relevant.

    Parameters
    ----------
    path : str or path
        BEIR: three tab-separated columns, query, document and score, with or without the header
        ``query-id  corpus-id  score``. TREC: four columns, query, iteration, document and score, split at white
        space. May be gzipped. Blank lines are passed over.

    Raises
    ------
    InputError
        With ``file:line`` for another number of columns, a score that is not a whole number, a pair judged twice
        with different scores, bytes that are not UTF-8; also for a file without judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    first = True
    for where, line in _strict_lines(path):
        cells = [cell.strip() for cell in line.split("\t")] if line.count("\t") >= 2 else line.split()
        header = first and cells[0].lower() in _ID_NAMES
        first = False
        if header:
            continue
        if len(cells) not in (3, 4) or not all(cells):
            raise InputError(
                f"expected 3 columns (query, document, score) or TREC's 4, got {len(cells)}",
                where=where,
                fix="separate the columns with tabs",
            )
        query, document, score = cells[0], cells[-2], _score(cells[-1], where)
        known = qrels.setdefault(query, {}).setdefault(document, score)
        if known != score:
            raise InputError(f"{query!r} and {document!r} were judged {known} before, now {score}", where=where)
    if not qrels:
        raise InputError("there are no judgements in this file", where=str(Path(path)))
    return qrels


def _score(cell: str, where: str) -> int:
    try:
        number = float(cell)
        if number == int(number) and abs(number) < 2**31:
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise InputError(f"the score {cell[:40]!r} is not a whole number", where=where)


def _strict_lines(path: str | PathLike[str]) -> Iterator[tuple[str, str]]:
    """``(file:line, line without its end)`` of lines that are not blank; damaged text is an error."""
    file = Path(path)
    if not file.exists():
        raise InputError("there is no such file", where=str(file))
    source = Input(file, str(file), file.name)
    with open_bytes(source) as stream:
        for number, line in numbered_lines(source, stream, ReadReport(strict=True), _QUERY_CHARS):
            if line.strip():
                yield f"{source.label}:{number}", line.rstrip("\r\n")
