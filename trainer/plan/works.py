"""From what was asked for to the training runs that are to be planned: the jobs that make a new network."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.model.config import ModelConfig
from trainer.model.presets import PRESETS
from trainer.model.transformer import count_parameters
from trainer.spec import (
    JOB_SPEC,
    Job,
    JobSpec,
    OptimizerName,
    Precision,
    Recipe,
    SftSpec,
    TokenizeSpec,
    explain,
    load_recipe,
    recipe_names,
)

LONGEST_ROW = 4096
TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True)
class Work:
    """One training run: `rows` of a step over all devices (None: one on each), every one `context` tokens long.

    `assumed` says of a field that nobody gave where its value comes from.
    """

    name: str
    model: ModelConfig
    precision: Precision
    rows: int | None
    context: int
    tokens: float
    optimizer: OptimizerName = "adamw"
    assumed: Mapping[str, str] = field(default_factory=dict)

    def adjusted(self, given: Mapping[str, Any]) -> "Work":
        """With some fields as given instead of assumed."""
        assumed = {name: text for name, text in self.assumed.items() if name not in given}
        return replace(self, **given, assumed=assumed)

    def rows_on_one_of(self, devices: int) -> int:
        return 1 if self.rows is None else ceil(self.rows / devices)


def works_of(source: str) -> list[Work]:
    """Read a recipe's name, a .toml or .json file with a recipe or a job, or a preset's name.

    Raises:
        ValueError: it is none of these, or no job of it makes a new network.
    """
    if source.endswith((".toml", ".json")):
        return _of_jobs(_jobs_of_file(Path(source)))
    if source in recipe_names():
        return _of_jobs(load_recipe(source).jobs)
    if source in PRESETS:
        return [_of_preset(source)]
    raise ValueError(
        f"'{source}' is neither a .toml or .json file, nor a recipe ({', '.join(recipe_names())}), "
        f"nor a preset ({', '.join(PRESETS)})"
    )


def _jobs_of_file(path: Path) -> tuple[JobSpec, ...]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        raw = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
        if "jobs" in raw:
            return Recipe.model_validate(raw).jobs
        return (Job.model_validate(raw).spec if "spec" in raw else JOB_SPEC.validate_python(raw),)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not parse: {error}") from error


def _of_jobs(jobs: Iterable[JobSpec]) -> list[Work]:
    """The rows of a job are as long as its tokenize job packs them; without one, as long as the network reads."""
    contexts: dict[str, int] = {}
    works = []
    for job in jobs:
        if isinstance(job, TokenizeSpec):
            contexts[job.name] = job.context
        if isinstance(job, SftSpec) and job.model is not None:
            context = contexts.get(job.inputs["dataset"], job.model.max_position_embeddings)
            tokens = float(job.steps * job.batch_rows * context)
            optimizer = job.optimizer.name
            works.append(Work(job.name, job.model, job.precision, job.batch_rows, context, tokens, optimizer))
    if not works:
        raise ValueError("no job here makes a new network ('sft' with 'model'); plan the one that made its checkpoint")
    return works


def _of_preset(name: str) -> Work:
    model = PRESETS[name]
    context = min(model.max_position_embeddings, LONGEST_ROW)
    tokens = float(TOKENS_PER_PARAMETER * count_parameters(model).active)
    assumed = {
        "rows": "each device takes one row a step (--rows)",
        "context": f"a row has {context:,} tokens: what the network reads, at most {LONGEST_ROW:,} (--context)",
        "tokens": f"{TOKENS_PER_PARAMETER} tokens for each active parameter, the optimum of dense networks in Hoffmann "
        "et al. 2022 (--tokens)",
        "optimizer": "AdamW, with two moments of each parameter",
    }
    return Work(name, model, "auto", None, context, tokens, assumed=assumed)
