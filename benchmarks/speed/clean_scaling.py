"""python -m benchmarks.speed.clean_scaling: how a clean job in shards gains by workers, and what memory a corpus takes.

    --workers 1 2     seconds of one job over so many worker processes, through the real queue; the same bytes each time
    --memory 5        the largest resident memory of one process that cleans so many gigabytes

Text is made for the purpose and thrown away. Results are merged into results/clean.json.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from sqlalchemy import func, select

from backend.jobs import service
from backend.jobs.tables import WorkerRow
from backend.platform import Platform
from backend.schema import migrate
from backend.settings import Settings
from benchmarks.machine import commit, hardware, today
from benchmarks.speed.varied_text import write_corpus
from trainer.artifacts import RunFolder, folder_hashes, write_atomic
from trainer.spec import CleanSpec, Job

RESULTS = Path(__file__).parent.parent / "results" / "clean.json"
GIBIBYTE = 2**30
SAMPLE_SECONDS = 0.2


def spec(folder: Path, shards: int) -> CleanSpec:
    return CleanSpec(
        name="clean", python_installation=False, folders=(str(folder),), shards=shards, max_megabytes=1_000_000
    )


# -- scaling ---------------------------------------------------------------------------------------------------------


@contextmanager
def process(module: str, settings: Settings) -> Iterator[None]:
    values = settings.model_dump(mode="json", exclude_defaults=True)
    variables = {f"OCTAVO_{name.upper()}": str(value) for name, value in values.items()}
    started = subprocess.Popen(
        [sys.executable, "-m", module], env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        started.terminate()
        started.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(look: Any) -> Any:
    while not (found := look()):
        time.sleep(0.05)
    return found


def seconds_with(workers: int, job: CleanSpec, home: Path) -> dict[str, Any]:
    """From submission to the end; the workers stand ready before."""
    settings = Settings(home=home, broker_port=free_port(), lease_seconds=20.0)
    settings.make_folders()
    with ExitStack() as stack:
        stack.enter_context(process("backend.broker", settings))
        wait_until(lambda: reachable(settings.broker_port))
        platform = Platform.open(settings)
        stack.callback(platform.close)
        migrate(platform.database)
        for _ in range(workers):
            stack.enter_context(process("backend.worker", settings))
        wait_until(lambda: ready(platform) == workers)
        started = time.monotonic()
        [row] = service.submit(platform, [job], None, reuse=False)
        done = wait_until(lambda: (found := service.get_job(platform, row.id)).finished and found)
        seconds = time.monotonic() - started
        if done.state != "succeeded":
            raise ValueError(f"the clean job {done.state}: {done.error}")
        parts = service.find_jobs(platform, parent=row.id)
    spent = {
        kind: round(sum((part.finished or 0) - (part.started or 0) for part in parts if part.kind == kind), 1)
        for kind in ("clean_shard", "clean_bucket")
    }
    sha256 = folder_hashes(RunFolder(done.run_folder).artifact("documents"))
    return {"seconds": round(seconds, 1), "seconds in parts": spent, "documents": sorted(sha256.values())}


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ready(platform: Platform) -> int:
    with platform.database.read() as session:
        return session.scalar(select(func.count()).select_from(WorkerRow)) or 0


def measure_scaling(workers: list[int], megabytes: float, shards: int, known: dict[str, Any]) -> dict[str, Any]:
    """The fastest of all runs of each number of workers counts: whatever else the machine does only makes them slower.

    Args:
        known: figures of earlier runs, kept where they are of the same text.
    """
    with tempfile.TemporaryDirectory(prefix="octavo-clean-") as name:
        corpus = Path(name) / "corpus"
        corpus.mkdir()
        write_corpus(corpus, megabytes, files=8 * shards)
        figures = known if known.get("megabytes") == megabytes and known.get("shards") == shards else {}
        figures |= {"megabytes": megabytes, "shards": shards}
        for number in workers:
            run = seconds_with(number, spec(corpus, shards), Path(name) / f"home-{number}")
            print(f"{number} workers: {run['seconds']} s", flush=True)
            before = figures.get(f"workers {number}", run | {"all seconds": []})
            fastest = min(run, before, key=lambda figure: figure["seconds"])
            figures[f"workers {number}"] = fastest | {"all seconds": [*before["all seconds"], run["seconds"]]}
    found = {name: value for name, value in figures.items() if name.startswith("workers ")}
    figures["same bytes"] = len({json.dumps(value["documents"]) for value in found.values()}) == 1
    if {"workers 1", "workers 2"} <= set(found):
        figures["speedup of 2"] = round(found["workers 1"]["seconds"] / found["workers 2"]["seconds"], 2)
        print(f"two workers: {figures['speedup of 2']} times as fast; same bytes: {figures['same bytes']}")
    return figures


# -- memory ----------------------------------------------------------------------------------------------------------


class Watch:
    """Samples the resident memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._process, self._stopping = psutil.Process(pid), Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self.most = max(self.most, sum(member.memory_info().rss for member in tree))
            except psutil.NoSuchProcess:  # one has just ended
                continue

    def stop(self) -> int:
        self._stopping.set()
        self._thread.join()
        return self.most


def measure_memory(gigabytes: float, shards: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="octavo-clean-") as name:
        corpus = Path(name) / "corpus"
        corpus.mkdir()
        documents = write_corpus(corpus, gigabytes * 1_000, files=100)
        print(f"{documents} documents are written", flush=True)
        folder = RunFolder(Path(name) / "run")
        folder.write_job(Job(id="run", spec=spec(corpus, shards)))
        started = time.monotonic()
        trainer = subprocess.Popen([sys.executable, "-m", "trainer", "run", str(folder.path)])
        watch = Watch(trainer.pid)
        returncode = trainer.wait()
        most = watch.stop()
        if returncode != 0:
            raise ValueError(f"the clean job ended with {returncode}")
        result = folder.result()
    figures = {
        "gigabytes": gigabytes,
        "documents": result["documents"],
        "dropped": result["dropped"],
        "peak resident GiB": round(most / GIBIBYTE, 3),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    print(json.dumps(figures, indent=1))
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.clean_scaling")
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="numbers of workers to time, such as 1 2")
    parser.add_argument("--megabytes", type=float, default=100, help="of text, for the timing")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--memory", type=float, metavar="GB", help="measure memory on so much text")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    # Whoever ends this ends the workers it has started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results = json.loads(options.results.read_text()) if options.results.is_file() else {}
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent)}
    if options.workers:
        known = results.get("scaling", {})
        results["scaling"] = measure_scaling(options.workers, options.megabytes, options.shards, known) | described
    if options.memory:
        results["memory"] = measure_memory(options.memory, options.shards) | described
    write_atomic(options.results, json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
