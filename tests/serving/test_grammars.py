"""Guided answers follow their grammar whatever the network would say, and a bad grammar is explained."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from serving.engine import Limits, TorchEngine
from serving.grammars import Grammars
from serving.request import Failure, Grammar
from tests.serving.world import Mailbox, engine, request, slow_greedy, text_of, tokens_of
from tests.trainer import tiny

PROMPT = [20, 30, 40]
CONTEXT = 256
LIMITS = Limits(max_batch_tokens=64, max_sequences=16, num_blocks=256, block_size=16)


@pytest.fixture(scope="module")
def served() -> Iterator[TorchEngine]:
    built = engine(tiny.network(tiny.config(max_position_embeddings=CONTEXT)), LIMITS)
    yield built
    built.abort()


leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 6}]),
    st.builds(lambda low: {"type": "integer", "minimum": low, "maximum": low + 500}, st.integers(-300, 300)),
    st.lists(st.sampled_from(["yes", "no", 'a "quoted" one', 7, None]), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
)


def objects(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["a", "b", "名"]), parts, min_size=1, max_size=3).map(
        lambda properties: {
            "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
        }
    )  # fmt: skip


def arrays(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return parts.map(lambda part: {"type": "array", "items": part, "maxItems": 2})


schemas = st.recursive(leaves, lambda parts: objects(parts) | arrays(parts), max_leaves=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schemas, st.integers(0, 1_000), st.sampled_from([0.0, 1.0, 2.0]))
def test_an_answer_that_ends_by_itself_is_valid(
    served: TorchEngine, schema: dict[str, Any], seed: int, temperature: float
) -> None:
    mailbox, grammar = Mailbox(), Grammar("json_schema", json.dumps(schema))
    wanted = request("one", PROMPT, max_tokens=200, temperature=temperature, seed=seed, grammar=grammar)
    served.submit(wanted, mailbox.put)
    deltas = mailbox.answer()
    assume(deltas[-1].finish_reason == "stop")
    jsonschema.validate(json.loads(text_of(deltas)), schema)


@pytest.mark.parametrize(
    "expression", [r"[0-9]{3}-(foo|bar)", r"(yes|no)\.", r"[α-ω]{2,4}", r"a?b*c", r"1 plus \d{1,2}"]
)
@pytest.mark.parametrize("seed", range(4))
def test_an_answer_matches_the_expression_from_its_first_character_to_its_last(
    served: TorchEngine, expression: str, seed: int
) -> None:
    mailbox = Mailbox()
    grammar = Grammar("regex", expression)
    served.submit(request("one", PROMPT, max_tokens=60, temperature=1.0, seed=seed, grammar=grammar), mailbox.put)
    deltas = mailbox.answer()
    text = text_of(deltas)
    if deltas[-1].finish_reason == "stop":
        assert re.fullmatch(expression, text)
    else:
        assert expression == r"a?b*c", "only this one has no longest text"


def test_guided_and_free_answers_share_batches(served: TorchEngine) -> None:
    free, guided = Mailbox(), [Mailbox() for _ in range(3)]
    served.submit(request("free", PROMPT), free.put)
    for index, mailbox in enumerate(guided):
        served.submit(request(str(index), PROMPT, max_tokens=40, grammar=Grammar("regex", f"{index}+x")), mailbox.put)
    for index, mailbox in enumerate(guided):
        assert set(text_of(mailbox.answer())) <= {str(index), "x"}
    expected = slow_greedy(served.runner.model, PROMPT, 12, tiny.tokenizer().end_id)
    assert tokens_of(free.answer()) == expected


def test_a_grammar_that_outgrows_its_limits_ends_that_answer_only(served: TorchEngine) -> None:
    """It passes the check, since its first step is within them."""
    grammar = Grammar("regex", "(a{1000}){1000}")
    Grammars.of_bytes().check(grammar)
    mailbox, other = Mailbox(), Mailbox()
    served.submit(request("one", PROMPT, max_tokens=60, grammar=grammar), mailbox.put)
    served.submit(request("other", PROMPT), other.put)
    event = mailbox.events.get(timeout=30)
    while not isinstance(event, Failure):
        event = mailbox.events.get(timeout=30)
    assert "too complex" in event.message
    assert tokens_of(other.answer())


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("regex", "(ab", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"[^\s\S]", "no text follows it"),
        ("regex", "(" * 5_000 + "a" + ")" * 5_000, "nested"),
        ("json_schema", '{"type": "wizard"}', "wizard"),
        ("json_schema", '{"not": {}}', "not"),
        ("json_schema", '{"x-guidance": {"lenient": true}, "not": {}}', "not"),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 3}', "greater than maximum"),
        ("json_schema", '{"$ref": "#"}', "no text follows it"),
        ("json_schema", '{"$ref": "https://example.org/schema"}', "does not fetch"),
    ],
)
def test_a_bad_grammar_is_explained_in_one_line(kind: Any, source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Grammars.of_bytes().check(Grammar(kind, source))
    assert "\n" not in str(caught.value)


def test_a_grammar_is_compiled_once_and_its_matchers_do_not_share_their_place(served: TorchEngine) -> None:
    grammar = Grammar("regex", "ab")
    one, other = served.grammars.matcher(grammar), served.grammars.matcher(grammar)
    (token,) = tiny.tokenizer().encode("a")
    assert one.consume_token(token)
    assert one.compute_bitmask() != other.compute_bitmask()
    assert other.consume_token(token)
    assert one.compute_bitmask() == other.compute_bitmask()
    assert served.grammars._compiled.cache_info().hits >= 1
