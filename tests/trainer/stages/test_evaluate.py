"""Evaluation: its numbers are those of answering one problem at a time, and two evaluations pair by problem."""

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer import arithmetic, tiny
from trainer.alignment.answers import encode_prompts, question
from trainer.artifacts import Run, RunFolder, new_folder, read_jsonl, write_jsonl
from trainer.data.code_rows import Gap, gaps
from trainer.data.pieces import completion_pieces
from trainer.data.rows import open_rows
from trainer.data.sources import record
from trainer.engine.code_quality import filled
from trainer.model.generate import generate
from trainer.rewards.correctness import correctness
from trainer.spec import EvaluateSpec
from trainer.stages import evaluate

SPEC: dict[str, Any] = {"kind": "evaluate", "name": "e", "problems": 20, "max_new_tokens": 24, "perplexity_rows": 3}


def tokens_run(path: Path) -> RunFolder:
    """Packed rows the arithmetic policy can read; half of each row is padding."""
    folder = RunFolder(path)
    with new_folder(folder.artifacts / "tokens") as target:
        for source, seed in (("text", 1), ("dialogue", 2)):
            tokens = np.random.default_rng(seed).integers(20, 200, (4, 32)).astype(np.int32)
            (target / source / "heldout").mkdir(parents=True)
            segments = np.where(np.arange(32) < 16, 1, 0)[None].repeat(4, 0).astype(np.int32)
            arrays = {"tokens": tokens, "segments": segments, "loss_mask": segments > 0, "domains": segments - 1}
            arrays["structure"] = np.full_like(tokens, -1)
            for name, array in arrays.items():
                np.save(target / source / "heldout" / f"{name}.npy", array)
    return folder


def new_run(path: Path, spec: dict[str, Any] | None = None, **inputs: RunFolder) -> Run:
    dataset = path.with_name(path.name + "-dataset")
    return arithmetic.new_run(path, spec or SPEC, dataset=tokens_run(dataset), **inputs)


def done(run: Run) -> RunFolder:
    spec = run.folder.job().spec
    assert isinstance(spec, EvaluateSpec)
    evaluate.run(spec, run)
    return run.folder


def answers_of(folder: RunFolder) -> list[evaluate.Answer]:
    return list(read_jsonl(folder.artifact("answers") / "answers.jsonl", evaluate.Answer))


def test_exact_match_is_that_of_answering_one_at_a_time(tmp_path: Path) -> None:
    folder = done(new_run(tmp_path / "e"))
    answers, result = answers_of(folder), folder.result()
    tokenizer = arithmetic.tokenizer()
    for answer in answers:
        prompt = encode_prompts(tokenizer, [question(answer.prompt)])
        (alone,) = generate(arithmetic.policy(), prompt, max_new_tokens=24, end_id=tokenizer.end_id, temperature=0.0)
        assert answer.completion == tokenizer.decode(alone.tokens)
        assert answer.correct == (alone.finished and correctness(answer.completion, answer.expected) == 1)
    right = sum(answer.correct for answer in answers)
    assert (result["n"], result["exact_match"]) == (20, right / 20)
    assert result["exact_match_interval"][0] <= right / 20 <= result["exact_match_interval"][1]
    for groups in (result["by_family"], result["by_level"]):
        assert sum(group["n"] for group in groups.values()) == 20
        assert sum(group["n"] * group["exact_match"] for group in groups.values()) == pytest.approx(right)
    assert result["shows_work"] == sum("</think>" in answer.completion for answer in answers) / 20


def test_perplexity_and_expert_load_count_real_tokens_only(tmp_path: Path) -> None:
    run = new_run(tmp_path / "e")
    result = done(run).result()
    model = arithmetic.policy()
    for source, found in result["perplexity"].items():
        rows = np.load(run.input("dataset").artifact("tokens") / source / "heldout" / "tokens.npy")[:3, :16]
        with torch.no_grad():
            logits_BLV = model.logits(model(torch.from_numpy(rows).long()).hidden_BLD)
        logps = logits_BLV.double().log_softmax(-1)
        terms = [logps[b, i, rows[b, i + 1]].item() for b in range(3) for i in range(15)]
        assert found == pytest.approx(math.exp(-sum(terms) / len(terms)), rel=1e-4)
    assert set(result["perplexity"]) == {"text", "dialogue"}
    (layer,) = result["expert_load"]
    assert len(layer) == 8
    assert sum(layer) == pytest.approx(1)
    counted = np.array(layer) * 2 * 3 * 16 * 2  # sources x rows x tokens x choices
    np.testing.assert_allclose(counted, counted.round(), atol=1e-3)


