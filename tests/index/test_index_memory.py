"""Memory while searching 100,000 passages: the codes and a fifth more, whatever else lies on the disk."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, zlib
import numpy as np
import numkong, xxhash  # the engines' own memory is not the index's
from sememe.contracts import Record
from sememe.index import engine, predicates, search

class Noise:
    name, dim, digest = "noise", 256, "noise"
    def encode(self, texts, *, kind="passage", batch_size=64, progress=False):
        return np.random.default_rng(zlib.crc32(texts[0].encode())).standard_normal((len(texts), 256), np.float32)

def resident(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024

if sys.argv[1] == "build":
    records = (Record(str(i), f"passage {i} " + "of some length " * 20, metadata={"n": i}) for i in range(100_000))
    before = resident("VmRSS")
    index = engine.build(records, sys.argv[2], sys.argv[3], encoder=Noise(), sample=20_000)
    print(resident("VmHWM") - before, index.ledger().codes)
else:
    Q = Noise().encode(["a", "b", "c", "d"])
    warm = engine.open(sys.argv[3], encoder=Noise())
    warm.search(Q, k=10)
    before = resident("VmRSS")
    index = engine.open(sys.argv[2], encoder=Noise())
    for row in range(4):
        hits = index.search(Q[row : row + 1], k=10)
    index.search(Q[:1], k=10, where="n < 50000")
    print(resident("VmRSS") - before, index.ledger().codes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "recipe, width", [("static | int8 | flat", 256), ("static | binary | flat | rescore:int8", 32)]
)
def test_memory_at_search_and_at_build(tmp_path, recipe, width):
    from sememe.contracts import Record
    from sememe.index import engine

    class Noise:
        name, dim, digest = "noise", 256, "noise"

        def encode(self, texts, **options):
            import numpy as np

            return np.random.default_rng(0).standard_normal((len(texts), 256), np.float32)

    engine.build([Record("a", "x"), Record("b", "y")], tmp_path / "warm", recipe, encoder=Noise())

    def run(*arguments):
        out = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return [int(number) for number in out.stdout.split()]

    peak, codes = run("build", tmp_path / "i", recipe)
    assert codes == 100_000 * width
    assert peak < 160 << 20  # float32 vectors alone would be 102 MB, the texts 31 MB; the sample is 20 MB
    growth, codes = run("search", tmp_path / "i", tmp_path / "warm")
    assert growth <= 1.2 * codes + (1 << 20)  # of which the interpreter's own growth
