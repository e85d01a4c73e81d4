"""Vectors from files of several formats, and the command that compares compressors on them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.compression_bench import CompressionBench, chain_of
from sememe.measure.vector_files import read_vectors


@pytest.fixture
def table():
    return np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


def test_every_format_gives_the_same_table(tmp_path, table):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    np.save(tmp_path / "a.npy", table)
    np.save(tmp_path / "half.npy", table.astype(np.float16))
    (tmp_path / "a.fbin").write_bytes(np.array(table.shape, dtype="<u4").tobytes() + table.tobytes())
    pq.write_table(pa.table({"id": list(range(40)), "v": table.tolist()}), tmp_path / "a.parquet")
    for name in ("a.npy", "a.fbin", "a.parquet"):
        np.testing.assert_array_equal(read_vectors(str(tmp_path / name)), table)
    np.testing.assert_array_equal(read_vectors(str(tmp_path / "half.npy")), table.astype(np.float16))


def test_hdf5_where_its_reader_is_installed(tmp_path, table):
    h5py = pytest.importorskip("h5py", reason="HDF5 is read where the user has h5py")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"] = table
    np.testing.assert_array_equal(read_vectors(str(tmp_path / "a.hdf5")), table)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.npy", b"", "no table"),
        ("a.npy", b"\x93NUMPY garbage and more of it", "no table"),
        ("a.fbin", b"\1\0\0", "no header"),
        ("a.fbin", np.array([3, 2], dtype="<u4").tobytes() + b"\0" * 20, "promises 3 x 2"),
        ("a.parquet", b"PAR1 no", "no Parquet"),
        ("a.txt", b"1 2 3", "cannot be read from"),
    ],
)
def test_bad_files_get_one_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_vectors(str(tmp_path / name))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_bad_tables_get_one_line(tmp_path, table):
    table[7, 2] = np.nan
    np.save(tmp_path / "nan.npy", table)
    np.save(tmp_path / "flat.npy", np.arange(4.0))
    with pytest.raises(InputError, match="row 7"):
        read_vectors(str(tmp_path / "nan.npy"))
    with pytest.raises(InputError, match="not rows of vectors"):
        read_vectors(str(tmp_path / "flat.npy"))
    with pytest.raises(InputError, match="No such file"):
        read_vectors(str(tmp_path / "nothing.npy"))


def test_without_judgements_the_nearest_by_float_count(table):
    queries = table[:5] + np.float32(0.01)
    rows = CompressionBench(["fp16", "binary"]).run_alone(table, queries, [20, 40], k=4)
    assert [(row.compressor, row.size) for row in rows] == [
        (name, size) for size in (20, 40) for name in ("fp32", "fp16", "binary")
    ]
    assert rows[3].quality["recall@4"].value == 1.0
    chain = chain_of("binary").fit(table)
    found, exact = (
        np.argsort(-s, axis=1, kind="stable")[:, :4]
        for s in (chain.scores(queries, chain.encode(table)), queries @ table.T)
    )
    shared = [len(set(a) & set(b)) / 4 for a, b in zip(found.tolist(), exact.tolist())]
    assert rows[5].quality["recall@4"].value == pytest.approx(np.mean(shared)) and rows[5].bits == 8


def test_the_command_writes_a_table_and_a_page(tmp_path, table, capsys):
    from sememe.cli.main import main

    np.save(tmp_path / "v.npy", table)
    np.save(tmp_path / "q.npy", table[:6])
    asked = ["measure", "compression", str(tmp_path / "v.npy"), "--queries", str(tmp_path / "q.npy")]
    assert main([*asked, "--compressors", "int8; binary", "--json", "--quiet", "-o", str(tmp_path / "out")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["metric"] == "recall@10" and answer["sizes"] == [40]
    by_name = {row["compressor"]: row for row in answer["rows"]}
    assert by_name["fp32"]["recall@10"]["value"] == 1.0 and by_name["int8"]["bytes_per_vector"] == 6
    best = max(row["recall@10"]["value"] for row in answer["rows"])
    assert by_name["binary"]["on_frontier"] and any(
        row["on_frontier"] and row["recall@10"]["value"] == best for row in answer["rows"]
    )
    assert not any(
        row["on_frontier"] and other["bytes_per_vector"] < row["bytes_per_vector"]
        for row in answer["rows"]
        for other in answer["rows"]
        if other["recall@10"]["value"] >= row["recall@10"]["value"]
    )
    page = (tmp_path / "out" / "compression.html").read_text(encoding="utf-8")
    assert "<svg" in page and "default-src 'none'" in page and "<script" not in page
    assert json.loads((tmp_path / "out" / "compression.json").read_text()) == answer
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{i}\t{i}\t1\n" for i in range(6)))
    assert main([*asked, "--compressors", "int8", "--qrels", str(tmp_path / "qrels.tsv"), "--json", "--quiet"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["metric"] == "ndcg@10" and judged["rows"][0]["ndcg@10"]["value"] > 0.5
    assert main(asked[:3]) == 2 and "--queries" in capsys.readouterr().err
    assert main([*asked[:4], str(tmp_path / "none.npy")]) == 3
