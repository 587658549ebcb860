"""Parts of job specs that are no jobs themselves. Imports no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.devices import GPUS, find_gpu
from trainer.model.config import ModelConfig
from trainer.records import Domain, Spec

Phase = Literal["text", "completion", "dialogue"]
Share = Annotated[float, Field(ge=0, le=1)]
# Licences under which code may be used for anything, as SPDX names them.
PERMISSIVE = (
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "MIT-0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
)  # fmt: skip


RuleName = Literal[
    "words", "entropy", "lines", "paragraphs", "repetition", "language", "languages", "prose", "toxicity", "licence",
    "contamination", "personal_data",
]  # fmt: skip
RULE_ORDER: tuple[RuleName, ...] = (
    "words", "entropy", "lines", "paragraphs", "language", "languages", "repetition", "prose", "licence", "toxicity",
    "contamination", "personal_data",
)  # fmt: skip


class RuleSettings(Spec):
    """Cleaning rules: their order and thresholds; the defaults are the article's. Duplicates come after all of them."""

    order: tuple[RuleName, ...] = Field(RULE_ORDER, description="rules that are applied, the first to the last")
    min_words: int = Field(50, ge=0)
    min_entropy_bits: float = Field(3.5, ge=0, description="bits per character")
    max_duplicate_line_share: Share = 0.3
    repetition_domains: tuple[Domain, ...] = Field(
        ("general", "multilingual"),
        description="where repeated runs of words count; code and formulas repeat by nature",
    )
    languages: tuple[str, ...] = Field((), description="languages that are kept, such as 'en'; empty: all")
    max_toxicity: Share = Field(0.9, description="mean over a text's passages of how probably each is toxic")
    toxicity_model: str | None = Field(None, description="a saved classifier; without it 'toxicity_labels' trains one")
    toxicity_labels: str | None = Field(
        None, description="JSON Lines with 'text' and 'label' to train on; without it a list of words decides"
    )
    harmless_label: str = Field("neither", description="which of the labels is for text that is not toxic")
    licenses: tuple[str, ...] = Field(PERMISSIVE, description="SPDX names of licences that code may state")
    evaluation_sets: tuple[str, ...] = Field(
        (), description="JSON Lines files, or folders of them, of which no text may be trained on"
    )
    hide_names: bool = Field(False, description="replace @names and links too, for chats and posts")
    near_duplicate_jaccard: float = Field(0.8, gt=0, le=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.order)) != len(self.order):
            raise ValueError("rules: 'order' names a rule twice; name each at most once")
        return self


class RowSettings(Spec):
    """How a row of JSON Lines, CSV or Parquet becomes a record."""

    text_fields: tuple[str, ...] = Field(
        ("text",),
        min_length=1,
        description="the first that a row has: a column, a dotted path, or a template such as "
        "'{question}\\n{answer}'; a list of messages becomes a chat",
    )
    id_field: str = Field("id", description="column kept as the row's own id, where there is one")


class HubDataset(Spec):
    """A data set of the Hugging Face hub, or a local copy of one."""

    name: str = Field(min_length=1, description="owner/name on the hub, or a folder")
    config: str | None = None
    split: str = "train"
    revision: str | None = Field(None, description="a commit of the hub's repository, for runs that can be repeated")
    license: str = Field("", description="where the data set's card names none")
    rows: RowSettings | None = Field(None, description="instead of those of the job")


OptimizerName = Literal["adamw", "muon"]
PreferenceLoss = Literal["sigmoid", "ipo"]


class Optimizer(Spec):
    name: OptimizerName = Field("adamw", description="muon: for the matrices of the layers; AdamW elsewhere")
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps")
    decay: float = Field(0.4, ge=0, le=1, description="share of the steps, linear, at the end")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")


class LossScaling(Spec):
    """When fp16's loss scale doubles; an overflow always quarters it."""

    underflow: Literal["zero_share", "zero_loss"] = Field(
        "zero_share", description="zero_loss: the article's literal rule, loss == 0"
    )
    zero_share: Share = Field(0.001, description="share of exactly-zero gradients above which they count as underflown")


class PhaseSpec(Spec):
    """One curriculum phase: its share of the steps and the mix of sources drawn from (weights, any scale)."""

    phase: Phase
    share: float = Field(gt=0, le=1)
    mix: dict[Literal["text", "completion", "dialogue"], float]

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if not self.mix or min(self.mix.values()) < 0 or sum(self.mix.values()) <= 0:
            raise ValueError(f"phase '{self.phase}': mix needs weights of at least 0 with a positive sum")
        return self


