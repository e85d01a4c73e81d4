"""Tokenizers as data: what each token stands for, how text becomes tokens, and consistent changes of the vocabulary.

A tokenizer is its ``tokenizer.json`` and the small files beside it. Folders with the older files only (``vocab.txt``;
``vocab.json`` and ``merges.txt``) are read as transformers reads them.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab import slow_files
from sememe.vocab.side_files import SENTENCEPIECE_FILES, dump, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["bpe", "byte-bpe", "wordpiece", "unigram", "wordlevel"]
ROLES = ("unk", "bos", "eos", "pad", "cls", "sep", "mask")
_KINDS: dict[str, Kind] = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "wordlevel"}
_USUAL_NAMES = {
    "unk": ("[UNK]", "<unk>"),
    "bos": ("<s>", "<|im_start|>", "<bos>", "<|begin_of_text|>", "<|endoftext|>", "[CLS]"),
    "eos": ("</s>", "<|im_end|>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[SEP]"),
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
MARKER = "▁"  # what SentencePiece writes for a space


def _byte_characters() -> dict[str, int]:
    """The printable character that byte-level tokenizers write for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTE_OF = _byte_characters()
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


@dataclass(frozen=True, eq=False)
class TokenizerFile:
    """A tokenizer and everything that is written down about it.

    Attributes
    ----------
    spec : dict
        ``tokenizer.json``.
    side : dict of file name to object
        The JSON files beside it that were there (``tokenizer_config.json``, ...).
    older : frozenset of str
        Names of the older files that were there, which are written again: ``vocab.txt``, ``vocab.json``,
        ``merges.txt``.
    where : str
        What messages call it.
    kind : str
        ``bpe``, ``byte-bpe``, ``wordpiece``, ``unigram`` or ``wordlevel``.
    """

    spec: dict[str, Any]
    side: dict[str, Any] = field(default_factory=dict)
    older: frozenset[str] = frozenset()
    where: str = "tokenizer.json"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenizerFile:
        """Read a folder, or a ``tokenizer.json`` of any name.

        Raises
        ------
        InputError
            Where there is no tokenizer, or it contradicts itself.
        """
        place = Path(path)
        if place.is_file():
            found = cls(read_json(place) or {}, where=str(place))
        elif not place.is_dir():
            raise InputError("there is no such tokenizer", where=str(path), fix="check the path")
        else:
            names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
            side = {name: content for name in names if (content := read_json(place / name)) is not None}
            older = frozenset(n for n in ("vocab.txt", "vocab.json", "merges.txt") if (place / n).is_file())
            spec = read_json(place / "tokenizer.json")
            if spec is None:
                spec = slow_files.read(place, side)
            found = cls(spec, side, older, str(place))
        found.check()
        return found

    def check(self) -> None:
        """Refuse a tokenizer that cannot be used: damaged entries, ids that clash, or one the library cannot build."""
        from sememe.vocab.tokenizer_check import check_spec

        check_spec(self.spec, self.where)
        for token in self.added:
            if self.backend.token_to_id(token["content"]) != token["id"]:
                raise InputError(
                    f"the added token {token['content']!r} is written with id {token['id']} and gets another",
                    where=self.where,
                )

    @cached_property
    def kind(self) -> Kind:
        """What kind of tokenizer it is."""
        found = _KINDS[self.model_type]
        return "byte-bpe" if found == "bpe" and "ByteLevel" in self.parts else found

    @property
    def model(self) -> dict[str, Any]:
        """The entry ``model`` of the file."""
        return self.spec["model"]  # type: ignore[no-any-return]

    @property
    def model_type(self) -> str:
        """``BPE``, ``WordPiece``, ``Unigram`` or ``WordLevel``; older files leave it to be seen from the entries."""
        from sememe.vocab.tokenizer_check import model_type

        return model_type(self.model)

    @property
    def added(self) -> list[dict[str, Any]]:
        """Added tokens: ``id``, ``content``, ``special`` and how they match."""
        return self.spec.get("added_tokens") or []

    @cached_property
    def parts(self) -> frozenset[str]:
        """Names of all normalizers, pre-tokenizers and decoders."""
        entries = [self.spec.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")]
        return frozenset(str(entry["type"]) for entry in _walk(entries) if "type" in entry)

    @cached_property
    def metaspace(self) -> bool:
        """Whether spaces are written as ``▁``."""
        entries = [self.spec.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")]
        return self.kind in ("bpe", "unigram") and MARKER in json.dumps(entries, ensure_ascii=False)

    @property
    def across(self) -> bool:
        """Whether a token of the model may reach across words: only where nothing cuts the text before."""
        cutter = self.spec.get("pre_tokenizer")
        whole = cutter is None or (cutter.get("type") == "Metaspace" and cutter.get("split") is False)
        return whole and self.kind in ("bpe", "unigram")

    @cached_property
    def tokens(self) -> list[str]:
        """Tokens as written in the file, by id; an id that no token has is an empty string."""
        pairs = [*self.entries(), *((t["content"], t["id"]) for t in self.added)]
        out = [""] * (max((number for _, number in pairs), default=-1) + 1)
        for token, number in pairs:
            out[number] = token
        return out

    def entries(self) -> Iterator[tuple[str, int]]:
        """Tokens of the model with their ids, added ones only where the model has them too."""
        vocabulary = self.model["vocab"]
        if isinstance(vocabulary, dict):
            yield from vocabulary.items()
        else:
            for number, (token, _) in enumerate(vocabulary):
                yield token, number

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids by token."""
        return {token: number for number, token in enumerate(self.tokens) if token}

    @cached_property
    def roles(self) -> dict[str, int]:
        """Ids of the special tokens by role, one of ``ROLES``, as far as known."""
        found: dict[str, int] = {}
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            for role in ROLES:
                content = self.side.get(name, {}).get(f"{role}_token")
                content = content.get("content") if isinstance(content, dict) else content
                if isinstance(content, str) and content in self.ids:
                    found.setdefault(role, self.ids[content])
        if self.unknown is not None:
            found.setdefault("unk", self.unknown)
        special = {t["content"] for t in self.added if t.get("special")}
        for role, names in _USUAL_NAMES.items() if not self.side else ():
            for content in names:
                if content in special:
                    found.setdefault(role, self.ids[content])
        return found

    @property
    def unknown(self) -> int | None:
        """The id that stands for what cannot be written, if there is one."""
        if self.kind == "unigram":
            number = self.model.get("unk_id")
            return number if isinstance(number, int) else None
        content = self.model.get("unk_token")
        return self.ids.get(content) if isinstance(content, str) else None

    @cached_property
    def special(self) -> frozenset[int]:
        """Ids that stand for no text: special added tokens, the roles, and those the post-processor inserts."""
        inserted = [n for entry in _walk(self.spec.get("post_processor")) for n in entry.get("ids", ())]
        marked = [t["id"] for t in self.added if t.get("special")]
        return frozenset([*marked, *self.roles.values(), *inserted])

    @cached_property
    def added_ids(self) -> frozenset[int]:
        """Ids of all added tokens, special or not."""
        return frozenset(t["id"] for t in self.added)

    @cached_property
    def backend(self) -> Tokenizer:
        """The tokenizer of the library ``tokenizers``, without its padding and truncation."""
        from sememe.vocab.tokenizer_check import build

        return build(self.spec, self.where)

    # Text to tokens

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; ``special`` adds what the post-processor adds."""
        return self.backend.encode(_clean(text), add_special_tokens=special).ids  # type: ignore[no-any-return]

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Ids of many texts, in parallel."""
        return [e.ids for e in self.backend.encode_batch_fast([_clean(t) for t in texts], add_special_tokens=special)]

    def text_of(self, number: int) -> bytes | None:
        """The bytes that a token stands for, a word's beginning as a leading space; None for special tokens and gaps.

        A token without leading space continues a word, or stands alone wherever it is, as punctuation does under
        WordPiece. Where a vocabulary marks the ends of words instead, a trailing space says so.
        """
        return self._texts[number]

    @cached_property
    def _texts(self) -> list[bytes | None]:
        from sememe.vocab.token_text import token_text

        return [token_text(self, number) for number in range(len(self.tokens))]

    def pieces(self, text: bytes | str) -> list[int]:
        """Ids that spell a piece of text, as ``text_of`` of this or another tokenizer gives it.

        A leading space begins a word, its absence continues one: ``pieces(b"ing")`` gives ``##ing`` where that exists.
        """
        from sememe.vocab.token_text import pieces

        return pieces(self, text)

    # Changes

    def keep(self, ids: Sequence[int] | NDArray[np.int64]) -> tuple[TokenizerFile, NDArray[np.int64]]:
        """The same tokenizer with fewer tokens.

        Text that becomes only kept tokens becomes the same tokens, renumbered in the old order. For this more is kept
        than asked for: added and special tokens, bytes, and what merges pass through on the way to a kept token.

        Parameters
        ----------
        ids : array-like of int
            Tokens to keep.

        Returns
        -------
        (TokenizerFile, ndarray of shape (v_new,))
            The new tokenizer, and the old id of each new one, int64, ascending.
        """
        from sememe.vocab.tokenizer_keep import keep

        return keep(self, ids)

    def extend(self, tokens: Sequence[bytes | str]) -> TokenizerFile:
        """The same tokenizer with more tokens, at the end; see `sememe.vocab.tokenizer_extend`."""
        from sememe.vocab.tokenizer_extend import extend

        return extend(self, tokens)

    def with_spec(self, spec: dict[str, Any], ids: Mapping[int, int | None] | None = None) -> TokenizerFile:
        """The same side files around another ``tokenizer.json``; ``ids`` maps old ids to new ones."""
        side = copy.deepcopy(self.side)
        if ids is not None:
            decoder = side.get("tokenizer_config.json", {}).get("added_tokens_decoder")
            if isinstance(decoder, dict):
                moved = {ids.get(int(key)): entry for key, entry in decoder.items() if str(key).isdigit()}
                side["tokenizer_config.json"]["added_tokens_decoder"] = {
                    str(key): entry for key, entry in sorted((k, e) for k, e in moved.items() if k is not None)
                }
        changed = TokenizerFile(spec, side, self.older, self.where)
        if "added_tokens.json" in side:
            side["added_tokens.json"] = {t: changed.ids[t] for t in side["added_tokens.json"] if t in changed.ids}
        return changed

    def files(self) -> dict[str, bytes]:
        """Contents of the tokenizer's files by name. SentencePiece's own file is never among them: see ``dropped``."""
        files = {"tokenizer.json": _compact(self.spec)}
        files |= {name: dump(content) for name, content in self.side.items()}
        return files | slow_files.write(self.spec, self.tokens, self.older)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Files that ``files`` leaves out: ``tokenizer.json`` says the same, and is read first."""
        return SENTENCEPIECE_FILES


def _compact(spec: dict[str, Any]) -> bytes:
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _clean(text: str) -> str:
    """Lone surrogates cannot be handed to the library."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _walk(entry: Any) -> Iterator[dict[str, Any]]:
    """All objects inside a JSON value."""
    stack = [entry]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
