from typing import Any

import pytest

from backend.preferences.formats import Format, read_pair, write_pair
from trainer.spec import Message, Pair

TURNS = (
    Message(role="user", content="What is 2 + 2?"),
    Message(role="assistant", content="4."),
    Message(role="user", content="And 3 + 3?"),
)
PAIR = Pair(id="x", prompt=TURNS, chosen="6.", rejected="7.", origin="label", margin=1.5)


@pytest.mark.parametrize("format", ["octavo", "hh-rlhf", "ultrafeedback"])
def test_what_is_written_is_read_again(format: Format) -> None:
    found = read_pair(write_pair(PAIR, format), origin="import")
    assert (found.prompt, found.chosen, found.rejected) == (TURNS, "6.", "7.")
    assert found.margin == (0 if format == "hh-rlhf" else 1.5)


def test_a_single_question_survives_every_format() -> None:
    one = PAIR.model_copy(update={"prompt": TURNS[:1]})
    for format in ("octavo", "hh-rlhf", "ultrafeedback", "argilla"):
        found = read_pair(write_pair(one, format), origin="import")  # type: ignore[arg-type]
        assert (found.prompt, found.chosen, found.rejected) == (one.prompt, "6.", "7.")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
        {"instruction": "Hi", "chosen": "Yes", "rejected": "No"},
        {"fields": {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}, "responses": []},
        {"prompt": [{"role": "user", "content": "Hi"}], "chosen": "Yes", "rejected": "No", "lang": "en"},
        {
            "prompt": "Hi",
            "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}],
            "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}],
        },
    ],
)
def test_files_of_others_are_read(row: dict[str, Any]) -> None:
    found = read_pair(row, origin="import")
    assert (found.prompt, found.chosen, found.rejected) == ((Message(role="user", content="Hi"),), "Yes", "No")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ([], "no JSON object"),
        ({"prompt": "Hi", "chosen": "Yes"}, "'chosen' and 'rejected' are missing"),
        ({"chosen": "Yes", "rejected": "No"}, "no transcript"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}, "different prompts"),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "does not end with an answer"),
        ({"prompt": "Hi", "chosen": [{"role": "user"}], "rejected": []}, "'role' and 'content'"),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "No", "preference": 2}, "preference"),
    ],
)
def test_what_is_no_pair_is_said_to_be_none(row: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_pair(row, origin="import")