def test_the_difference_to_a_baseline_is_paired_by_problem(tmp_path: Path) -> None:
    first = done(new_run(tmp_path / "first"))
    answers = answers_of(first)
    worse = RunFolder(tmp_path / "worse")
    flipped = next(answer.id for answer in answers if answer.correct)
    rows = [a.model_copy(update={"correct": a.correct and a.id != flipped}) for a in reversed(answers)]
    with new_folder(worse.artifacts / "answers") as target:
        write_jsonl(target / "answers.jsonl", rows)
    again = done(new_run(tmp_path / "again", baseline=first)).result()["baseline_difference"]
    assert again == {"mean": 0, "low": 0, "high": 0, "n": 20}
    better = done(new_run(tmp_path / "better", baseline=worse)).result()["baseline_difference"]
    assert better["mean"] == pytest.approx(1 / 20)
    assert better["low"] == 0 < better["high"]
    assert "baseline_difference" not in first.result()


def test_a_baseline_of_other_problems_is_refused(tmp_path: Path) -> None:
    answers = answers_of(done(new_run(tmp_path / "e")))
    file = tmp_path / "answers.jsonl"
    write_jsonl(file, [answer.model_copy(update={"id": "x" + answer.id}) for answer in answers])
    with pytest.raises(ValueError, match="none of these problems"):
        evaluate.paired(answers, file)


def test_families_take_turns_and_the_choice_does_not_depend_on_the_order() -> None:
    problems = arithmetic.problems()
    chosen = evaluate.evenly(problems, 20)
    assert evaluate.evenly(problems[::-1], 20) == chosen
    families = [problem.family for problem in chosen]
    assert families.count("small") == families.count("carry") == 10
    assert len(evaluate.evenly(problems, 1000)) == len(problems)
    with pytest.raises(ValueError, match="no held-out problem"):
        evaluate.evenly([], 5)


def test_asked_to_stop_it_leaves_nothing_half_done(tmp_path: Path) -> None:
    run = new_run(tmp_path / "e")
    run.stop_requested = True
    done(run)
    assert not (run.folder.artifacts / "answers").exists()
    assert run.folder.result() == {}


def test_without_perplexity_rows_it_needs_no_held_out_text(tmp_path: Path) -> None:
    dataset = tiny.tokenized_run(tmp_path / "other")
    run = arithmetic.new_run(tmp_path / "e", {**SPEC, "perplexity_rows": 0}, dataset=dataset)
    assert done(run).result()["perplexity"] == {}


def test_code_quality_is_that_of_one_row_at_a_time(tmp_path: Path) -> None:
    tokenizer, model = arithmetic.tokenizer(), arithmetic.policy()
    code = "".join(f"def f{i}(a):\n    return {i}\n\n" for i in range(40))
    pieces = list(completion_pieces(tokenizer, [record(code, "s", "code", "python")], 40, Random(0)))
    dataset = RunFolder(tmp_path / "dataset")
    with new_folder(dataset.artifacts / "tokens") as target:
        tiny.write_pieces(target / "completion" / "heldout", pieces, 40, tokenizer.pad_id, whole=True)
    spec = {**SPEC, "problems": 1, "perplexity_rows": 0, "code_samples": 9, "infilling_rows": 5}
    found = done(arithmetic.new_run(tmp_path / "e", spec, dataset=dataset)).result()["code"]
    assert found["parse_rate"]["n"] == 9
    assert 0 <= found["parse_rate"]["low"] <= found["parse_rate"]["mean"] <= found["parse_rate"]["high"] <= 1
    some = gaps(open_rows(dataset.artifact("tokens"), "heldout")["completion"], tokenizer, 24)[:5]
    right = 0
    for gap in some:
        ids = list(gap.prompt)
        while len(ids) < len(gap.prompt) + len(gap.middle):
            ids.append(int(model.logits(model(torch.tensor([ids])).hidden_BLD[0, -1]).argmax()))
        right += ids[len(gap.prompt) :] == gap.middle
    assert found["infilling_exact_match"]["n"] == len(some) > 0
    assert found["infilling_exact_match"]["mean"] == right / len(some)
    none = {**spec, "code_samples": 0, "infilling_rows": 0}
    assert "code" not in done(arithmetic.new_run(tmp_path / "off", none, dataset=dataset)).result()


def test_a_gap_counts_as_filled_only_when_said_exactly_and_ended() -> None:
    tokenizer, model = arithmetic.tokenizer(), arithmetic.policy()
    prompt = encode_prompts(tokenizer, [question(arithmetic.problems()[0].prompt)])[0]
    (said,) = generate(model, [prompt], max_new_tokens=30, end_id=tokenizer.end_id)
    assert said.finished
    wrong, short = [*said.tokens[:-2], tokenizer.end_id], said.tokens[:-1]
    assert filled(model, tokenizer, [Gap(prompt, tokens) for tokens in (said.tokens, wrong)]) == [True, False]
    assert filled(model, tokenizer, [Gap(prompt, short)]) == [False]
    assert filled(model, tokenizer, []) == []
