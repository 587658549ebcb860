"""Laws of tokenizers from elsewhere: nothing is lost, nothing is injected, transformers and the original agree."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BpeTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.trainer import foreign
from trainer.data.foreign_tokenizer import read_tokenizer
from trainer.data.tokenizer import NEEDED_TOKENS, Tokenizer
from trainer.spec import Message

ROWS = 320
ORIGINALS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": foreign.byte_level,
    "spaced": foreign.spaced,
    "spaced, older": lambda: foreign.spaced(legacy=True),
    "no template": lambda: foreign.byte_level(template=None),
    "spaced, no template": lambda: foreign.spaced(template=None),
}
SYSTEM = Message(role="system", content="Be brief.")
CHAT = (
    Message(role="user", content="What is 7 + 5?"),
    Message(role="assistant", content="The answer is 12."),
    Message(role="user", content="Größe 数学?"),
    Message(role="assistant", content="It is  42."),
)
THOUGHT = (CHAT[0], Message(role="assistant", content="<think>7 + 5</think>The answer is 12."))
awkward = st.lists(
    st.sampled_from(
        ["<|im_end|>", "</s>", "<s>", "[/INST]", "<think>", "</think>", "<0x0A>", "▁", " ", "\n", "\x04", "é", "7", "a"]
    )
).map("".join)


@cache
def imported(name: str) -> Tokenizer:
    with TemporaryDirectory() as folder:
        ORIGINALS[name]().save_pretrained(folder)
        return read_tokenizer(Path(folder), ROWS, lambda line: None)


every = pytest.mark.parametrize("name", ORIGINALS)


@every
@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(), awkward))
@example(text="  ▁ <0x0A></s>\u200d👩‍👩‍👧\x04\U00050000")
def test_any_text_round_trips_and_holds_no_special_token(name: str, text: str) -> None:
    tokenizer = imported(name)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {*tokenizer.special_ids.values()} & {*ids}
    chat = [Message(role="user", content=text), Message(role="assistant", content=text)]
    ids, mask = tokenizer.encode_chat(chat)
    assert tokenizer.decode([token for token, said in zip(ids, mask, strict=True) if said]) == text


@every
@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 399)))
def test_stream_says_what_decode_says(name: str, ids: list[int]) -> None:
    stream = imported(name).decode_stream()
    assert "".join(stream.push(token) for token in ids) + stream.flush() == imported(name).decode(ids)


@every
def test_a_prompt_is_the_beginning_of_the_chat_it_leads_to(name: str) -> None:
    tokenizer = imported(name)
    for chat in (CHAT, [SYSTEM, *CHAT], THOUGHT):
        for turn, message in enumerate(chat):
            if message.role == "assistant":
                prompt = tokenizer.encode_chat(chat[:turn], add_generation_prompt=True)[0]
                ids, mask = tokenizer.encode_chat(chat[: turn + 1])
                answer = [token for token, said in zip(ids[len(prompt) :], mask[len(prompt) :], strict=True) if said]
                assert ids[: len(prompt)] == prompt
                assert mask[len(prompt)]
                assert answer[-1] == tokenizer.end_id
                assert tokenizer.decode(answer) == message.content


@every
def test_transformers_opens_what_is_saved_and_agrees(name: str, tmp_path: Path) -> None:
    tokenizer = imported(name)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for messages in (CHAT[:1], CHAT, [SYSTEM, *CHAT], THOUGHT):
        for prompt in (False, True):
            chat = [message.model_dump() for message in messages]
            found = theirs.apply_chat_template(chat, add_generation_prompt=prompt, return_dict=True)["input_ids"]
            assert found == tokenizer.encode_chat(messages, add_generation_prompt=prompt)[0]
    for text in foreign.CORPUS[:2]:
        assert theirs(text)["input_ids"] == [*tokenizer.start_ids, *tokenizer.encode(text)]
        assert theirs.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text)) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.end_id, tokenizer.pad_id)


def test_a_chat_has_the_ids_that_the_original_gives_it() -> None:
    tokenizer, original = imported("byte-level"), foreign.byte_level()
    for messages in (CHAT[:1], CHAT, [SYSTEM, *CHAT]):
        chat = [message.model_dump() for message in messages]
        found = original.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert found == tokenizer.encode_chat(messages, add_generation_prompt=True)[0]


def test_mixtrals_layout_differs_by_the_space_before_an_answer_only() -> None:
    """Its template forgets the space that the network was trained with; a token of the answer's first word holds it."""
    tokenizer, original = imported("spaced"), foreign.spaced()
    text = original.apply_chat_template([message.model_dump() for message in CHAT], tokenize=False)
    assert tokenizer.chat.render(CHAT) == text.replace("[/INST]", "[/INST] ")
    assert [original.convert_ids_to_tokens(tokenizer.encode("The"))][0][0].startswith("▁")


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    for name in ORIGINALS:
        tokenizer = imported(name)
        tokenizer.save(tmp_path)
        assert read_tokenizer(tmp_path, tokenizer.vocab_size, pytest.fail).encodes_like(tokenizer)


