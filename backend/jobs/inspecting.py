"""One packed row of a tokenize job, taken apart by the trainer: tokens, documents, and the steps that drew it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.asking import ask_trainer
from backend.errors import Invalid
from backend.jobs.files import fetched
from backend.jobs.service import get_job
from backend.jobs.tables import JobRow
from backend.platform import Platform


class InspectQuery(BaseModel):
    """Which row of which source; `training`: an sft job, whose use of the row is wanted too."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(pattern=r"^\w+$")
    split: Literal["train", "heldout"] = "train"
    row: int = Field(0, ge=0)
    training: str | None = None


def inspect(platform: Platform, job_id: str, asked: InspectQuery) -> Any:
    """Raises: NotFound, Invalid: no such job, or one of another kind; or the command's own sentence."""
    row = _tokenized(platform, job_id)
    arguments = [
        "inspect",
        _folder(platform, row),
        "--source",
        asked.source,
        "--split",
        asked.split,
        "--row",
        str(asked.row),
    ]
    if "documents" in row.sources:
        arguments += ["--documents", _folder(platform, get_job(platform, row.sources["documents"]))]
    if asked.training is not None:
        arguments += ["--training", _folder(platform, _trained_on(platform, row, asked.training))]
    return ask_trainer(arguments)


def drawn(platform: Platform, job_id: str, step: int) -> Any:
    """Phase of a step of an sft job, and the rows it drew by source.

    Raises: NotFound, Invalid: no such job or step.
    """
    return ask_trainer(["drawn", _folder(platform, get_job(platform, job_id)), "--step", str(step)])


def _folder(platform: Platform, row: JobRow) -> str:
    return str(fetched(platform, row).path)


def _tokenized(platform: Platform, job_id: str) -> JobRow:
    row = get_job(platform, job_id)
    if row.kind != "tokenize" or row.state != "succeeded":
        raise Invalid(f"job '{row.name}' ({row.kind}, {row.state}) has no packed rows; name a tokenize job that ended")
    return row


def _trained_on(platform: Platform, tokenized: JobRow, job_id: str) -> JobRow:
    row = get_job(platform, job_id)
    if row.kind != "sft" or get_job(platform, row.sources["dataset"]).run_folder != tokenized.run_folder:
        raise Invalid(
            f"job '{row.name}' was not trained on the rows of '{tokenized.name}'; name an sft job that reads it"
        )
    return row
