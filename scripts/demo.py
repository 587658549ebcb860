"""python -m scripts.demo [--recipe NAME|FILE.toml]: the whole journey over HTTP, shown as it happens.

Submits a recipe, follows its jobs, prints what each evaluation found, asks the deployed network a held-out question
and leaves all of it in demo.json.
"""

import argparse
import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backend.settings import read_settings
from scripts.api import Backend, JobState, PipelineState, ask
from scripts.display import JobLines, duration, evaluation_table, exact_match
from scripts.supervise import Platform
from trainer.artifacts import RunFolder, folder_hashes, write_atomic
from trainer.rewards.correctness import correctness
from trainer.spec import Problem, Recipe, explain, load_recipe

POLL_SECONDS = 0.5
MAX_ANSWER_TOKENS = 160


def read_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or one from a TOML file.

    Raises:
        ValueError: there is none of that name, or it does not parse.
    """
    if not name.endswith(".toml"):
        return load_recipe(name)
    try:
        return Recipe.model_validate(tomllib.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"recipe {name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"recipe {name} is not TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"recipe {name}: {explain(error)}") from error


def require_question(recipe: Recipe) -> None:
    """Check that the recipe ends in something the demo can ask about.

    Raises:
        ValueError: it lacks a job for that.
    """
    for kind in ("synthesize", "export", "deploy"):
        if kind not in {job.kind for job in recipe.jobs}:
            raise ValueError(
                f"recipe '{recipe.name}' has no {kind} job, which the demo needs to ask its question; "
                "start such a recipe by POST /pipelines"
            )


def submit(backend: Backend, recipe: Recipe, fresh: bool, lines: JobLines) -> PipelineState:
    """Start the recipe, or follow it where it is already running."""
    running = None if fresh else backend.running(recipe.name)
    if running is not None:
        lines.print(f"Following pipeline {running.id}, which is already running (a new one: make demo ARGS=--fresh).")
        return running
    pipeline = backend.start(recipe.model_dump(mode="json"))
    lines.print(f"Pipeline {pipeline.id}, recipe '{recipe.name}', {len(pipeline.jobs)} jobs.")
    return pipeline


def follow(backend: Backend, pipeline: PipelineState, lines: JobLines) -> tuple[PipelineState, dict[str, Any]]:
    """Watch until every job is over; returns the pipeline and the result of each evaluate job by name.

    Raises:
        ValueError: a job failed or was cancelled; says which, why, and where its log is.
    """
    evaluations: dict[str, Any] = {}
    while True:
        for job in lines.show_finished(pipeline.jobs):
            if job.state != "succeeded":
                raise ValueError(why(pipeline))
            if job.kind == "evaluate":
                evaluations[job.name] = backend.result(job)
                found = evaluations[job.name]
                lines.print(
                    f"{'':<18} {stage_label(pipeline, job)}: exact match {exact_match(found)}, n = {found['n']}"
                )
        lines.show_running(pipeline.jobs)
        if all(job.is_over for job in pipeline.jobs):
            return pipeline, evaluations
        time.sleep(POLL_SECONDS)
        pipeline = backend.pipeline(pipeline.id)


def why(pipeline: PipelineState) -> str:
    """One sentence on the job that ended a pipeline; the others were cancelled because of it."""
    job = next((job for job in pipeline.jobs if job.state == "failed"), None)
    job = job or next(job for job in pipeline.jobs if job.state == "cancelled")
    reason = job.error or job.message or "no reason given"
    return f"job '{job.name}' {job.state}: {reason} (log: {Path(job.run_folder) / 'log.txt'})"


def stage_label(pipeline: PipelineState, evaluation: JobState) -> str:
    """'after SFT', or for a second fine-tuning bounded by another job's time, what it is the control for."""
    trained = pipeline.job(evaluation.spec["inputs"]["checkpoint"])
    if "budget" in trained.spec["inputs"]:
        return "same minutes of further SFT"
    return f"after {trained.kind.upper()}"


def ask_heldout(backend: Backend, pipeline: PipelineState, address: str, key: str) -> dict[str, Any]:
    """Ask the deployed network the first held-out problem; right or wrong by exact comparison."""
    synthesize, deploy = pipeline.last("synthesize"), pipeline.last("deploy")
    assert synthesize is not None, "require_question has looked"
    assert deploy is not None, "require_question has looked"
    problem = Problem.model_validate(backend.rows(synthesize, "problems/heldout.jsonl", limit=1)[0])
    model = str(deploy.spec["model_name"])
    answer = ask(address, key, model, problem.prompt, MAX_ANSWER_TOKENS)
    return {
        "model": model,
        "question": problem.prompt,
        "answer": answer,
        "expected": problem.answer,
        "correct": correctness(answer, problem.answer) == 1.0,
    }


