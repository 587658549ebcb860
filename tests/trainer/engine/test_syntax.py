"""The syntax penalty in training: it blames the right tokens, is the mean it says, and a resumed run draws the same."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from tests.trainer import tiny
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.data.code_rows import beginnings, gaps
from trainer.data.pieces import completion_pieces
from trainer.data.rows import Rows, open_rows
from trainer.data.sources import record
from trainer.data.structure.errors import Span
from trainer.engine.syntax import PROMPT_TOKENS, SyntaxCheck, find_error, tokens_within, write
from trainer.model.generate import Completion
from trainer.spec import PhaseSpec, SftSpec, SyntaxPenalty
from trainer.stages import sft

CONTEXT = 64
CODE = "".join(f"def add_{i}(left, right):\n    return left + {i}\n\n" for i in range(200))
SETTINGS = SyntaxPenalty(every=2, prompts=6, new_tokens=12)
SPEC = {
    "kind": "sft",
    "name": "sft",
    "model": tiny.config().model_dump(),
    "steps": 12,
    "batch_rows": 2,
    "compile": False,
    "snapshot_every": 5,
    "optimizer": {"lr": 0.01},
    "phases": [{"phase": phase, "share": 0.5, "mix": {"completion": 1}} for phase in ("text", "completion")],
    "syntax_penalty": SETTINGS.model_dump(),
}


def dataset(path: Path) -> RunFolder:
    """Completion rows as the tokenize stage makes them."""
    tokenizer, folder = tiny.tokenizer(), RunFolder(path)
    with new_folder(folder.artifacts / "tokenizer") as target:
        tokenizer.save(target)
    pieces = list(completion_pieces(tokenizer, [record(CODE, "s", "code", "python")], CONTEXT, Random(0)))
    with new_folder(folder.artifacts / "tokens") as target:
        for split in ("train", "heldout"):
            tiny.write_pieces(target / "completion" / split, pieces, CONTEXT, tokenizer.pad_id, whole=True)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return open_rows(dataset(tmp_path_factory.mktemp("d") / "dataset").artifact("tokens"), "train")["completion"]


def test_beginnings_are_where_statements_begin_and_gaps_put_together_are_the_code(rows: Rows) -> None:
    tokenizer = tiny.tokenizer()
    prompts = beginnings(rows, tokenizer, PROMPT_TOKENS)
    assert len(prompts) > 5
    assert {len(prompt) for prompt in prompts} == {PROMPT_TOKENS}
    assert {tokenizer.decode(prompt)[:8] for prompt in prompts} == {"def add_"}
    filled = gaps(rows, tokenizer, 20)
    assert filled
    for gap in filled:
        assert gap.middle[-1] == tokenizer.end_id
        assert 1 < len(gap.middle) <= 20
        prefix, suffix = (tokenizer.decode(part) for part in _around(gap.prompt))
        assert prefix + tokenizer.decode(gap.middle) + suffix in CODE


def _around(prompt: list[int]) -> tuple[list[int], list[int]]:
    border = prompt.index(tiny.tokenizer().special_ids["<|fim_suffix|>"])
    return prompt[:border], prompt[border:]


def test_the_tokens_of_an_error_are_those_that_share_a_byte_with_it() -> None:
    tokenizer = tiny.tokenizer()
    prompt, written = (tokenizer.encode(text) for text in ("größe ", "= ) + 1\ny = 2\n"))
    assert len(written) == len("= ) + 1\ny = 2\n"), "a token a byte"
    completion = Completion([*written, tokenizer.end_id], finished=True)
    error = find_error(tokenizer, prompt, completion)
    assert error is not None
    assert np.flatnonzero(tokens_within(tokenizer, prompt, completion, error)).tolist() == [2]
    over_the_end = tokens_within(tokenizer, prompt, completion, Span(0, 8 + len(written) + 1))
    assert over_the_end == [True] * (len(written) + 1)
    cut_off = Completion(written)
    assert len(tokens_within(tokenizer, prompt, cut_off, error)) == len(written)


def test_it_ends_too_early_and_the_end_token_is_blamed() -> None:
    tokenizer = tiny.tokenizer()
    prompt, written = tokenizer.encode("x = "), tokenizer.encode("(1")
    completion = Completion([*written, tokenizer.end_id], finished=True)
    error = find_error(tokenizer, prompt, completion)
    assert error is not None
    assert tokens_within(tokenizer, prompt, completion, error) == [True, True, True]
    assert find_error(tokenizer, prompt, Completion(written)) is None


def test_the_penalty_is_the_mean_over_what_was_written_one_row_at_a_time(rows: Rows) -> None:
    tokenizer, model = tiny.tokenizer(), tiny.network()
    settings = SETTINGS.model_copy(update={"new_tokens": 3})  # so few that some rows end before they go wrong
    check = SyntaxCheck(settings, rows, tokenizer)
    loss, parts = check.loss(model, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randint(len(check.prompts), (settings.prompts,), generator=generator)
    prompts = [check.prompts[number] for number in drawn]
    penalties, parsed = [], 0
    for prompt, completion in zip(
        prompts, write(model, tokenizer, prompts, settings.new_tokens, generator), strict=True
    ):
        error = find_error(tokenizer, prompt, completion)
        parsed += error is None
        marked = tokens_within(tokenizer, prompt, completion, error) if error else []
        logits_LV = model.logits(model(torch.tensor([[*prompt, *completion.tokens]])).hidden_BLD)[0]
        terms = []
        for place, (token, blamed) in enumerate(zip(completion.tokens, marked, strict=False), start=len(prompt)):
            if blamed:
                terms.append(-(1 - logits_LV[place - 1].double().softmax(-1)[token]).log())
        penalties.append(torch.stack(terms).mean() if terms else torch.zeros(()))
    assert 0 < parsed / len(prompts) < 1, "the seed shows nothing"
    assert parts == {
        "syntax_penalty": pytest.approx(torch.stack(penalties).mean().item(), rel=1e-4),
        "parse_rate": parsed / len(prompts),
    }
    assert loss.item() == pytest.approx(0.3 * parts["syntax_penalty"])
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().max() > 0 for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("step", "phase", "mix", "due"),
    [
        (4, "completion", {"completion": 0.1, "text": 0.9}, True),
        (5, "completion", {"completion": 0.1, "text": 0.9}, False),
        (4, "dialogue", {"completion": 0.1, "dialogue": 0.9}, True),
        (4, "dialogue", {"completion": 0.0, "dialogue": 0.9}, False),
        (4, "text", {"completion": 1.0}, False),
    ],
)
def test_it_is_due_where_code_is_learnt(rows: Rows, step: int, phase: str, mix: dict[str, float], due: bool) -> None:
    spec = PhaseSpec.model_validate({"phase": phase, "share": 1, "mix": mix})
    assert SyntaxCheck(SETTINGS, rows, tiny.tokenizer()).due(step, spec) is due
    off = SETTINGS.model_copy(update={"weight": 0.0})
    assert not SyntaxCheck(off, rows, tiny.tokenizer()).due(step, spec)
    assert not SyntaxCheck(SETTINGS, None, tiny.tokenizer()).due(step, spec)


class Killed(Exception):
    """Nothing is saved: kill -9."""


def finetune(run: Run) -> list[dict[str, float]]:
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    sft.run(spec, run)
    rows = [json.loads(line)["values"] for line in run.folder.metrics_file.read_text().splitlines()]
    clock = ("tokens_per_second", "mfu", "peak_memory_bytes")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows if "loss" in row]


def test_a_run_killed_between_penalties_and_resumed_is_the_uninterrupted_one(tmp_path: Path) -> None:
    inputs = {"dataset": dataset(tmp_path / "dataset")}
    whole = tiny.new_run(tmp_path / "whole", SPEC, inputs)
    expected = finetune(whole)
    assert [number for number, row in enumerate(expected) if "parse_rate" in row] == [6, 8, 10]
    broken = tiny.new_run(tmp_path / "broken", SPEC, inputs)
    report = broken.metrics

    def die(step: int, values: dict[str, float]) -> None:
        if step == 9:
            raise Killed
        report(step, values)

    broken.metrics = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        finetune(broken)
    assert finetune(Run(broken.folder)) == expected
    for name in ("model.safetensors", "parity.safetensors"):
        files = [run.folder.checkpoint() / name for run in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()
