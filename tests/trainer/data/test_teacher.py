"""A teacher behind a real HTTP server on this machine: what it writes is verified, what goes wrong is counted."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.trainer import tiny
from trainer.artifacts import Run, read_jsonl, write_jsonl
from trainer.data.synthesis import Generator
from trainer.data.synthesis.recheck import problem_fault
from trainer.data.synthesis.teacher import SILENT_REQUESTS, Teacher, accepted_solution
from trainer.spec import Problem, SynthesizeSpec, TeacherSettings
from trainer.stages import synthesize

Reply = Callable[[BaseHTTPRequestHandler, str], None]  # to a question


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[str, list[BaseHTTPRequestHandler]]]:
    """A server on a free port; yields its address and the requests it got."""
    seen: list[BaseHTTPRequestHandler] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                reply(self, body["messages"][-1]["content"])
            except ConnectionError:
                return  # the client gave up

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, body: str, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


def say(handler: BaseHTTPRequestHandler, text: str) -> None:
    send(handler, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}))


def forever(handler: BaseHTTPRequestHandler) -> None:
    """Trickles bytes so that no single read takes long."""
    handler.send_response(200)
    handler.end_headers()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


PROBLEMS = list(Generator(("linear_equation", "addition"), (1,), 0).problems("train", 8))
ANSWERS = {problem.prompt: problem for problem in PROBLEMS}


def settings(url: str, **more: object) -> TeacherSettings:
    return TeacherSettings.model_validate({"url": url, "model": "t", "timeout": 5.0, "retries": 0, **more})


def taught(tmp_path: Path, url: str, problems: list[Problem] = PROBLEMS, **more: object) -> tuple[Run, Teacher, Path]:
    run = tiny.new_run(tmp_path / "run", {"kind": "synthesize", "name": "synthesize"}, {})
    path = tmp_path / "train.jsonl"
    write_jsonl(path, problems)
    return run, Teacher(settings(url, **more)), path


def prose(problem: Problem) -> str:
    """A solver's steps as a talkative model would put them."""
    working = problem.solution.removeprefix("<think>").partition("</think>")[0].rstrip(".")
    numbered = [f"{n}. So we get **{step}** here." for n, step in enumerate(working.split("; "), 1)]
    return "\n".join(["Let me think about it.", *numbered, f"The answer is ${problem.answer}$."])


def test_accepted_solutions_are_verified_ones_in_the_problems_order(tmp_path: Path) -> None:
    formulas = [problem for problem in PROBLEMS if problem.condition]
    with serving(lambda handler, question: say(handler, prose(ANSWERS[question]))) as (url, seen):
        run, teacher, path = taught(tmp_path, url, formulas)
        report = teacher.teach(path, run)
    assert report == {"model": "t", "requests": 4, "accepted": 4, "left_out": 0, "rejected": {}}
    found = list(read_jsonl(path, Problem))
    assert [problem.id for problem in found] == [problem.id for problem in formulas]
    assert [problem_fault(problem) for problem in found] == [None] * 4
    assert [problem.solution for problem in found] == [problem.solution for problem in formulas]
    assert seen[0].path == "/v1/chat/completions"


def test_the_platforms_own_way_of_working_is_accepted(tmp_path: Path) -> None:
    """What a network trained here answers: digit by digit, in <think>."""
    with serving(lambda handler, question: say(handler, ANSWERS[question].solution)) as (url, _):
        run, teacher, path = taught(tmp_path, url)
        teacher.teach(path, run)
    assert list(read_jsonl(path, Problem)) == PROBLEMS


def test_each_way_to_fail_is_counted_and_counts_add_up(tmp_path: Path) -> None:
    bad: list[Reply] = [  # the last one is good
        lambda handler, question: forever(handler),
        lambda handler, question: send(handler, "oops", 500),
        lambda handler, question: send(handler, "<html>not what was asked for</html>"),
        lambda handler, question: say(handler, "I do not know."),
        lambda handler, question: say(handler, "The answer is 12345."),
        lambda handler, question: say(handler, f"1 + 1 = 3\nThe answer is {ANSWERS[question].answer}."),
        lambda handler, question: say(handler, f"7 + 7 = 14\nThe answer is {ANSWERS[question].answer}."),
        lambda handler, question: say(handler, prose(ANSWERS[question])),
    ]
    ordered = sorted(PROBLEMS, key=lambda problem: bool(problem.condition))  # prose is of formulas
    turns = {problem.prompt: reply for problem, reply in zip(ordered, bad, strict=True)}
    with serving(lambda handler, question: turns[question](handler, question)) as (url, _):
        run, teacher, path = taught(tmp_path, url, timeout=2.0)
        report = teacher.teach(path, run)
    assert report["rejected"] == {
        "timeout": 1, "http_500": 1, "not_openai": 1, "no_answer": 1, "no_steps": 1, "false_step": 1, "not_derived": 1,
    }  # fmt: skip
    assert report["requests"] == report["accepted"] + sum(report["rejected"].values()) == 8
    assert report["accepted"] + report["left_out"] == len(PROBLEMS)
    assert [problem.id for problem in read_jsonl(path, Problem)] == [ordered[-1].id]


