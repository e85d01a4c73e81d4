"""How tests judge a page: its outline, the data in it, and hostile texts that must stay texts."""

from __future__ import annotations

import html.parser
import json
import re

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=https://evil.example/x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "a\u2028b\u2029c",
    "<!-- <script> ]]> {{script}} {{data}}",
    "nul \x00 bell \x07 lone \ud800 bidi \u202e end",
    "\\u003c/script\\u003e `${alert(1)}` '",
]


class Outline(html.parser.HTMLParser):
    """Tags that are open, every address, ids and the visible words: enough to judge a page by."""

    VOID = frozenset(["meta", "link", "br", "input", "img"])

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids, self.handlers, self.tags, self.words = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "action", "srcset", "data", "poster"}:
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append((tag, name))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.words.append(data)


def outline(page):
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="plan-data">(.*?)</script>', page, re.DOTALL)[1])


def poison(value, texts):
    """Every string of a plan replaced by a hostile one, so that no path to the page is forgotten."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {key: poison(inner, texts) for key, inner in value.items()}
    return [poison(inner, texts) for inner in value] if isinstance(value, list) else value
