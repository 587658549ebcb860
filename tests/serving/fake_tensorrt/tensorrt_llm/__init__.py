"""What serving uses of `tensorrt_llm`, with the signatures, attributes and refusals of its source, computed on the CPU
by `trainer.model` the slow, obvious way. A folder that tests put on the path."""

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.model.mixtral import load_model

ARGUMENTS = {
    "tensor_parallel_size", "max_batch_size", "max_num_tokens", "max_seq_len", "enable_chunked_prefill",
    "scheduler_config", "kv_cache_config",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    """tensorrt_llm/sampling_params.py; the fields that serving could set."""

    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    n: int = 1
    best_of: int | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    temperature: float | None = None
    min_p: float | None = None
    logprobs: int | None = None
    return_context_logits: bool = False
    ignore_eos: bool = False
    detokenize: bool = True

    def __post_init__(self) -> None:
        if self.pad_id is None:
            self.pad_id = self.end_id
        self.logprobs = self.logprobs and int(self.logprobs)
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError("temperature must be positive")


@dataclass(slots=True)
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """tensorrt_llm/executor/result.py: outputs grow with each step."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class RequestOutput:
    """A step of one request: awaited in the loop in which `generate_async` was called, as in the original."""

    def __init__(self, llm: "LLM", prompt: list[int], params: SamplingParams) -> None:
        self._llm, self._tokens, self._params = llm, list(prompt), params
        self._loop = asyncio.get_running_loop()
        self._aborted = False
        self.outputs = [CompletionOutput(0)]
        self.finished = False

    def abort(self) -> None:
        self._aborted = True
        self._llm.aborted += 1

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        assert asyncio.get_running_loop() is self._loop
        if self.finished:
            raise StopAsyncIteration
        if self._llm.gate is not None:
            await asyncio.to_thread(self._llm.gate.wait)
        await asyncio.sleep(0)
        if self._llm.fail:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self._append(self._llm.scores(self._tokens)[-1])
        return self

    def _append(self, scores_V: torch.Tensor) -> None:
        output, params = self.outputs[0], self._params
        logprobs_V = scores_V.log_softmax(dim=-1)
        token = int(scores_V.argmax()) if params.top_k == 1 else int(torch.multinomial(logprobs_V.exp(), 1))
        self._tokens.append(token)
        output.token_ids.append(token)
        if params.logprobs:
            best = logprobs_V.topk(params.logprobs).indices.tolist()
            output.logprobs.append({other: Logprob(float(logprobs_V[other])) for other in {*best, token}})
        if token == params.end_id and not params.ignore_eos:
            output.finish_reason = "stop"
        elif len(output.token_ids) >= params.max_tokens:
            output.finish_reason = "length"
        self.finished = output.finish_reason is not None


class LLM:
    """tensorrt_llm/llmapi/llm.py. `gate`, `fail`, `aborted` and `calls` are for tests."""

    made: "list[LLM]" = []  # noqa: RUF012

    def __init__(
        self, model: str | Path, tokenizer: Any = None, skip_tokenizer_init: bool = False, **kwargs: Any
    ) -> None:
        if unknown := kwargs.keys() - ARGUMENTS:
            raise ValueError(f"extra inputs are not permitted: {unknown}")
        assert skip_tokenizer_init
        self.arguments, self.model = kwargs, load_model(Path(model))
        self.gate: threading.Event | None = None
        self.fail, self.aborted, self.closed = False, 0, False
        self.calls: list[SamplingParams] = []
        LLM.made.append(self)

    @torch.inference_mode()
    def scores(self, tokens: list[int]) -> torch.Tensor:
        return self.model.logits(self.model(torch.tensor([tokens])).hidden_BLD)[0]

    def generate(self, inputs: Any, sampling_params: Any = None, use_tqdm: bool = True) -> Any:
        assert sampling_params.return_context_logits
        assert sampling_params.end_id is not None
        answer = type("RequestOutput", (), {})()
        answer.context_logits = self.scores(inputs)
        return answer

    def generate_async(
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
    ) -> RequestOutput:
        assert streaming
        assert sampling_params is not None
        if len(inputs) + sampling_params.max_tokens > self.arguments["max_seq_len"]:
            raise ValueError("the prompt and max_tokens exceed max_seq_len")
        self.calls.append(sampling_params)
        return RequestOutput(self, inputs, sampling_params)

    def shutdown(self) -> None:
        self.closed = True
