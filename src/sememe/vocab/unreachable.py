"""Tokens that a tokenizer never produces, whatever the text.

A token is judged in two steps. Can the model make it? Under byte-pair encoding and Unigram a token whose own string is
cut into something else never occurs (`sememe.vocab.merges`; a better-scored spelling beats it everywhere); under
WordPiece one longer than the longest word never does. Does text reach the model in that shape? For this a witness is
sought: the token's text, alone and after a few beginnings in its own script, goes through the whole tokenizer. Without
a witness the normalizer or the pre-tokenizer changes or cuts it (a capital letter in a lower-casing tokenizer, a
letter of a script that is split into single characters). That no witness was found is strong evidence, not a proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sememe.vocab.sample import script_of
from sememe.vocab.token_text import byte_token

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_BEGINNINGS = ("", " ", "a", "(", "1", "\n", "t", ".", "e", "s", "o", "x", "q", "b", "-", '"', "z", "A")
HOW = {
    "merges": "its own characters, encoded alone, become other tokens (exact)",
    "scores": "a better-scored spelling beats it everywhere (exact)",
    "length": "it is longer than the longest word that is looked up (exact)",
    "text": f"no text gave it, alone or after {len(_BEGINNINGS)} beginnings and letters of its script (a search)",
}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """What was found.

    Attributes
    ----------
    reasons : dict of id to str
        Keys of ``HOW``.
    judged : int
        Tokens judged.
    unjudged : int
        Special and added tokens, single bytes, and parts of characters: nothing is said about them.
    """

    reasons: dict[int, str]
    judged: int
    unjudged: int

    def as_json(self, tokenizer: TokenizerFile, examples: int = 12) -> dict[str, Any]:
        """Counts by reason, with some tokens of each and how it was decided."""
        groups: dict[str, list[int]] = defaultdict(list)
        for number, reason in sorted(self.reasons.items()):
            groups[reason].append(number)
        return {
            "tokens": len(self.reasons),
            "judged": self.judged,
            "not_judged": self.unjudged,
            "by_reason": {
                reason: {
                    "tokens": len(numbers),
                    "decided": HOW[reason],
                    "examples": [tokenizer.tokens[n] for n in numbers[:: max(len(numbers) // examples, 1)][:examples]],
                }
                for reason, numbers in groups.items()
            },
        }


def find_unreachable(tokenizer: TokenizerFile, seen: Collection[int] = ()) -> Unreachable:
    """Judge every token that is not in ``seen``, the tokens already met in some text."""
    texts: dict[int, str] = {}
    judged = len(set(seen))
    unjudged = 0
    known = set(seen)
    for number in range(len(tokenizer.tokens)):
        if number in known:
            continue
        text = _judgeable(tokenizer, number)
        if text is None:
            unjudged += 1
        else:
            texts[number] = text
    letters = _letters(tokenizer)
    open_ = dict(texts)
    reasons: dict[int, str] = {}
    for turn in range(len(_BEGINNINGS) + 8):
        if turn == 1:  # most tokens stand for themselves: the others are worth asking the model about
            reasons = _by_model(tokenizer, open_)
            open_ = {number: text for number, text in open_.items() if number not in reasons}
        if not open_:
            break
        numbers = list(open_)
        candidates = [_witness(open_[n], turn, letters) for n in numbers]
        for number, ids in zip(numbers, tokenizer.encode_batch(candidates), strict=True):
            if number in ids:
                del open_[number]
    reasons |= dict.fromkeys(open_, "text")
    return Unreachable(reasons, judged + len(texts), unjudged)


def _judgeable(tokenizer: TokenizerFile, number: int) -> str | None:
    raw = tokenizer.text_of(number)
    if raw is None or number in tokenizer.added_ids:
        return None
    if tokenizer.kind == "byte-bpe" and len(raw) == 1:
        return None
    if tokenizer.model.get("byte_fallback") and byte_token(tokenizer.tokens[number]) is not None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _by_model(tokenizer: TokenizerFile, texts: dict[int, str]) -> dict[int, str]:
    """Those that the model itself never makes."""
    model: Any = tokenizer.backend.model
    if tokenizer.model_type == "BPE" and not tokenizer.model.get("ignore_merges"):
        from sememe.vocab.merges import Merges

        merges = Merges(tokenizer.model)
        return {n: "merges" for n in texts if merges.tree(tokenizer.tokens[n]) is None}
    if tokenizer.kind == "unigram":
        return {n: "scores" for n in texts if [t.id for t in model.tokenize(tokenizer.tokens[n])] != [n]}
    if tokenizer.kind == "wordpiece":
        limit = tokenizer.model.get("max_input_chars_per_word") or 100
        return {n: "length" for n, text in texts.items() if len(text.strip()) > limit}
    return {}


def _letters(tokenizer: TokenizerFile) -> dict[str, list[str]]:
    """Single letters of the vocabulary by script, the first eight of each."""
    out: dict[str, list[str]] = defaultdict(list)
    for number in range(len(tokenizer.tokens)):
        text = _judgeable(tokenizer, number)
        letter = text.strip() if text is not None else ""
        if len(letter) == 1 and (script := script_of(letter)) and len(out[script]) < 8 and letter not in out[script]:
            out[script].append(letter)
    return out


def _witness(text: str, turn: int, letters: dict[str, list[str]]) -> str:
    """A text that may hold the token: what it stands for, after some beginning."""
    if turn < len(_BEGINNINGS):
        beginning = _BEGINNINGS[turn]
        return (text.lstrip(" ") if turn == 1 else beginning + text) or text
    own = letters.get(next((s for s in map(script_of, text) if s), ""), [])
    place = turn - len(_BEGINNINGS)
    return (own[place] if place < len(own) else "m") + text
