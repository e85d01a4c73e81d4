"""Write the generated pages: ``docs/techniques.md`` from the catalogue, ``docs/evidence.md`` from saved results.

Run it from anywhere: ``python docs/generate.py``. With ``--check`` it writes nothing and exits with 1 where a page is
out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sememe import catalog

HERE = Path(__file__).parent
TITLES = {
    "codec": "Codec: float vectors to fewer bytes",
    "positions": "Positions: where a symbol stands",
    "text": "Text: reading and chunking",
    "encode": "Encode: text to vectors",
    "vocab": "Vocab: tokenizers and vocabulary surgery",
    "measure": "Measure: what a representation is worth",
    "index": "Index: storage and search",
    "tokens": "Tokens: from symbols to vectors",
}


def techniques() -> str:
    """The catalogue as a page."""
    lines = [
        "# Techniques",
        "",
        "Generated from the catalogue by `python docs/generate.py`. `sememe list` prints the same.",
    ]
    for room in catalog.ROOMS:
        lines += [
            "",
            f"## {TITLES.get(room, room)}",
            "",
            "| name | kind | what it does | paper |",
            "| --- | --- | --- | --- |",
        ]
        for technique in catalog.techniques(room=room):
            paper = ""
            if technique.paper:
                paper = f"{technique.paper.title}, {technique.paper.year}"
                if technique.paper.arxiv:
                    paper += f", [{technique.paper.arxiv}](https://arxiv.org/abs/{technique.paper.arxiv})"
            summary = technique.summary.replace("|", "\\|")
            lines.append(f"| `{technique.name}` | {technique.kind} | {summary} | {paper} |")
    return "\n".join(lines) + "\n"


def main(check: bool) -> int:
    """Write or check the pages."""
    from sememe.evidence.document import render

    stale = []
    for name, text in (("techniques.md", techniques()), ("evidence.md", render())):
        path = HERE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    sys.stdout.write(("out of date: " if check else "written: ") + (", ".join(stale) or "nothing") + "\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main("--check" in sys.argv[1:]))
