"""The sandbox: no attack gets out (by any way of isolating that this machine has), and limits end what exceeds them."""

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from trainer.__main__ import main
from trainer.rewards.sandbox import Isolation, Limits, Sandbox, run_code, run_many
from trainer.rewards.sandbox.escapes import ESCAPES, Escape
from trainer.rewards.sandbox.isolation import probe
from trainer.rewards.sandbox.seccomp import filter_for
from trainer.rewards.sandbox.targets import Targets, aimed, escaped, targets, works_outside

ROOT = Path(__file__).parents[3]


def ways() -> list[Isolation]:
    """Each mechanism of this machine by itself: where both work, either must be enough."""
    if (found := probe().isolation) is None:
        return []
    alone = [Isolation(landlock=True, bubblewrap=None)] * found.landlock
    return alone + ([Isolation(landlock=False, bubblewrap=found.bubblewrap)] if found.bubblewrap else [])


@pytest.fixture(scope="module")
def at() -> Iterator[Targets]:
    with targets() as made:
        yield made


@pytest.fixture(scope="module", params=ways(), ids=lambda way: way.name)
def sandbox(request: pytest.FixtureRequest, at: Targets) -> Iterator[Sandbox]:
    with Sandbox(isolation=request.param) as opened:  # after the targets, so that it could inherit them
        yield opened


# -- escapes ---------------------------------------------------------------------------------------------------------


def test_this_machine_isolates() -> None:
    """Without this, the tests below would be none and the suite would pass."""
    assert ways(), probe()


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.name)
def test_the_attack_works_outside(escape: Escape, at: Targets, tmp_path: Path) -> None:
    Path(at.spoilt).write_text("whole")
    assert works_outside(escape, at, tmp_path) or not escape.proven


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.name)
def test_the_attack_fails_inside(escape: Escape, at: Targets, sandbox: Sandbox) -> None:
    Path(at.spoilt).write_text("whole")
    before = sorted(os.listdir(at.outside)), os.stat(at.spoilt), os.stat(at.secret)
    outcome = sandbox.run(aimed(escape, at), limits=escape.limits)
    assert not escaped(escape, outcome), outcome
    after = sorted(os.listdir(at.outside)), os.stat(at.spoilt), os.stat(at.secret)
    assert [after[0], after[1][:7], after[2][:7]] == [before[0], before[1][:7], before[2][:7]]
    assert psutil.pid_exists(at.victim)
    assert sandbox.run("print('still here')").stdout == "still here\n"


def test_every_attack_has_a_name_of_its_own() -> None:
    assert len({escape.name for escape in ESCAPES}) == len(ESCAPES)


def test_the_command_says_what_isolates_and_that_all_attacks_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^landlock: .+\nbubblewrap: .+\nprograms run behind \w+", printed)
    assert f"{len(ESCAPES)} of {len(ESCAPES)} attacks held" in printed


# -- the filter ------------------------------------------------------------------------------------------------------

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ALLOWED, DENIED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000
# By name in the kernel's tables: numbers a program must never reach.
FORBIDDEN = {
    "x86_64": {"clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "tgkill": 234,
               "socket": 41, "socketpair": 53, "chmod": 90, "truncate": 76, "link": 86, "symlink": 88, "prctl": 157,
               "mount": 165, "unshare": 272, "process_vm_readv": 310, "seccomp": 317, "bpf": 321, "userfaultfd": 323,
               "memfd_create": 319, "execveat": 322, "io_uring_setup": 425, "clone3": 435, "openat2": 437},
    "aarch64": {"clone": 220, "execve": 221, "kill": 129, "ptrace": 117, "tgkill": 131, "socket": 198,
                "socketpair": 199, "fchmodat": 53, "truncate": 45, "linkat": 37, "symlinkat": 36, "prctl": 167,
                "mount": 40, "unshare": 97, "process_vm_readv": 270, "seccomp": 277, "bpf": 280, "userfaultfd": 282,
                "memfd_create": 279, "execveat": 281, "io_uring_setup": 425, "clone3": 435, "openat2": 437},
}  # fmt: skip


