"""What the demo prints: one line a job, and the table of evaluations. Pure functions but for `JobLines`."""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from scripts.api import JobState

BAR_CELLS = 24
CHANGE = 0.25  # without a terminal, a running job is worth a new line after so much of its steps
CLEAR_LINE = "\r\x1b[2K"


def duration(seconds: float | None) -> str:
    """'7 s', '2 min 05 s'; a dash when unknown."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def bar(share: float) -> str:
    filled = round(BAR_CELLS * min(1.0, max(0.0, share)))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def progress(job: JobState) -> float:
    if job.state == "succeeded":
        return 1.0
    return job.step / job.total_steps if job.total_steps else 0.0


def job_line(job: JobState) -> str:
    """'sft                [████░░░░]  40 %  running    1 min 10 s left  phase dialogue'."""
    share = progress(job)
    return f"{job.name:<18} [{bar(share)}] {share:>4.0%}  {job.state:<9}  {remark(job)}".rstrip()


def remark(job: JobState) -> str:
    if job.state == "running":
        left = f"{duration(job.seconds_left)} left" if job.seconds_left is not None else ""
        return "  ".join(part for part in (left, job.message) if part)
    if job.reused_from is not None:
        return "unchanged since an earlier run"
    return f"took {duration(job.seconds)}" if job.state == "succeeded" else ""


class JobLines:
    """Shows jobs as they change: in place on a terminal, otherwise a line at each change."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._shown: dict[str, tuple[str, int]] = {}
        self._over: set[str] = set()

    def show_finished(self, jobs: Sequence[JobState]) -> list[JobState]:
        """Show and return the jobs that are over and were not at the last call."""
        finished = [job for job in jobs if job.is_over and job.id not in self._over]
        for job in finished:
            self._over.add(job.id)
            if job.state == "succeeded" or job.started is not None:  # what never started is no news
                self.print(job_line(job))
        return finished

    def show_running(self, jobs: Sequence[JobState]) -> None:
        """Show the jobs that are going on, as far as something changed."""
        for job in jobs:
            if job.state == "running":
                self._running(job)

    def print(self, line: str) -> None:
        """A line that stays."""
        self._out.write((CLEAR_LINE if self._terminal else "") + line + "\n")
        self._out.flush()

    def _running(self, job: JobState) -> None:
        if self._terminal:
            self._out.write(CLEAR_LINE + job_line(job))
            self._out.flush()
            return
        state = (job.state, int(progress(job) / CHANGE))
        if self._shown.get(job.id) != state:
            self._shown[job.id] = state
            self.print(job_line(job))


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def exact_match(result: Mapping[str, Any]) -> str:
    low, high = result["exact_match_interval"]
    return f"{percent(result['exact_match'])} (95 %: {percent(low)} to {percent(high)})"


def difference(result: Mapping[str, Any]) -> str:
    """Percentage points against the baseline, with the paired 95 % interval."""
    paired = result.get("baseline_difference")
    if paired is None:
        return "–"
    return f"{points(paired['mean'])} ({points(paired['low'])} to {points(paired['high'])})"


def evaluation_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The lines of a table: label, n, exact match, paired difference, a perplexity a source."""
    sources = sorted({source for _, result in rows for source in result["perplexity"]})
    cells = [["", "n", "exact match", "points against SFT (paired 95 %)", *(f"perplexity {name}" for name in sources)]]
    for label, result in rows:
        perplexity = [f"{result['perplexity'][name]:.2f}" if name in result["perplexity"] else "–" for name in sources]
        cells.append([label, str(result["n"]), exact_match(result), difference(result), *perplexity])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "─" * sum(widths, 2 * (len(widths) - 1)), *lines[1:]]
