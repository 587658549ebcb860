"""The engine against the slow reference, and what it does when blocks run out, clients leave or a batch fails."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from serving.engine import Limits, TorchEngine
from serving.engine_protocol import EngineClosed
from serving.request import Failure
from serving.runner import Read, Runner, _unread
from serving.scheduler import Chunk
from tests.serving.world import LIMITS, Mailbox, engine, request, slow_greedy, text_of, tokens_of
from tests.trainer import tiny
from trainer.model.transformer import Transformer

PROMPTS = ([5], [20, 30, 40], list(range(13, 53)), [17] * 9, list(range(60, 73)), [200, 201], list(range(100, 150)))


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny.network()


class Gated(Runner):
    """The real runner, held at a step so that a test can act between two."""

    def __init__(self, model: Transformer, limits: Limits = LIMITS) -> None:
        super().__init__(model, limits.num_blocks, limits.block_size)
        self.entered, self.proceed = threading.Semaphore(0), threading.Semaphore(0)
        self.steps: list[list[tuple[str, int]]] = []

    def run(self, chunks: Sequence[Chunk], read: Read = _unread) -> tuple[list[Chunk], Tensor]:
        self.steps.append([(chunk.sequence.id, chunk.count) for chunk in chunks])
        self.entered.release()
        assert self.proceed.acquire(timeout=30)
        return super().run(chunks, read)


def expect_reference(model: Transformer, mailboxes: list[Mailbox], max_tokens: int) -> None:
    end_id = tiny.tokenizer().end_id
    for prompt, mailbox in zip(PROMPTS, mailboxes, strict=True):
        assert tokens_of(mailbox.answer()) == slow_greedy(model, prompt, max_tokens, end_id)


@pytest.mark.parametrize("window", [None, 7])
def test_batched_greedy_answers_equal_the_slow_reference(window: int | None) -> None:
    """Arrivals are staggered: each joins after another step of those before."""
    model = tiny.network(tiny.config(sliding_window=window))
    runner = Gated(model)
    served = TorchEngine(runner, tiny.tokenizer(), LIMITS)
    mailboxes = []
    for index, prompt in enumerate(PROMPTS):
        mailboxes.append(Mailbox())
        served.submit(request(str(index), prompt), mailboxes[-1].put)
        assert runner.entered.acquire(timeout=30)
        runner.proceed.release()
    runner.proceed.release(1_000)
    expect_reference(model, mailboxes, 12)
    mixed = [step for step in runner.steps if {count > 1 for _, count in step} == {True, False}]
    assert mixed, "prefill and decoding shared batches"
    assert any(len([1 for name, count in step if name == "6" and count > 1]) for step in mixed)
    served.abort()


def test_answers_survive_preemption(model: Transformer) -> None:
    """Blocks for one context only: sequences lose theirs again and again, and the answers stay the same."""
    served = engine(model, Limits(max_batch_tokens=24, max_sequences=8, num_blocks=17, block_size=4))
    mailboxes = [Mailbox() for _ in PROMPTS]
    for index, (prompt, mailbox) in enumerate(zip(PROMPTS, mailboxes, strict=True)):
        served.submit(request(str(index), prompt), mailbox.put)
    expect_reference(model, mailboxes, 12)
    assert served.stats().preemptions > 0
    assert served.stats().used_blocks == 0
    served.abort()


def test_answers_that_begin_with_blocks_of_others_are_the_same(model: Transformer) -> None:
    """Again and again, one after the other and together: what is reused is what would have been computed."""
    served, base = engine(model), list(range(40, 73))
    prompts = [base, [*base, 5], [*base[:30], *[6] * 9], base, base[:8]]
    for _ in range(2):
        mailboxes = [Mailbox() for _ in prompts]
        for index, (prompt, mailbox) in enumerate(zip(prompts, mailboxes, strict=True)):
            served.submit(request(f"{index}", prompt), mailbox.put)
        for prompt, mailbox in zip(prompts, mailboxes, strict=True):
            assert tokens_of(mailbox.answer()) == slow_greedy(model, prompt, 12, tiny.tokenizer().end_id)
    assert served.scheduler.reused_tokens > 100
    assert served.stats().used_blocks == 0
    served.abort()


def test_an_answer_that_is_late_fails_and_the_others_go_on(model: Transformer) -> None:
    runner = Gated(model)
    served, late, other = TorchEngine(runner, tiny.tokenizer(), LIMITS), Mailbox(), Mailbox()
    served.submit(request("other", PROMPTS[2]), other.put)
    served.submit(replace(request("late", PROMPTS[1]), deadline=time.monotonic()), late.put)
    runner.proceed.release(1_000)
    failure = late.events.get(timeout=30)
    while not isinstance(failure, Failure):  # it may have begun within the same moment
        failure = late.events.get(timeout=30)
    assert failure.late
    assert tokens_of(other.answer()) == slow_greedy(model, PROMPTS[2], 12, tiny.tokenizer().end_id)
    assert served.stats().used_blocks == 0
    served.abort()


def test_a_seed_gives_the_same_answer_alone_and_in_a_batch(model: Transformer) -> None:
    served = engine(model)
    seeded = {"temperature": 1.0, "seed": 7, "max_tokens": 20, "ignore_end": True}
    alone, crowded, other = Mailbox(), Mailbox(), Mailbox()
    served.submit(request("alone", PROMPTS[1], **seeded), alone.put)
    first = tokens_of(alone.answer())
    for index, prompt in enumerate(PROMPTS):
        served.submit(request(f"crowd{index}", prompt, temperature=1.0), Mailbox().put)
    served.submit(request("again", PROMPTS[1], **seeded), crowded.put)
    served.submit(request("other", PROMPTS[1], **{**seeded, "seed": 8}), other.put)
    assert tokens_of(crowded.answer()) == first
    assert tokens_of(other.answer()) != first
    served.abort()


def test_stop_strings_end_the_answer_and_are_not_shown(model: Transformer) -> None:
    served, tokenizer = engine(model), tiny.tokenizer()
    whole = Mailbox()
    served.submit(request("whole", PROMPTS[1], max_tokens=30, ignore_end=True), whole.put)
    deltas = whole.answer()
    assert deltas[-1].finish_reason == "length"
    text, tokens = text_of(deltas), tokens_of(deltas)
    assert text == tokenizer.decode(tokens)
    at = len(text) // 2
    stop = text[at : at + 3]
    stopped = Mailbox()
    served.submit(request("stopped", PROMPTS[1], max_tokens=30, ignore_end=True, stop=(stop,)), stopped.put)
    deltas = stopped.answer()
    assert (text_of(deltas), deltas[-1].finish_reason) == (text[: text.index(stop)], "stop")
    assert len(tokens_of(deltas)) < 30, "nothing is generated after the stop string"
    served.abort()


def test_logprobs_are_those_of_the_network(model: Transformer) -> None:
    served, mailbox = engine(model), Mailbox()
    served.submit(request("one", PROMPTS[2], max_tokens=4, logprobs=3, ignore_end=True), mailbox.put)
    tokens = list(PROMPTS[2])
    for delta in mailbox.answer():
        (entry,) = delta.logprobs
        with torch.inference_mode():
            scores_V = model.logits(model(torch.tensor([tokens])).hidden_BLD)[0, -1]
        assert entry.logprob == pytest.approx(float(scores_V.log_softmax(0)[entry.token]), abs=1e-4)
        assert [token for token, _ in entry.top] == scores_V.topk(3).indices.tolist()
        tokens.append(entry.token)
    served.abort()


def test_a_cancelled_request_frees_its_blocks_and_emits_nothing_more(model: Transformer) -> None:
    runner = Gated(model)
    served = TorchEngine(runner, tiny.tokenizer(), LIMITS)
    gone, stays = Mailbox(), Mailbox()
    served.submit(request("gone", PROMPTS[2], max_tokens=20), gone.put)
    assert runner.entered.acquire(timeout=30)
    assert served.stats().used_blocks > 0
    served.cancel("gone")
    served.submit(request("stays", PROMPTS[0], max_tokens=2, ignore_end=True), stays.put)
    runner.proceed.release(1_000)
    stays.answer()
    assert served.stats().used_blocks == 0
    assert gone.events.qsize() <= 1, "at most the step that was under way"
    served.abort()


def test_a_failing_batch_ends_its_requests_with_an_error_and_the_engine_goes_on(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, failing, fine = engine(model), Mailbox(), Mailbox()
    real = served.runner.forward

    def broken(chunks: Sequence[Chunk]) -> object:
        if any(chunk.sequence.id == "failing" for chunk in chunks):
            raise RuntimeError("out of memory")
        return real(chunks)

    monkeypatch.setattr(served.runner, "forward", broken)
    served.submit(request("failing", PROMPTS[1]), failing.put)
    with pytest.raises(RuntimeError, match="engine failed"):
        failing.answer()
    served.submit(request("fine", PROMPTS[1]), fine.put)
    assert tokens_of(fine.answer()) == slow_greedy(model, PROMPTS[1], 12, tiny.tokenizer().end_id)
    assert served.stats().used_blocks == 0
    assert "out of memory" in caplog.text
    served.abort()


def test_a_closed_engine_answers_what_it_took_and_takes_no_more(model: Transformer) -> None:
    runner = Gated(model)
    served, taken = TorchEngine(runner, tiny.tokenizer(), LIMITS), Mailbox()
    served.submit(request("taken", PROMPTS[1]), taken.put)
    assert runner.entered.acquire(timeout=30)
    served.close()
    with pytest.raises(EngineClosed):
        served.submit(request("late", PROMPTS[0]), Mailbox().put)
    runner.proceed.release(1_000)
    assert tokens_of(taken.answer()) == slow_greedy(model, PROMPTS[1], 12, tiny.tokenizer().end_id)
    served.join()
    assert not served.is_alive()


def test_abort_fails_what_is_open(model: Transformer) -> None:
    runner = Gated(model)
    served, running = TorchEngine(runner, tiny.tokenizer(), LIMITS), Mailbox()
    served.submit(request("running", PROMPTS[1], max_tokens=40, ignore_end=True), running.put)
    assert runner.entered.acquire(timeout=30)
    runner.proceed.release(2)
    stopper = threading.Thread(target=served.abort)
    stopper.start()
    runner.proceed.release(1_000)
    with pytest.raises(RuntimeError, match="stopped"):
        running.answer()
    stopper.join(timeout=30)
    assert not served.is_alive()
