"""``sememe vocab inspect``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn

EXAMPLE = "sememe vocab inspect MODEL --text news.de.txt news.fr.txt --plot vocabulary.html"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face or sentence-transformers folder with safetensors")
    text_options(verb, required=False)
    verb.add_argument("--lexicon", metavar="FILE", help="words of the language, one a line, for the purity measures")
    verb.add_argument("--plot", metavar="FILE", help="write a picture here, .svg or .html")


def run(given: argparse.Namespace) -> int:
    """Measure, and show it."""
    from sememe import vocab
    from sememe.vocab import plot

    lexicon = shared.read_lines(given.lexicon) if given.lexicon else None
    answer = vocab.inspect(given.model, given.text, lexicon=lexicon)
    if given.plot:
        plot.save(answer, given.plot)
    if given.json:
        shared.print_json(answer)
        return 0
    show(answer)
    if given.plot:
        shared.say("", f"plot  {given.plot}")
    return 0


def show(answer: dict[str, Any]) -> None:
    """Tables for a person."""
    tables, tokenizer = answer["tables"], answer["tokenizer"]
    rows = [
        [role, t["tensor"], f"{t['rows']:,} x {t['dim']:,} {t['dtype']}", f"{t['parameters']:,}",
         shared.human(t["bytes"]), f"{100 * t['share']:.1f} %"]
        for role in ("input", "output") if (t := tables[role])
    ]  # fmt: skip
    if tables["tied"]:
        rows.append(["output", "tied to the input", "", "0", "0 B", "0.0 %"])
    columns = ["table", "tensor", "shape", "parameters", "bytes", "of the model"]
    title = f"{answer['architecture']}, {answer['parameters']:,} parameters; "
    title += f"{tokenizer['kind']}, {tokenizer['tokens']:,} tokens"
    shared.say(shared.table(title, columns, rows))
    if "groups" in answer:
        _show_text(answer)
    found = answer["unreachable"]
    reasons = ", ".join(f"{entry['tokens']:,} ({name})" for name, entry in found["by_reason"].items())
    shared.say("", f"unreachable  {found['tokens']:,} tokens that no text gives" + (f": {reasons}" if reasons else ""))
    for entry in found["by_reason"].values():
        shared.say(f"             {entry['decided']}; for example {', '.join(map(repr, entry['examples'][:5]))}")
    same = answer["duplicates"]
    duplicated = ", ".join(
        f"{same[role]['rows']:,} equal rows, {same[role]['zero_rows']:,} of zeros ({role})"
        for role in same
        if role != "tokens"
    )
    shared.say(f"duplicates   {same['tokens']['tokens']:,} tokens for the same bytes as another; {duplicated}")
    warn(answer.get("notices", []))


def _show_text(answer: dict[str, Any]) -> None:
    def ratio(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            " ".join(filter(None, [g["language"], g["script"]])) or "no letters",
            f"{g['texts']:,}",
            f"{g['tokens']:,}",
            f"{g['tokens_used']:,}",
            f"{g['bytes_per_token']:.2f}",
            ratio(g["bytes_per_word"], ".2f"),
            ratio(g["fertility"], ".2f"),
            ratio(g["fragmentation"], ".1%"),
            f"{g['unknown']:.2%}",
        ]
        for g in answer["groups"]
    ]
    columns = [
        "text",
        "texts",
        "tokens",
        "distinct",
        "bytes/token",
        "bytes/word",
        "tokens/word",
        "cut words",
        "unknown",
    ]
    shared.say("", shared.table("By language and script", columns, rows))
    used, purity = answer["used"], answer["purity"]
    shared.say(
        "",
        f"used         {used['tokens']:,} tokens; {used['never']:,} ({used['never_share']:.1%}) never, "
        f"{used['once']:,} once",
        f"meaning      {purity['words']:.1%} of the distinct tokens are words, {purity['pure']:.1%} units of meaning "
        f"(by {purity['lexicon']})",
    )
    for name, trim in answer["trim"].items():
        shared.say(
            f"trimming     {name}: {trim['tokens']:,} tokens, saves {shared.human(trim['saved_bytes'])} "
            f"({trim['saved_share_of_model']:.1%} of the model)"
        )
