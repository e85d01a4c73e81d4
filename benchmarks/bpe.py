"""Learning and applying byte-pair merges, against the tokenizers package, which does it in Rust.

    python benchmarks/bpe.py wikitext2/test.txt.gz [--sizes 2048,8192,32768] [--rounds 5]

Both learn from the same words with the same counts, one thread, and take turns; CPU seconds, medians of one run. The
merges are compared one by one, and so are the ids of every line. The peer's words are made of one character a byte, in
the order of the bytes, so that ties fall alike.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

from sememe.vocab.byte_bpe import ByteBPE


def wide(raw: bytes) -> str:
    """One character a byte."""
    return "".join(chr(0x4E00 + byte) for byte in raw)


def peer(lines: list[str], size: int) -> Any:
    """The tokenizers package's own learner over words that white space parts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = list(wide(bytes(range(256))))
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    made.train_from_iterator(lines, trainer)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--sizes", default="2048,8192,32768")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    opener = gzip.open if options.text.suffix == ".gz" else open
    with opener(options.text, "rt", encoding="utf-8") as file:
        text = file.read().splitlines(keepends=True)
    split = ByteBPE()._split
    lines = [" ".join(map(wide, split(line.encode()))) for line in text]
    words = Counter(word for line in text for word in split(line.encode()))
    print(f"{sum(len(line.encode()) for line in text):,} bytes, {len(words):,} distinct words")
    for size in map(int, options.sizes.split(",")):
        times: dict[str, list[float]] = {"sememe learn": [], "tokenizers learn": [], "sememe": [], "tokenizers": []}
        for _ in range(options.rounds):
            ours = timed(times["sememe learn"], lambda size=size: ByteBPE(size).fit(text))
            theirs = timed(times["tokenizers learn"], lambda size=size: peer(lines, size))
            coded = timed(times["sememe"], lambda ours=ours: ours.encode_batch(text))
            other = timed(times["tokenizers"], lambda theirs=theirs: theirs.encode_batch(lines))
        spec = json.loads(theirs.to_str())["model"]
        ids = spec["vocab"]
        same = ours.merges_.tolist() == [[ids[a], ids[b], ids[a + b]] for a, b in spec["merges"]]
        equal = sum(a.tolist() == b.ids for a, b in zip(coded, other))
        middle = {name: statistics.median(found) for name, found in times.items()}
        learning = f"learn {middle['sememe learn']:.2f} s, peer {middle['tokenizers learn']:.2f} s"
        encoding = f"encode {middle['sememe']:.2f} s, peer {middle['tokenizers']:.2f} s"
        verdict = f"merges {'equal' if same else 'DIFFER'}, {equal:,} of {len(text):,} lines equal"
        print(f"{ours.vocabulary:>6} symbols: {learning}; {encoding}; {verdict}")


def timed(found: list[float], call: Any) -> Any:
    """Call it and note its CPU seconds."""
    began = time.process_time()
    result = call()
    found.append(time.process_time() - began)
    return result


if __name__ == "__main__":
    main()
