"""The TensorRT-LLM engine over a fake with the real signatures: it answers as the torch engine does, and lets go."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.engine_protocol import EngineClosed
from serving.loader import load_export
from serving.request import Failure
from serving.settings import Settings
from serving.tensorrt import TensorrtEngine, load_tensorrt
from tests.serving.world import (
    Mailbox,
    checkpoint_run,
    endpoint,
    engine,
    export_run,
    exported,
    request,
    slow_greedy,
    text_of,
    tokens_of,
    wait_until,
    write_serving_file,
)
from tests.trainer import tiny
from trainer.model.mixtral import load_model

FAKE = Path(__file__).parent / "fake_tensorrt"
PROMPT = tiny.tokenizer().encode("12 plus 5 makes")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("export"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(FAKE)
    yield
    for name in [name for name in sys.modules if name.startswith("tensorrt_llm")]:
        del sys.modules[name]


@pytest.fixture
def tensorrt(fake: None, export: Path) -> Iterator[TensorrtEngine]:
    found, _, _ = load_tensorrt(export, tiny.tokenizer())
    yield found.start()
    found.abort()


def llm_of(tensorrt: TensorrtEngine) -> Any:
    return tensorrt._llm


def answer(tensorrt: Any, name: str = "a", prompt: list[int] = PROMPT, **params: Any) -> list[Any]:
    mailbox = Mailbox()
    tensorrt.submit(request(name, prompt, **params), mailbox.put)
    return mailbox.answer()


def test_greedy_answers_are_the_networks(tensorrt: TensorrtEngine, export: Path) -> None:
    model, prompts = load_model(export), [PROMPT, PROMPT[:3], [5], PROMPT[2:]]
    mailboxes = [Mailbox() for _ in prompts]
    for number, (prompt, mailbox) in enumerate(zip(prompts, mailboxes, strict=True)):
        tensorrt.submit(request(str(number), prompt), mailbox.put)
    for prompt, mailbox in zip(prompts, mailboxes, strict=True):
        assert tokens_of(mailbox.answer()) == slow_greedy(model, prompt, 12, tiny.tokenizer().end_id)


@pytest.mark.parametrize(
    "params",
    [{}, {"max_tokens": 1}, {"ignore_end": True, "max_tokens": 30}, {"stop": ("a", "e", "1")}, {"logprobs": 3}],
)
def test_events_are_those_of_the_torch_engine(tensorrt: TensorrtEngine, export: Path, params: dict[str, Any]) -> None:
    torch_engine = engine(load_model(export))
    ours, theirs = answer(torch_engine, **params), answer(tensorrt, **params)
    torch_engine.abort()
    assert [(d.tokens, d.finish_reason) for d in theirs] == [(d.tokens, d.finish_reason) for d in ours]
    assert text_of(theirs) == text_of(ours)
    for one, other in zip(ours, theirs, strict=True):
        for expected, found in zip(one.logprobs, other.logprobs, strict=True):
            assert [token for token, _ in found.top] == [token for token, _ in expected.top]
            assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_an_end_token_ends_the_answer(tensorrt: TensorrtEngine) -> None:
    """A network that says nothing but the end token."""
    end = tiny.tokenizer().end_id
    llm_of(tensorrt).scores = lambda tokens: torch.eye(290)[[end]] * 50
    (delta,) = answer(tensorrt)
    assert (delta.text, delta.tokens, delta.finish_reason) == ("", (end,), "stop")
    last = answer(tensorrt, "b", ignore_end=True, max_tokens=3)[-1]
    assert (last.tokens, last.finish_reason) == ((end,), "length")


def test_sampling_parameters_are_passed_on(tensorrt: TensorrtEngine) -> None:
    answer(tensorrt, temperature=0.0, logprobs=0)
    answer(tensorrt, "b", temperature=0.7, top_p=0.9, top_k=5, seed=11, max_tokens=3, stop=("x",), ignore_end=True)
    greedy, sampled = llm_of(tensorrt).calls
    assert (greedy.temperature, greedy.top_k, greedy.logprobs, greedy.max_tokens) == (None, 1, 1, 12)
    assert (sampled.temperature, sampled.top_p, sampled.top_k, sampled.seed) == (0.7, 0.9, 5, 11)
    assert (sampled.max_tokens, sampled.stop, sampled.ignore_eos, sampled.logprobs) == (3, None, True, None)
    assert (sampled.end_id, sampled.pad_id) == (tiny.tokenizer().end_id, tiny.tokenizer().pad_id)


def test_only_what_is_given_up_is_aborted_there(tensorrt: TensorrtEngine) -> None:
    """A stop string, and a client that goes away: TensorRT-LLM would go on with both."""
    llm, gone, other = llm_of(tensorrt), Mailbox(), Mailbox()
    deltas = answer(tensorrt, "stopped", stop=tuple("abcdefghijklmnopqrstuvwxyz 0123456789.,"), max_tokens=40)
    assert deltas[-1].finish_reason == "stop"
    llm.gate = threading.Event()
    tensorrt.submit(request("gone", PROMPT), gone.put)
    tensorrt.submit(request("other", PROMPT), other.put)
    wait_until(lambda: len(llm.calls) == 3)
    tensorrt.cancel("gone")
    tensorrt.cancel("nobody")
    llm.gate.set()
    other.answer()
    tensorrt.close()
    tensorrt.join()
    assert llm.aborted == 2
    assert gone.events.empty()


def test_close_answers_what_was_taken_and_abort_fails_it(fake: None, export: Path) -> None:
    for end, finishes in (("close", True), ("abort", False)):
        tensorrt = load_tensorrt(export, tiny.tokenizer())[0].start()
        llm, mailbox = llm_of(tensorrt), Mailbox()
        llm.gate = threading.Event()
        tensorrt.submit(request("a", PROMPT), mailbox.put)
        ending = threading.Thread(target=getattr(tensorrt, end))
        ending.start()
        wait_until(lambda engine=tensorrt: engine._closed)
        llm.gate.set()
        if finishes:
            assert len(mailbox.answer()) >= 1
        else:
            with pytest.raises(RuntimeError, match="the engine has stopped; try again"):
                mailbox.answer()
        ending.join(timeout=30)
        tensorrt.join()
        assert not tensorrt.is_alive()
        assert llm.closed
        tensorrt.cancel("a")
        with pytest.raises(EngineClosed):
            tensorrt.submit(request("b", PROMPT), mailbox.put)


def test_a_deadline_and_a_defect_end_one_request_alone(tensorrt: TensorrtEngine) -> None:
    llm, late, failed = llm_of(tensorrt), Mailbox(), Mailbox()
    llm.gate = threading.Event()
    tensorrt.submit(replace(request("a", PROMPT), deadline=0.0), late.put)
    assert late.events.get(timeout=30) == Failure("the answer was not whole at its deadline", late=True)
    llm.gate.set()
    llm.fail = True
    tensorrt.submit(request("b", PROMPT), failed.put)
    assert "the engine failed on this request" in getattr(failed.events.get(timeout=30), "message", "")
    llm.fail = False
    assert answer(tensorrt, "c")[-1].finish_reason is not None


def test_stats_count_what_runs_and_what_waits(tensorrt: TensorrtEngine) -> None:
    llm, mailboxes = llm_of(tensorrt), [Mailbox() for _ in range(66)]
    llm.gate = threading.Event()
    for number, mailbox in enumerate(mailboxes):
        tensorrt.submit(request(str(number), [5], max_tokens=1), mailbox.put)
    wait_until(lambda: tensorrt.stats().waiting == 2)
    assert tensorrt.stats().running == 64
    llm.gate.set()
    for mailbox in mailboxes:
        mailbox.answer()


def test_a_wrong_network_is_refused(fake: None, tmp_path: Path) -> None:
    folder = exported(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].mul_(-1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="mean KL of"):
        load_tensorrt(folder, tiny.tokenizer())
    import tensorrt_llm

    assert tensorrt_llm.LLM.made[-1].closed


def test_settings_choose_it_and_the_form_bounds_its_context(fake: None, tmp_path: Path) -> None:
    status, run = export_run(tmp_path / "run", checkpoint_run(tmp_path / "training"), trtllm={"context": 40})
    assert status == 0
    served = load_export(run.artifact("export"), Settings(serving_engine="tensorrt"))
    assert isinstance(served.engine, TensorrtEngine)
    assert served.context == 40
    assert llm_of(served.engine).arguments["max_batch_size"] == 64
    served.engine.abort()


def test_without_tensorrt_llm_the_setting_is_named(export: Path) -> None:
    with pytest.raises(ValueError, match="OCTAVO_SERVING_ENGINE is 'tensorrt', but tensorrt_llm is not installed"):
        load_tensorrt(export, tiny.tokenizer())


def test_it_answers_over_http(tmp_path: Path, export: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_serving_file(home, {"it": export})
    with endpoint(home, OCTAVO_SERVING_ENGINE="tensorrt", PYTHONPATH=f"{FAKE}:.") as client:
        body = {"model": "it", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        found = client.post("/v1/completions", json=body).raise_for_status().json()
    expected = slow_greedy(load_model(export), PROMPT, 8, tiny.tokenizer().end_id)
    assert found["usage"]["completion_tokens"] == len(expected)
    assert found["choices"][0]["text"] == tiny.tokenizer().decode(expected)
