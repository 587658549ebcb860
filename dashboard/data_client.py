"""What pages ask the backend for about data and reviews."""

from dataclasses import dataclass
from typing import Any

from dashboard.data_schemas import (
    Dataset,
    Decision,
    Lineage,
    PackedRow,
    ReviewItem,
    ReviewQueue,
    ReviewSummary,
    Rows,
    Split,
    StepRows,
)
from dashboard.service import PATIENT, Service


@dataclass(frozen=True)
class Asked:
    """Which rows: with a value that contains `search`, and with these values of fields."""

    search: str = ""
    where: tuple[tuple[str, str], ...] = ()


class DataClient:
    """Everything a page may ask for about data and reviews."""

    backend: Service

    def rows(self, owner: str, artifact: str, asked: Asked, offset: int, limit: int) -> Rows:
        """Rows that were asked for from number `offset` on; `owner` is 'jobs/<id>' or 'datasets/<id>'."""
        query = {"artifact": artifact, "offset": offset, "limit": limit, "search": asked.search}
        where = [f"{name}:{value}" for name, value in asked.where]
        return self.backend.ask(Rows, "GET", f"/{owner}/rows", params=query | {"where": where})

    def datasets(self) -> list[Dataset]:
        return self.backend.ask(list[Dataset], "GET", "/datasets")

    def freeze_reviewed(self, job: str, include: str) -> Dataset:
        body = {"job": job, "include": include}
        return self.backend.ask(Dataset, "POST", "/datasets/reviewed", json=body, timeout=PATIENT)

    def lineage(self, id: str) -> Lineage:
        return self.backend.ask(Lineage, "GET", f"/lineage/{id}")

    def inspect(self, id: str, source: str, split: str, row: int, training: str | None) -> PackedRow:
        """A packed row of a tokenize job, and the steps of a training run that drew it."""
        query = {"source": source, "split": split, "row": row} | ({"training": training} if training else {})
        return self.backend.ask(PackedRow, "GET", f"/jobs/{id}/inspect", params=query, timeout=PATIENT)

    def rows_of_step(self, training: str, step: int) -> StepRows:
        return self.backend.ask(StepRows, "GET", f"/jobs/{training}/drawn", params={"step": step}, timeout=PATIENT)

    # -- reviews -----------------------------------------------------------------------------------------------------

    def review_queues(self) -> list[ReviewQueue]:
        return self.backend.ask(list[ReviewQueue], "GET", "/reviews/queues")

    def next_review(self, job: str, split: Split) -> ReviewItem | None:
        """A problem for this user to decide on; None when there is none."""
        response = self.backend.request("GET", "/reviews/next", params={"job": job, "split": split})
        return None if response.status_code == 204 else ReviewItem.model_validate_json(response.content)

    def review(self, item: ReviewItem, decision: Decision, seconds: float, **fields: Any) -> None:
        """`fields`: the reason of a reject, the problem of an edit (which takes the check a moment)."""
        body = {"job": item.job, "split": item.split, "number": item.number, "decision": decision, "seconds": seconds}
        self.backend.request("POST", "/reviews", json=body | fields, timeout=PATIENT)

    def undo_review(self, job: str, split: Split) -> ReviewItem:
        return self.backend.ask(ReviewItem, "POST", "/reviews/undo", json={"job": job, "split": split})

    def review_summary(self, job: str) -> ReviewSummary:
        return self.backend.ask(ReviewSummary, "GET", "/reviews/summary", params={"job": job})