def test_a_rejected_solution_is_asked_for_again(tmp_path: Path) -> None:
    asked: set[str] = set()

    def second_time(handler: BaseHTTPRequestHandler, question: str) -> None:
        say(handler, ANSWERS[question].solution if question in asked else "Hm.")
        asked.add(question)

    with serving(second_time) as (url, _):
        run, teacher, path = taught(tmp_path, url, retries=1)
        report = teacher.teach(path, run)
    assert (report["accepted"], report["rejected"], report["requests"]) == (8, {"no_answer": 8}, 16)


def test_a_teacher_that_never_replies_ends_the_job_in_one_sentence(tmp_path: Path) -> None:
    many = list(Generator(("linear_equation",), (1,), 0).problems("train", 3 * SILENT_REQUESTS))
    with serving(lambda handler, question: send(handler, "", 503)) as (url, seen):
        run, teacher, path = taught(tmp_path, url, many, concurrency=4)
        with pytest.raises(ValueError, match=rf"teacher at {re.escape(url)} did not reply to \d+ requests.*http_503: "):
            teacher.teach(path, run)
        assert len(seen) < 2 * SILENT_REQUESTS
    run, teacher, path = taught(tmp_path, url)  # nobody listens there any more
    with pytest.raises(ValueError, match=r"solved none of 8 problems; .*no_connection: 8"):
        teacher.teach(path, run)


def test_the_key_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="environment variable TEACHER_KEY is not set"):
        Teacher(settings("http://127.0.0.1:1/v1", key_variable="TEACHER_KEY"))
    monkeypatch.setenv("TEACHER_KEY", "k")
    with serving(lambda handler, question: say(handler, ANSWERS[question].solution)) as (url, seen):
        run, teacher, path = taught(tmp_path, url, key_variable="TEACHER_KEY")
        teacher.teach(path, run)
        assert {request.headers["Authorization"] for request in seen} == {"Bearer k"}


def test_the_stage_takes_the_teachers_solutions(tmp_path: Path) -> None:
    def solve(handler: BaseHTTPRequestHandler, question: str) -> None:
        a, b = map(int, re.findall(r"\d+", question))
        say(handler, f"{a}+{b} = {a + b}\nThe answer is {a + b}." if a % 2 else "?")

    with serving(solve) as (url, _):
        spec = SynthesizeSpec(
            name="synthesize", families=("addition",), levels=(1,), train=40, rl=5, heldout=3, teacher=settings(url)
        )
        run = tiny.new_run(tmp_path / "stage", spec.model_dump(), {})
        synthesize.run(spec, run)
    result = run.folder.result()
    assert (
        result["problems"]["train"] == result["teacher"]["accepted"] == 40 - result["teacher"]["rejected"]["no_answer"]
    )
    assert 5 < result["teacher"]["accepted"] < 35
    for problem in read_jsonl(run.folder.artifact("problems") / "train.jsonl", Problem):
        assert re.fullmatch(r"<think>\d+\+\d+ = \d+\.</think>The answer is \d+\.", problem.solution)
        assert problem_fault(problem) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "\\[ 2x = 11 - 3 = 8 \\]\nThus, $x = \\frac{8}{2} = 4$.\nThe answer is 4.",
            "2x = 11 - 3 = 8; x = \\frac{8}{2} = 4",
        ),
        ("- Subtract 3: 2x = 8\n- Divide by 2: x = 4 and that is all\nThe answer is: 4", "2x = 8; x = 4"),
        ("2 × 4 = 8\n8 + 3 = 11\nx = 4.0\nThe answer is 4.0.", "2 × 4 = 8; 8 + 3 = 11; x = 4.0"),
    ],
)
def test_formulas_are_taken_out_of_what_a_model_writes(text: str, kept: str) -> None:
    problem = Problem(
        id="", family="linear_equation", level=1, prompt="Solve 2x + 3 = 11.", solution="", direct="", answer="4",
        condition="2x + 3 = 11",
    )  # fmt: skip
    found = accepted_solution(text, problem)
    assert isinstance(found, Problem), found
    assert found.solution == f"<think>{kept}.</think>The answer is 4."