# Article: 0-100k steps plain text, 100-250k adds code completion, 250-400k adds multi-turn dialogue.
CURRICULUM: tuple[PhaseSpec, ...] = (
    PhaseSpec(phase="text", share=0.25, mix={"text": 1.0}),
    PhaseSpec(phase="completion", share=0.375, mix={"text": 0.6, "completion": 0.4}),
    PhaseSpec(phase="dialogue", share=0.375, mix={"text": 0.2, "completion": 0.2, "dialogue": 0.6}),
)


# Article: code 28 %, science 19 %, multilingual 33 %, general the rest.
MIXTURE: dict[Domain, float] = {"code": 0.28, "science": 0.19, "multilingual": 0.33, "general": 0.20}


class SpecialistSettings(Spec):
    """Heterogeneous experts: of each layer's experts the first few are for code, the next for science, the rest general
    (which takes the multilingual too). The article's pool of 8 is 2, 3 and 3."""

    code: int = Field(2, gt=0)
    science: int = Field(3, gt=0)
    general: int = Field(3, gt=0)
    specialisation_weight: float = Field(0.1, ge=0, description="weight of the loss that draws tokens to their group")
    structure_weight: float = Field(0.05, ge=0, description="weight of the heads that predict structure labels")

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.code, self.science, self.general

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError when the groups are not all of a layer's experts."""
        if sum(self.sizes) != config.num_local_experts:
            raise ValueError(
                f"specialists: {self.code} code, {self.science} science and {self.general} general experts are "
                f"{sum(self.sizes)}, but the network has num_local_experts {config.num_local_experts}; make them equal"
            )


class SyntaxPenalty(Spec):
    """Every some steps of the phases that draw code, but for the first, of text, the network goes on from a few
    beginnings of programs; what it writes costs the penalty where it does not parse."""

    weight: float = Field(0.3, ge=0, description="the article's; 0: no code is written")
    every: int = Field(25, gt=0, description="steps from one time to the next")
    prompts: int = Field(8, gt=0, description="beginnings drawn each time")
    new_tokens: int = Field(48, gt=0, description="tokens written at most")


class TeacherSettings(Spec):
    """A model that speaks OpenAI's protocol and writes the solutions; each of its steps is verified."""

    url: str = Field(pattern=r"^https?://", description="up to and with /v1, such as http://localhost:8000/v1")
    model: str = Field(min_length=1)
    key_variable: str = Field("", description="environment variable of the worker that holds the key; empty: no key")
    concurrency: int = Field(8, gt=0, description="requests at once")
    timeout: float = Field(60.0, gt=0, description="seconds a whole answer may take")
    retries: int = Field(1, ge=0, description="further tries after no answer or one that is not accepted")
    max_tokens: int = Field(512, gt=0, description="of an answer")
    temperature: float = Field(0.7, ge=0)


class RewardWeights(Spec):
    """Article: R = 0.4 R_corr + 0.3 R_conc + 0.2 R_div + 0.1 R_safe."""

    correctness: float = Field(0.4, ge=0)
    coherence: float = Field(0.3, ge=0)
    diversity: float = Field(0.2, ge=0)
    safety: float = Field(0.1, ge=0)


class TrtllmSettings(Spec):
    """What a TensorRT-LLM server of an export has to hold: its trtllm.yaml follows from this and from the network."""

    max_requests: int = Field(64, gt=0, description="most requests that are answered at once")
    max_step_tokens: int = Field(8192, gt=0, description="most tokens one step runs, of prompts and answers together")
    context: int | None = Field(None, gt=0, description="longest prompt and answer together; by default the network's")
    kv_dtype: Literal["auto", "fp8"] = Field("auto", description="numbers of the KV cache; auto: those of the network")
    gpu: str | None = Field(None, description="card it will run on, such as 'H100': then it is checked that all fits")
    gpus: int = Field(1, gt=0, description="cards that share each layer (tensor parallel)")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.max_step_tokens < self.max_requests:
            raise ValueError(
                f"max_step_tokens {self.max_step_tokens} must be at least max_requests {self.max_requests}: each "
                "request that is being answered takes one token of a step"
            )
        if self.gpu is not None and find_gpu(self.gpu) is None:
            known = ", ".join(gpu.mark for gpu in GPUS)
            raise ValueError(f"gpu '{self.gpu}' is not known; there are {known}; leave it out for another card")
        return self
