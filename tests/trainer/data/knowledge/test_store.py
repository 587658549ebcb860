"""Laws of the store: it finds what a slow look at everything finds, whatever the shards; same input, same bytes."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import bm25s
import numpy as np
import pytest

from trainer.artifacts import file_sha256
from trainer.data.knowledge import KnowledgeStore, build
from trainer.data.knowledge.graph import GraphWriter, TripleGraph
from trainer.data.knowledge.index import K1, B
from trainer.data.knowledge.triples import Triple, normalise
from trainer.data.knowledge.words import passages, terms
from trainer.spec import Record

VOCABULARY = [f"word{number}" for number in range(60)]


def record(id: str, text: str, domain: str = "general", language: str = "en", **meta: object) -> Record:
    return Record.model_validate(
        {"id": id, "text": text, "source": "tests", "domain": domain, "language": language, "meta": meta}
    )


def random_records(count: int, seed: int = 0) -> list[Record]:
    rng = Random(seed)
    return [record(f"d{n}", " ".join(rng.choices(VOCABULARY, k=rng.randint(5, 60)))) for n in range(count)]


def built(records: list[Record], folder: Path, **options: int) -> KnowledgeStore:
    folder.mkdir()
    build(records, folder, **options)
    return KnowledgeStore.open(folder)


@pytest.mark.parametrize("postings", [10**6, 150])
def test_search_ranks_as_bm25s_does_in_one_piece(tmp_path: Path, postings: int) -> None:
    records = random_records(80)
    store = built(records, tmp_path / "store", postings=postings)
    reference = bm25s.BM25(k1=K1, b=B, method="lucene")
    reference.index([terms(record.text) for record in records], show_progress=False)
    for query in ("word1 word2 word3", "word7", "word9 nowhere word9 word11"):
        wanted = [term for term in dict.fromkeys(terms(query)) if term in reference.vocab_dict]
        scores = reference.get_scores(wanted)
        best = sorted(range(80), key=lambda row: (-scores[row], row))[:10]
        hits = store.search(query, 10)
        assert [hit.score for hit in hits] == pytest.approx([scores[row] for row in best], rel=1e-5)
        assert all(scores[int(hit.passage.document[1:])] == pytest.approx(hit.score, rel=1e-5) for hit in hits)


def hashes(folder: Path) -> dict[Path, str]:
    return {path.relative_to(folder): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_same_documents_same_bytes(tmp_path: Path) -> None:
    records = [*random_records(20), record("c", "def f():\n    g()\ndef g(): pass\n", "code", "python", path="a.py")]
    for name in ("one", "two"):
        built(records, tmp_path / name, postings=200)
    first, second = (hashes(tmp_path / name) for name in ("one", "two"))
    assert first == second
    assert len(first) > 8


def test_passages_are_the_text_but_for_white_space_and_never_too_long() -> None:
    rng = Random(1)
    pieces = ["a b", "  ", "\n\n", "\n", "。", "漢字かな", "ไทย", ". ", "x" * 300, "é"]
    for _ in range(50):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 60)))
        found = list(passages(text, 200))
        assert "".join("".join(piece for _, piece in found).split()) == "".join(text.split())
        assert all(text[start : start + len(piece)] == piece for start, piece in found)
        assert all(0 < len(piece.encode()) <= 200 for _, piece in found)


def test_words_of_scripts_without_spaces_are_found_by_characters_and_pairs(tmp_path: Path) -> None:
    texts = {
        "zh": "人工智能改变了世界。",
        "ja": "東京は日本の首都です。",
        "th": "ภาษาไทยเป็นภาษาราชการ",
        "hi": "हिन्दी एक भाषा है",
    }
    store = built([record(name, text, "multilingual", name) for name, text in texts.items()], tmp_path / "store")
    for query, language in (("智能", "zh"), ("首都", "ja"), ("ภาษา", "th"), ("हिन्दी", "hi")):
        assert [hit.passage.document for hit in store.search(query)] == [language]
    assert terms("ＡＢＣ Straße") == ["abc", "strasse"]


def test_queries_that_find_nothing(tmp_path: Path) -> None:
    store = built(random_records(3), tmp_path / "store")
    for query in ("", "the of and", "nowhere", "?!"):
        assert store.search(query) == []
    assert store.neighbours("nobody") == store.around("nobody", 3) == store.path("nobody", "word1") == []
    assert store.entities("nobody") == []


def test_a_store_of_nothing_opens_and_finds_nothing(tmp_path: Path) -> None:
    store = built([], tmp_path / "store")
    assert store.search("word1") == store.neighbours("word1") == []


def random_triples(count: int) -> Iterator[Triple]:
    rng = Random(2)
    for _ in range(count):
        a, b = rng.sample(range(25), 2)
        yield Triple(subject=f"Thing {a}", relation=rng.choice(["r", "s"]), object=f"thing  {b}",
                     document=f"d{a}", source="s", line=1, evidence="e")  # fmt: skip


def test_neighbours_and_paths_are_what_a_look_at_all_triples_finds(tmp_path: Path) -> None:
    triples = list(random_triples(30))
    writer = GraphWriter(tmp_path)
    for triple in triples:
        writer.add(triple)
    writer.finish()
    graph = TripleGraph(tmp_path)
    for number in range(25):
        name = f"thing {number}"
        touching = [t for t in triples if name in (normalise(t.subject), normalise(t.object))]
        assert graph.neighbours(f"THING {number}") == touching
        assert graph.neighbours(name, "s") == [t for t in touching if t.relation == "s"]
        assert graph.of_document(f"d{number}") == [t for t in triples if t.document == f"d{number}"]
    steps = distances(triples)
    for a in range(25):
        for b in range(25):
            path = graph.path(f"thing {a}", f"thing {b}", longest=25)
            assert len(path) == (steps[a, b] if steps[a, b] < 99 else 0)


def distances(triples: list[Triple]) -> np.ndarray:
    """Floyd and Warshall: shortest paths between all."""
    steps = np.where(np.eye(25, dtype=bool), 0, 99)
    for triple in triples:
        a, b = (int(name.split()[1]) for name in (triple.subject, triple.object))
        steps[a, b] = steps[b, a] = 1
    for middle in range(25):
        steps = np.minimum(steps, steps[:, [middle]] + steps[[middle], :])
    return steps


def test_a_reference_to_another_document_of_the_source_is_resolved(tmp_path: Path) -> None:
    one = record("one", r"\begin{lemma}\label{lemma-x} By \ref{lemma-y} and \ref{lemma-z}. \end{lemma}", "science")
    two = record("two", r"\begin{lemma}\label{lemma-y} Trivial. \end{lemma}", "science")
    store = built([one, two], tmp_path / "store")
    assert {t.object: t.resolved for t in store.neighbours("lemma-x", "refers to")} == {
        "lemma-y": True,
        "lemma-z": False,
    }


def test_what_cannot_be_read_is_counted_and_still_searched(tmp_path: Path) -> None:
    code = [record("a", "def broken(:", "code", "python"), record("b", "y = 1\n" * 2_000_000, "code", "python")]
    folder = tmp_path / "store"
    folder.mkdir()
    counts = build(code, folder)
    assert counts.documents == 2
    assert dict(counts.unread) == {"code does not parse": 1, "code is too long to parse": 1}
    assert KnowledgeStore.open(folder).search("broken")[0].passage.document == "a"
