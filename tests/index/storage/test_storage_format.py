"""What is on disk: golden indexes of every format, and manifests written by an enemy."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sememe.index
from sememe.errors import CorruptIndex, FormatError, InputError
from sememe.index.storage import FileEntry, Manifest, Segment, Store
from sememe.index.storage.blockfile import digest_of

GOLDEN = Path(__file__).parent / "golden"


def make_golden(path):
    """What wrote the golden indexes (never run again for a released format)."""
    store = Store.create(path, {"recipe": "static | int8 | flat", "dims": 4})
    for number in range(2):
        with store.begin() as change:
            codes = np.arange(12, dtype=np.int8).reshape(3, 4) + number
            files = {"codes": change.write("codes", codes), "ids": change.write("ids", b"a\nb\nc")}
            chain = {"chain.mean_": change.write("chain", np.linspace(0, 1, 4, dtype="<f4"))} if not number else None

            def update(manifest, number=number, files=files, chain=chain):
                segment = Segment(f"s{number}", 3, files, {"first": 3 * number, "ratio": 0.5, "name": "é\ud800"})
                return replace(manifest, segments=(*manifest.segments, segment), files=chain or manifest.files)

            change.commit(update)


def test_every_golden_index_opens(tmp_path):
    versions = sorted(GOLDEN.iterdir())
    assert versions
    for version in versions:
        path = tmp_path / version.name
        shutil.copytree(version, path)
        with Store.open(path, verify="full") as store:
            assert store.manifest.body == {"recipe": "static | int8 | flat", "dims": 4}
            assert store.manifest.rows == 6
            for number, segment in enumerate(store.manifest.segments):
                assert segment.info == {"first": 3 * number, "ratio": 0.5, "name": "é\ud800"}
                codes = store.file(segment.files["codes"]).verified_array("i1", (3, 4))
                assert codes.tolist() == (np.arange(12).reshape(3, 4) + number).tolist()
                assert bytes(store.file(segment.files["ids"]).read()) == b"a\nb\nc"
            mean = store.file(store.manifest.files["chain.mean_"]).verified_array("<f4", (4,))
            assert mean[1] == np.float32(1 / 3)
            assert store.verify().ok
            with store.begin() as change:  # and can be written to
                change.commit(lambda manifest: replace(manifest, segments=manifest.segments[:1]))
        with Store.open(path) as store:
            assert store.manifest.rows == 3


def test_the_format_has_not_changed_unnoticed(tmp_path):
    """The same content gives the same files, names apart; a difference is a new format and needs a new golden index."""
    make_golden(tmp_path / "now")

    def shape(path):
        return sorted((f.name.split("-")[0], f.read_bytes()) for f in path.glob("*.seg"))

    assert shape(tmp_path / "now") == shape(GOLDEN / "v1")
    with Store.open(tmp_path / "now") as now, Store.open(GOLDEN / "v1") as then:
        entries = zip(now.manifest.entries(), then.manifest.entries(), strict=True)
        assert all(replace(a, name="") == replace(b, name="") for a, b in entries)


def signed(text, version="1", needs="0.1.0"):
    """A manifest whose digest is right, whatever it says."""
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    start = f"sememe-index {version} {needs} {len(text)}".encode()
    return start + b" " + digest_of(start, text).encode() + b"\n" + text


def entry(name="codes-0-0.seg", **changes):
    return {"name": name, "length": 5, "digest": "0" * 64, "table": "f" * 64, **changes}


def plain(**changes):
    segment = {"name": "s0", "rows": 3, "files": {"codes": entry()}, "info": {"a": 1}}
    base = {
        "format_version": 1, "library_version": "0.1.0", "reader_flags": [], "writer_flags": [], "generation": 1,
        "body": {"recipe": "x"}, "files": {"chain": entry("chain-0-1.seg")}, "segments": [segment],
    }  # fmt: skip
    return {**base, **changes}


def with_file(**changes):
    return plain(files={"chain": entry(**changes)})


HOSTILE = {
    "upward": with_file(name="../../etc/passwd.seg"),
    "absolute": with_file(name="/etc/passwd.seg"),
    "backslash": with_file(name="..\\x.seg"),
    "nul": with_file(name="a\0.seg"),
    "dots": with_file(name=".."),
    "manifest": with_file(name="manifest.00000000000000000001"),
    "hidden": with_file(name=".x.seg"),
    "newline": with_file(name="a.seg\n"),
    "long name": with_file(name="a" * 300 + ".seg"),
    "negative": with_file(length=-1),
    "huge": with_file(length=2**70),
    "float": with_file(length=5.0),
    "bool": with_file(length=True),
    "digest": with_file(digest="zz"),
    "upper digest": with_file(digest="A" * 64),
    "extra": with_file(more=1),
    "two ways": plain(files={"a": entry(), "b": entry(length=6)}),
    "empty role": plain(files={"": entry()}),
    "no segments": plain(segments={}),
    "same segment": plain(segments=[plain()["segments"][0]] * 2),
    "rows": plain(segments=[{**plain()["segments"][0], "rows": "3"}]),
    "generation 0": plain(generation=0),
    "keys": {key: value for key, value in plain().items() if key != "body"},
    "list": [1, 2],
    "null": None,
    "body": plain(body=[]),
    "flags": plain(reader_flags="x"),
    "duplicate keys": json.dumps(plain()).replace('"files"', '"body"').encode(),
    "nan": json.dumps(plain(body={"x": float("nan")})).encode(),
    "deep": b"[" * 200_000,
    "digits": b'{"generation":' + b"9" * 10_000 + b"}",
    "utf-16": json.dumps(plain()).encode("utf-16"),
    "not utf-8": b'{"\xff":1}',
}


def test_the_valid_one_is_valid():
    assert Manifest.from_bytes(signed(plain()), where="x").rows == 3


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_manifests(name, tmp_path):
    with pytest.raises(CorruptIndex, match=r"manifest.0{19}1: ") as caught:
        (tmp_path / "manifest.00000000000000000001").write_bytes(signed(HOSTILE[name]))
        Store.open(tmp_path)
    assert "\n" not in str(caught.value) and "none" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def replaced(tree, path, value):
    if not path:
        return value
    keys = sorted(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    if not keys:
        return value
    key = keys[path[0] % len(keys)]
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = replaced(tree[key], path[1:], value)
    return copy


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=5), JSON)
def test_any_json_anywhere_is_read_or_refused(path, value):
    try:
        manifest = Manifest.from_bytes(signed(replaced(plain(), path, value)), where="fuzz")
    except (CorruptIndex, FormatError):
        return
    assert all("/" not in one.name and one.length >= 0 for one in manifest.entries())
    assert Manifest.from_bytes(manifest.to_bytes(), where="again") == manifest


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused(data, sign):
    with pytest.raises((CorruptIndex, FormatError)):
        Manifest.from_bytes(signed(data) if sign else data, where="fuzz")


def test_later_formats_say_what_they_need(tmp_path):
    (tmp_path / "manifest.00000000000000000001").write_bytes(signed(b"anything", version="2", needs="9.8.7"))
    with pytest.raises(FormatError, match=r"format 2 and needs sememe >= 9\.8\.7"):
        Store.open(tmp_path)
    flagged = signed(plain(reader_flags=["bitpacked"], library_version="3.2.1"))
    (tmp_path / "manifest.00000000000000000001").write_bytes(flagged)
    with pytest.raises(FormatError, match=r"'bitpacked'.*needs sememe >= 3\.2\.1"):
        Store.open(tmp_path)


def test_a_later_writer_flag_can_be_read_but_not_written(tmp_path):
    data = signed(plain(segments=[], files={}, writer_flags=["ordered"]))
    (tmp_path / "manifest.00000000000000000001").write_bytes(data)
    with Store.open(tmp_path) as store:
        assert store.manifest.body == {"recipe": "x"}
        with pytest.raises(FormatError, match="ordered, which this sememe can read but not write"):
            store.begin()


def test_what_would_not_read_back_is_not_published():
    for body in ({"x": float("inf")}, {"x": object()}, {"x": np.float32(1)}):
        with pytest.raises(InputError, match="kept in a manifest"):
            Manifest(generation=1, body=body).to_bytes()
    bad = FileEntry("../x", 1, "0" * 64, "0" * 64)
    with pytest.raises(InputError, match="cannot be the name"):
        Manifest(generation=1, files={"x": bad}).to_bytes()


def test_equal_manifests_give_equal_bytes():
    first = Manifest(generation=1, body={"a": 1, "b": {"c": 0.1, "d": None}})
    second = Manifest(generation=1, body={"b": {"d": None, "c": 0.1}, "a": 1})
    assert first.to_bytes() == second.to_bytes()


FORBIDDEN_MODULES = {"os", "io", "shutil", "tempfile", "mmap", "fcntl", "glob", "pickle", "marshal", "shelve", "joblib"}
FORBIDDEN_METHODS = {
    "write_text", "write_bytes", "read_text", "read_bytes", "unlink", "mkdir", "rmdir", "rename", "touch", "exists",
    "is_file", "is_dir", "iterdir", "stat", "tofile", "fromfile", "memmap", "savez", "hardlink_to", "symlink_to",
}  # fmt: skip


SCRATCH = {
    "spool.py": ["tempfile"],  # a file without a name, gone with its process, never part of an index
    "keyed_files.py": ["mmap", "stat"],  # reads what users bring
    "vector_source.py": ["stat", "fromfile", "fromfile"],  # the same
}


def offences(source):
    """Places where a module touches files without going through ``storage/fs.py``."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FORBIDDEN_MODULES:
            yield from (alias.name for alias in node.names if alias.name != "PathLike")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            if "open" not in own:
                yield "open"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            owner_name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if node.func.attr in FORBIDDEN_METHODS and owner_name not in ("fs", "_fs"):
                yield node.func.attr
            if owner_name == "np" and node.func.attr in ("save", "load", "loadtxt", "savetxt"):
                yield f"np.{node.func.attr}"


def test_only_one_module_touches_files():
    root = Path(sememe.index.__file__).parent
    modules = [file for file in root.rglob("*.py") if file != root / "storage" / "fs.py"]
    assert len(modules) > 7
    found = {str(file.relative_to(root)): list(offences(file.read_text())) for file in modules}
    assert {name: what for name, what in found.items() if what and name not in SCRATCH} == {}
    assert all(found.get(name, what) == what for name, what in SCRATCH.items())
    assert list(offences((root / "storage" / "fs.py").read_text()))  # the lint sees what it must


def test_the_lint_has_teeth():
    for line in (
        "open('x')",
        "import os",
        "from shutil import copy",
        "p.write_bytes(b'')",
        "np.load('x')",
        "a.tofile(f)",
    ):
        assert list(offences(line)), line
    assert not list(offences("self.fs.exists(p)"))


def test_the_order_of_flags_means_nothing():
    one, other = (
        Manifest.from_bytes(signed(plain(writer_flags=flags)), where="x") for flags in (["b", "a"], ["a", "b"])
    )
    assert one == other and Manifest.from_bytes(one.to_bytes(), where="again") == one
