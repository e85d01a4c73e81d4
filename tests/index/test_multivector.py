"""Multi-vector indexes against brute force: MaxSim over decoded codes, through every change an index can see."""

import numpy as np
import pytest
from faulty_fs import NoSync

import sememe
from sememe.contracts import Ragged, Record
from sememe.errors import CorruptIndex, InputError, RecipeError
from sememe.index import engine, ledger
from sememe.index.pooling import pool
from sememe.index.sizes import CorpusSizes
from sememe.kernels import reference
from sememe.testing import HashingEncoder, toy_records


class Remembering(HashingEncoder):
    """Draws each word's direction once: these tests encode the same few words thousands of times."""

    def __init__(self, dim):
        super().__init__(dim)
        self.known = {}

    def _word(self, word):
        if word not in self.known:
            self.known[word] = super()._word(word)
        return self.known[word]


ENCODER = Remembering(24)
QUERIES = ["telescope orbit comet", "rook gambit", "soil seed compost spade water", "sailing 26", "bread"]
RECIPES = [
    "static | multivector",
    "static | int8 | multivector:4",
    "static | pca:16 | residual:2,cells=20 | multivector:0.5",
    "sentences:1 | static | residual:4,cells=300 | multivector:3,pool=sequential",
]


def make(tmp_path, records, recipe, **options):
    return engine.build(records, tmp_path / "i", recipe, encoder=ENCODER, fs=NoSync(), **options)


def oracle(index, records, queries=QUERIES):
    """Scores (q, records): the mean over query vectors of the best decoded vector of the record's passages."""
    chain, kind = index.pipeline.chain, index.pipeline.kind
    texts, owners = [], []
    for row, record in enumerate(records):
        for span in index.pipeline.chunker.spans(record.text):
            texts.append(f"{record.title} {record.text[span.start : span.stop]}".strip())
            owners.append(row)
    stored = kind.pool(ENCODER.encode_tokens(texts))
    decoded = chain.decode(chain.encode(stored.values))
    asked = pool(ENCODER.encode_tokens(queries, kind="query"))
    Q = chain.project(asked.values)
    by_passage = reference.maxsim(Q, asked.offsets, decoded, stored.offsets) / np.diff(asked.offsets)[:, None]
    best = np.full((len(queries), len(records)), -np.inf)
    np.maximum.at(best.T, np.array(owners), by_passage.T)
    return best


def check(index, records, where=None, allowed=lambda record: True, k=12, **options):
    keep = [row for row, record in enumerate(records) if allowed(record)]
    scores = oracle(index, records)[:, keep]
    hits = index.search(QUERIES, k=k, where=where, **options)
    assert hits.ids.shape == (len(QUERIES), min(k, len(keep)))
    for line in range(len(QUERIES)):
        wanted = np.sort(scores[line])[::-1][:k]
        np.testing.assert_allclose(hits.scores[line], wanted, atol=2e-5)
        by_id = {records[row].id: scores[line, place] for place, row in enumerate(keep)}
        np.testing.assert_allclose([by_id[i] for i in hits.ids[line]], hits.scores[line], atol=2e-5)
        assert len(set(hits.ids[line])) == len(hits.ids[line])


@pytest.mark.parametrize("recipe", RECIPES)
def test_brute_force_through_changes(tmp_path, recipe):
    records = toy_records(60)
    index = make(tmp_path, records, recipe)
    check(index, records)
    check(index, records, "year >= 2010", lambda record: record.metadata["year"] >= 2010)
    check(index, records, "topic = 'chess'", lambda record: record.metadata["topic"] == "chess")
    more = [*toy_records(80)[60:], Record("new", "rook rook comet yeast", title="odd one")]
    index.add(more)
    check(index, records + more)
    gone = {f"doc-{i}" for i in range(0, 75, 4)}
    assert index.delete(gone) == len(gone)
    left = [record for record in records + more if record.id not in gone]
    check(index, left)
    before = index.search(QUERIES, k=20)
    index.compact()
    assert len(index.segments) == 1 and index.verify().ok
    check(index, left)
    after = index.search(QUERIES, k=20)
    np.testing.assert_allclose(before.scores, after.scores, atol=2e-6)
    with sememe.open(tmp_path / "i", encoder=ENCODER) as again:
        assert again.search(QUERIES, k=20).ids.tolist() == after.ids.tolist()
        assert again.ledger().total == index.ledger().total


