"""metrics.jsonl and its rows: what is read is what was written, through crashes and resumes."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from backend.jobs import metrics, service
from backend.jobs.metrics import Batch, MetricLine, MetricsReader
from backend.jobs.tables import MetricRow
from backend.platform import Platform
from tests.backend.conftest import Api, synthesize
from trainer.artifacts import Run, RunFolder


@pytest.fixture
def job_id(platform: Platform) -> str:
    [row] = service.submit(platform, [service.parse_spec(synthesize())], None, reuse=False)
    return row.id


def copy(platform: Platform, reader: MetricsReader, job_id: str, seq: int) -> int:
    batch = reader.read()
    if batch is None:
        return seq
    with platform.database.write() as session:
        return metrics.store(session, job_id, batch, seq)


def table(platform: Platform, job_id: str, since: int = 0) -> list[tuple[int, int, dict]]:
    with platform.database.read() as session:
        rows, _ = metrics.read_page(session, job_id, since, [])
    return [(row["seq"], row["step"], row["values"]) for row in rows]


def test_a_resumed_run_rewinds_its_rows_and_numbers_go_on(platform: Platform, job_id: str, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    reader = MetricsReader(run.folder.metrics_file)
    assert copy(platform, reader, job_id, 0) == 0
    for step in range(1, 6):
        run.metrics(step, {"loss": float(step), "lr": 0.1})
    seq = copy(platform, reader, job_id, 0)
    # A new attempt reads the file from its start; the trainer rewinds to its snapshot a moment later.
    reader = MetricsReader(run.folder.metrics_file)
    seq = copy(platform, reader, job_id, seq)
    run.rewind_metrics(3)
    run.metrics(4, {"loss": 40.0, "lr": 0.1})
    seq = copy(platform, reader, job_id, seq)
    run.metrics(5, {"loss": 50.0, "lr": 0.1})
    copy(platform, reader, job_id, seq)
    rows = table(platform, job_id)
    assert [(step, values["loss"]) for _, step, values in rows] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50)]
    assert [step for _, step, _ in table(platform, job_id, since=5)] == [4, 5]
    numbers = [number for number, _, _ in rows]
    assert numbers == sorted(set(numbers))


def test_a_rewind_to_the_start_forgets_everything(platform: Platform, job_id: str, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    reader = MetricsReader(run.folder.metrics_file)
    run.metrics(1, {"loss": 1.0})
    seq = copy(platform, reader, job_id, 0)
    run.rewind_metrics(0)
    copy(platform, reader, job_id, seq)
    assert table(platform, job_id) == []


def test_two_rows_of_one_step_join(platform: Platform, job_id: str) -> None:
    lines = [MetricLine(1, 0.0, {"loss": 1.0}), MetricLine(1, 1.0, {"exact_match": float("inf")})]
    with platform.database.write() as session:
        metrics.store(session, job_id, Batch(lines, whole=False), 0)
    assert table(platform, job_id) == [(1, 1, {"loss": 1.0}), (2, 1, {"exact_match": None})]


@given(st.lists(st.integers(0, 60), max_size=20))
def test_every_whole_line_is_read_exactly_once(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """However the file grows, a line half written included."""
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    data = "".join(json.dumps({"step": n, "time": 0.0, "values": {"x": n}}) + "\n" for n in range(8)).encode()
    reader, seen, written = MetricsReader(path), [], 0
    for size in [*cuts, len(data)]:
        with open(path, "ab") as file:
            file.write(data[written : written + size])
        written = min(len(data), written + size)
        batch = reader.read()
        seen += [line.step for line in batch.lines] if batch else []
    assert seen == list(range(8))


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time": 0, "values": {}}\n{"step": 2, "ti{"step": 3, "time": 0, "values": {}}\n')
    batch = MetricsReader(path).read()
    assert batch is not None
    assert [line.step for line in batch.lines] == [1]
    assert "does not parse" in caplog.text


def test_a_hundred_thousand_rows_stay_quick(api: Api) -> None:
    job = api.post("/jobs", synthesize())
    platform = api.client.app.state.platform
    rows = [
        {"job_id": job["id"], "step": step, "name": "loss", "seq": step, "time": 0.0, "value": 1.0}
        for step in range(1, 100_001)
    ]
    with platform.database.write() as session:
        session.execute(insert(MetricRow), rows)
    started = time.monotonic()
    tail = api.get(f"/jobs/{job['id']}/metrics", since=99_990)
    assert time.monotonic() - started < 0.2
    assert [row["step"] for row in tail["rows"]] == list(range(99_991, 100_001))
    since, seen, started = 0, 0, time.monotonic()
    while page := api.get(f"/jobs/{job['id']}/metrics", since=since)["rows"]:
        since, seen = page[-1]["seq"], seen + len(page)
    assert seen == 100_000
    assert time.monotonic() - started < 4.0
    assert api.get(f"/jobs/{job['id']}/metrics", names="lr,nothing") == {"rows": [], "next": 0}
