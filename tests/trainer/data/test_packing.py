"""Laws of packing and of the pieces that go into rows."""

import json
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.trainer import tiny
from trainer.data import pieces as making
from trainer.data.packing import ARRAYS, ORIGINS, TYPES, Part, Piece, whole_rows
from trainer.data.pieces import chats, completion_pieces, document_pieces, problem_pieces
from trainer.data.sources import record
from trainer.data.structure.kinds import NONE, CodeKind
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from trainer.spec import DOMAINS, Problem

CONTEXT, PAD = 16, 0
CODE = "".join(f"def add_{i}(left, right):\n    return left + right + {i}\n\n" for i in range(60))
Arrays = dict[str, NDArray[np.generic]]


def pieces_of(longest: int) -> st.SearchStrategy[list[Piece]]:
    """Pieces whose tokens are all different, so that a lost or doubled one shows."""
    return st.lists(st.integers(1, longest), max_size=30).map(numbered)


def numbered(lengths: list[int]) -> list[Piece]:
    """Every other piece is made of two items, where it has two tokens."""
    starts = np.cumsum([1, *lengths])
    return [
        Piece(list(range(a, b)), [token % 3 == 0 for token in range(a, b)], index % 4, None, parts_of(index, b - a))
        for index, (a, b) in enumerate(pairwise(starts.tolist()))
    ]


def parts_of(index: int, length: int) -> tuple[Part, ...]:
    first = length // 2 if index % 2 else 0
    parts = (Part(2 * index, 7, first), Part(2 * index + 1, 0, length - first))
    return tuple(part for part in parts if part.length)


