"""Every job type, and what they are made of. Imports no torch: backend, dashboard and forms read these too.

A *job* is one stage run once; its spec says everything the stage needs besides the folders of the jobs it reads
from. `Job` is what lies in a run folder as job.json.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from trainer.data_jobs import CleanBucketSpec as CleanBucketSpec
from trainer.data_jobs import CleanShardSpec as CleanShardSpec
from trainer.data_jobs import CleanSpec as CleanSpec
from trainer.data_jobs import JobBase as JobBase
from trainer.data_jobs import KnowledgeSpec as KnowledgeSpec
from trainer.data_jobs import SubsetSpec as SubsetSpec
from trainer.data_jobs import SynthesizeSpec as SynthesizeSpec
from trainer.data_jobs import TokenizeSpec as TokenizeSpec
from trainer.job_settings import CURRICULUM as CURRICULUM
from trainer.job_settings import MIXTURE as MIXTURE
from trainer.job_settings import HubDataset as HubDataset
from trainer.job_settings import LossScaling as LossScaling
from trainer.job_settings import Optimizer as Optimizer
from trainer.job_settings import OptimizerName as OptimizerName
from trainer.job_settings import Phase as Phase
from trainer.job_settings import PhaseSpec as PhaseSpec
from trainer.job_settings import PreferenceLoss as PreferenceLoss
from trainer.job_settings import RewardWeights as RewardWeights
from trainer.job_settings import RowSettings as RowSettings
from trainer.job_settings import RuleName as RuleName
from trainer.job_settings import RuleSettings as RuleSettings
from trainer.job_settings import Share as Share
from trainer.job_settings import SpecialistSettings as SpecialistSettings
from trainer.job_settings import SyntaxPenalty as SyntaxPenalty
from trainer.job_settings import TeacherSettings as TeacherSettings
from trainer.job_settings import TrtllmSettings as TrtllmSettings
from trainer.model.config import ModelConfig
from trainer.model.presets import from_preset
from trainer.records import DOMAINS as DOMAINS
from trainer.records import Distractor as Distractor
from trainer.records import Domain as Domain
from trainer.records import Message as Message
from trainer.records import Pair as Pair
from trainer.records import PairScore as PairScore
from trainer.records import Problem as Problem
from trainer.records import Record as Record
from trainer.records import Role as Role
from trainer.records import Spec as Spec
from trainer.subset_rules import SubsetRules as SubsetRules

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8"]
Quantisation = Literal["fp8", "int8"]
GgufNumbers = Literal["f32", "f16", "bf16", "q8_0"]
RECIPES = Path(__file__).parent / "recipes"


class ImportSpec(JobBase):
    """A checkpoint from elsewhere: Mixtral, or Llama and Mistral as a Mixture of Experts that computes the same."""

    kind: Literal["import"] = "import"
    source: str = Field(min_length=1, description="folder in Hugging Face's layout, or a .gguf file")
    experts: int | None = Field(
        None, gt=0, description="copies of each MLP of a dense network, by default 8; 1: as it is"
    )
    top_k: int | None = Field(None, gt=0, description="of those copies, how many a token goes to; by default 2")
    context: int | None = Field(None, gt=0, description="longest context from now on; shorter takes less KV memory")


class TrainingBase(JobBase):
    """What every job that takes optimiser steps has."""

    steps: int = Field(gt=0)
    optimizer: Optimizer
    precision: Precision = Field(
        "auto", description="auto: bf16 where the processor has it, else fp32; fp16 and fp8 are for GPUs, slow on a CPU"
    )
    loss_scaling: LossScaling = Field(LossScaling(), description="for fp16 only")
    compile: bool = Field(True, description="torch.compile where it can be done; else a warning")
    snapshot_every: int = Field(50, gt=0, description="steps between volatile snapshots")


class SftSpec(TrainingBase):
    roles: ClassVar[tuple[str, ...]] = ("dataset",)
    optional_roles: ClassVar[tuple[str, ...]] = ("checkpoint", "budget")
    kind: Literal["sft"] = "sft"
    model: Annotated[ModelConfig | None, BeforeValidator(from_preset)] = Field(
        None, description="a new network: a preset's name, or a config; left out when a checkpoint is given"
    )
    batch_rows: int = Field(16, gt=0, description="packed rows a step")
    checkpoint_activations: bool = Field(False, description="recompute layers in backward: for long rows, less memory")
    phases: tuple[PhaseSpec, ...] = CURRICULUM
    balance_weight: float = Field(0.01, ge=0, description="weight of the load-balance loss")
    z_weight: float = Field(1e-3, ge=0, description="weight of the router z-loss")
    syntax_penalty: SyntaxPenalty = SyntaxPenalty()
    doctor: Literal["report", "apply"] = Field(
        "report", description="report: ill experts are named, with a remedy; apply: dead ones are also started again"
    )
    specialists: SpecialistSettings | None = Field(None, description="groups of experts for domains; none: all alike")
    dynamic_capacity: bool = Field(False, description="bound each expert's tokens a step by its changing capacity")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.model is None) == ("checkpoint" not in self.inputs):
            raise ValueError(
                f"job '{self.name}': give either 'model' (a new network) or an input 'checkpoint', not both"
            )
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            raise ValueError(f"job '{self.name}': the shares of the phases must add up to 1")
        if self.specialists is not None and self.model is not None:
            self.specialists.check(self.model)
        return self


class RewardSpec(TrainingBase):
    """Bradley-Terry reward model. `labels` is a frozen dataset of people's labels, when there are any."""

    roles: ClassVar[tuple[str, ...]] = ("checkpoint", "problems")
    optional_roles: ClassVar[tuple[str, ...]] = ("labels",)
    kind: Literal["reward"] = "reward"
    pairs: int = Field(2_000, gt=0, description="half against distractors, half against the policy's own errors")
    heldout_share: float = Field(0.15, gt=0, lt=1)
    batch_pairs: int = Field(32, gt=0)
    max_new_tokens: int = Field(128, gt=0)


