import time

import pytest

from backend.datasets.tables import DatasetRow
from backend.errors import Invalid, NotFound
from backend.jobs.inspecting import InspectQuery, inspect
from backend.jobs.tables import JobRow
from backend.lineage.service import lineage
from backend.platform import Platform


def job(name: str, kind: str, labels: str | None = None, /, **sources: str) -> JobRow:
    frozen = {role: source for role, source in sources.items() if source.startswith("dataset:")}
    read = {role: source for role, source in sources.items() if role not in frozen}
    return JobRow(
        id=name, name=name, kind=kind, spec={"inputs": sources}, sources=read, run_folder=name, created=time.time(),
        state="succeeded", dataset_id=labels,
    )  # fmt: skip


@pytest.fixture
def family(platform: Platform) -> Platform:
    """clean and made (through review) -> tokens -> sft -> dpo with labels; `other` reads clean too."""
    labels, reviewed = (
        DatasetRow(id=id, kind=id, folder=id, rows=1, created=0.0, job_id=source, about={})
        for id, source in (("labels", None), ("reviewed", "made"))
    )
    with platform.database.write() as session:
        session.add_all([labels, reviewed])
        session.flush()
        session.add_all(
            [
                job("clean", "clean"),
                job("made", "synthesize"),
                job("tokens", "tokenize", documents="clean", problems="dataset:reviewed"),
                job("other", "tokenize", documents="clean", problems="made"),
                job("sft", "sft", dataset="tokens"),
                job("dpo", "dpo", "labels", checkpoint="sft"),
            ]
        )
    return platform


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("tokens", {"clean", "made", "reviewed", "tokens", "sft", "dpo"}),
        ("reviewed", {"made", "reviewed", "tokens", "sft", "dpo"}),
        ("dpo", {"clean", "made", "reviewed", "tokens", "sft", "labels", "dpo"}),
        ("clean", {"clean", "tokens", "other", "sft", "dpo"}),
    ],
)
def test_lineage_is_what_lies_before_and_behind(family: Platform, of: str, expected: set[str]) -> None:
    found = lineage(family, of)
    assert {node.id for node in found.nodes} == expected
    assert {id for edge in found.edges for id in (edge.source, edge.target)} == expected
    assert len({(edge.source, edge.target) for edge in found.edges}) == len(found.edges)


def test_edges_say_in_which_role(family: Platform) -> None:
    roles = {(edge.source, edge.target): edge.role for edge in lineage(family, "dpo").edges}
    assert roles["reviewed", "tokens"] == "problems"
    assert roles["labels", "dpo"] == "labels"
    with pytest.raises(NotFound, match="no dataset 'nothing'"):
        lineage(family, "nothing")


def test_only_rows_that_are_there_are_inspected(family: Platform) -> None:
    with pytest.raises(Invalid, match="tokenize job"):
        inspect(family, "clean", InspectQuery(source="text"))
    with pytest.raises(Invalid, match="not trained on the rows of 'other'"):
        inspect(family, "other", InspectQuery(source="text", training="sft"))
