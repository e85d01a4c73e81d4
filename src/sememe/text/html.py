"""HTML to text: visible text, paragraphs kept apart, markup gone.

The tokens are found by one regular expression that always moves on, because the standard library's parser takes time
quadratic in some damaged pages (a minute for 100 KB of unclosed tags in Python 3.11).
"""

from __future__ import annotations

import re
from html import unescape

_HIDDEN = {"script", "style", "template", "noscript", "svg", "head"}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset"),
    *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main"),
    *("nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
}
_TIGHT = {"li", "dt", "dd", "tr", "td", "th"}  # a new line, not a new paragraph
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
# A comment, a CDATA section, a declaration or a tag; what is not closed reaches to the end of the page, and a quote
# that is not closed is an ordinary character, so that a match never fails after a long look ahead.
_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z)|<[!?][^>]*+>?"
    r"|<(?P<end>/?)(?P<tag>[a-zA-Z][^\s/>]*+)(?P<rest>(?:[^>\"']|\"[^\"]*+\"|'[^']*+'|[\"'])*+)>?",
    re.DOTALL,
)
_LANGUAGE = re.compile(r"""(?:\A|\s)lang\s*=\s*["']?([\w-]+)""", re.IGNORECASE)
_RAW_END = {tag: re.compile(rf"</{tag}(?=[\s/>]|\Z)", re.IGNORECASE) for tag in ("script", "style")}
_SPACES = re.compile(r"\s+")
_LINE_ENDS = re.compile(r"[^\S\n]*\n[^\S\n]*")
_GAPS = re.compile(r"\n{3,}")


def declared_charset(data: bytes) -> str:
    """The character set a page states in its first 2 KiB, or an empty string."""
    match = _CHARSET.search(data[:2048])
    return match[1].decode("ascii") if match else ""


def parse_html(page: str) -> tuple[str, str, str]:
    """Title, visible text and language of a page.

    The title is ``<title>``, else the first ``<h1>``. Scripts, styles, templates and drawings are left out; blocks
    become paragraphs with a blank line between, list items and table cells lines; ``<pre>`` keeps its lines.
    """
    parser = _Text()
    parser.feed(page)
    body = _GAPS.sub("\n\n", _LINE_ENDS.sub("\n", "".join(parser.parts))).strip()
    title = _SPACES.sub(" ", "".join(parser.title)).strip() or _SPACES.sub(" ", "".join(parser.heading)).strip()
    return title, body, parser.language


class _Text:
    """Collects the visible text of one page, token by token."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self.language = ""
        self._hidden: list[str] = []  # open elements whose content is not shown
        self._in_title = self._in_heading = self._heading_done = False
        self._pre = 0

    def feed(self, page: str) -> None:
        """Read the whole page."""
        position = 0
        while (token := _TOKEN.search(page, position)) is not None:
            if token.start() > position:
                self._data(unescape(page[position : token.start()]))
            position = token.end()
            if token["cdata"]:
                self._data(token["cdata"])
            if not token["tag"]:
                continue
            tag, rest = token["tag"].lower(), token["rest"]
            if not token["end"]:
                self._start(tag, rest)
            if token["end"] or rest.endswith("/"):
                self._end(tag)
            elif tag in _RAW_END:  # what looks like markup in a script is none
                closing = _RAW_END[tag].search(page, position)
                position = closing.start() if closing else len(page)
        self._data(unescape(page[position:]))

    def _start(self, tag: str, rest: str) -> None:
        if tag == "html":
            stated = _LANGUAGE.search(rest)
            self.language = stated[1] if stated else ""
        elif tag == "title":
            # Only the page's own title, not the titles of drawings inside it.
            self._in_title = "svg" not in self._hidden and not self.title
        elif tag == "body":
            self._hidden.clear()  # pages often leave <head> open
        elif tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "h1":
            self._in_heading = not self._heading_done
        elif tag == "pre":
            self._pre += 1
        self._break(tag)

    def _end(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        elif tag == "h1":
            self._in_heading, self._heading_done = False, self._heading_done or bool(self.heading)
        elif tag == "pre":
            self._pre = max(self._pre - 1, 0)
        self._break(tag)

    def _data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._hidden:
            self.parts.append(data if self._pre else _SPACES.sub(" ", data))
            if self._in_heading:
                self.heading.append(data)

    def _break(self, tag: str) -> None:
        if self._hidden:
            return
        if tag == "br" or tag in _TIGHT:
            self.parts.append("\n")
        elif tag in _BLOCKS:
            self.parts.append("\n\n")
