"""``sememe vocab bytes``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sememe.cli import shared

EXAMPLE = 'sememe vocab bytes MODEL "import nump" --complete 20'


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face folder of a causal language model")
    verb.add_argument("text", help="a text that may end anywhere, within a token too; - reads standard input")
    verb.add_argument("--top", type=shared.positive, default=10, help="bytes to show (default: %(default)s)")
    verb.add_argument("--complete", type=shared.positive, metavar="BYTES", help="continue the text by so many bytes")
    verb.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest byte (default), 1 draws")
    verb.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    verb.add_argument(
        "--prune",
        type=float,
        default=0.0,
        help="leave out token sequences with at most this share of the probability; 0 is exact (default)",
    )
    verb.add_argument(
        "--also", nargs="+", metavar="MODEL", default=[], help="models that speak together with the first"
    )
    verb.add_argument(
        "--weights", type=float, nargs="+", metavar="W", help="of all models, with sum 1; equal by default"
    )
    verb.add_argument(
        "--fusion",
        choices=("product", "mixture"),
        default="product",
        help="weighted mean of log-probabilities (default) or of probabilities",
    )


def run(given: argparse.Namespace) -> int:
    """Say what may come next, and continue."""
    import numpy as np

    from sememe.vocab.byte_fusion import ByteFusion
    from sememe.vocab.byte_probs import ByteLevelModel
    from sememe.vocab.covers import END

    text = sys.stdin.buffer.read() if given.text == "-" else given.text.encode("utf-8", "surrogateescape")
    models = [ByteLevelModel.open(folder, prune=given.prune) for folder in (given.model, *given.also)]
    fusion = ByteFusion(models, given.weights, given.fusion)
    state = fusion.state(text)
    law = state.law
    order = np.argsort(-law, kind="stable")[: given.top]
    answer: dict[str, Any] = {
        "text": text.decode("utf-8", "replace"),
        "log_prob": fusion.log_prob(text),
        "next": [
            {"byte": None if byte == END else byte, "shows": shown(byte), "probability": float(np.exp(law[byte]))}
            for byte in order.tolist()
        ],
        "tokens_that_cover_the_end": covers(models[0], text) if len(models) == 1 else [],
    }
    if given.complete:
        added = fusion.complete(text, given.complete, temperature=given.temperature, seed=given.seed)
        answer["added"] = added.decode("utf-8", "replace")
    if given.json:
        shared.print_json(answer)
        return 0
    rows = [[entry["shows"], f"{entry['probability']:.2%}"] for entry in answer["next"]]
    shared.say(shared.table("Next byte", ["byte", "probability"], rows))
    bits = -answer["log_prob"] / np.log(2)
    shared.say("", f"text   {len(text):,} bytes, {bits:.2f} bits")
    for entry in answer["tokens_that_cover_the_end"]:
        shared.say(f"cover  {entry['share']:>7.2%}  ... {' '.join(map(repr, entry['tokens']))}")
    if given.complete:
        shared.say("", answer["text"] + answer["added"])
    return 0


def shown(byte: int) -> str:
    """A byte for a person."""
    if byte > 255:
        return "the end"
    return repr(chr(byte)) if 32 <= byte < 127 else f"0x{byte:02X}"


def covers(model: Any, text: bytes, most: int = 5) -> list[dict[str, Any]]:
    """The likeliest token sequences behind a text: their last three tokens, and their shares."""
    import numpy as np

    state = model.state(text)
    found = sorted(state.covers(), key=lambda cover: -cover[1])[:most]
    names = model.table.rule.tokenizer
    spelled = [[(names.text_of(n) or b"").decode("utf-8", "replace") for n in tokens[-3:]] for tokens, _ in found]
    return [
        {"tokens": tokens, "share": float(np.exp(cost - state.log_prob))}
        for tokens, (_, cost) in zip(spelled, found, strict=True)
    ]
