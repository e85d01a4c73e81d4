"""``sememe demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sememe.cli import plan, search, shared

EXAMPLE = "sememe demo"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("-o", "--output", default="sememe-demo", help="folder for the plan, the report and the index")
    plan.options(verb)


def run(given: argparse.Namespace) -> int:
    """Plan on Python's own documentation, build the choice, answer a few questions."""
    import sememe
    from sememe import planner
    from sememe.encode.cache import VectorCache
    from sememe.text import demo_questions

    tell = (lambda *lines: None) if given.quiet else shared.note
    tell("reading the documentation that comes with Python: language topics and docstrings of the standard library")
    found = planner.plan("demo:", tell=tell, **plan.keywords(given))
    folder = Path(given.output)
    document, page = found.save(folder)
    index = sememe.build("demo:", folder / "index", found.recipe, cache=VectorCache(), overwrite=True)
    questions = demo_questions()
    answers = index.results(index.search(questions, 3))
    if given.json:
        shared.print_json(
            {
                "plan": found.document,
                "build": index.report.as_json() if index.report else None,
                "answers": dict(zip(questions, answers, strict=True)),
            }
        )
        return 0
    plan.show(found)
    for question, hits in zip(questions, answers, strict=True):
        shared.say("", f"? {question}")
        search.show(hits)
    shared.say(
        "",
        f'index   {folder / "index"}   (try: sememe search {folder / "index"} "your question")',
        f"plan    {document}",
        f"report  {page}   (open it in a browser)",
    )
    return 0
