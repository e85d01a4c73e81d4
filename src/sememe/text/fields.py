"""From named fields (a JSON object, a table row) to a record: which field is the id, the title, the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.text.report import ReadReport
from sememe.text.values import metadata_of

ID_FIELDS = ("_id", "id", "doc_id", "docid")
TITLE_FIELDS = ("title",)
TEXT_FIELDS = ("text", "content", "contents", "body", "passage")
DEFAULT_MAX_CHARS = 10_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller of ``read`` chose; see there."""

    text_field: str | None = None
    title_field: str | None = None
    id_field: str | None = None
    on_duplicate: str = "error"
    max_chars: int = DEFAULT_MAX_CHARS
    strict: bool = False


class FieldMap:
    """Picks id, title and text out of the records of one file, and types the rest as metadata.

    A field the caller named is taken exactly; otherwise the first present of the usual names, also in other letter
    case. The first record (or the header) must have the text, or at least a title where no text field was named; later
    ones without either are skipped and counted.
    """

    def __init__(self, label: str, options: Options, report: ReadReport) -> None:
        self.label, self.options, self.report = label, options, report
        self._first = True

    def check_columns(self, columns: Iterable[str]) -> None:
        """Refuse a table whose columns include no text field."""
        names = list(columns)
        if self._find(names, self.options.text_field, TEXT_FIELDS) is None:
            raise self._no_text(names, self.label)
        if self.options.id_field is not None and self.options.id_field not in names:
            raise InputError(f"there is no field {self.options.id_field!r}; {_present(names)}", where=self.label)
        self._first = False

    def record(self, fields: Mapping[str, object], source: str, fallback_id: str) -> Record | None:
        """One record, or None where it was skipped (and counted).

        Parameters
        ----------
        fields : mapping of str to value
            The raw record; CSV cells already typed, text cells as text.
        source : str
            ``file:line``.
        fallback_id : str
            The id where the record has none.
        """
        options = self.options
        text_key = self._find(fields, options.text_field, TEXT_FIELDS)
        title_key = self._find(fields, options.title_field, TITLE_FIELDS)
        id_key = self._find(fields, options.id_field, ID_FIELDS)
        first, self._first = self._first, False
        if text_key is None and (title_key is None or (first and options.text_field is not None)):
            if first:
                raise self._no_text(fields, source)
            self.report.note(source, "no text field", detail=_present(fields))
            return None
        if id_key is None and options.id_field is not None:
            if first:
                raise InputError(f"there is no field {options.id_field!r}; {_present(fields)}", where=source)
            self.report.note(source, f"no field {options.id_field!r} for the id")
            return None
        text = _as_text(fields[text_key]) if text_key is not None else ""
        title = _as_text(fields[title_key]) if title_key is not None else ""
        if text is None or title is None:
            self.report.note(source, "the text or title is not text")
            return None
        identity = fields[id_key] if id_key is not None else None
        if isinstance(identity, bool | list | tuple | Mapping):
            self.report.note(source, "the id is not text or a number")
            return None
        try:
            name = "" if identity is None else str(identity).strip()
        except ValueError:  # an integer of thousands of digits
            self.report.note(source, "the id is not text or a number")
            return None
        taken = {key for key in (text_key, title_key, id_key) if key is not None}
        return Record(name or fallback_id, text, title, source, metadata_of(fields, taken, source, self.report))

    @staticmethod
    def _find(fields: Iterable[str], chosen: str | None, usual: tuple[str, ...]) -> str | None:
        if chosen is not None:
            return chosen if chosen in fields else None
        for name in usual:
            if name in fields:
                return name
        lowered = {key.lower(): key for key in fields if not key.islower()}
        return next((lowered[name] for name in usual if name in lowered), None)

    def _no_text(self, fields: Iterable[str], where: str) -> InputError:
        wanted = repr(self.options.text_field) if self.options.text_field else " or ".join(map(repr, TEXT_FIELDS))
        return InputError(
            f"there is no text field {wanted}; {_present(fields)}",
            where=where,
            fix="name the field that holds the text",
        )


def _present(fields: Iterable[str]) -> str:
    names = list(fields)
    shown = ", ".join(repr(name[:60]) for name in names[:12])
    return f"the fields are {shown or 'none'}" + (", ..." if len(names) > 12 else "")


def _as_text(value: object) -> str | None:
    """Text of a text field: null is empty, a list of texts is joined by newlines, anything else has none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return None
