"""Laws of the corpus on disk, of the store of pieces, and of encoding in several processes."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import tiny
from trainer.artifacts import write_jsonl
from trainer.data.conversations import ROLES
from trainer.data.corpus import HELDOUT_SHARE, PROBLEMS, Corpus, Kind
from trainer.data.encoded import Encoded, Store
from trainer.data.encoding import Encoder, Workers, batches
from trainer.data.packing import Part, Piece, Slice
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.spec import DOMAINS, Problem, Record, TokenizeSpec

SPEC = TokenizeSpec.model_validate(
    {"name": "t", "inputs": {"documents": "d", "problems": "p"}, "vocab_size": 400, "context": 512}
)
CODE = "\n\n".join(f"def area_{i}(width, height):\n    return width * height + {i}" for i in range(12))


def documents(count: int) -> list[Record]:
    texts = [record(f"Größe {n}: " + "é" * (n % 7), f"source {n % 3}", DOMAINS[n % 4], "de") for n in range(count)]
    code = [record(CODE.replace("area", f"area_{n}"), "code", "code", "python") for n in range(count // 4)]
    said = {ROLES: ["user", "assistant"]}
    chats = [record(f"Hi {n}\n\n\u241e\n\nHo {n}", "chats", "general", "en", **said) for n in range(count // 4)]
    return [*texts, *code, *chats]


def corpus_of(path: Path, records: list[Record], problems: list[Problem]) -> Corpus:
    path.mkdir(parents=True)
    half = len(records) // 2
    for number, part in enumerate((records[:half], [], records[half:])):
        write_jsonl(path / f"part-{number}.jsonl", part)
    write_jsonl(path / "train.jsonl", problems)
    return Corpus(sorted(path.glob("part-*.jsonl")), [path / "train.jsonl"])


def test_items_are_what_the_files_hold(tmp_path: Path) -> None:
    records, problems = documents(40), list(Generator((), (1,), 0).problems("train", 30))
    corpus = corpus_of(tmp_path / "c", records, problems)
    assert len(corpus) == len(records) + len(problems)
    for item, wanted in enumerate(records):
        assert Record.model_validate_json(corpus.line(item)) == wanted
        assert corpus.id(item) == wanted.id
        assert DOMAINS[corpus.domains_N[item]] == wanted.domain
        assert corpus.sources[corpus.sources_N[item]] == wanted.source
        assert corpus.characters_N[item] == len(wanted.text)
        assert corpus.kinds_N[item] == (Kind.CONVERSATION if wanted.source == "chats" else Kind.DOCUMENT)
    for item, problem in enumerate(problems, start=len(records)):
        assert Problem.model_validate_json(corpus.line(item)) == problem
        assert (corpus.id(item), corpus.sources[corpus.sources_N[item]]) == (problem.id, PROBLEMS)
        assert (DOMAINS[corpus.domains_N[item]], corpus.kinds_N[item]) == ("science", Kind.PROBLEM)
    corpus.close()


def test_every_item_is_in_one_split_and_more_of_them_move_nearly_none(tmp_path: Path) -> None:
    records = [record(f"text {n}", "s", "general") for n in range(4_000)]
    few, many = corpus_of(tmp_path / "few", records[:2_000], []), corpus_of(tmp_path / "many", records, [])
    heldout = {few.id(item) for item in few.items(Kind.DOCUMENT, heldout=True)}
    still = {many.id(item) for item in many.items(Kind.DOCUMENT, heldout=True)}
    assert len(heldout & still) >= len(heldout) - 10
    for corpus in (few, many):
        splits = [corpus.items(Kind.DOCUMENT, heldout=split).tolist() for split in (True, False)]
        assert sorted(splits[0] + splits[1]) == list(range(len(corpus)))
        assert HELDOUT_SHARE <= len(splits[0]) / len(corpus) <= 1.5 * HELDOUT_SHARE
        corpus.close()


def test_of_two_items_one_is_held_out_and_of_one_none(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", [record(f"{n}", "s", DOMAINS[n // 2]) for n in range(5)], [])
    assert [len(corpus.items(Kind.DOCUMENT, heldout=True, domain=domain)) for domain in range(3)] == [1, 1, 0]
    corpus.close()


def test_a_line_that_is_no_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(ValueError, match="text"):
        Corpus([tmp_path / "part-0.jsonl"], [])


# -- the store -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), data=st.data())
def test_a_slice_holds_what_was_put_in(lengths: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        pieces = []
        for number, length in enumerate(lengths):
            ids = data.draw(st.lists(st.integers(0, 70_000), min_size=length, max_size=length))
            cut = data.draw(st.integers(0, length))
            parts = tuple(Part(10 * number + n, 3, size) for n, size in enumerate((cut, length - cut)) if size)
            pieces.append(
                Piece(ids, [token % 2 == 0 for token in ids], number % 4, [token % 5 for token in ids], parts)
            )
            assert store.append(Encoded(pieces[-1].tokens(), pieces[-1].domain, pieces[-1].parts)) == number
        assert store.lengths().tolist() == lengths
        for number in data.draw(st.permutations(range(len(lengths)))):
            start = data.draw(st.integers(0, lengths[number] - 1))
            stop = data.draw(st.integers(start + 1, lengths[number]))
            held = store.fetch(Slice(number, start, stop))
            assert held.tokens.tolist() == pieces[number].tokens()[start:stop].tolist()
            assert held.domain == pieces[number].domain
            whole = [(part.item, part.start + n) for part in pieces[number].parts for n in range(part.length)]
            told = [(part.item, part.start + n) for part in held.parts for n in range(part.length)]
            assert told == whole[start:stop]


# -- encoding --------------------------------------------------------------------------------------------------------


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", documents(48), list(Generator((), (1,), 0).problems("train", 300)))
    tiny.tokenizer().save(tmp_path / "tokenizer")
    encoder = Encoder(tmp_path / "tokenizer", SPEC)
    order = np.random.default_rng(0).permutation(len(corpus)).tolist()
    text = [item for item in order if corpus.kinds_N[item] == Kind.DOCUMENT]
    code = [item for item in text if corpus.sources[corpus.sources_N[item]] == "code"]
    said = [item for item in order if corpus.kinds_N[item] != Kind.DOCUMENT]
    found = []
    for processes in (1, 2):
        with Workers(processes) as workers:
            found.append(
                [
                    (batch, [(piece.tokens.tolist(), piece.domain, piece.parts) for piece in pieces])
                    for encode, items in (
                        (encoder.documents, text), (encoder.completions, code), (encoder.dialogues, said),
                    )
                    for batch, pieces in workers.map(encode, batches(corpus, items))
                ]
            )  # fmt: skip
    assert found[0] == found[1]
    done = [item for batch, _ in found[0] for item in batch.items]
    assert sorted(done) == sorted([*text, *code, *said])
    told = {part.item for _, pieces in found[0] for _, _, parts in pieces for part in parts}
    assert told == set(done)
    corpus.close()