class DpoSpec(TrainingBase):
    roles: ClassVar[tuple[str, ...]] = ("checkpoint", "pairs")
    optional_roles: ClassVar[tuple[str, ...]] = ("labels",)
    kind: Literal["dpo"] = "dpo"
    loss: PreferenceLoss = Field("sigmoid", description="ipo: for labels without doubt, which sigmoid drives apart")
    beta: float = Field(0.1, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of the labels that may be wrong; sigmoid only")
    likelihood_weight: float = Field(0.1, ge=0, description="weight of the added likelihood of the chosen answer")
    max_kl: float = Field(0.1, gt=0, description="nat per token: largest upper 95 % bound of KL to the reference")
    check_every: int = Field(20, gt=0, description="steps between measurements of that bound")
    batch_pairs: int = Field(32, gt=0)
    max_new_tokens: int = Field(128, gt=0)

    @model_validator(mode="after")
    def _smoothing_fits(self) -> Self:
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError(f"job '{self.name}': label_smoothing is for loss 'sigmoid'; leave it out with 'ipo'")
        return self


class RlhfSpec(TrainingBase):
    roles: ClassVar[tuple[str, ...]] = ("checkpoint", "problems")
    kind: Literal["rlhf"] = "rlhf"
    prompts_per_step: int = Field(32, gt=0)
    group_size: int = Field(8, gt=1)
    max_new_tokens: int = Field(128, gt=0)
    temperature: float = Field(1.0, gt=0)
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.28, gt=0)
    kl_weight: float = Field(0.01, ge=0)
    max_kl: float = Field(0.5, gt=0, description="nat per token; beyond it the run goes back and halves its rate")
    weights: RewardWeights = RewardWeights()
    min_group_std: float = Field(1e-6, ge=0, description="groups whose R_corr varies less give no signal: dropped")


class EvaluateSpec(JobBase):
    roles: ClassVar[tuple[str, ...]] = ("checkpoint", "problems", "dataset")
    optional_roles: ClassVar[tuple[str, ...]] = ("baseline",)
    kind: Literal["evaluate"] = "evaluate"
    problems: int = Field(500, gt=0, description="held-out problems, exact match")
    max_new_tokens: int = Field(128, gt=0)
    perplexity_rows: int = Field(32, ge=0, description="held-out packed rows for each source")
    code_samples: int = Field(64, ge=0, description="to write freely from held-out beginnings: how many parse")
    infilling_rows: int = Field(64, ge=0, description="held-out gaps in code to fill: how many exactly")