def test_what_is_missing_is_added_behind_the_last_token(tmp_path: Path) -> None:
    original, said = foreign.byte_level(), list[str]()
    original.save_pretrained(tmp_path)
    tokenizer = read_tokenizer(tmp_path, ROWS, said.append)
    assert len(said) == 1
    assert "tokens 300 to 305 were added" in said[0]
    assert all(tokenizer.special_ids[token] >= 300 for token in NEEDED_TOKENS)
    assert tokenizer.encode("The user asks") == original("The user asks")["input_ids"]
    assert min(tokenizer.encode("\x04")) >= 300


def test_a_system_message_without_a_place_is_written_like_a_users(tmp_path: Path) -> None:
    foreign.spaced().save_pretrained(tmp_path)
    said: list[str] = []
    tokenizer = read_tokenizer(tmp_path, ROWS, said.append)
    assert any("no place of its own for a system message" in line for line in said)
    assert tokenizer.chat.render([SYSTEM, CHAT[0]]) == "<s>[INST] Be brief. [/INST][INST] What is 7 + 5? [/INST]"


def test_templates_are_found_where_newer_and_older_files_have_them(tmp_path: Path) -> None:
    foreign.byte_level().save_pretrained(tmp_path)
    expected = imported("byte-level").chat
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").unlink()
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
    for value in (template, named):
        edit_config(tmp_path, chat_template=value)
        assert read_tokenizer(tmp_path, ROWS, lambda line: None).chat == expected


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for message in messages %}{{ message['content'] | upper }}{% endfor %}", "leaves out what the user says"),
        ("{% for message in messages %}", "cannot be used: Unexpected end of template"),
        ("{{ raise_exception('not for chats') }}", "cannot be used: not for chats"),
        ("{{ messages + 1 }}", "cannot be used: can only concatenate"),
        (foreign.CHATML.replace("'<|im_end|>' + '\n'", "'\n'"), "holds no special token"),
        (
            foreign.CHATML.replace("message['content'] +", "message['content'] + (loop.index | string) +"),
            "markers before and after each message give",
        ),
        (
            foreign.CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>' }}{% endif"),
            "markers before and after",
        ),
    ],
)
def test_a_template_that_markers_do_not_give_is_refused(tmp_path: Path, template: str, reason: str) -> None:
    foreign.byte_level(template).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=reason) as refusal:
        read_tokenizer(tmp_path, ROWS, lambda line: None)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change", [{"normalizer": normalizers.Lowercase()}, {"pre_tokenizer": pre_tokenizers.ByteLevel(True)}]
)
def test_a_tokenizer_that_changes_texts_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    foreign.byte_level().save_pretrained(tmp_path)
    bpe = BpeTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for part, value in change.items():
        setattr(bpe, part, value)
    bpe.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="takes tokenizers that change nothing"):
        read_tokenizer(tmp_path, ROWS, lambda line: None)


def test_tokens_that_are_not_special_are_shown_and_still_not_made_of_text(tmp_path: Path) -> None:
    foreign.with_token(foreign.byte_level(), tmp_path, AddedToken("<tool>", special=False))
    tokenizer = read_tokenizer(tmp_path, ROWS, lambda line: None)
    assert tokenizer.decode([tokenizer.special_ids["<tool>"]]) == "<tool>"
    assert tokenizer.special_ids["<tool>"] not in tokenizer.encode("<tool>")


def test_what_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no tokenizer\.json; write one with transformers"):
        read_tokenizer(tmp_path, ROWS, lambda line: None)
    foreign.byte_level(None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 300 tokens, the network only 299"):
        read_tokenizer(tmp_path, 299, lambda line: None)
    edit_config(tmp_path, eos_token=None)
    with pytest.raises(ValueError, match="names no eos_token"):
        read_tokenizer(tmp_path, ROWS, lambda line: None)
    BpeTokenizer(models.WordPiece({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    edit_config(tmp_path, eos_token="a")
    with pytest.raises(ValueError, match="is a WordPiece; Octavo takes BPE"):
        read_tokenizer(tmp_path, ROWS, lambda line: None)
