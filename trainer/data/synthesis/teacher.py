"""Solutions by a teacher: any model behind OpenAI's protocol. Only what was verified is kept.

Of what the teacher writes, the formulas are its steps; each is verified like a solver's, words are left out. Every
request that brings no accepted solution is counted under a reason.
"""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from trainer.artifacts import Run, read_jsonl, write_jsonl
from trainer.data.stopping import stop_if_asked
from trainer.data.synthesis import verify
from trainer.data.synthesis.check import Fault
from trainer.data.synthesis.recheck import solved_fault
from trainer.data.synthesis.working import CLOSING, closing
from trainer.data.tokenizer import END_THINK, THINK
from trainer.job_settings import TeacherSettings
from trainer.spec import Problem

INSTRUCTION = (
    "Solve the problem in short steps. Write each step as one equation on a line of its own, without words: 2x = 11 - "
    "3 = 8. Write fractions as 3/4, powers as x^2, roots as \\sqrt{2}, a derivative as (x^2)' = 2x, a remainder as "
    "17 mod 5 = 2. The last step gives the result. Then write one line: The answer is RESULT."
)
MOST_BYTES = 1 << 20  # of a reply
SILENT_REQUESTS = 16  # in a row without any reply, after which nobody is taken to be there
PAUSE = 0.5  # seconds before a try after a failure, doubled each time

_STEP_ENDS = re.compile(r"\n|;|\.\s|\.$|</?think>")
_MARKS = re.compile(r"^\s*(?:\d+[.)]\s+|[-*•]\s+|#+\s*)|\*\*|\$|\\[()\[\]]|&|\\\\")
# Words, but for those that formulas are made of.
_WORDS = re.compile(
    r"(?<!\\)\b(?!(?:sqrt|sin|cos|tan|log|ln|exp|e|pi|mod|gcd|lcm|oo)\b)[A-Za-z]{2,}\b|(?<=[\s,])a(?=\s)|[:,]\s"
)
_RELATION = re.compile(r"[=<>]")


class _NoReply(Exception):
    """Nothing that can be read came back; the argument is the reason it is counted under."""


class Teacher:
    """Asks for solutions; `rejected` counts requests by reason.

    Raises:
        ValueError: the environment variable for the key is not set.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self.rejected: Counter[str] = Counter()
        self.requests = 0
        self.silent = 0  # requests in a row without a reply
        self._headers = {}
        if settings.key_variable:
            key = os.environ.get(settings.key_variable)
            if not key:
                raise ValueError(f"teacher: the environment variable {settings.key_variable} is not set for the worker")
            self._headers = {"Authorization": f"Bearer {key}"}

    def teach(self, path: Path, run: Run) -> dict[str, Any]:
        """Put the teacher's solutions into a file of problems; those without an accepted one are left out.

        Returns: what was asked, accepted and rejected; requests = accepted + Σ rejected.

        Raises:
            ValueError: the teacher does not reply, or not one solution was accepted.
        """
        problems = list(read_jsonl(path, Problem))
        accepted = asyncio.run(self._teach_all(problems, run))
        if not accepted:
            raise ValueError(f"the teacher solved none of {len(problems)} problems; {self._reasons()}")
        write_jsonl(path, accepted)
        run.log(f"teacher: {len(accepted)} of {len(problems)} problems solved; {self._reasons()}")
        return {
            "model": self.settings.model,
            "requests": self.requests,
            "accepted": len(accepted),
            "left_out": len(problems) - len(accepted),
            "rejected": dict(sorted(self.rejected.items())),
        }

    async def _teach_all(self, problems: list[Problem], run: Run) -> list[Problem]:
        """In the problems' order, however long each takes."""
        accepted: list[Problem] = []
        gate = asyncio.Semaphore(self.settings.concurrency)
        window = 8 * self.settings.concurrency
        async with httpx.AsyncClient(headers=self._headers, timeout=None) as client:  # a deadline of its own
            for start in range(0, len(problems), window):
                stop_if_asked(run)
                run.progress(start, len(problems), "problems solved by the teacher")
                group = problems[start : start + window]
                solved = await asyncio.gather(*(self._solved(client, gate, problem) for problem in group))
                accepted += [problem for problem in solved if problem is not None]
        return accepted

    async def _solved(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, problem: Problem) -> Problem | None:
        for attempt in range(1 + self.settings.retries):
            async with gate:
                if self.silent >= SILENT_REQUESTS:
                    raise ValueError(
                        f"the teacher at {self.settings.url} did not reply to {self.silent} requests in a row; "
                        f"{self._reasons()}"
                    )
                found = await self._try(client, problem)
            if isinstance(found, Problem):
                return found
            self.rejected[found.reason] += 1
            if found.where == "pause" and attempt < self.settings.retries:
                await asyncio.sleep(PAUSE * 2**attempt)
        return None

    async def _try(self, client: httpx.AsyncClient, problem: Problem) -> Problem | Fault:
        self.requests += 1
        try:
            reply = await self._ask(client, problem.prompt)
        except _NoReply as failure:
            self.silent += 1
            return Fault(str(failure), "pause")
        self.silent = 0
        text = _content(reply)
        return Fault("not_openai") if text is None else accepted_solution(text, problem)

    async def _ask(self, client: httpx.AsyncClient, prompt: str) -> bytes:
        """The body of a reply with status 200, all of it within the time allowed."""
        body = {
            "model": self.settings.model,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}],
            "max_tokens": self.settings.max_tokens,
            "temperature": self.settings.temperature,
        }
        url, received = f"{self.settings.url.rstrip('/')}/chat/completions", b""
        try:
            async with asyncio.timeout(self.settings.timeout), client.stream("POST", url, json=body) as response:
                if response.status_code != httpx.codes.OK:
                    raise _NoReply(f"http_{response.status_code}")
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > MOST_BYTES:
                        raise _NoReply("too_long")
        except TimeoutError as error:
            raise _NoReply("timeout") from error
        except httpx.ConnectError as error:
            raise _NoReply("no_connection") from error
        except httpx.HTTPError as error:
            raise _NoReply("broken_connection") from error
        return received

    def _reasons(self) -> str:
        counted = ", ".join(f"{reason}: {count}" for reason, count in self.rejected.most_common())
        return f"requests by what was wrong: {counted or 'none'}"


def _content(reply: bytes) -> str | None:
    """The text of a chat completion; None where this is none."""
    try:
        text = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None


def accepted_solution(text: str, problem: Problem) -> Problem | Fault:
    """The problem with the solution that a text gives, every step verified; or why it is not accepted."""
    working, closed, said = text.rpartition(CLOSING)
    if not closed:
        return Fault("no_answer")
    if verify.read_solution(text.strip()) is not None and not problem.condition:
        solution = text.strip()
    else:
        answer = _MARKS.sub("", said.strip().removeprefix(":").split("\n")[0]).strip().rstrip(".")
        chain = "; ".join(steps(working))
        if not chain:
            return Fault("no_steps")
        solution = f"{THINK}{chain}.{END_THINK}{closing(answer)}"
    fault = solved_fault(solution, problem)
    if fault is not None:
        return fault
    ending = closing(problem.answer)  # the same value, in the form that is compared with
    solved = solution[: solution.rindex(CLOSING)] + ending
    return problem.model_copy(update={"solution": solved, "direct": ending})


def steps(working: str) -> Iterator[str]:
    """The formulas in what a teacher wrote, in order: what stands between words and relates two sides."""
    for line in _STEP_ENDS.split(working):
        for piece in _WORDS.split(_MARKS.sub("", line)):
            if _RELATION.search(piece):
                yield " ".join(piece.split()).strip(" ,.")
