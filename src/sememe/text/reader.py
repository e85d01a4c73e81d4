"""``read``: one way in for folders, files, BEIR folders and pipes, and the rules every record passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path

from sememe.contracts import Record, Value
from sememe.errors import InputError
from sememe.text.beir import beir_layout
from sememe.text.documents import ENORMOUS
from sememe.text.fields import DEFAULT_MAX_CHARS, Options
from sememe.text.folder import folder_records
from sememe.text.formats import PARSERS, records_of
from sememe.text.lines import Input
from sememe.text.report import ReadReport

DUPLICATE_RULES = ("error", "first", "replace", "rename")
MAX_ID_BYTES = 512
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_BAD = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")

Produce = Callable[[Options, ReadReport], Iterator[Record]]


def clean(text: str) -> str:
    """``text`` with lone surrogates as U+FFFD and control characters as spaces, of the same length.

    Control characters are U+0000 to U+001F but tab, newline, vertical tab, form feed and carriage return; and U+007F.
    """
    if _BAD.search(text) is None:
        return text
    return _CONTROL.sub(" ", _SURROGATE.sub("\ufffd", text))


class Reader:
    """Records of one source, streamed; iterate it, then look at ``report``.

    Every iteration reads the source anew and starts a new report (a pipe can be read once). Memory is that of the
    largest record, and of the ids seen so far.

    Attributes
    ----------
    source : str
        What is read, for messages.
    report : ReadReport
        Of the latest iteration; complete when that is exhausted.
    """

    def __init__(self, source: str, produce: Produce, options: Options, *, once: bool = False) -> None:
        self.source = source
        self.report = ReadReport(strict=options.strict)
        self._produce, self._options = produce, options
        self._once, self._started = once, False

    def __iter__(self) -> Iterator[Record]:
        if self._once and self._started:
            raise InputError("a pipe can be read only once", where=self.source, fix="save it to a file first")
        self._started = True
        self.report = ReadReport(strict=self._options.strict)
        return self._records(self.report)

    def __repr__(self) -> str:
        return f"Reader({self.source!r})"

    def _records(self, report: ReadReport) -> Iterator[Record]:
        seen = _Seen()
        for raw in self._produce(self._options, report):
            record = self._admit(raw, seen, report)
            if record is not None:
                report.records += 1
                report.characters += len(record.text)
                report.bytes += len(record.text) if record.text.isascii() else len(record.text.encode("utf-8"))
                yield record

    def _admit(self, raw: Record, seen: _Seen, report: ReadReport) -> Record | None:
        """The record as it may come in, or None where it is skipped; both counted."""
        if len(raw.text) > self._options.max_chars or len(raw.title) > self._options.max_chars:
            report.note(raw.source, ENORMOUS, detail=f"{max(len(raw.text), len(raw.title)):,} characters")
            return None
        identity, text, title = clean(raw.id), clean(raw.text), clean(raw.title).strip()
        metadata = raw.metadata
        if _unclean(metadata):
            metadata = {clean(key): _clean_value(value) for key, value in metadata.items()}
        if metadata is not raw.metadata or text != raw.text or identity != raw.id or title != raw.title.strip():
            report.note(raw.source, "control characters became spaces, or lone surrogates U+FFFD", "changed")
        if not text.strip():
            if not title:
                report.note(raw.source, "empty text")
                return None
            text = ""
        if len(identity.encode("utf-8")) > MAX_ID_BYTES:
            report.note(raw.source, f"id of more than {MAX_ID_BYTES} bytes")
            return None
        known = seen.place(identity)
        if known is not None:
            rule = self._options.on_duplicate
            if rule == "error":
                raise InputError(
                    f"the id {identity!r} came before, at {known}",
                    where=raw.source,
                    fix="make ids unique, or choose on_duplicate 'first' or 'replace'",
                )
            if rule == "first":
                report.note(raw.source, "duplicate id, the first was kept", detail=f"{identity!r} is at {known}")
                return None
            if rule == "replace":
                report.note(raw.source, "duplicate id, the later one counts", "changed", f"{identity!r} is at {known}")
            else:
                report.note(raw.source, "duplicate id, renamed", "changed", repr(identity))
                identity = seen.free_name(identity)
        seen.add(identity, raw.source)
        return Record(identity, text, title, raw.source, metadata)


class _Seen:
    """Where each id first was, in about a dictionary entry an id: the line, and a number for the file."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._files: list[str] = []
        self._copies: dict[str, int] = {}

    def add(self, identity: str, source: str) -> None:
        file, _, line = source.rpartition(":")
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        number = int(line) if line.isdecimal() and len(line) < 12 else 0
        self._places[identity] = (len(self._files) - 1) << 40 | number

    def place(self, identity: str) -> str | None:
        packed = self._places.get(identity)
        return None if packed is None else f"{self._files[packed >> 40]}:{packed & ((1 << 40) - 1)}"

    def free_name(self, identity: str) -> str:
        copy = self._copies.get(identity, 1) + 1
        while f"{identity}#{copy}" in self._places:
            copy += 1
        self._copies[identity] = copy
        return f"{identity}#{copy}"