def test_candidates_get_their_exact_scores(tmp_path):
    records = toy_records(400)
    index = make(tmp_path, records, "static | residual:2,cells=32 | multivector:6,candidates=50")
    hits = index.search(QUERIES, k=10)  # 400 > 2 * 50: through the lists
    scores = oracle(index, records)
    for line in range(len(QUERIES)):
        expected = [scores[line, int(i.removeprefix("doc-"))] for i in hits.ids[line]]
        np.testing.assert_allclose(hits.scores[line], expected, atol=2e-5)
    full = index.search(QUERIES, k=10, ef=400)
    np.testing.assert_allclose(full.scores, -np.sort(-scores, axis=1)[:, :10], atol=2e-5)


def test_candidates_follow_the_imputed_scores(tmp_path):
    records = toy_records(300)
    index = make(tmp_path, records, "static | residual:2,cells=40 | multivector:6,probe=5")
    segment, quantizer, kind = index.segments[0], index.pipeline.chain.quantizer, index.pipeline.kind
    cells = quantizer.cells_of(np.asarray(segment.codes))
    offsets = segment.ragged.offsets
    for cell in range(40):
        members = np.repeat(np.arange(300), np.diff(offsets))[cells == cell]
        assert segment.ragged.members(cell).tolist() == members.tolist()
    asked = pool(ENCODER.encode_tokens(QUERIES[:1]))
    table = quantizer.cell_scores(asked.values)
    expected = np.zeros(300)
    for line in table:
        order = np.argsort(-line)
        for passage in range(300):
            own = [line[c] for c in set(cells[offsets[passage] : offsets[passage + 1]]) & set(order[:5])]
            expected[passage] += max(own, default=line[order[5]])
    allowed = np.arange(0, 300, 2)
    found = kind._nearest(segment, quantizer, asked, allowed, 40)
    assert found.tolist() == sorted(found.tolist()) and set(found) <= set(allowed) and len(found) == 40
    assert expected[found].min() >= np.sort(expected[allowed])[-40] - 1e-5


def test_few_candidates_find_most_and_never_fall_short(tmp_path):
    records = toy_records(1500)
    index = make(tmp_path, records, "static | residual:2,cells=64 | multivector:8,candidates=100")
    full = index.search(QUERIES, k=10, ef=1500)
    few = index.search(QUERIES, k=10)
    worst = full.scores[:, -1:] - 0.02  # toy texts tie often, so what counts is the score
    assert np.mean(few.scores >= worst) > 0.95
    assert few.ids.shape == (5, 10)
    for where, count in (("year = 2003", 60), ("year = 2003 and topic = 'baking'", 0), ("year >= 2003", 1320)):
        assert index.search(QUERIES, k=count + 5, where=where).ids.shape[1] == count


def test_queries_as_vectors(tmp_path):
    records = toy_records(60)
    index = make(tmp_path, records, RECIPES[0])
    tokens = ENCODER.encode_tokens(QUERIES, kind="query")
    assert index.search(tokens, k=5).ids.tolist() == index.search(QUERIES, k=5).ids.tolist()
    prefix = pool(tokens, 1, "prefix")
    words = [query.split()[0] for query in QUERIES]
    assert index.search(prefix, k=5).ids.tolist() == index.search(words, k=5).ids.tolist()
    assert index.search(Ragged(tokens.values[:0], np.array([0])), k=5).ids.shape[0] == 0
    for wrong, message in (
        (np.ones((2, 24), np.float32), "several vectors a query"),
        (Ragged(tokens.values, np.array([0, 3])), "do not run from 0"),
        (Ragged(tokens.values, np.array([0, 7, 2, len(tokens.values)])), "do not ascend"),
        (Ragged(np.full((2, 24), np.nan, np.float32), np.array([0, 2])), "NaN"),
        (Ragged(np.ones((2, 3), np.float32), np.array([0, 2])), "3 columns, expected 24"),
    ):
        with pytest.raises(InputError, match=message):
            index.search(wrong)
    flat = engine.build(records, tmp_path / "f", "static | flat", encoder=ENCODER, fs=NoSync())
    with pytest.raises(InputError, match="has one vector a query"):
        flat.search(tokens)


