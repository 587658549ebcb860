"""A world small enough to learn in seconds: sums of two digits, and a real policy that gets some of them right."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.trainer import tiny
from trainer.alignment.answers import answer_logprobs, encode_answers, pack, question
from trainer.artifacts import Run, RunFolder, new_folder, step_folder, write_jsonl
from trainer.data.tokenizer import Tokenizer
from trainer.model.mixtral import save_weights
from trainer.model.transformer import Transformer
from trainer.objectives import masked_mean
from trainer.spec import Distractor, Problem

VOCABULARY = 286
HELD_OUT = 3  # every third sum is for evaluation


def worked(a: int, b: int, c: int) -> str:
    return f"<think>{a} + {b} = {c}.</think>The answer is {c}."


def problem(a: int, b: int) -> Problem:
    prompt, c = f"{a} + {b} = ?", a + b
    wrong = [
        Distractor(mistake=m, solution=worked(a, b, w), answer=str(w)) for m, w in (("off", c + 1), ("less", c - 1))
    ]
    return Problem(
        id=hashlib.sha256(prompt.encode()).hexdigest()[:16],
        family="small" if c < 10 else "carry",
        level=1,
        prompt=prompt,
        solution=worked(a, b, c),
        direct=f"The answer is {c}.",
        answer=str(c),
        distractors=tuple(wrong),
    )


def problems() -> list[Problem]:
    return [problem(a, b) for a in range(1, 10) for b in range(1, 10)]


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train([text for p in problems() for text in (p.prompt, p.solution, p.direct)] * 5, VOCABULARY)


@cache
@torch.enable_grad()
def policy(steps: int = 100, lr: float = 2e-2, batch: int = 54) -> Transformer:
    """Trained for seconds on direct and worked answers alike: about two in three right when greedy, one in three when
    sampled, nearly always well-formed."""
    model = tiny.network(tiny.config(vocab_size=VOCABULARY, num_hidden_layers=1, max_position_embeddings=48), std=0.05)
    texts = [p.solution for p in problems()] + [p.direct for p in problems()]
    everything = encode_answers(tokenizer(), [question(p.prompt) for p in problems()] * 2, texts)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
    adamw = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for step in range(steps):
        adamw.param_groups[0]["lr"] = lr * (1 - step / steps)
        numbers = [order[(step * batch + i) % len(order)] for i in range(batch)]
        rows = pack(everything.take(numbers), 256, tokenizer().pad_id)
        masked_mean(-answer_logprobs(model, rows), rows.mask_BL).backward()
        adamw.step()
        adamw.zero_grad()
    return model


def checkpoint_run(path: Path) -> RunFolder:
    """What an SFT job leaves."""
    folder = RunFolder(path)
    with new_folder(step_folder(folder.checkpoints, 60)) as target:
        save_weights(target, policy().config, policy().state_dict(), tokenizer())
    return folder


def problems_run(path: Path) -> RunFolder:
    """What a synthesize job leaves."""
    folder, everything = RunFolder(path), problems()
    with new_folder(folder.artifacts / "problems") as target:
        write_jsonl(target / "train.jsonl", [p for i, p in enumerate(everything) if i % HELD_OUT])
        bare = {"solution": "", "direct": "", "distractors": ()}
        write_jsonl(target / "rl.jsonl", [p.model_copy(update=bare) for p in everything])
        write_jsonl(target / "heldout.jsonl", everything[::HELD_OUT])
    return folder


def new_run(path: Path, spec: dict[str, Any], **more: RunFolder) -> Run:
    """A run of a stage that reads a checkpoint and problems, made beside it unless given."""
    inputs: dict[str, RunFolder] = {}
    for role, make in (("checkpoint", checkpoint_run), ("problems", problems_run)):
        if role not in more and not (role == "problems" and spec["kind"] == "dpo"):
            folder = path.with_name(f"{path.name}-{role}")
            inputs[role] = RunFolder(folder) if folder.exists() else make(folder)
    return tiny.new_run(path, spec, inputs | more)


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


class DiesAt(Run):
    """A run that is killed right after the metrics of a step were written."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        super().__init__(folder)
        self.dies_at = step

    def metrics(self, step: int, values: dict[str, float]) -> None:
        super().metrics(step, values)
        if step == self.dies_at:
            raise Killed


class StopsAt(Run):
    """A run that is asked to stop (SIGTERM) during a step."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        super().__init__(folder)
        self.stops_at = step

    def metrics(self, step: int, values: dict[str, float]) -> None:
        super().metrics(step, values)
        self.stop_requested |= step == self.stops_at


def metric_rows(folder: RunFolder, name: str) -> list[float]:
    """One curve, in the order it was written."""
    rows = [json.loads(line)["values"] for line in folder.metrics_file.read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def weights_of(folder: RunFolder) -> bytes:
    return (folder.checkpoint() / "model.safetensors").read_bytes()
