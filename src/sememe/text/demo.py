"""The documentation that every Python carries, as records: language topics, and docstrings of the standard library."""

from __future__ import annotations

import ast
import importlib
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sememe.contracts import Record, Value
from sememe.text.chunkers import Paragraphs
from sememe.text.fields import Options
from sememe.text.report import ReadReport

MIN_CHARS = 25
_TOPIC_CHARS = 1000
_SKIPPED_FOLDERS = {
    *("__pycache__", "dist-packages", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "pydoc_data"),
    *("site-packages", "test", "tests", "turtledemo", "__phello__", "encodings"),
}
# Modules whose import has no side effects and that hold functions and types written in C, which have no source.
_C_MODULES = (
    *("builtins", "array", "asyncio", "binascii", "cmath", "collections", "contextvars", "csv", "datetime", "decimal"),
    *("functools", "gc", "hashlib", "io", "itertools", "marshal", "math", "mmap", "operator", "os", "pickle", "random"),
    *("re", "select", "signal", "socket", "sqlite3", "ssl", "struct", "sys", "threading", "time", "unicodedata"),
    *("weakref", "zlib"),
)
_QUESTIONS = (
    "how do I parse a JSON string?",
    "split a path into folder and file name",
    "run a function in another process and get its result",
    "what does the yield expression do?",
    "remove duplicate white space and wrap text to a width",
    "how can I read a file that is compressed with gzip?",
)


def demo_records() -> list[Record]:
    """Records of the language reference topics and the standard library's docstrings, in a fixed order.

    Returns
    -------
    list of Record
        Thousands. The id and title are the qualified name (``json.loads``, ``str.split``) or, for topics,
        ``topic:lambda`` (``topic:lambda#2`` for a later part of a long one) and the topic's name. Metadata: ``kind``
        (module, class, function, method or topic), ``module``, and ``lines`` of the text.

    Notes
    -----
    Source files are parsed, not imported, so that nothing runs. Only functions and types written in C are inspected
    live. Names with a leading underscore, tests and texts of fewer than 25 characters are left out; ``read("demo:")``
    gives the same records with a report that counts short texts and names defined twice. Where sources are missing
    there are fewer records.
    """
    from sememe.text.reader import read

    return list(read("demo:"))


def demo_questions() -> list[str]:
    """A few questions that this documentation answers."""
    return list(_QUESTIONS)


def demo_source(options: Options, report: ReadReport) -> Iterator[Record]:
    """What ``read("demo:")`` streams: topics, then sources in sorted order, then what is written in C."""
    seen: set[str] = set()
    for record in (*_topics(report), *_sources(report), *_written_in_c(report)):
        if record.id in seen:  # a property's setter, another platform's version, the C twin of a Python class
            report.note(record.source, "name defined a second time", "ignored", record.id)
            continue
        seen.add(record.id)
        if len(record.text) < MIN_CHARS:
            report.note(record.source, f"documentation of fewer than {MIN_CHARS} characters", "ignored", record.id)
        else:
            yield record


def _record(name: str, doc: str, kind: str, module: str, source: str) -> Record:
    text = inspect.cleandoc(doc).strip()
    return Record(name, text, name, source, {"kind": kind, "module": module, "lines": text.count("\n") + 1})


def _topics(report: ReadReport) -> Iterator[Record]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError) as error:
        report.note("pydoc_data.topics", "the language reference is not installed", "ignored", str(error))
        return
    cut = Paragraphs(_TOPIC_CHARS)
    for label in sorted(topics):
        for part, span in enumerate(cut.spans(topics[label]), 1):
            text = topics[label][span.start : span.stop]
            name = f"topic:{label}" + (f"#{part}" if part > 1 else "")
            metadata: dict[str, Value] = {"kind": "topic", "module": "", "lines": text.count("\n") + 1}
            yield Record(name, text, label, f"pydoc_data/topics.py:{label}", metadata)


