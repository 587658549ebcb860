"""The jobs that make data: specs of their own, offered by `trainer.spec` like all others. Imports no torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.job_settings import MIXTURE, HubDataset, PhaseSpec, RowSettings, RuleSettings, Share, TeacherSettings
from trainer.records import DOMAINS, Domain, Spec
from trainer.subset_rules import SubsetRules, from_preset

MOST_BUCKETS = 16  # jobs that look for the duplicates of one corpus


class JobBase(Spec):
    """What every job has. `roles` are the inputs a stage reads; a recipe binds each to an earlier job.

    A job whose spec says how many inputs it has overrides `required` or `optional` instead.
    """

    roles: ClassVar[tuple[str, ...]] = ()
    optional_roles: ClassVar[tuple[str, ...]] = ()

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="unique in its pipeline")
    inputs: dict[str, str] = Field({}, description="role -> name of an earlier job, 'run:<job id>' or 'dataset:<id>'")
    seed: int = 0

    @property
    def required(self) -> tuple[str, ...]:
        return self.roles

    @property
    def optional(self) -> tuple[str, ...]:
        return self.optional_roles

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        known = self.required + self.optional
        for role in self.inputs:
            if role not in known:
                raise ValueError(f"job '{self.name}': unknown input '{role}'; it takes {', '.join(known) or 'none'}")
        for role in self.required:
            if role not in self.inputs:
                raise ValueError(f"job '{self.name}': input '{role}' is missing; bind it to an earlier job")
        return self


class CleanSpec(JobBase):
    kind: Literal["clean"] = "clean"
    python_installation: bool = Field(True, description="read this machine's own Python installation")
    folders: tuple[str, ...] = Field(
        (),
        description="folders, files and archives to read too: text, HTML, PDF, code, JSON Lines, CSV, Parquet, zip …",
    )
    uploads: tuple[str, ...] = Field((), description="ids of uploads to read too; they become their paths")
    hugging_face: tuple[HubDataset, ...] = Field((), description="data sets of the Hugging Face hub to read too")
    rows: RowSettings = RowSettings()
    max_megabytes: float = Field(8.0, gt=0, description="stop reading a source after so much text")
    rules: RuleSettings = RuleSettings()
    shards: int = Field(1, ge=1, le=256, description="parts cleaned by themselves; above 1 jobs that workers share")

    @property
    def shard_roles(self) -> tuple[str, ...]:
        return tuple(f"shard-{shard:03d}" for shard in range(self.shards))

    @property
    def bucket_roles(self) -> tuple[str, ...]:
        return tuple(f"bucket-{bucket:03d}" for bucket in range(min(self.shards, MOST_BUCKETS)))

    @property
    def optional(self) -> tuple[str, ...]:
        """With them bound, only what the shard and bucket jobs left is put together."""
        return self.shard_roles + self.bucket_roles if self.shards > 1 else ()

    @model_validator(mode="after")
    def _all_parts(self) -> Self:
        if self.inputs and len(self.inputs) < len(self.optional):
            missing = next(role for role in self.optional if role not in self.inputs)
            raise ValueError(f"job '{self.name}': input '{missing}' is missing; bind all shards and buckets, or none")
        return self


class CleanShardSpec(JobBase):
    """One shard of a clean job: every rule but those about duplicates. The backend makes it."""

    kind: Literal["clean_shard"] = "clean_shard"
    clean: CleanSpec
    shard: int = Field(ge=0)

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.shard >= self.clean.shards:
            raise ValueError(f"job '{self.name}': shard {self.shard} is none of the {self.clean.shards} from 0 on")
        return self


class CleanBucketSpec(JobBase):
    """Some of the buckets of a clean job's documents: which are duplicates. The backend makes it."""

    kind: Literal["clean_bucket"] = "clean_bucket"
    clean: CleanSpec
    bucket: int = Field(ge=0)

    @property
    def required(self) -> tuple[str, ...]:
        return self.clean.shard_roles

    @model_validator(mode="after")
    def _exists(self) -> Self:
        buckets = len(self.clean.bucket_roles)
        if self.bucket >= buckets:
            raise ValueError(f"job '{self.name}': bucket {self.bucket} is none of the {buckets} from 0 on")
        return self


class KnowledgeSpec(JobBase):
    """Passages to search and triples to walk, of the documents of a clean or subset job."""

    roles: ClassVar[tuple[str, ...]] = ("documents",)
    kind: Literal["knowledge"] = "knowledge"
    passage_bytes: int = Field(1_200, ge=100, description="longest passage, in bytes of UTF-8")


