"""Packed answers: nothing lost, and the same log-probabilities as one answer at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer import arithmetic
from trainer.alignment.answers import (
    ROW_STEP,
    Sequences,
    answer_logprobs,
    encode_answers,
    encode_prompts,
    first_fit,
    in_answer_order,
    pack,
    question,
    row_length,
)
from trainer.model.transformer import Transformer
from trainer.spec import Message

Ids = st.lists(st.integers(1, 200), min_size=1, max_size=20)


def one_at_a_time(model: Transformer, sequences: Sequences) -> list[list[float]]:
    found = []
    for prompt, answer in zip(sequences.prompts, sequences.answers, strict=True):
        logits_LV = model.logits(model(torch.tensor([prompt + answer])).hidden_BLD)[0]
        logps_LV = logits_LV.log_softmax(-1)
        found.append([logps_LV[len(prompt) + i - 1, token].item() for i, token in enumerate(answer)])
    return found


@given(st.lists(st.tuples(Ids, Ids), min_size=1, max_size=12))
def test_every_sequence_lies_whole_in_one_segment_and_its_answer_is_what_is_predicted(
    pairs: list[tuple[list[int], list[int]]],
) -> None:
    sequences = Sequences([p for p, _ in pairs], [a for _, a in pairs])
    rows = pack(sequences, 64, pad_id=0)
    assert len(rows.tokens_BL) % ROW_STEP == 0
    seen = []
    for tokens_L, segments_L in zip(rows.tokens_BL, rows.segments_BL, strict=True):
        seen += [tokens_L[segments_L == s].tolist() for s in range(1, int(segments_L.max()) + 1)]
    assert sorted(seen) == sorted(p + a for p, a in pairs)
    assert not rows.tokens_BL[rows.segments_BL == 0].any()
    for number, (_, answer) in enumerate(pairs):
        assert rows.targets_BL[rows.answer_BL == number].tolist() == answer
        assert rows.tokens_BL.flatten()[rows.last_A[number]] == answer[-1]
    assert rows.lengths_A.tolist() == [len(a) for _, a in pairs]


def test_packed_log_probabilities_are_those_of_each_answer_alone() -> None:
    problems = arithmetic.problems()[:20]
    chats, texts = [question(p.prompt) for p in problems], [p.solution for p in problems]
    sequences = encode_answers(arithmetic.tokenizer(), chats, texts)
    rows = pack(sequences, row_length(sequences.longest), arithmetic.tokenizer().pad_id)
    with torch.no_grad():
        logps_BL = answer_logprobs(arithmetic.policy(), rows)
        slow = one_at_a_time(arithmetic.policy(), sequences)
    flat = torch.tensor([logp for answer in slow for logp in answer])
    torch.testing.assert_close(in_answer_order(logps_BL, rows), flat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rows.sums(logps_BL), torch.tensor([sum(a) for a in slow]), atol=1e-3, rtol=1e-4)


def test_a_value_an_answer_spreads_to_its_tokens() -> None:
    rows = pack(Sequences([[1], [2, 3]], [[4, 5], [6]]), 64, pad_id=0)
    spread_BL = rows.spread(torch.tensor([2.0, -1.0]))
    assert rows.sums(spread_BL).tolist() == [4.0, -1.0]
    assert spread_BL.sum() == 3.0


@given(st.lists(st.integers(1, 10), max_size=30))
def test_first_fit_places_every_item_once_and_leaves_at_most_one_row_half_empty(sizes: list[int]) -> None:
    rows = first_fit(sizes, 10)
    assert sorted(number for row in rows for number in row) == list(range(len(sizes)))
    filled = [sum(sizes[number] for number in row) for row in rows]
    assert all(total <= 10 for total in filled)
    assert sum(total <= 5 for total in filled) <= 1


def test_prompt_and_answer_join_to_the_chat_that_training_uses() -> None:
    tokenizer = arithmetic.tokenizer()
    chat = (Message(role="user", content="1 + 2 = ?"), Message(role="assistant", content="The answer is 4."),
            Message(role="user", content="3 + 4 = ?"))  # fmt: skip
    text = arithmetic.worked(3, 4, 7)
    sequences = encode_answers(tokenizer, [chat], [text])
    assert sequences.prompts == encode_prompts(tokenizer, [chat])
    assert sequences.answers[0][-1] == tokenizer.end_id
    assert tokenizer.decode(sequences.answers[0]) == text
    whole, _ = tokenizer.encode_chat((*chat, Message(role="assistant", content=text)))
    assert sequences.prompts[0] + sequences.answers[0] == whole


def test_a_sequence_longer_than_the_row_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="does not fit"):
        pack(Sequences([[1] * 60], [[2] * 5]), 64, pad_id=0)
