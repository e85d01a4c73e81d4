"""A process that adds, replaces, deletes and compacts is killed at any moment; a dictionary says what must be there.

``SEMEME_TRIALS=1000 pytest tests/index/test_index_killed.py`` kills and reopens as often as that.
"""

import os
import random
import signal
import sys
import time

import pytest

from sememe.contracts import Record
from sememe.index import engine
from sememe.testing import HashingEncoder

CYCLES = int(os.environ.get("SEMEME_TRIALS", "25"))
ENCODER = HashingEncoder(16)
WORDS = ["rook", "knight", "bishop", "comet", "bread", "oven", "river", "stone", "lamp", "paper"]
RECIPE = "static | int8 | flat | hybrid:bm25"


def steps(seed):
    """An endless sequence of changes: ("add", {id: text}), ("delete", [ids]) or ("compact",)."""
    rng = random.Random(seed)
    while True:
        kind = rng.choices(["add", "delete", "compact"], [6, 3, 1])[0]
        if kind == "add":
            chosen = {f"r{rng.randrange(40)}": " ".join(rng.choices(WORDS, k=5)) for _ in range(rng.randrange(1, 5))}
            yield "add", chosen
        elif kind == "delete":
            yield "delete", [f"r{rng.randrange(40)}" for _ in range(rng.randrange(1, 4))]
        else:
            yield ("compact",)


def changed(model, step):
    """The dictionary after a step."""
    if step[0] == "add":
        return {**model, **step[1]}
    return {key: text for key, text in model.items() if key not in step[1]} if step[0] == "delete" else model


def apply(index, step):
    if step[0] == "add":
        index.add([Record(key, text) for key, text in step[1].items()], on_duplicate="replace")
    elif step[0] == "delete":
        index.delete(step[1])
    else:
        index.compact()


def content(index):
    hits = index.search("rook", k=1000)
    return {hit["id"]: hit["text"] for hit in index.results(hits)[0]}


def work(path, seed, channel):
    """Change the index until killed, and tell after each step that it is done."""
    with engine.open(path, encoder=ENCODER) as index:
        for step in steps(seed):
            apply(index, step)
            os.write(channel, b".")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and kills")
def test_killed_at_any_moment_and_opened_again(tmp_path):
    path, rng = tmp_path / "i", random.Random(0)
    model = {"r0": "rook knight comet"}
    engine.build([Record(key, text) for key, text in model.items()], path, RECIPE, encoder=ENCODER).close()
    finished = 0
    for cycle in range(CYCLES):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(read)
                work(path, cycle, write)
            finally:
                os._exit(1)
        os.close(write)
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child failed before it was killed"
        with os.fdopen(read, "rb") as channel:
            done = len(channel.read())
        sequence = steps(cycle)
        for _ in range(done):
            model = changed(model, next(sequence))
        maybe = changed(model, next(sequence))  # published, perhaps, but not yet told
        with engine.open(path, encoder=ENCODER) as index:
            found = content(index)
        assert found in (model, maybe), f"cycle {cycle}: what was acknowledged is not there"
        finished, model = finished + done, found
    with engine.open(path, encoder=ENCODER) as index:
        index.store.vacuum(keep=1)
        assert index.verify().ok and content(index) == model
    assert finished > CYCLES / 5, "the kills came before any work"