def judged(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = X86_64) -> int:
    """What the kernel would do: a plain interpreter of the few instructions there are."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, operand)[0]
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize(("name", "architecture"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_the_filter_allows_no_call_that_reaches_others(name: str, architecture: int) -> None:
    program = filter_for(name)
    for call, number in FORBIDDEN[name].items():
        assert judged(program, number, architecture=architecture) == DENIED, call
    allowed = [number for number in range(600) if judged(program, number, architecture=architecture) == ALLOWED]
    assert 40 < len(allowed) < 90
    assert all(judged(program, number | 1 << 30, architecture=architecture) == DENIED for number in allowed)  # x32


def test_calls_by_another_architecture_end_the_process() -> None:
    assert judged(filter_for("x86_64"), 0, architecture=0x40000003) == KILLED
    assert judged(filter_for("aarch64"), 63, architecture=X86_64) == KILLED


def test_arguments_decide_where_a_call_could_do_both() -> None:
    program = filter_for("x86_64")
    openat, fcntl, prlimit, unlinkat = 257, 72, 302, 263
    for flags in (
        os.O_RDONLY,
        os.O_WRONLY | os.O_TRUNC | os.O_CREAT,
        os.O_RDWR | os.O_TRUNC,
        os.O_RDONLY | os.O_CLOEXEC,
    ):
        assert judged(program, openat, (3, 0, flags)) == ALLOWED
    for flags in (os.O_TRUNC, os.O_TRUNC | os.O_CLOEXEC, 3, 3 | os.O_TRUNC):
        assert judged(program, openat, (3, 0, flags)) == DENIED
    assert [judged(program, fcntl, (3, command)) for command in (3, 8, 10, 15)] == [ALLOWED, DENIED, DENIED, DENIED]
    assert [judged(program, prlimit, (process,)) for process in (0, 1)] == [ALLOWED, DENIED]
    assert [judged(program, unlinkat, (3, 0, flags)) for flags in (0, 0x200)] == [ALLOWED, DENIED]


# -- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("pass", "ok"),
        ("raise SystemExit", "ok"),
        ("import sys; sys.exit(3)", "error"),
        ("import sys; sys.exit('no')", "error"),
        ("1 / 0", "error"),
        ("def", "error"),
        ("a\0b", "error"),
        ("\udc80", "error"),
        ("(" * 100_000, "error"),
        ("import os; os.close(1); print(1)", "error"),
        ("bytes(2**40)", "memory"),
        ("import ctypes; ctypes.string_at(0)", "killed"),
    ],
)
def test_a_program_ends_with_the_status_that_fits(program: str, status: str, sandbox: Sandbox) -> None:
    assert sandbox.run(program).status == status


def test_a_program_reads_its_stdin_and_writes_both_streams(sandbox: Sandbox) -> None:
    program = "import sys\nfor line in sys.stdin:\n    print(line.strip() + 'é')\nprint('no', file=sys.stderr)\ninput()"
    outcome = sandbox.run(program, stdin="a\nbç\n")
    assert outcome.stdout == "aé\nbçé\n"
    assert outcome.stderr.startswith("no\n")
    assert "EOFError" in outcome.stderr
    assert "zygote" not in outcome.stderr


def test_a_program_is_a_script_of_its_own(sandbox: Sandbox) -> None:
    program = """
import atexit, dataclasses, sys
atexit.register(print, "last")
@dataclasses.dataclass
class Point:
    x: "int"
print(__name__, Point(1), sys.argv, sorted(set(globals()) - set(dir(sys)) - {"__builtins__"}))
"""
    expected = "__main__ Point(x=1) ['program'] ['Point', 'atexit', 'dataclasses', 'sys']\nlast\n"
    assert sandbox.run(program).stdout == expected


def test_the_folder_is_writable_and_empty_again_for_the_next_program(sandbox: Sandbox) -> None:
    writing = """
import os
for name in "abc":
    open(name, "w").write(name)
