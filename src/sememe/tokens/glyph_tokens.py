"""A tokenizer whose tokens are whole characters or runs of them: what glyphs can be drawn of."""

from __future__ import annotations

from collections.abc import Sequence

from sememe.errors import InputError
from sememe.vocab.tokenizer import TokenizerFile

_WORDS = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def unicode_tokenizer(texts: Sequence[str], size: int) -> TokenizerFile:
    """All characters of some texts, the runs of them that are merged most often, and bytes for everything else.

    Byte-level tokenizers cut characters beyond ASCII into pieces that look like nothing. Here a character is never cut
    unless the texts do not have it: then UTF-8 bytes spell it, so that every text has tokens and comes back.

    Bochkov, "Emergent Semantics Beyond Token Embeddings: Transformer LMs with Frozen Visual Unicode Representations",
    2025, arXiv 2507.04886, takes all of Unicode's characters instead of those of the texts.

    Parameters
    ----------
    texts : sequence of str
        What characters and runs are counted in.
    size : int
        Tokens: 256 bytes, the characters, and as many runs as there is room for.

    Raises
    ------
    InputError
        A size that does not hold the bytes and the characters.
    """
    import json

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    characters = sorted({character for text in texts for character in text})
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    if size < len(spelled) + len(characters):
        raise InputError(
            f"{size:,} tokens for {len(characters):,} characters and 256 bytes",
            fix=f"give at least {len(spelled) + len(characters):,}",
        )
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size - len(spelled), initial_alphabet=characters, show_progress=False),
    )
    model = json.loads(learned.to_str())["model"]
    tokens = [*spelled, *sorted(model["vocab"], key=model["vocab"].get)]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ", 1)) for pair in model["merges"]]
    made = Tokenizer(models.BPE({token: row for row, token in enumerate(tokens)}, merges, byte_fallback=True))
    made.pre_tokenizer = learned.pre_tokenizer
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return TokenizerFile(json.loads(made.to_str()), where="learned from text")