def packed(pieces: Iterable[Piece], *, whole: bool) -> tuple[Arrays, list[dict[str, object]]]:
    """The arrays and the lines of origins that are written for the pieces."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train"
        count = tiny.write_pieces(path, pieces, CONTEXT, PAD, whole=whole)
        arrays = {name: np.load(path / f"{name}.npy") for name in ARRAYS}
        lines = [json.loads(line) for line in (path / ORIGINS).read_text().splitlines()]
    assert (count.rows, count.places) == (len(arrays["tokens"]), arrays["tokens"].size)
    assert (count.tokens, count.targets) == ((arrays["segments"] > 0).sum(), arrays["loss_mask"].sum())
    return arrays, lines


def unpacked(arrays: Arrays) -> list[tuple[int, bool, int]]:
    """(token, counts, domain) of every place that is no padding."""
    held = arrays["segments"] > 0
    columns = (arrays[name][held].tolist() for name in ("tokens", "loss_mask", "domains"))
    return sorted(zip(*columns, strict=True))


@settings(max_examples=60, deadline=None)
@given(pieces=pieces_of(CONTEXT))
@pytest.mark.parametrize("whole", [False, True])
def test_no_token_is_lost_or_doubled_and_segments_restart(whole: bool, pieces: list[Piece]) -> None:
    arrays, _ = packed(pieces, whole=whole)
    rows = [(t, c, p.domain) for p in pieces for t, c in zip(p.ids, p.counts, strict=True)]
    assert unpacked(arrays) == sorted(rows)
    padding = arrays["segments"] == 0
    assert (arrays["tokens"][padding] == PAD).all()
    assert not arrays["loss_mask"][padding].any()
    assert (arrays["domains"][padding] == -1).all()
    for row in arrays["segments"]:
        used = row[row > 0]
        assert (row[len(used) :] == 0).all()
        assert set(np.diff(used).tolist()) <= {0, 1}
        assert used[0] == 1


@settings(max_examples=60, deadline=None)
@given(pieces=pieces_of(3 * CONTEXT))
def test_running_rows_are_full_and_keep_the_order(pieces: list[Piece]) -> None:
    arrays, _ = packed(pieces, whole=False)
    assert arrays["tokens"][arrays["segments"] > 0].tolist() == [token for piece in pieces for token in piece.ids]
    assert (arrays["segments"][:-1] > 0).all()


@settings(max_examples=60, deadline=None)
@given(pieces=pieces_of(CONTEXT))
def test_whole_pieces_are_never_cut_and_no_two_rows_could_be_one(pieces: list[Piece]) -> None:
    arrays, _ = packed(pieces, whole=True)
    found = [
        arrays["tokens"][row][arrays["segments"][row] == segment].tolist()
        for row in range(len(arrays["tokens"]))
        for segment in range(1, arrays["segments"][row].max() + 1)
    ]
    assert sorted(found) == [piece.ids for piece in pieces]
    lengths = (arrays["segments"] > 0).sum(axis=1).tolist()
    if len(lengths) > 1:
        assert sum(sorted(lengths)[:2]) > CONTEXT


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, CONTEXT), max_size=60))
def test_the_row_of_a_piece_is_that_of_the_plain_search(lengths: list[int]) -> None:
    free: list[int] = []
    expected = [0] * len(lengths)
    for piece in sorted(range(len(lengths)), key=lambda piece: -lengths[piece]):
        fitting = [row for row, space in enumerate(free) if space >= lengths[piece]]
        if not fitting:
            free.append(CONTEXT)
        row = min(fitting, key=lambda row: free[row]) if fitting else len(free) - 1
        free[row] -= lengths[piece]
        expected[piece] = row
    row_of = whole_rows(np.array(lengths, dtype=np.int64), CONTEXT).tolist()
    filled, filled_plainly = (
        sorted(sum(n for n, row in zip(lengths, rows, strict=True) if row == wanted) for wanted in set(rows))
        for rows in (row_of, expected)
    )
    assert filled == filled_plainly


@settings(max_examples=60, deadline=None)
@given(pieces=pieces_of(3 * CONTEXT), whole=st.booleans())
def test_origins_say_for_every_token_which_one_of_which_item_it_is(pieces: list[Piece], whole: bool) -> None:
    pieces = [piece for piece in pieces if not whole or len(piece.ids) <= CONTEXT]
    arrays, lines = packed(pieces, whole=whole)
    source = {}  # token -> its item, and its number there
    for piece in pieces:
        places = [(str(part.item), part.start + n) for part in piece.parts for n in range(part.length)]
        source |= dict(zip(piece.ids, places, strict=True))
    assert [line["row"] for line in lines] == list(range(len(arrays["tokens"])))
    for row, segments, line in zip(arrays["tokens"], arrays["segments"], lines, strict=True):
        told = [(p["id"], p["start"] + n) for p in line["pieces"] for n in range(p["length"])]  # type: ignore[attr-defined]
        assert told == [source[token] for token in row[segments > 0].tolist()]


def test_arrays_have_the_types_of_the_contract() -> None:
    arrays, _ = packed(numbered([3, 9, 14]), whole=True)
    kinds = {name: str(array.dtype) for name, array in arrays.items()}
    assert kinds == {
        "tokens": "int32",
        "segments": "int32",
        "loss_mask": "bool",
        "domains": "int8",
        "structure": "int8",
    }
    assert {array.shape for array in arrays.values()} == {(2, CONTEXT)}
    nothing, lines = packed([], whole=False)
    assert {name: array.dtype for name, array in nothing.items()} == {
        name: np.dtype(kind) for name, kind in TYPES.items()
    }
    assert ({array.shape for array in nothing.values()}, lines) == ({(0, CONTEXT)}, [])


# -- pieces ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return list(Generator((), (1, 2), 0).problems("train", 400))


@pytest.fixture(scope="module")
def tokenizer(problems: list[Problem]) -> Tokenizer:
    return Tokenizer.train([CODE, *(problem.prompt + problem.solution for problem in problems)], 380)


def test_a_document_round_trips_and_all_but_its_first_token_count(tokenizer: Tokenizer) -> None:
    (piece,) = document_pieces(tokenizer, [record(CODE, "s", "code")])
    assert tokenizer.decode(piece.ids) == CODE
    assert (piece.ids[0], piece.ids[-1]) == (*tokenizer.start_ids, tokenizer.end_id)
    assert piece.counts == [False] + [True] * (len(piece.ids) - 1)


def test_a_very_long_document_is_pieces_that_follow_each_other(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = record(CODE, "s", "code", "python")
    (whole,) = document_pieces(tokenizer, [document])
    monkeypatch.setattr(making, "_LONGEST", 300)
    short = record("short", "s", "general")
    before, *parts, after = document_pieces(tokenizer, [short, document, short])
    assert len(parts) > len(CODE) // 300
    assert tokenizer.decode([token for part in parts for token in part.ids]) == CODE
    assert [part.ids[0] == tokenizer.start_ids[0] for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.ids[-1] == tokenizer.end_id for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [count for part in parts for count in part.counts].count(False) == 1
    kinds = [[kind for part in some for kind in part.structure or () if kind != NONE] for some in (parts, [whole])]
    assert kinds[0].count(CodeKind.FUNCTION) == kinds[1].count(CodeKind.FUNCTION) > 0
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    assert [part.parts for part in parts] == [(Part(1, a, b - a),) for a, b in pairwise(starts)]
    assert (before.parts[0].item, after.parts[0].item) == (0, 2)


def test_code_with_a_gap_put_together_again_is_the_code(tokenizer: Tokenizer) -> None:
    """Prefix, suffix, middle; or suffix, then prefix and middle in one."""
    pieces = list(completion_pieces(tokenizer, [record(CODE * 2, "s", "code")], 128, Random(0)))
    marks = [tokenizer.special_ids[token] for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)]
    whole, middle_last, suffix_first = "", 0, 0
    for piece in pieces:
        assert len(piece.ids) <= 128
        if piece.ids[1] == marks[0]:
            _, after, between = (piece.ids.index(mark) for mark in marks)  # type: ignore[attr-defined]
            prefix, suffix, middle = piece.ids[2:after], piece.ids[after + 1 : between], piece.ids[between + 1 : -1]
            whole += tokenizer.decode(prefix) + tokenizer.decode(middle) + tokenizer.decode(suffix)
            middle_last, suffix_first = middle_last + bool(prefix), suffix_first + (not prefix)
        else:
            whole += tokenizer.decode(piece.ids)
    assert whole == CODE * 2
    for piece in pieces[:-1]:
        assert (piece.ids[-1] == tokenizer.end_id) is (piece.ids[1] == marks[0]), "code ends where its document does"
    assert pieces[-1].ids[-1] == tokenizer.end_id
    assert 0.1 < middle_last / len(pieces) < 0.4
    assert 0.1 < suffix_first / len(pieces) < 0.4
    starts = np.cumsum([0, *(len(piece.ids) for piece in pieces)]).tolist()
    assert [piece.parts for piece in pieces] == [(Part(0, a, b - a),) for a, b in pairwise(starts)]


def test_labels_go_with_their_code_whichever_part_comes_first(tokenizer: Tokenizer) -> None:
    """Every token that is a whole keyword says so."""
    found = set()
    for piece in completion_pieces(tokenizer, [record(CODE, "s", "code", "python")], 128, Random(1)):
        for token, kind in zip(piece.ids, piece.structure or (), strict=True):
            if tokenizer.token_text(token) in ("def", " return"):
                found.add(kind)
    assert found == {CodeKind.KEYWORD}


def test_chats_ask_every_problem_once_and_share_the_worked_answers(problems: list[Problem]) -> None:
    conversations = list(chats(problems, 0.5, Random(1)))
    asked = [message.content for chat in conversations for message in chat if message.role == "user"]
    said = [message.content for chat in conversations for message in chat if message.role == "assistant"]
    assert asked == [problem.prompt for problem in problems]
    assert all(answer in (p.solution, p.direct) for answer, p in zip(said, problems, strict=True))
    assert 0.4 < sum("<think>" in answer for answer in said) / len(said) < 0.6
    in_several = sum(len(chat) // 2 for chat in conversations if len(chat) > 2)
    assert 0.2 < in_several / len(problems) < 0.45
    for share, worked in ((0.0, False), (1.0, True)):
        (chat,) = chats(problems[:1], share, Random(0))
        assert ("<think>" in chat[1].content) is worked
        (chat,) = chats(problems[:1], 1 - share, Random(0), {problems[0].level: share})
        assert ("<think>" in chat[1].content) is worked


def test_a_chat_counts_what_the_assistant_says(tokenizer: Tokenizer, problems: list[Problem]) -> None:
    conversations = list(chats(problems[:40], 1.0, Random(0)))
    for chat, piece in zip(conversations, problem_pieces(tokenizer, conversations, 400), strict=True):
        counted = [token for token, counts in zip(piece.ids, piece.counts, strict=True) if counts]
        assert tokenizer.decode(counted) == "".join(m.content for m in chat if m.role == "assistant")
        assert DOMAINS[piece.domain] == "science"


def test_each_problem_is_the_part_of_its_chat_that_asks_and_answers_it(
    tokenizer: Tokenizer, problems: list[Problem]
) -> None:
    conversations = list(chats(problems[:60], 0.5, Random(2)))
    item = 0
    for piece in problem_pieces(tokenizer, conversations, 400):
        place = 0
        for part in piece.parts:
            said = tokenizer.decode(piece.ids[place : place + part.length])
            assert (part.item, part.start) == (item, 0)
            assert said.startswith(problems[item].prompt)
            assert said.removeprefix(problems[item].prompt) in (problems[item].solution, problems[item].direct)
            item, place = item + 1, place + part.length
        assert place == len(piece.ids)
    assert item == 60


def test_a_long_conversation_loses_its_last_turns_and_an_exchange_that_does_not_fit_is_an_error(
    tokenizer: Tokenizer, problems: list[Problem]
) -> None:
    one, two = list(chats(problems[:1], 1.0, Random(0))), list(chats(problems[1:2], 1.0, Random(0)))
    single = problem_pieces(tokenizer, one, 400)[0]
    assert problem_pieces(tokenizer, [one[0] + two[0]], len(single.ids)) == [single]
    with pytest.raises(ValueError, match="raise context"):
        problem_pieces(tokenizer, one, len(single.ids) - 1)
