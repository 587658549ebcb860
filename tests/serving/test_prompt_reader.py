"""What an engine reads off prompts equals the network run once over each, whatever chunks it came in."""

import pytest
import torch

from serving.engine import Limits, TorchEngine
from serving.request import Delta, Embedding, Request
from tests.serving.world import LIMITS, Mailbox, engine, request, slow_greedy, tokens_of
from tests.trainer import tiny
from trainer.model.transformer import Transformer

PROMPTS = ([5], [20, 30, 40], list(range(13, 53)), [17] * 9, list(range(100, 150)))
# Blocks for little more than one context: sequences lose theirs and begin again.
CROWDED = Limits(max_batch_tokens=24, max_sequences=8, num_blocks=17, block_size=4)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny.network()


def slow_prompt_logprobs(model: Transformer, prompt: list[int]) -> torch.Tensor:
    """[L - 1, V]: of what follows each token but the last."""
    with torch.inference_mode():
        logits_LV = model.logits(model(torch.tensor([prompt])).hidden_BLD)[0, :-1, : tiny.tokenizer().vocab_size]
        return logits_LV.log_softmax(-1)


@pytest.mark.parametrize("limits", [LIMITS, CROWDED])
def test_prompt_logprobs_are_those_of_one_pass_over_the_prompt(model: Transformer, limits: Limits) -> None:
    served, mailboxes = engine(model, limits), [Mailbox() for _ in PROMPTS]
    for index, (prompt, mailbox) in enumerate(zip(PROMPTS, mailboxes, strict=True)):
        served.submit(request(str(index), prompt, prompt_logprobs=2, max_tokens=14, ignore_end=True), mailbox.put)
    for prompt, mailbox in zip(PROMPTS, mailboxes, strict=True):
        deltas = mailbox.answer()
        entries = deltas[0].prompt_logprobs
        assert [entry.token for entry in entries] == prompt[1:]
        assert not any(delta.prompt_logprobs for delta in deltas[1:]), "they are said once"
        expected_LV = slow_prompt_logprobs(model, prompt)
        for entry, expected_V in zip(entries, expected_LV, strict=True):
            assert entry.logprob == pytest.approx(float(expected_V[entry.token]), abs=1e-4)
            assert [value for _, value in entry.top] == pytest.approx(expected_V.topk(2).values.tolist(), abs=1e-4)
    served.abort()


def test_no_tokens_wanted_means_the_prompt_is_read_and_nothing_written(model: Transformer) -> None:
    served, mailbox, writes = engine(model), Mailbox(), Mailbox()
    served.submit(request("scored", PROMPTS[2], prompt_logprobs=0, max_tokens=0), mailbox.put)
    served.submit(request("writes", PROMPTS[1]), writes.put)
    (delta,) = mailbox.answer()
    assert (delta.text, delta.tokens, delta.finish_reason) == ("", (), "length")
    assert len(delta.prompt_logprobs) == len(PROMPTS[2]) - 1
    assert tokens_of(writes.answer()) == slow_greedy(model, PROMPTS[1], 12, tiny.tokenizer().end_id)
    served.abort()


def embedding(served: TorchEngine, prompt: list[int]) -> torch.Tensor:
    mailbox = Mailbox()
    served.submit(Request("embed", tuple(prompt), request("", []).params, embed=True), mailbox.put)
    event = mailbox.events.get(timeout=30)
    assert isinstance(event, Embedding)
    return torch.tensor(event.vector)


def test_an_embedding_is_the_mean_of_the_hidden_states_at_length_one(model: Transformer) -> None:
    served = engine(model)
    for prompt in PROMPTS:
        with torch.inference_mode():
            mean_D = model(torch.tensor([prompt])).hidden_BLD[0].mean(dim=0)
        found_D = embedding(served, prompt)
        assert torch.allclose(found_D, mean_D / mean_D.norm(), atol=1e-5)
        assert served.stats().used_blocks == 0
    served.abort()


def test_blocks_of_others_do_not_hide_a_prompt_that_is_read(model: Transformer) -> None:
    served, first, again = engine(model), Mailbox(), Mailbox()
    served.submit(request("first", PROMPTS[2], max_tokens=2, ignore_end=True), first.put)
    first.answer()
    before = embedding(engine(model), PROMPTS[2])
    assert torch.allclose(embedding(served, PROMPTS[2]), before, atol=1e-5)
    served.submit(request("again", PROMPTS[2], prompt_logprobs=0, max_tokens=1), again.put)
    (delta,) = again.answer()
    assert isinstance(delta, Delta)
    assert len(delta.prompt_logprobs) == len(PROMPTS[2]) - 1
    served.abort()