class SubsetSpec(JobBase):
    """Documents of one domain: by `rules`, or by a classifier that learns from `examples` or from a `folder`."""

    roles: ClassVar[tuple[str, ...]] = ("documents",)
    kind: Literal["subset"] = "subset"
    rules: Annotated[SubsetRules | None, BeforeValidator(from_preset)] = Field(
        None, description="'medical', 'legal', or rules of your own"
    )
    examples: str | None = Field(
        None,
        description="JSON Lines with 'text' and 'label': the classifier learns from them, rules are measured on them",
    )
    positive: tuple[str, ...] = Field(("1", "true", "True", "yes", "positive"), description="labels of the domain")
    folder: str | None = Field(None, description="texts of the domain; all documents stand for the others")
    threshold: float = Field(0.5, gt=0, le=1, description="least probability of a document that is kept")
    heldout_share: float = Field(0.2, gt=0, lt=1, description="of the examples, to measure precision and recall on")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.rules is None and (self.examples is None) == (self.folder is None):
            raise ValueError(f"job '{self.name}': give 'rules', or for a classifier either 'examples' or 'folder'")
        if self.rules is not None and self.folder is not None:
            raise ValueError(f"job '{self.name}': 'folder' is for a classifier; with 'rules' leave it out")
        return self


class SynthesizeSpec(JobBase):
    """`evaluation`, an evaluate job, says where a network is weak: of that more is drawn for training."""

    optional_roles: ClassVar[tuple[str, ...]] = ("evaluation",)
    kind: Literal["synthesize"] = "synthesize"
    families: tuple[str, ...] = Field((), description="empty: every family there is")
    levels: tuple[int, ...] = (1, 2)
    train: int = Field(20_000, gt=0, description="problems with solutions, for SFT and pairs")
    rl: int = Field(20_000, ge=0, description="problems with answers only, for reinforcement learning")
    heldout: int = Field(500, gt=0, description="for evaluation; disjoint from both by hash")
    heldout_wordings: int = Field(
        0, ge=0, le=2, description="of each family's wordings, so many are kept for evaluation, which has no others"
    )
    adaptive_floor: Share = Field(
        0.2, description="with an evaluation: share spread evenly; the rest goes where the network is weak"
    )
    teacher: TeacherSettings | None = Field(None, description="writes the solutions to train on, instead of the solver")
    processes: int | None = Field(None, gt=0, description="to generate with; by default one a core for large jobs")


class TokenizeSpec(JobBase):
    """`checkpoint` brings its tokenizer; without one a new tokenizer is learnt."""

    roles: ClassVar[tuple[str, ...]] = ("documents", "problems")
    optional_roles: ClassVar[tuple[str, ...]] = ("checkpoint",)
    kind: Literal["tokenize"] = "tokenize"
    vocab_size: int | None = Field(None, ge=300, description="of a new tokenizer; left out when a checkpoint is given")
    context: int = Field(256, gt=15, description="tokens a packed row holds")
    worked_share: float = Field(0.5, ge=0, le=1, description="share of problems whose answer shows the working")
    worked_share_by_level: dict[int, Share] = Field({}, description="the same for problems of one level")
    max_tokens: int = Field(4_000_000, gt=0, description="at most so many tokens for each source")
    mixture: dict[Domain, Share] = Field(MIXTURE, description="share of each domain in the tokens of text")
    phases: tuple[PhaseSpec, ...] | None = Field(
        None, description="of the training this is for: the mixture then holds for all its tokens, not for text alone"
    )
    max_epochs: int = Field(4, gt=0, description="a document is repeated at most so often, where a domain has too few")
    source_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="of sources of documents, by default 1; 0 leaves one out, 2 takes twice as much of it"
    )
    processes: int = Field(0, ge=0, description="that encode; 0: one a core, where there is enough text for it")

    @model_validator(mode="after")
    def _mixture_is_whole(self) -> Self:
        if set(self.mixture) != set(DOMAINS) or abs(sum(self.mixture.values()) - 1) > 1e-6:
            raise ValueError(
                f"job '{self.name}': mixture needs a share for each of {', '.join(DOMAINS)}, together 1; they add up "
                f"to {sum(self.mixture.values()):g}"
            )
        if self.phases is not None and not any(phase.mix.get("text") for phase in self.phases):
            raise ValueError(f"job '{self.name}': phases draw no text, which alone can be mixed; leave them out")
        return self

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        if (self.vocab_size is None) == ("checkpoint" not in self.inputs):
            raise ValueError(
                f"job '{self.name}': give either 'vocab_size' (a new tokenizer) or an input 'checkpoint', not both"
            )
        return self