def _sources(report: ReadReport) -> Iterator[Record]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in _source_files(root):
        inside = path.relative_to(root)
        parts = inside.with_suffix("").parts
        private = parts[-1].startswith("_")  # __init__, or a file whose names the package shows as its own
        module = ".".join(parts[:-1] if private else parts)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            report.note(inside.as_posix(), "standard library source cannot be parsed", "ignored", type(error).__name__)
            continue
        doc = ast.get_docstring(tree, clean=False)
        if doc and (not private or parts[-1] == "__init__"):
            yield _record(module, doc, "module", module, f"{inside.as_posix()}:1")
        yield from _definitions(tree, module, module, inside.as_posix(), in_class=False)


def _source_files(folder: Path) -> Iterator[Path]:
    """Public modules of the standard library, sorted; a missing or closed folder gives none."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError:
        return
    for path in entries:
        if path.name.startswith("_") and path.name != "__init__.py" and not _shown(path):
            continue
        if path.suffix == ".py":
            yield path
        elif path.name not in _SKIPPED_FOLDERS and not path.name.startswith("config-") and path.is_dir():
            yield from _source_files(path)


def _shown(path: Path) -> bool:
    """Whether a private module's package imports from it: ``concurrent/futures/_base.py`` is ``concurrent.futures``."""
    package = path.with_name("__init__.py")
    try:
        return path.suffix == ".py" and f"{path.stem} import " in package.read_text("utf-8", "replace")
    except OSError:
        return False


def _definitions(
    node: ast.Module | ast.ClassDef, prefix: str, module: str, file: str, *, in_class: bool
) -> Iterator[Record]:
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        doc = ast.get_docstring(child, clean=False)
        if doc:
            kind = "class" if isinstance(child, ast.ClassDef) else "method" if in_class else "function"
            yield _record(name, doc, kind, module, f"{file}:{child.lineno}")
        if isinstance(child, ast.ClassDef):
            yield from _definitions(child, name, module, file, in_class=True)


def _written_in_c(report: ReadReport) -> Iterator[Record]:
    for module_name in _C_MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:  # a Python built without it
            report.note(module_name, "standard library module is not installed", "ignored", str(error))
            continue
        doc = inspect.getdoc(module)
        if doc:
            yield _record(module_name, doc, "module", module_name, f"{module_name}:1")
        yield from _c_members(module, module_name)


def _c_members(module: ModuleType, module_name: str) -> Iterator[Record]:
    prefix = "" if module_name == "builtins" else f"{module_name}."
    for name in sorted(vars(module)):
        member = vars(module)[name]
        if name.startswith("_") or inspect.ismodule(member) or inspect.isfunction(member):
            continue
        if inspect.isclass(member):
            if member.__module__.lstrip("_") not in (module_name, "", "builtins") or not _is_c_type(member):
                continue
            yield from _c_class(member, f"{prefix}{name}", module_name)
        elif inspect.isroutine(member) and (doc := _doc(member)):
            yield _record(f"{prefix}{name}", doc, "function", module_name, f"{module_name}:{name}")


def _c_class(cls: type, name: str, module_name: str) -> Iterator[Record]:
    own = vars(cls).get("__doc__")
    if isinstance(own, str) and own:
        yield _record(name, own, "class", module_name, f"{module_name}:{name}")
    for attribute in sorted(vars(cls)):
        if attribute.startswith("_"):
            continue
        doc = _doc(vars(cls)[attribute])
        if doc:
            yield _record(f"{name}.{attribute}", doc, "method", module_name, f"{module_name}:{name}")


def _is_c_type(cls: type) -> bool:
    """Types defined in Python keep their module's dictionary in their functions; C types have none of those."""
    return not any(inspect.isfunction(value) for value in vars(cls).values())


def _doc(value: object) -> str:
    """The docstring an attribute has of its own; constants show that of their type, which is left out."""
    doc = getattr(value, "__doc__", None)
    return doc if isinstance(doc, str) and doc != type(value).__doc__ else ""