os.rename("a", "d")
os.unlink("b")
print(sorted(os.listdir()))
open(b"\\xff\\n", "w")
"""
    assert sandbox.run(writing).stdout == "['c', 'd']\n"
    assert sandbox.run("import os\nprint(os.listdir())").stdout == "[]\n"


def test_a_program_leaves_nothing_behind_in_the_process_that_the_next_is_forked_from(sandbox: Sandbox) -> None:
    sandbox.run("import builtins, json, sys\nbuiltins.print = None\njson.dumps = None\nsys.path.clear()")
    assert sandbox.run("import json, sys\nprint(json.dumps(len(sys.path) > 0))").stdout == "true\n"


def test_the_same_program_gives_the_same_answer(sandbox: Sandbox) -> None:
    program = "import random\nprint(random.random(), list({'a', 'b', 'c', 'd'}))"
    with Sandbox() as other:
        assert sandbox.run(program).stdout == sandbox.run(program).stdout == other.run(program).stdout


def test_output_is_kept_up_to_the_limit(sandbox: Sandbox) -> None:
    outcome = sandbox.run("print('x' * 5000)", limits=Limits(output_bytes=2000))
    assert (outcome.status, outcome.stdout) == ("output", "x" * 2000)


def test_computing_is_limited_apart_from_waiting(sandbox: Sandbox) -> None:
    outcome = sandbox.run("while True: pass", limits=Limits(seconds=100, cpu_seconds=1))
    assert outcome.status == "timeout"
    assert outcome.seconds < 50


def test_many_programs_keep_their_order() -> None:
    outcomes = run_many([f"print({number})" for number in range(20)], workers=3)
    assert [int(outcome.stdout) for outcome in outcomes] == list(range(20))


def test_one_program_needs_no_sandbox_of_the_callers() -> None:
    assert run_code("print(input())", stdin="x").stdout == "x\n"


# -- the house of it -------------------------------------------------------------------------------------------------


def gone(process: int) -> bool:
    end = time.monotonic() + 10
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True


def test_nothing_outlives_a_trainer_that_is_killed() -> None:
    program = """
import threading, psutil
from trainer.rewards.sandbox import Limits, Sandbox
with Sandbox() as sandbox:
    thread = threading.Thread(target=sandbox.run, args=["while True: pass"], kwargs={"limits": Limits(seconds=100)})
    thread.start()
    while len(found := psutil.Process().children(recursive=True)) < 2:
        pass
    print(*(process.pid for process in found), flush=True)
    thread.join()
"""
    trainer = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    processes = [int(word) for word in trainer.stdout.readline().split()]
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    assert len(processes) >= 2
    assert all(gone(process) for process in processes)


def test_a_run_leaves_no_open_file_on_either_side() -> None:
    before = set(psutil.Process().children(recursive=True))
    with Sandbox() as sandbox:
        sides = [psutil.Process(), *(set(psutil.Process().children(recursive=True)) - before)]
        first = [side.num_fds() for side in sides]
        for _ in range(5):
            sandbox.run("print(open('file', 'w'))")
        assert [side.num_fds() for side in sides] == first


def test_leaving_a_sandbox_ends_its_processes_and_removes_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(psutil.Process().children())
    with Sandbox(workers=2) as sandbox:
        started = set(psutil.Process().children()) - before
        assert (len(started), len(list(tmp_path.iterdir()))) == (2, 2)
        sandbox.run("open('file', 'w')")
    assert not any(process.is_running() for process in started)
    assert list(tmp_path.iterdir()) == []


def test_a_zygote_that_is_killed_is_an_error_and_no_outcome() -> None:
    before = set(psutil.Process().children(recursive=True))
    with Sandbox() as sandbox:
        for process in set(psutil.Process().children(recursive=True)) - before:
            with contextlib.suppress(psutil.NoSuchProcess):  # it went with its parent
                process.kill()
        with pytest.raises(RuntimeError, match="the sandbox's own process failed"):
            sandbox.run("print(1)")
        with pytest.raises(RuntimeError, match="the sandbox's own process failed"):
            sandbox.run("print(1)")


def test_where_nothing_isolates_it_refuses_and_says_what_to_install() -> None:
    """In a process that may use neither: a filter denies Landlock, and no program is found."""
    program = """
import ctypes, os, struct
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)]
filter = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("@HP", len(code), ctypes.addressof(filter))), 0, 0) == 0
from trainer.rewards.sandbox.command import main
raise SystemExit(main())
"""
    env = {**os.environ, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "model-written code cannot be isolated on this machine, so it is not run" in done.stderr
    assert "apt-get install bubblewrap" in done.stderr
    assert done.stdout.startswith("landlock: does not work: OSError: [Errno 38] this kernel has no Landlock")


def test_limits_that_are_lower_already_stay() -> None:
    program = (
        "from trainer.rewards.sandbox import run_code; print(run_code('import resource as r; print(r.getrlimit(7))'))"
    )
    lowered = f"ulimit -n 40 -t 1000 && exec {sys.executable} -c {program!r}"
    done = subprocess.run(["bash", "-c", lowered], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "(40, 40)" in done.stdout


def test_a_machine_whose_system_calls_are_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ValueError, match="x86_64 and aarch64 only, not on riscv64"):
        run_code("pass")
