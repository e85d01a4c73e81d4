"""The older files of tokenizers: ``vocab.txt`` (WordPiece), ``vocab.json`` with ``merges.txt`` (byte-level BPE)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sememe.errors import InputError
from sememe.vocab.side_files import SENTENCEPIECE_FILES, read_json

_BYTE_LEVEL = ("gpt2", "roberta", "bart", "longformer", "led", "blenderbot", "deberta", "opt", "codegen", "qwen2")
_SPECIALS = {
    "bert": ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"),
    "roberta": ("<s>", "</s>", "<unk>", "<pad>", "<mask>"),
}


def read(folder: Path, side: dict[str, Any]) -> dict[str, Any]:
    """A ``tokenizer.json`` made from the older files, as transformers would make it.

    Raises
    ------
    InputError
        Where there are none, or it is not known what they mean.
    """
    settings = side.get("tokenizer_config.json", {})
    named = str(
        settings.get("tokenizer_class") or (read_json(folder / "config.json") or {}).get("model_type") or ""
    ).lower()
    if (folder / "vocab.txt").is_file():
        return _added(_wordpiece(folder / "vocab.txt", settings), side)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        if named and not any(name in named for name in _BYTE_LEVEL):
            raise InputError(f"it is not known how the files of a {named} are read", where=str(folder), fix=_convert())
        return _added(_byte_level(folder, settings, named), side)
    models = [name for name in SENTENCEPIECE_FILES if (folder / name).is_file()]
    if models:
        raise InputError(f"there is only {models[0]}, and no tokenizer.json", where=str(folder), fix=_convert())
    raise InputError("there is no tokenizer here", where=str(folder), fix="copy tokenizer.json beside the model")


def _convert() -> str:
    command = "from transformers import AutoTokenizer as A; A.from_pretrained(OLD).save_pretrained(NEW)"
    return f'write tokenizer.json with: python -c "{command}"'


def _wordpiece(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path)) from None
    if lines and not lines[-1]:
        lines.pop()
    vocabulary = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    lower = bool(settings.get("do_lower_case", True))
    names = {role: str(_content(settings.get(f"{role}_token")) or name) for role, name in _BERT.items()}
    special = [name for name in names.values() if name in vocabulary]
    first, last = names["cls"], names["sep"]
    template = None
    if first in vocabulary and last in vocabulary:
        template = {
            "type": "TemplateProcessing",
            "single": [_one(first), {"Sequence": {"id": "A", "type_id": 0}}, _one(last)],
            "pair": [
                _one(first),
                {"Sequence": {"id": "A", "type_id": 0}},
                _one(last),
                {"Sequence": {"id": "B", "type_id": 1}},
                _one(last, 1),
            ],
            "special_tokens": {n: {"id": n, "ids": [vocabulary[n]], "tokens": [n]} for n in (first, last)},
        }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_token(name, vocabulary[name]) for name in sorted(special, key=vocabulary.__getitem__)],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": names["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


_BERT = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}


def _byte_level(folder: Path, settings: dict[str, Any], named: str) -> dict[str, Any]:
    vocabulary = read_json(folder / "vocab.json") or {}
    try:
        lines = (folder / "merges.txt").read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=str(folder / "merges.txt")) from None
    merges = [line for line in lines if line and not line.startswith("#version")]
    space = bool(settings.get("add_prefix_space", False))
    family = any(name in named for name in ("roberta", "bart", "longformer", "led"))
    names = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"] if family else ["<|endoftext|>"]
    names += [str(c) for role in ("unk", "bos", "eos", "pad", "cls", "sep", "mask")
              if (c := _content(settings.get(f"{role}_token")))]  # fmt: skip
    special = sorted({name for name in names if name in vocabulary}, key=vocabulary.__getitem__)
    level = {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": True}
    processor: dict[str, Any] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    if family and "<s>" in vocabulary and "</s>" in vocabulary:
        processor = {
            "type": "RobertaProcessing",
            "sep": ["</s>", vocabulary["</s>"]],
            "cls": ["<s>", vocabulary["<s>"]],
            "trim_offsets": True,
            "add_prefix_space": space,
        }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_token(name, vocabulary[name]) | {"lstrip": name == "<mask>"} for name in special],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": processor,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _added(spec: dict[str, Any], side: dict[str, Any]) -> dict[str, Any]:
    """Enter the tokens of ``added_tokens.json``, which come after the vocabulary."""
    known = {t["content"] for t in spec["added_tokens"]}
    extra = side.get("added_tokens.json", {})
    if not all(type(number) is int for number in extra.values()):
        raise InputError("does not map tokens to ids", where="added_tokens.json")
    spec["added_tokens"] += [_token(t, n) | {"special": False} for t, n in extra.items() if t not in known]
    spec["added_tokens"].sort(key=lambda token: token["id"])
    return spec


def _content(entry: Any) -> Any:
    return entry.get("content") if isinstance(entry, dict) else entry


def _token(content: str, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _one(name: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": kind}}


def write(spec: dict[str, Any], tokens: list[str], names: frozenset[str]) -> dict[str, bytes]:
    """The older files of a tokenizer, those of ``names`` that its model has.

    Parameters
    ----------
    spec : dict
        ``tokenizer.json``.
    tokens : list of str
        By id.
    names : frozenset of str
        Files wanted.
    """
    model = spec["model"]
    vocabulary = model["vocab"]
    files: dict[str, bytes] = {}
    if "vocab.txt" in names and isinstance(vocabulary, dict) and "merges" not in model:
        lines = [
            token or f"[unused-{number}]" for number, token in enumerate(tokens) if token in vocabulary or not token
        ]
        files["vocab.txt"] = "".join(line + "\n" for line in lines).encode()
    if "vocab.json" in names and isinstance(vocabulary, dict):
        files["vocab.json"] = json.dumps(vocabulary, ensure_ascii=False).encode()
    if "merges.txt" in names and "merges" in model:
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        files["merges.txt"] = ("#version: 0.2\n" + "".join(merge + "\n" for merge in merges)).encode()
    return files
