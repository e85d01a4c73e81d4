"""``sememe build``."""

from __future__ import annotations

import argparse

from sememe.cli import plan, shared

EXAMPLE = 'sememe build docs/ -o my.index --recipe "sentences:4 | static | pca:128 | int8 | flat"'


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("source", help="a folder, a file, a BEIR folder, or - for standard input")
    verb.add_argument("-o", "--output", default="my.index", help="the index folder to make")
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--recipe", help="the recipe; planned on the text where it is not given")
    how.add_argument("--plan", help="a plan.json whose choice is built")
    verb.add_argument("--queries", help="queries for planning")
    verb.add_argument("--qrels", help="judgements for planning")
    plan.options(verb)
    shared.duplicate_option(verb)
    verb.add_argument("--overwrite", action="store_true", help="replace an index that is there")
    shared.reader_options(verb)


def run(given: argparse.Namespace) -> int:
    """Build, planning first where no recipe is given."""
    from sememe import planner
    from sememe.encode.cache import VectorCache
    from sememe.index.engine import build

    recipe = given.recipe
    # The reader, too, meets ids that repeat.
    reading = shared.reader_arguments(given) | {"on_duplicate": given.on_duplicate}
    if given.plan:
        recipe = planner.Plan.load(given.plan).recipe
    if recipe is None:
        from sememe.errors import UsageError

        if given.source == "-":
            raise UsageError("standard input can be read only once", fix="give --recipe, or a file to plan on")
        found = planner.plan(
            given.source,
            queries=given.queries,
            qrels=given.qrels,
            tell=None if given.quiet else shared.note,
            **plan.keywords(given),
            **reading,
        )
        recipe = found.recipe
        shared.note(found.document["decision"])
    from sememe.text import read

    reader = shared.Required(read(given.source, **reading), given.source)
    index = build(
        reader,
        given.output,
        recipe,
        cache=VectorCache(),
        on_duplicate=given.on_duplicate,
        overwrite=given.overwrite,
        seed=given.seed,
    )
    assert index.report is not None  # build has just made it
    if not given.quiet:
        shared.note(*reader.report.summary_lines())
    answer = index.report.as_json()
    if given.json:
        shared.print_json(answer)
        return 0
    size = answer["bytes"]
    shared.say(
        f"{answer['index']}: {answer['records']:,} records, {answer['passages']:,} passages, "
        f"{shared.human(size['total'])} in {answer['seconds']:.1f} s",
        f"recipe  {answer['recipe']}",
        "bytes   " + ", ".join(f"{k} {shared.human(v)}" for k, v in size.items() if v and k != "total"),
        f'search  sememe search {answer["index"]} "your question"',
    )
    return 0
