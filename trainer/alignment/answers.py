"""Prompts with answers as packed rows, and the log-probability that a network gives to each answer.

Shapes: B rows, L positions a row, V vocabulary, A answers, D hidden size. Position l predicts token l + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.model.transformer import Transformer
from trainer.objectives import token_logprobs
from trainer.spec import Message

# Row counts and lengths come in few sizes: a CPU's matrix kernels are built anew for every shape not seen before.
SHORTEST_ROW, LENGTH_STEP, ROW_STEP = 256, 64, 8


@dataclass(frozen=True)
class Sequences:
    """Token ids of prompts, each ending where the assistant is to speak, and of what it says to them."""

    prompts: list[list[int]]
    answers: list[list[int]]

    @property
    def longest(self) -> int:
        return max(len(p) + len(a) for p, a in zip(self.prompts, self.answers, strict=True))

    def take(self, numbers: Sequence[int]) -> "Sequences":
        return Sequences([self.prompts[i] for i in numbers], [self.answers[i] for i in numbers])


def question(prompt: str) -> tuple[Message, ...]:
    """A problem's prompt as the chat that training, evaluation and serving use."""
    return (Message(role="user", content=prompt),)


def encode_prompts(tokenizer: Tokenizer, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Chats up to the point where the assistant is to go on."""
    return [tokenizer.encode_chat(chat, add_generation_prompt=True)[0] for chat in chats]


def encode_answers(tokenizer: Tokenizer, chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> Sequences:
    """Chats, each with an answer of the assistant appended; the closing end token belongs to the answer."""
    whole = [(*chat, Message(role="assistant", content=text)) for chat, text in zip(chats, answers, strict=True)]
    sequences = Sequences([], [])
    for ids, said in tokenizer.encode_chats(whole):
        # A chat format may put something after the answer's end token, which is no part of it.
        end = len(ids) - said[::-1].index(True)
        start = end - said[end - 1 :: -1].index(False)
        sequences.prompts.append(ids[:start])
        sequences.answers.append(ids[start:end])
    return sequences


@dataclass(frozen=True)
class AnswerRows:
    """Several prompts with their answers in each row, kept apart by their segment numbers; padding is segment 0."""

    tokens_BL: Tensor
    segments_BL: Tensor
    answer_BL: Tensor  # number of the answer that the next token belongs to; -1 where it belongs to none
    last_A: Tensor  # flat position of the last token of each answer

    @property
    def mask_BL(self) -> Tensor:
        return self.answer_BL >= 0

    @property
    def targets_BL(self) -> Tensor:
        """The next token of each position; the last position of a row has none and is never in the mask."""
        return self.tokens_BL.roll(-1, dims=1)

    def spread(self, values_A: Tensor) -> Tensor:
        """One value an answer -> [B, L], 0 outside the answers."""
        return torch.where(self.mask_BL, values_A[self.answer_BL.clamp(min=0)], 0.0)

    def sums(self, values_BL: Tensor) -> Tensor:
        """Sum over the tokens of each answer, [A]."""
        sums_A = torch.zeros(len(self.last_A), dtype=values_BL.dtype, device=values_BL.device)
        return sums_A.index_add(0, self.answer_BL[self.mask_BL], values_BL[self.mask_BL])

    @property
    def lengths_A(self) -> Tensor:
        return self.sums(torch.ones_like(self.tokens_BL, dtype=torch.float32))


def row_length(longest: int) -> int:
    """Length of the rows that hold sequences of up to `longest` tokens."""
    return max(SHORTEST_ROW, -(-longest // LENGTH_STEP) * LENGTH_STEP)


def pack(sequences: Sequences, length: int, pad_id: int, device: torch.device | None = None) -> AnswerRows:
    """First-fit-decreasing packing of whole sequences into rows of `length` tokens."""
    sizes = [len(p) + len(a) for p, a in zip(sequences.prompts, sequences.answers, strict=True)]
    rows = first_fit(sizes, length)
    B = -(-len(rows) // ROW_STEP) * ROW_STEP
    tokens, segments, answer = (np.full((B, length), fill, dtype=np.int64) for fill in (pad_id, 0, -1))
    last = np.zeros(len(sizes), dtype=np.int64)
    for row, members in enumerate(rows):
        start = 0
        for segment, number in enumerate(members, start=1):
            end = start + sizes[number]
            tokens[row, start:end] = sequences.prompts[number] + sequences.answers[number]
            segments[row, start:end] = segment
            answer[row, start + len(sequences.prompts[number]) - 1 : end - 1] = number
            last[number] = row * length + end - 1
            start = end
    return AnswerRows(*(torch.from_numpy(array).to(device or "cpu") for array in (tokens, segments, answer, last)))


def first_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Numbers of the items in each row, longest first, each in the first row with room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        assert 0 < sizes[number] <= length, f"an item of {sizes[number]} tokens does not fit a row of {length}"
        fitting = next((row for row, left in enumerate(room) if left >= sizes[number]), None)
        if fitting is None:
            rows.append([])
            room.append(length)
            fitting = len(rows) - 1
        rows[fitting].append(number)
        room[fitting] -= sizes[number]
    return rows


def logits_of(model: Transformer, rows: AnswerRows) -> Tensor:
    """Scores of the next token at every position, [B, L, V] float32."""
    return model.logits(model(rows.tokens_BL, segments_BL=rows.segments_BL).hidden_BLD)


def answer_logprobs(model: Transformer, rows: AnswerRows, temperature: float = 1.0) -> Tensor:
    """log p of the next token at every position under the sampled distribution, [B, L] float32, nat."""
    return token_logprobs(logits_of(model, rows) / temperature, rows.targets_BL)


def in_answer_order(values_BL: Tensor, rows: AnswerRows) -> Tensor:
    """The values at the answers' tokens, answer after answer, each from left to right; [N]."""
    answer_N = rows.answer_BL[rows.mask_BL]
    return values_BL[rows.mask_BL][answer_N.argsort(stable=True)]
