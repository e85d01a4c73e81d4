"""A sparse code behind a dense encoder: kept in a file, used by a recipe that ends in inverted lists."""

import numpy as np
import pytest

import sememe
from sememe.encode.sparse import SparseEncoder, fit_sparse
from sememe.errors import InputError
from sememe.recipe import Recipe
from sememe.testing import toy_records

pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "my corpus.safetensors"
    fit_sparse(path, "static:64", [record.content for record in toy_records(120)], v=96, nonzeros=8, steps=60)
    return path


def test_the_file_gives_the_encoder_back(head):
    texts = ["yeast and flour", "a rook and a bishop", ""]
    encoder = SparseEncoder(str(head))
    table = encoder.encode_sparse(texts, kind="query")
    assert table.shape == (3, 96) == (3, encoder.dim)
    expected = encoder.code.encode_sparse(encoder.dense.encode(texts))
    np.testing.assert_array_equal(table.toarray(), expected.toarray())
    np.testing.assert_allclose(encoder.encode(texts), expected.toarray(), atol=1e-6)
    assert SparseEncoder(str(head)).digest == encoder.digest != encoder.dense.digest
    assert not list(head.parent.glob("*.tmp"))


def test_an_index_of_inverted_lists(head, tmp_path):
    recipe = Recipe.parse(f'sparse:"{head}" | inverted')
    assert Recipe.parse(str(recipe)) == recipe
    records = toy_records(120)
    sememe.build(records, tmp_path / "index", recipe)
    with sememe.open(tmp_path / "index") as index:
        hits = index.search(["flour yeast oven dough", "telescope orbit comet"], 5)
        topics = {record.id: record.metadata["topic"] for record in records}
        assert {topics[name] for name in hits.ids[0]} == {"baking"}
        assert {topics[name] for name in hits.ids[1]} == {"astronomy"}
        encoder = SparseEncoder(str(head))
        passages = encoder.encode_sparse([record.content for record in records])
        exact = (encoder.encode_sparse(["telescope orbit comet"]) @ passages.T).toarray()[0]
        np.testing.assert_allclose(hits.scores[1], np.sort(exact)[::-1][:5], atol=2e-3)  # weights are kept as fp16


def test_other_files_are_refused(head, tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(InputError, match="no sparse code can be read here"):
        SparseEncoder(str(tmp_path / "missing"))
    (tmp_path / "text").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="no sparse code can be read here"):
        SparseEncoder(str(tmp_path / "text"))
    save_file({"weight_": np.zeros((2, 2), dtype=np.float32)}, tmp_path / "other")
    with pytest.raises(InputError, match="holds no sparse code"):
        SparseEncoder(str(tmp_path / "other"))
    (tmp_path / "cut").write_bytes(head.read_bytes()[:-9])
    with pytest.raises(InputError, match="no sparse code can be read here"):
        SparseEncoder(str(tmp_path / "cut"))
    changed = head.read_bytes().replace(b"static-", b"statix-")
    (tmp_path / "changed").write_bytes(changed)
    with pytest.raises(InputError, match="other weights of static:64"):
        SparseEncoder(str(tmp_path / "changed"))
    with pytest.raises(InputError, match="cannot be written"):
        fit_sparse(tmp_path / "no" / "folder", "static:64", ["a text", "another"], v=8, nonzeros=2, steps=1)