def _unclean(metadata: dict[str, Value]) -> bool:
    for key, value in metadata.items():
        texts = (key, value) if isinstance(value, str) else (key, *value) if isinstance(value, list) else (key,)
        if any(_BAD.search(text) for text in texts):
            return True
    return False


def _clean_value(value: Value) -> Value:
    if isinstance(value, str):
        return clean(value)
    return [clean(tag) for tag in value] if isinstance(value, list) else value


def read(
    source: str | PathLike[str] | Reader | Iterable[Record],
    *,
    format: str | None = None,
    text_field: str | None = None,
    title_field: str | None = None,
    id_field: str | None = None,
    on_duplicate: str = "error",
    max_chars: int = DEFAULT_MAX_CHARS,
    strict: bool = False,
) -> Reader:
    """Open documents for streaming; nothing is read before the result is iterated.

    Parameters
    ----------
    source : str, path, Reader or iterable of Record
        A folder of documents (md, txt, rst, html, py, pdf, and jsonl, csv, tsv, parquet); a BEIR folder (it holds
        ``corpus.jsonl`` or ``corpus.jsonl.gz``, and only that is read); one file; ``-`` for standard input;
        ``demo:`` for the documentation that every Python carries. Any text file may be gzipped.
    format : str, optional
        ``jsonl``, ``csv``, ``tsv``, ``parquet``, ``lines`` (one text a line), ``md``, ``txt``, ``rst``, ``html``,
        ``py``, ``pdf``. Without it the extension tells, else the content: magic bytes, then JSON lines where the
        first line is a JSON object, else text. Standard input and named pipes are JSON lines where the first line
        that is not blank is a JSON object, and otherwise one text a line.
    text_field, title_field, id_field : str, optional
        Where JSON, CSV or Parquet records hold these. Without them: ``text``, ``content``, ``contents``, ``body`` or
        ``passage``; ``title``; ``_id``, ``id``, ``doc_id`` or ``docid``. Without an id, ``file:line`` is the id.
        All other fields become metadata, typed as ``sememe.text.values`` says.
    on_duplicate : {"error", "first", "replace", "rename"}
        What a repeated id does: stop and name both places; keep the first and count the others; let the later ones in
        under the same id, counted, so that an index puts the last in the place of the others; or let them in as
        ``id#2``, ``id#3``, counted.
    max_chars : int
        Records with a longer text or title are skipped and counted.
    strict : bool
        Everything that would be skipped or changed is an InputError with file and line instead.

    Returns
    -------
    Reader
        Iterable over ``Record``; its ``report`` counts what was left out.

    Raises
    ------
    InputError
        For a source that does not exist and an option that is unknown. While iterating: for a first record or a
        table without a text field, a damaged gzip stream, a repeated id, and under ``strict``.

    Notes
    -----
    Rules for bad input; each is counted in the report with file and line:

    - Not UTF-8: a UTF-8 mark is dropped, a UTF-16 mark obeyed, other bytes become U+FFFD (changed).
    - A JSON line that does not parse, or is no object; a row with too many cells: skipped.
    - Text and title both blank: skipped. With a title, the record stays.
    - Control characters become spaces and lone surrogates U+FFFD, one for one (changed).
    - An id of more than 512 bytes: skipped.
    """
    options = Options(text_field, title_field, id_field, on_duplicate, max_chars, strict)
    if on_duplicate not in DUPLICATE_RULES:
        raise InputError(f"on_duplicate cannot be {on_duplicate!r}", fix=f"known: {', '.join(DUPLICATE_RULES)}")
    if format is not None and format not in PARSERS:
        raise InputError(f"there is no format {format!r}", fix=f"known: {', '.join(sorted(PARSERS))}")
    if max_chars < 1:
        raise InputError(f"max_chars must be at least 1, got {max_chars}")
    if isinstance(source, Reader):
        return source
    if not isinstance(source, str | PathLike):
        given = source
        return Reader("records", lambda options, report: iter(given), options, once=iter(given) is given)
    name = fspath(source)
    if not name:
        raise InputError("the source is an empty name", where="source", fix="give a file or a folder (. is this one)")
    if name == "demo:":
        from sememe.text.demo import demo_source

        return Reader(name, demo_source, options)
    if name == "-":
        pipe = Input(None, "<stdin>", "stdin")
        return Reader("<stdin>", lambda options, report: records_of(pipe, format, options, report), options, once=True)
    return _from_path(Path(name), format, options)


def _from_path(path: Path, format: str | None, options: Options) -> Reader:
    label = str(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"not a usable path ({error})", where=label) from None
    if not exists:
        raise InputError("there is no such file or folder", where=label)
    if not is_folder:
        file = Input(path, label, path.name)
        return Reader(
            label, lambda options, report: records_of(file, format, options, report), options, once=not path.is_file()
        )
    layout = beir_layout(path)
    if layout is not None:
        corpus = Input(layout.corpus, str(layout.corpus), layout.corpus.name)
        return Reader(label, lambda options, report: records_of(corpus, "jsonl", options, report), options)
    if format is not None:
        raise InputError("a folder has no single format", where=label, fix="leave the format out, or give one file")
    return Reader(label, lambda options, report: folder_records(path, options, report), options)
