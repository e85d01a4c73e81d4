"""Small real tokenizers of every kind, trained here, and small random models of every layout around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SENTENCES = {
    "en": [
        "The baker kneads the dough before the sun rises over the harbour.",
        "Seven hundred people waited for the train that never arrived.",
        "She wrote 1,204 letters between 1998 and 2007, and kept copies of them all.",
        "Unbelievable as it sounds, the unfinished bridge carried their carts.",
        "Rain, wind and salt had eaten the paint; the wood itself held.",
    ],
    "de": [
        "Der Bäcker knetet den Teig, bevor die Sonne über dem Hafen aufgeht.",
        "Siebenhundert Menschen warteten auf den Zug, der niemals ankam.",
        "Zwischen den Häusern lagen Gärten, in denen Äpfel und Zwetschgen reiften.",
        "Die Überschwemmung zerstörte Straßen, Brücken und Größeres mehr.",
    ],
    "fr": [
        "Le boulanger pétrit la pâte avant que le soleil ne se lève sur le port.",
        "Sept cents personnes attendaient le train qui n'est jamais arrivé.",
        "Où étaient-elles, ces forêts dont on parlait si souvent à l'école ?",
    ],
    "ru": [
        "Пекарь месит тесто до восхода солнца над гаванью.",
        "Семьсот человек ждали поезда, который так и не пришёл.",
    ],
    "zh": ["面包师在太阳升起之前揉面团。", "七百人等待着从未到来的火车。"],
}
KINDS = ("byte-bpe", "bpe", "wordpiece", "unigram")


def train_tokenizer(kind: str, size: int = 500) -> Any:
    """A tokenizer of the library, with special tokens and a post-processor as models of that kind have them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    texts = [sentence for sentences in SENTENCES.values() for sentence in sentences] * 3
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer: Any = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    elif kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # for training only: Llama's merges never cross words
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=size + 256, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "bpe":  # bytes are tokens of the model, not added ones
        spec = json.loads(tokenizer.to_str())
        spec["added_tokens"] = spec["added_tokens"][:3]
        spec["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        }
        spec["pre_tokenizer"] = None
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    first, last = {"wordpiece": ("[CLS]", "[SEP]"), "unigram": ("<s>", "</s>"), "bpe": ("<s>", "")}.get(kind, ("", ""))
    if first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}".strip(),
            pair=f"{first} $A {last} $B:1 {last}:1".replace(" :1", "").replace("  ", " ").strip(),
            special_tokens=[(t, tokenizer.token_to_id(t)) for t in (first, last) if t],
        )
    tokenizer.add_tokens([AddedToken("<extra>", normalized=False)])
    return tokenizer


def write_model(folder: Path, kind: str, tokenizer_file: Path, **changes: Any) -> Path:
    """A random model folder: GPT-2 (untied), Llama (tied), BERT with a masked head (bias), XLM-R with one."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), **ROLES[kind])
    size = len(fast)
    small = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    inner = {"intermediate_size": 48, "max_position_embeddings": 80}
    ids = {f"{role}_id": fast.convert_tokens_to_ids(token) for role, token in ROLES[kind].items()}
    ids = {key: value for key, value in ids.items() if key[:3] in ("bos", "eos", "pad")}
    if kind == "byte-bpe":
        config: Any = transformers.GPT2Config(
            vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=80, tie_word_embeddings=False, **ids | changes
        )
        model: Any = transformers.GPT2LMHeadModel(config)
    elif kind == "bpe":
        config = transformers.LlamaConfig(**small, **inner, tie_word_embeddings=True, **ids | changes)
        model = transformers.LlamaForCausalLM(config)
    elif kind == "wordpiece":
        config = transformers.BertConfig(**small, **inner, **ids | changes)
        model = transformers.BertForMaskedLM(config)
        torch.nn.init.normal_(model.cls.predictions.bias)
    else:
        config = transformers.XLMRobertaConfig(**small, **inner, **ids | changes)
        model = transformers.XLMRobertaForMaskedLM(config)
        torch.nn.init.normal_(model.lm_head.bias)
    model.eval().save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


ROLES: dict[str, dict[str, str]] = {
    "byte-bpe": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "bpe": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "wordpiece": {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    },
    "unigram": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
}
