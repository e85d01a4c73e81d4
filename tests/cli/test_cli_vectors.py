"""``info`` and ``compact`` on a folder of bare vectors."""

import numpy as np

from sememe.index import VectorIndex
from sememe.testing import clustered_vectors


def test_info_and_compact_know_bare_vectors(sememe):
    rows = clustered_vectors(5_000, 32)
    index = VectorIndex.build("vectors", rows[:3000], "int8 | flat | rescore:fp16", ids=np.arange(3000))
    index.add(rows[3000:], ids=np.arange(3000, 5000))
    index.delete(range(0, 5000, 4))
    info = sememe("info", "vectors", "--json").json
    assert (info["rows"], info["live"], info["deleted"], info["segments"]) == (5000, 3750, 1250, 2)
    assert (info["dim"], info["code_bytes"], info["rescore_bytes"], info["ids"]) == (32, 32, 64, True)
    assert info["recipe"] == "int8 | flat | rescore:fp16" and info["disk"]["codes"] == 5000 * 32
    shown = sememe("info", "vectors").out
    assert "160 kB" in shown and "deleted        1,250" in shown and "ids            yes" in shown
    done = sememe("compact", "vectors", "--json").json
    assert done["segments"] == 1 and done["bytes_after"] < 0.8 * done["bytes_before"]
    assert sememe("info", "vectors", "--json").json["live"] == 3750


def test_what_works_on_records_only_says_so(sememe):
    VectorIndex.build("vectors", clustered_vectors(100, 8), "int8 | flat")
    answer = sememe("search", "vectors", "bread")
    assert answer.status == 3 and "VectorIndex" in answer.err