def test_odd_texts(tmp_path):
    """A text without words scores 0 and is still found; so does a query without words."""
    records = [Record("a", "rook"), Record("b", "?!"), Record("c", ""), Record("d", "comet " * 500)]
    index = make(tmp_path, records, "static | residual:2,cells=3 | multivector:4")
    hits = index.search(["rook", "..."], k=9)
    assert hits.ids[0].tolist()[0] == "a" and sorted(hits.ids[0]) == ["a", "b", "d"]
    np.testing.assert_allclose(hits.scores[1], 0, atol=1e-6)
    index.delete(["a", "b", "d"])
    index.compact()
    assert index.search(["rook"], k=3).ids.shape == (1, 0)


def test_words_beside_token_vectors(tmp_path):
    records = [*toy_records(80), Record("code", "the part number is XK-4411-B", title="parts")]
    for fusion in ("rrf", "tmm", "zscore"):
        recipe = f"static | residual:2,cells=16 | multivector:4 | hybrid:bm25,fusion={fusion}"
        index = engine.build(records, tmp_path / fusion, recipe, encoder=ENCODER, fs=NoSync())
        assert index.search("4411", k=3).ids[0, 0] == "code"


@pytest.mark.parametrize("recipe", [*RECIPES[1:], "static | residual:2,cells=64 | multivector:5 | hybrid:bm25"])
def test_predicted_bytes(tmp_path, recipe):
    records = toy_records(2000)
    index = make(tmp_path, records, recipe)
    built = index.ledger()
    assert built.total == sum(
        (index.path / name).stat().st_size
        for name in {entry.name for entry in index.store.manifest.entries()}
        | {f"manifest.{index.store.manifest.generation:020d}"}
    )
    whole = ledger.predict(recipe, dim=24, **CorpusSizes.of(records, recipe, encoder=ENCODER).grown(1))
    assert whole.total == pytest.approx(built.total, rel=0.01)
    for part in ("codes", "side", "map", "postings"):
        assert getattr(whole, part) == pytest.approx(getattr(built, part), rel=0.01, abs=64), part
    sample = [records[i] for i in np.random.default_rng(0).permutation(len(records))[:200]]
    tenth = ledger.predict(recipe, dim=24, **CorpusSizes.of(sample, recipe, encoder=ENCODER).grown(10))
    assert tenth.total == pytest.approx(built.total, rel=0.01)


def test_damage_is_noticed(tmp_path):
    index = make(tmp_path, toy_records(60), RECIPES[2])
    entry = index.segments[0].entry.files["ragged"]
    path = index.path / entry.name
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptIndex):
        sememe.open(tmp_path / "i", encoder=ENCODER).search(QUERIES, k=3)


def test_what_does_not_fit_is_refused(tmp_path):
    class Plain:
        name, dim, digest = "plain", 4, "plain"

        def encode(self, texts, **options):
            return np.ones((len(texts), 4), np.float32)

    class Broken(HashingEncoder):
        def encode_tokens(self, texts, *, kind="passage"):
            tokens = super().encode_tokens(texts, kind=kind)
            tokens.values[tokens.offsets[7]] = np.nan
            return tokens

    records = toy_records(20)
    with pytest.raises(RecipeError, match="needs token vectors"):
        engine.build(records, tmp_path / "p", "static | multivector", encoder=Plain(), fs=NoSync())
    with pytest.raises(InputError, match="record 'doc-7'"):
        engine.build(records, tmp_path / "b", "static | multivector", encoder=Broken(8), fs=NoSync())
    with pytest.raises(RecipeError, match="one vector a passage"):
        make(tmp_path, records, "static | residual:1 | multivector | rescore:int8")
    for wrong in (
        "multivector:1.5",
        "multivector:8,pool=best",
        "multivector:8,probe=0",
        "multivector:8,candidates=true",
    ):
        with pytest.raises(InputError):
            make(tmp_path, records, f"static | {wrong}")
