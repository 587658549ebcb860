"""Dialogues of any origin: who says what survives, and only what the assistant says is learned."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import tiny
from trainer.data.conversations import ROLES, chat_of, is_conversation, text_and_roles
from trainer.data.pieces import conversation_pieces
from trainer.data.sources import record
from trainer.data.sources.rows import RowReader
from trainer.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from trainer.job_settings import RowSettings
from trainer.spec import DOMAINS, Record

ASSISTANT, OTHERS = ("assistant", "gpt", "tool_call"), ("system", "user", "human", "tool_result", "tool")
content = st.lists(st.sampled_from([*"ab \n7é😀<>", *SPECIAL_TOKENS, "\u241e"]), max_size=9).map("".join)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(ASSISTANT + OTHERS), "content": content}), min_size=1, max_size=9
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


def dialogue(said: list[dict[str, Any]]) -> Record:
    text, roles = text_and_roles(said)
    return record(text, "s", "general", "en", **{ROLES: roles})


def turns(said: list[dict[str, Any]]) -> list[tuple[bool, list[str]]]:
    """Whether the assistant speaks, and what is said, those of one side in a row together: written down plainly."""
    found: list[tuple[bool, str, list[str]]] = []
    sides = {"system": "system", **dict.fromkeys(ASSISTANT, "assistant")}
    for message in said:
        side = sides.get(message["role"], "user")
        if not found or found[-1][1] != side:
            found.append((side == "assistant", side, []))
        found[-1][2].append(message["content"].replace("\u241e", "").strip())
    return [(is_said, contents) for is_said, _, contents in found]


@settings(max_examples=150, deadline=None)
@given(said=messages)
def test_what_counts_is_what_the_assistant_says_and_nothing_else(
    tokenizer: Tokenizer, said: list[dict[str, Any]]
) -> None:
    expected = turns(said)
    while expected and not expected[-1][0]:
        expected.pop()
    pieces = list(conversation_pieces(tokenizer, [dialogue(said)], 10_000))
    assert len(pieces) == bool(expected)
    for piece in pieces:
        assert DOMAINS[piece.domain] == "general"
        counted = [token for token, counts in zip(piece.ids, piece.counts, strict=True) if counts]
        rest = [token for token, counts in zip(piece.ids, piece.counts, strict=True) if not counts]
        for tokens, is_said in ((counted, True), (rest, False)):
            text = tokenizer.decode(tokens)
            for contents in (contents for speaks, contents in expected if speaks is is_said):
                for content in contents:
                    assert content in text
                    text = text[text.index(content) + len(content) :]
        assert counted.count(tokenizer.end_id) == sum(speaks for speaks, _ in expected)
        assert piece.ids[-1] == tokenizer.end_id
        roles = {tokenizer.special_ids[token] for token in ("<|user|>", "<|system|>", "<|assistant|>")}
        assert not roles & set(counted)
        assert sum(token in roles for token in rest) == len(expected)


def test_plain_messages_come_back_as_they_were() -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "It is 4.\n\nSure."},
    ]
    found = dialogue(said)
    assert is_conversation(found)
    assert not is_conversation(record("text", "s", "general"))
    assert [message.model_dump() for message in chat_of(found)] == said
    assert chat_of(dialogue([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]))[1].content == "Ho"


def test_tools_and_the_same_side_twice() -> None:
    said = [
        {"role": "user", "content": "What is it worth?"},
        {"role": "user", "content": "In yen."},
        {"role": "tool_call", "content": "{}"},
        {"role": "tool_result", "content": "7"},
        {"role": "assistant", "content": "7 yen."},
        {"role": "user", "content": "Thanks"},
    ]
    assert [(message.role, message.content) for message in chat_of(dialogue(said))] == [
        ("user", "What is it worth?\n\nIn yen."),
        ("assistant", "<tool_call>\n{}\n</tool_call>"),
        ("user", "<tool_response>\n7\n</tool_response>"),
        ("assistant", "7 yen."),
    ]


def test_a_rule_may_change_what_is_said_but_not_who_says_it() -> None:
    whole = dialogue([{"role": "user", "content": "I am a@b.c"}, {"role": "assistant", "content": "Hello a@b.c"}])
    scrubbed = whole.model_copy(update={"text": whole.text.replace("a@b.c", "<email>")})
    assert [message.content for message in chat_of(scrubbed)] == ["I am <email>", "Hello <email>"]
    assert chat_of(whole.model_copy(update={"text": whole.text[: whole.text.index("Hello") - 4]})) == []


def test_a_long_dialogue_ends_with_the_last_answer_that_fits(tokenizer: Tokenizer) -> None:
    said = [{"role": role, "content": f"{n} abc"} for n in range(4) for role in ("user", "assistant")]
    (whole,) = conversation_pieces(tokenizer, [dialogue(said)], 1_000)
    for context in range(5, len(whole.ids) + 1):
        pieces = list(conversation_pieces(tokenizer, [dialogue(said[:1]), dialogue(said)], context))
        ends = [n + 1 for n in range(context) if whole.ids[n] == tokenizer.end_id and whole.counts[n]]
        assert [piece.ids for piece in pieces] == ([whole.ids[: ends[-1]]] if ends else [])
        assert all(piece.parts == ((1, 0, len(piece.ids)),) for piece in pieces)


def test_what_stands_between_messages_is_no_line_of_its_own() -> None:
    """Rules against repetition would count it as a line that is repeated."""
    text, _ = text_and_roles([{"role": "user", "content": f"line {n}"} for n in range(9)])
    lines = [line for line in text.splitlines() if line]
    assert len(set(lines)) == len(lines) == 9


@pytest.mark.parametrize("message", ["Hi", {"role": "narrator", "content": "x"}, {"role": "user"}, {"content": "x"}])
def test_a_message_that_is_none_is_named(message: object) -> None:
    with pytest.raises(ValueError, match="needs a role"):
        text_and_roles([message])


def test_rows_with_messages_are_read_as_dialogues() -> None:
    read = RowReader("s", RowSettings(text_fields=("messages", "text"))).read
    said = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    found = read({"messages": said}, path="a.jsonl", row=0)
    assert isinstance(found, Record)
    assert [message.model_dump() for message in chat_of(found)] == said
    for row in ({"messages": [{"role": "narrator", "content": "x"}]}, {"text": "plain"}):
        plain = read(row, path="a.jsonl", row=0)
        assert isinstance(plain, Record)
        assert not is_conversation(plain)
