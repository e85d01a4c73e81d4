"""PDF text through pypdf."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

from sememe.contracts import Record, Value
from sememe.errors import InputError, MissingDependency
from sememe.text.documents import ENORMOUS, file_facts
from sememe.text.fields import Options
from sememe.text.lines import Input, read_all
from sememe.text.report import ReadReport

_MAX_BYTES = 512 << 20


def pdf_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """The one record of a PDF: its pages' text with a blank line between, the title of its properties.

    Metadata: those of other documents, and ``pages``. A PDF of pictures has no text and is skipped as empty.

    Raises
    ------
    MissingDependency
        Without pypdf (extra ``pdf``).
    InputError
        For a file that is encrypted, damaged or not a PDF.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise MissingDependency("pypdf", extra="pdf", need="reading PDF") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it would log, our error or notice says
    data = read_all(source, _MAX_BYTES)
    if data is None:
        report.note(source.label, ENORMOUS, detail=f"more than {_MAX_BYTES >> 20} MiB")
        return
    pages: list[str] = []
    size = 0
    try:
        document = PdfReader(io.BytesIO(data))
        if document.is_encrypted and not document.decrypt(""):
            raise InputError("the PDF is locked by a password", where=source.label)
        title = str((document.metadata.title if document.metadata else "") or "").strip()
        count = len(document.pages)
        for page in document.pages:
            text = page.extract_text().strip()
            size += len(text)
            if size > options.max_chars:
                report.note(source.label, ENORMOUS, detail=f"max_chars is {options.max_chars:,}")
                return
            pages.append(text)
    except InputError:
        raise
    except Exception as error:  # pypdf raises many kinds on damaged files
        raise InputError(f"not a readable PDF ({type(error).__name__}: {error})", where=source.label) from None
    metadata: dict[str, Value] = {**file_facts(source, "pdf"), "pages": count}
    yield Record(source.key, "\n\n".join(text for text in pages if text), title, f"{source.label}:1", metadata)