def final_weights(pipeline: PipelineState) -> dict[str, str]:
    """The checkpoint that was exported, and the hash of its weights."""
    export = pipeline.last("export")
    assert export is not None, "a recipe that deploys exports"
    checkpoint = RunFolder(pipeline.job(export.spec["inputs"]["checkpoint"]).run_folder).checkpoint()
    return {"checkpoint": str(checkpoint), "sha256": folder_hashes(checkpoint)["model.safetensors"]}


def curl_line(address: str, key_file: Path, answered: dict[str, Any]) -> str:
    body = {
        "model": answered["model"],
        "messages": [{"role": "user", "content": answered["question"]}],
        "max_tokens": MAX_ANSWER_TOKENS,
    }
    quoted = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return (
        f'curl {address}/v1/chat/completions -H "Authorization: Bearer $(cat {key_file})" '
        f"-H 'Content-Type: application/json' -d '{quoted}'"
    )


def report(pipeline: PipelineState, evaluations: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    """What demo.json holds: ids, evaluation after each stage, deployment, seconds per stage, hash of the weights."""
    return {
        "pipeline": pipeline.id,
        "recipe": pipeline.name,
        "jobs": {job.name: job.id for job in pipeline.jobs},
        "evaluations": [
            {"job": name, "stage": stage_label(pipeline, pipeline.job(name)), "result": result}
            for name, result in evaluations.items()
        ],
        "seconds": {job.name: job.seconds for job in pipeline.jobs},
        "reused": {job.name: job.reused_from for job in pipeline.jobs if job.reused_from is not None},
        "weights": final_weights(pipeline),
        "deployment": {"model_name": answered["model"], "job": pipeline.jobs[-1].id},
        "question": answered,
    }


def run(recipe: Recipe, fresh: bool) -> None:
    require_question(recipe)
    started = time.monotonic()
    platform = Platform(read_settings())
    key_file = platform.home / "admin_key"
    if not key_file.is_file():
        raise ValueError(f"{key_file} does not exist; start the platform first (make up)")
    key = key_file.read_text().strip()
    backend, lines = Backend(platform.addresses["backend"], key), JobLines(sys.stdout)
    pipeline, evaluations = follow(backend, submit(backend, recipe, fresh, lines), lines)
    answered = ask_heldout(backend, pipeline, platform.addresses["serving"], key)
    line = curl_line(platform.addresses["serving"], key_file, answered)
    found = report(pipeline, evaluations, answered) | {
        "addresses": platform.addresses,
        "admin_key_file": str(key_file),
        "curl": line,
        "total_seconds": time.monotonic() - started,
    }
    write_atomic(platform.home / "demo.json", json.dumps(found, indent=1, ensure_ascii=False))
    show(found, platform)


def show(found: dict[str, Any], platform: Platform) -> None:
    answered = found["question"]
    print("\n" + "\n".join(evaluation_table([(row["stage"], row["result"]) for row in found["evaluations"]])))
    print(f"\nQuestion   {answered['question']}")
    print(f"Answer     {answered['answer'].strip() or '(nothing but spaces)'}")
    print(f"           {'right' if answered['correct'] else 'wrong: it is ' + answered['expected']}")
    print(f"\nDashboard  {platform.addresses['dashboard']}/pipeline?id={found['pipeline']}")
    print(f"Log in     with the key in {found['admin_key_file']}")
    print(f"Ask it     {found['curl']}")
    print(f"\nAll of this took {duration(found['total_seconds'])} and lies in {platform.home / 'demo.json'}.")
    print("The platform keeps running; `make down` stops it.")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo")
    parser.add_argument("--recipe", default="nano", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--fresh", action="store_true", help="a new pipeline even when one is running")
    parsed = parser.parse_args(arguments)
    try:
        run(read_recipe(parsed.recipe), parsed.fresh)
    except ValueError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nThe platform and the pipeline go on without this window. "
            "`make demo` follows the pipeline again; `make down` stops the platform.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    # The client shares its processor with the training it watches.
    os.nice(5)
    sys.exit(main())
