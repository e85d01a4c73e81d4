"""A small collection, its index, and the command line called in this process."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from sememe import progress
from sememe.cli.main import main
from sememe.testing import toy_records

RECIPE = "static | pca:32 | int8 | flat"


@dataclass
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a corpus, questions, judgements, bad files and two indexes; tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMEME_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        records = toy_records(150)
        rows = [{"id": r.id, "title": r.title, "text": r.text, **r.metadata} for r in records]
        Path("corpus.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
        Path("queries.jsonl").write_text(
            '{"_id": "q1", "text": "bread in the oven"}\n'
            '{"_id": "q2", "text": "zzyzx qwrtp"}\n'
            '{"_id": "q3", "text": "anchor and harbour"}\n'
        )
        lines = [f"q1\t{r.id}\t1\n" for r in records if r.metadata["topic"] == "baking"]
        lines += [f"q3\t{r.id}\t1\n" for r in records if r.metadata["topic"] == "sailing"]
        Path("qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines) + "q2\tdoc-2\t1\n")
        Path("other.tsv").write_text("query-id\tcorpus-id\tscore\nq9\tdoc-0\t1\n")
        Path("strange.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tnowhere\t1\n")
        Path("zero.jsonl").write_bytes(b"")
        Path("garbage.jsonl").write_bytes(bytes(range(256)) * 20)
        Path("garbage.parquet").write_bytes(bytes(range(255, -1, -1)) * 20)
        Path("garbage").write_bytes(bytes(range(256)) * 20)
        Path("twice.jsonl").write_text('{"id": "a", "text": "hello"}\n{"id": "a", "text": "again"}\n')
        Path("cut.jsonl").write_text('{"id": "a", "text": "hello there"}\n{"id": "b", "te\n')
        Path("fields.jsonl").write_text('{"id": "a", "words": 3}\n')
        Path("old.trec").write_text("q1 Q0 doc-0 1 0.5 x\n")
        Path("empty").mkdir()
        for name, recipe in (("index", RECIPE), ("words", "bm25 | inverted")):
            assert main(["build", "corpus.jsonl", "-o", name, "--recipe", recipe, "--quiet", "--json"]) == 0
    return folder


@pytest.fixture
def sememe(made, tmp_path, monkeypatch, capsys):
    """``sememe(*arguments) -> Answer``, in a fresh copy of the folder. No traceback ever reaches a user."""
    work = tmp_path / "work"
    shutil.copytree(made, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("SEMEME_CACHE", str(work / "cache"))
    capsys.readouterr()

    def call(*arguments: object) -> Answer:
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as leaving:  # argparse leaves this way
            status = leaving.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Answer(status, out, err)

    yield call
    progress.set_mode("quiet")