class ExportSpec(JobBase):
    """`dataset`, a tokenize job, gives the text with which 'fp8' is calibrated."""

    roles: ClassVar[tuple[str, ...]] = ("checkpoint",)
    optional_roles: ClassVar[tuple[str, ...]] = ("dataset",)
    kind: Literal["export"] = "export"
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="numbers of the weights")
    tolerance: float = Field(1e-4, gt=0, description="largest difference of logits the parity check accepts")
    trtllm: TrtllmSettings = Field(TrtllmSettings(), description="settings of a TensorRT-LLM server, for trtllm.yaml")
    quantise: Quantisation | None = Field(
        None,
        description="also write weights of 8 bits for TensorRT-LLM: fp8 (Ada, Hopper and later), or int8 that leaves "
        "activations as they are; needs the extra 'quantise'",
    )
    calibration_rows: int = Field(128, gt=0, description="packed rows that fp8 is calibrated with")
    max_kl: float = Field(
        0.05, gt=0, description="nat per token: largest mean KL of the quantised network to the trained one"
    )
    gguf: GgufNumbers | None = Field(None, description="also write a GGUF file for llama.cpp, with these numbers")

    @model_validator(mode="after")
    def _calibration(self) -> Self:
        if self.quantise == "fp8" and "dataset" not in self.inputs:
            raise ValueError(
                f"job '{self.name}': quantise 'fp8' needs text to calibrate with; bind input 'dataset' to a "
                "tokenize job"
            )
        if self.quantise != "fp8" and "dataset" in self.inputs:
            raise ValueError(f"job '{self.name}': input 'dataset' is read for quantise 'fp8' only; leave it out")
        return self


class DeploySpec(JobBase):
    """Done by the backend itself: serving loads the export and answers under `model_name`."""

    roles: ClassVar[tuple[str, ...]] = ("export",)
    kind: Literal["deploy"] = "deploy"
    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


JobSpec = Annotated[
    CleanSpec | CleanShardSpec | CleanBucketSpec | KnowledgeSpec | SubsetSpec | SynthesizeSpec | ImportSpec
    | TokenizeSpec | SftSpec | RewardSpec | DpoSpec | RlhfSpec | EvaluateSpec | ExportSpec | DeploySpec,
    Field(discriminator="kind"),
]  # fmt: skip
JOB_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
JobKind = Literal[
    "clean", "clean_shard", "clean_bucket", "knowledge", "subset", "synthesize", "import", "tokenize", "sft", "reward",
    "dpo", "rlhf", "evaluate", "export", "deploy",
]  # fmt: skip


class Job(Spec):
    """job.json: a spec with its inputs resolved to run folders."""

    id: str
    spec: JobSpec
    inputs: dict[str, str] = Field({}, description="role -> run folder of the job that made it")


class Recipe(Spec):
    """A pipeline: an ordered list of jobs, each reading only from earlier ones."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    description: str = ""
    jobs: tuple[JobSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        seen: set[str] = set()
        for job in self.jobs:
            if job.name in seen:
                raise ValueError(f"two jobs are called '{job.name}'; names are unique in a recipe")
            for role, source in job.inputs.items():
                if source not in seen and not source.startswith(("run:", "dataset:")):
                    raise ValueError(
                        f"job '{job.name}': input '{role}' names '{source}', which is no earlier job of this recipe"
                    )
            seen.add(job.name)
        return self


def explain(error: ValidationError) -> str:
    """One line that names each wrong field and why, for people."""
    return explain_items(error.errors(include_url=False))


def explain_items(items: Sequence[Mapping[str, Any]]) -> str:
    """The same for items in the form of pydantic's `ErrorDetails`, wherever they were found."""
    return "; ".join(map(_sentence, without_consequences(items)))


def without_consequences(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The items but for those that only follow from others: a list whose items are wrong is also 'too short'."""
    places = [tuple(item["loc"]) for item in items]
    return [
        item
        for item, place in zip(items, places, strict=True)
        if item["type"] != "too_short" or not any(place == other[: len(place)] != other for other in places)
    ]


def _sentence(item: Mapping[str, Any]) -> str:
    place, context = [str(part) for part in item["loc"]], item.get("ctx", {})
    message = str(item["msg"]).removeprefix("Value error, ")
    match item["type"]:
        case "json_invalid":
            return f"not JSON: {context['error']}"
        case "extra_forbidden":
            message = "unknown field; check its spelling"
        case "too_short":
            message = f"needs at least {context['min_length']}"
        case "union_tag_not_found":
            place, message = [*place, context["discriminator"].strip("'")], "Field required"
        case "union_tag_invalid":
            place = [*place, context["discriminator"].strip("'")]
            message = f"'{context['tag']}' is unknown; there are {context['expected_tags']}"
    return f"{'.'.join(place) or 'job'}: {message}"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name.

    Raises:
        ValueError: the name is unknown or the file does not parse, saying which.
    """
    if name not in recipe_names():
        raise ValueError(f"unknown recipe '{name}'; there are: {', '.join(recipe_names())}")
    with open(RECIPES / f"{name}.toml", "rb") as file:
        raw = tomllib.load(file)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"recipe '{name}': {explain(error)}") from error
