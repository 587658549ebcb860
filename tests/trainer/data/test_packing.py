"""Laws of packing and of the pieces that go into rows."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import mixture
from trainer.data.packing import ARRAYS, Packed, Piece, pack_running, pack_whole
from trainer.data.pieces import chat_pieces, chats, completion_pieces, document_pieces
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from trainer.spec import DOMAINS, Domain, Problem

CONTEXT, PAD = 16, 0
Pack = Callable[[Iterable[Piece], int, int], Packed]
CODE = "".join(f"def add_{i}(left, right):\n    return left + right + {i}\n\n" for i in range(60))


def pieces_of(longest: int) -> st.SearchStrategy[list[Piece]]:
    """Pieces whose tokens are all different, so that a lost or doubled one shows."""
    return st.lists(st.integers(1, longest), max_size=30).map(numbered)


def numbered(lengths: list[int]) -> list[Piece]:
    starts = np.cumsum([1, *lengths])
    return [
        Piece(list(range(a, b)), [token % 3 == 0 for token in range(a, b)], index % 4)
        for index, (a, b) in enumerate(pairwise(starts.tolist()))
    ]


def unpacked(packed: Packed) -> list[tuple[int, bool, int]]:
    """(token, counts, domain) of every place that is no padding."""
    held = packed.segments > 0
    columns = (packed.tokens[held], packed.loss_mask[held], packed.domains[held])
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=100, deadline=None)
@given(pieces=pieces_of(CONTEXT))
@pytest.mark.parametrize("pack", [pack_running, pack_whole])
def test_no_token_is_lost_or_doubled_and_segments_restart(pack: Pack, pieces: list[Piece]) -> None:
    packed = pack(pieces, CONTEXT, PAD)
    rows = [(t, c, p.domain) for p in pieces for t, c in zip(p.ids, p.counts, strict=True)]
    assert unpacked(packed) == sorted(rows)
    padding = packed.segments == 0
    assert (packed.tokens[padding] == PAD).all()
    assert not packed.loss_mask[padding].any()
    assert (packed.domains[padding] == -1).all()
    for row in packed.segments:
        used = row[row > 0]
        assert (row[len(used) :] == 0).all()
        assert set(np.diff(used).tolist()) <= {0, 1}
        assert used[0] == 1


@settings(max_examples=100, deadline=None)
@given(pieces=pieces_of(3 * CONTEXT))
def test_running_rows_are_full_and_keep_the_order(pieces: list[Piece]) -> None:
    packed = pack_running(pieces, CONTEXT, PAD)
    assert packed.tokens[packed.segments > 0].tolist() == [token for piece in pieces for token in piece.ids]
    assert (packed.segments[:-1] > 0).all()


@settings(max_examples=100, deadline=None)
@given(pieces=pieces_of(CONTEXT))
def test_whole_pieces_are_never_cut_and_no_two_rows_could_be_one(pieces: list[Piece]) -> None:
    packed = pack_whole(pieces, CONTEXT, PAD)
    found = [
        packed.tokens[row][packed.segments[row] == segment].tolist()
        for row in range(len(packed.tokens))
        for segment in range(1, packed.segments[row].max() + 1)
    ]
    assert sorted(found) == [piece.ids for piece in pieces]
    lengths = (packed.segments > 0).sum(axis=1).tolist()
    if len(lengths) > 1:
        assert sum(sorted(lengths)[:2]) > CONTEXT


def test_arrays_have_the_types_of_the_contract(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pack_whole(numbered([3, 9, 14]), CONTEXT, PAD).save(tmp_path / "train")
    kinds = {name: np.load(tmp_path / "train" / f"{name}.npy") for name in ARRAYS}
    assert {name: str(array.dtype) for name, array in kinds.items()} == {
        "tokens": "int32",
        "segments": "int32",
        "loss_mask": "bool",
        "domains": "int8",
        "structure": "int8",
    }
    assert {array.shape for array in kinds.values()} == {(2, CONTEXT)}


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


def test_code_with_a_gap_put_together_again_is_the_code(tokenizer: Tokenizer) -> None:
    pieces = list(completion_pieces(tokenizer, [record(CODE, "s", "code")], 128, Random(0)))
    marks = [tokenizer.special_ids[token] for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)]
    whole, gaps = "", 0
    for piece in pieces:
        assert len(piece.ids) <= 128
        if piece.ids[1] == marks[0]:
            gaps += 1
            _, after, between = (piece.ids.index(mark) for mark in marks)
            prefix, suffix, middle = piece.ids[2:after], piece.ids[after + 1 : between], piece.ids[between + 1 : -1]
            whole += tokenizer.decode(prefix) + tokenizer.decode(middle) + tokenizer.decode(suffix)
        else:
            whole += tokenizer.decode(piece.ids)
    assert whole == CODE
    for piece in pieces[:-1]:
        assert (piece.ids[-1] == tokenizer.end_id) is (piece.ids[1] == marks[0]), "code ends where its document does"
    assert pieces[-1].ids[-1] == tokenizer.end_id
    assert 0.25 < gaps / len(pieces) < 0.75


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
    for chat, piece in zip(conversations, chat_pieces(tokenizer, conversations, 400), strict=True):
        counted = [token for token, counts in zip(piece.ids, piece.counts, strict=True) if counts]
        assert tokenizer.decode(counted) == "".join(m.content for m in chat if m.role == "assistant")
        assert DOMAINS[piece.domain] == "science"


def test_a_long_conversation_loses_its_last_turns_and_an_exchange_that_does_not_fit_is_an_error(
    tokenizer: Tokenizer, problems: list[Problem]
) -> None:
    one, two = list(chats(problems[:1], 1.0, Random(0))), list(chats(problems[1:2], 1.0, Random(0)))
    single = chat_pieces(tokenizer, one, 400)[0]
    assert chat_pieces(tokenizer, [one[0] + two[0]], len(single.ids)) == [single]
    with pytest.raises(ValueError, match="raise context"):
        chat_pieces(tokenizer, one, len(single.ids) - 1)


# -- mixture ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=60), limit=st.integers(1, 2_000))
def test_no_domain_takes_more_than_its_share_but_for_its_first_piece(lengths: list[int], limit: int) -> None:
    pieces = numbered(lengths)
    available = mixture.tokens_by_domain(pieces)
    granted = mixture.budgets(available, limit)
    taken = mixture.tokens_by_domain(mixture.take(pieces, granted))
    for domain, amount in taken.items():
        assert amount <= max(granted[domain], available[domain] and 50)
        assert granted[domain] <= mixture.TARGET[domain] * limit
        assert (amount > 0) == (available[domain] > 0)


def test_enough_of_everything_reaches_the_target_shares() -> None:
    plenty: dict[Domain, int] = dict.fromkeys(DOMAINS, 1_000_000)
    assert mixture.shares(mixture.budgets(plenty, 100_000)) == pytest.approx(mixture.TARGET)
    assert mixture.shares({}) == dict.fromkeys(DOMAINS, 0.0)
