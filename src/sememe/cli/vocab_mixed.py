"""``sememe vocab mixed``."""

from __future__ import annotations

import argparse

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn
from sememe.cli.vocab_trim import vocabulary_size

EXAMPLE = """sememe vocab mixed MODEL --text corpus.txt --size 5000 --width 128 --layers 2 -o SMALL
  sememe vocab mixed MODEL --text corpus.txt --tokenizer OTHER --steps 3000 -o SMALL"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face or sentence-transformers folder of an encoder, with safetensors")
    text_options(verb, required=True)
    verb.add_argument(
        "--size",
        type=vocabulary_size,
        default=5_000,
        help="tokens (5000, the default) or share (20%%) of the student: the teacher's tokenizer is trimmed to that",
    )
    verb.add_argument(
        "--tokenizer", metavar="FILE", help="the student's tokenizer instead; it cuts into the same words"
    )
    verb.add_argument("--width", type=shared.positive, default=128, help="of the student (default %(default)s)")
    verb.add_argument("--layers", type=shared.positive, default=2, help="of the student (default %(default)s)")
    verb.add_argument("--heads", type=shared.positive, default=4, help="of the student (default %(default)s)")
    verb.add_argument(
        "--align-steps", type=shared.positive, default=100, help="batches of mixed text (default %(default)s)"
    )
    verb.add_argument("--steps", type=shared.positive, default=1_000, help="batches of teaching (default %(default)s)")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("-o", "--output", required=True, help="the new folder; it must not exist")


def run(given: argparse.Namespace) -> int:
    """Teach the student, and say how small it is."""
    from sememe import vocab

    answer = vocab.mixed(
        given.model,
        given.output,
        given.text,
        size=given.size,
        tokenizer=given.tokenizer,
        width=given.width,
        layers=given.layers,
        heads=given.heads,
        align_steps=given.align_steps,
        steps=given.steps,
        seed=given.seed,
    )
    if given.json:
        shared.print_json(answer)
        return 0
    tokens, parameters, size = answer["tokens"], answer["parameters"], answer["model_bytes"]
    shared.say(
        f"tokens      {tokens['before']:,} -> {tokens['after']:,}",
        f"parameters  {parameters['before']:,} -> {parameters['after']:,}",
        f"model       {shared.human(size['before'])} -> {shared.human(size['after'])}",
    )
    for name, ends in answer["losses"].items():
        if ends:
            shared.say(f"{name:11} loss {ends[0]:.3f} -> {ends[1]:.3f}")
    shared.say(f"new         {answer['out']}")
    warn(answer["notices"])
    return 0
