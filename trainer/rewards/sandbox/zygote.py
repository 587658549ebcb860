"""The process that programs are forked from: `python -P -s -S zygote.py SETTINGS`, with its control socket as stdin.

It starts once, loads what programs commonly import, and then costs a program a fork instead of a start of Python. It
imports nothing of ours, so its memory holds no secret to inherit; and since the forked child reads the program, not
the zygote, it holds nothing of earlier programs (or of what they are judged by) either.

One message asks for one run: limits as JSON, with four files: the program, its stdin, stdout and stderr. The child
gives up every right before it looks at the program; it cannot fork, so killing it leaves nobody behind. When the
control socket closes, the zygote kills what runs and ends.
"""

import atexit
import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
import types
from typing import NamedTuple, NoReturn

PRELOADED = (
    "abc", "array", "ast", "base64", "bisect", "bz2", "calendar", "cmath", "collections.abc", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "io",
    "itertools", "json", "lzma", "math", "numbers", "operator", "pprint", "queue", "re", "statistics", "string",
    "textwrap", "threading", "typing", "unicodedata", "uuid", "zlib",
)  # fmt: skip
TICK_MILLISECONDS = 20  # how often the folder of a running program is measured
EXIT_MEMORY = 86  # only a label: a program may end with it as well

# linux/prctl.h, linux/seccomp.h, linux/capability.h
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 22, 38, 2
CAPABILITY_VERSION_3 = 0x20080522
# linux/landlock.h
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8, 1 << 14
# Rights on files that each version of Landlock can take away: all it knows, so that only what a rule gives is left.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def landlock_version() -> int:
    version = libc.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_long(0), ctypes.c_long(1))
    return checked(version, "this kernel has no Landlock, or has it switched off")


def landlock_ruleset(readable: list[str], folder: str) -> int:
    """A file descriptor of rules: read below `readable`, read and write plain files in `folder`, nothing else.

    Where the version knows them, also: no TCP (from 4), no abstract sockets of others and no signals to them (from 6).
    """
    version = landlock_version()
    rights = (1 << FILE_RIGHTS[min(version, 5)]) - 1
    attributes = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = ctypes.c_long(len(attributes))
    ruleset = checked(libc.syscall(ctypes.c_long(CREATE_RULESET), attributes, size, ctypes.c_long(0)), "Landlock")
    reading = READ_FILE | READ_DIR
    writing = reading | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
    for path, allowed in [*((path, reading) for path in readable), (folder, writing)]:
        beneath = os.open(path, os.O_PATH)
        rule = struct.pack("=Qi", allowed & rights, beneath)
        numbers = (ctypes.c_long(ADD_RULE), ctypes.c_long(ruleset), ctypes.c_long(1))
        checked(libc.syscall(*numbers, rule, ctypes.c_long(0)), path)
        os.close(beneath)
    return ruleset


class FilterProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Zygote(NamedTuple):
    """What is the same for every program: where to ask for runs, its folder, and how it is confined."""

    control: socket.socket
    process: int
    folder: str
    ruleset: int | None  # of Landlock
    seccomp: bytes


def limit_resources(limits: dict[str, int]) -> None:
    for name, most in {
        "CPU": limits["cpu_seconds"],
        "AS": limits["memory_bytes"],
        "NOFILE": limits["open_files"],
        "FSIZE": limits["output_bytes"],
        "NPROC": 0,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
    }.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        already = resource.getrlimit(kind)[1]
        # One second between the signal at which a program may go on and the one at which it may not.
        hard = most + 1 if name == "CPU" else most
        hard = hard if already == resource.RLIM_INFINITY else min(hard, already)
        resource.setrlimit(kind, (min(most, hard), hard))


def confine(zygote: Zygote, limits: dict[str, int]) -> None:
    """Give up, in this order, what each later step would no longer be allowed to."""
    limit_resources(limits)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, but a file that grows too large is an end
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "death signal")
    if os.getppid() != zygote.process:
        raise OSError("the zygote had ended before")
    checked(libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24)), "capabilities")
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    if zygote.ruleset is not None:
        numbers = (ctypes.c_long(RESTRICT_SELF), ctypes.c_long(zygote.ruleset), ctypes.c_long(0))
        checked(libc.syscall(*numbers), "Landlock")
        os.close(zygote.ruleset)
    program = FilterProgram(len(zygote.seccomp) // 8, zygote.seccomp)
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def run_program(source: bytes) -> int:
    """Run it as a script of its own, to its exit status. It sees nothing here that is worth more than what it has."""
    for stream, file, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        errors = "backslashreplace" if stream == "stderr" else "replace"
        opened = open(file, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 closed with the process
        setattr(sys, stream, opened)
        setattr(sys, f"__{stream}__", opened)
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv = ["program"]
    random.seed(0)
    status = 0
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), main.__dict__)
    except SystemExit as end:
        status = exit_status(end)
    except MemoryError:
        status = EXIT_MEMORY
    except BaseException as error:  # noqa: BLE001 whatever a program raises is its outcome, as it is of any script
        within = error.__traceback__ and error.__traceback__.tb_next  # without this function's own line
        traceback.print_exception(error.with_traceback(within))
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def exit_status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1


def become_program(zygote: Zygote, files: list[int], report: int, limits: dict[str, int]) -> NoReturn:
    """In the forked child. Whatever happens, it does not return into the zygote's loop."""
    status = 1
    try:
        for target, opened in enumerate(files[1:]):  # all above 2, so none is in the way of another
            os.dup2(opened, target)
        try:
            confine(zygote, limits)
        except OSError as error:
            os.write(2, str(error).encode())
            os._exit(status)
        os.write(report, b"1")
        with open(files[0], "rb", closefd=False) as file:
            source = file.read()
        for opened in (*files, report):
            os.close(opened)
        status = run_program(source)
    finally:
        os._exit(status)


def folder_bytes(folder: str) -> int:
    total = 0
    with os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                total += file.stat(follow_symlinks=False).st_size + 4096  # an empty one costs, too
    return total


def sweep(folder: str) -> None:
    """A program can make plain files only, so nothing lies deeper."""
    with os.scandir(folder) as files:
        for file in files:
            os.unlink(file.path)


def wait(zygote: Zygote, process: int, limits: dict[str, float]) -> str | None:
    """Until the process has ended (None), or reached a limit of which the kernel does not know (its name).

    Raises:
        EOFError: nobody waits for the run any more.
    """
    end = time.monotonic() + limits["seconds"]
    events = select.poll()
    events.register(process, select.POLLIN)
    events.register(zygote.control, select.POLLIN)  # nothing is sent during a run, so this is its end
    while not (ready := dict(events.poll(TICK_MILLISECONDS))):
        if time.monotonic() > end:
            return "timeout"
        if folder_bytes(zygote.folder) > limits["folder_bytes"]:
            return "output"
    if process not in ready:
        raise EOFError
    return None


def supervise(zygote: Zygote, child: int, limits: dict[str, float]) -> dict[str, object]:
    """The status of the child, which has ended or is killed at a limit, and how long it ran."""
    start = time.monotonic()
    process = os.pidfd_open(child)
    try:
        reached = wait(zygote, process, limits)
    finally:
        # It is not reaped yet, so this meets it or nobody.
        signal.pidfd_send_signal(process, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        os.close(process)
    # The kernel sends SIGXCPU, and a second later what no program can ignore.
    computed_long = usage.ru_utime + usage.ru_stime >= limits["cpu_seconds"]
    return {"status": reached or described(status, computed_long), "seconds": time.monotonic() - start}


def described(status: int, computed_long: bool) -> str:
    if not os.WIFSIGNALED(status):
        return {0: "ok", EXIT_MEMORY: "memory"}.get(os.WEXITSTATUS(status), "error")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU or (number == signal.SIGKILL and computed_long):
        return "timeout"
    return "output" if number == signal.SIGXFSZ else "killed"


def run_one(zygote: Zygote, message: bytes, files: list[int]) -> dict[str, object]:
    limits = json.loads(message)
    reading, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        become_program(zygote, files, report, limits)
    for file in (*files, report):
        os.close(file)
    try:
        reply = supervise(zygote, child, limits)
        # The child says so itself, before there is a program that could.
        return reply | {"confined": os.read(reading, 1) == b"1"}
    finally:
        os.close(reading)
        sweep(zygote.folder)


def main() -> None:
    settings = json.loads(sys.argv[1])
    for name in PRELOADED:
        importlib.import_module(name)
    os.chdir(settings["folder"])
    os.umask(0o077)
    ruleset = landlock_ruleset(settings["readable"], settings["folder"]) if settings["landlock"] else None
    zygote = Zygote(
        control=socket.socket(fileno=0),
        process=os.getpid(),
        folder=settings["folder"],
        ruleset=ruleset,
        seccomp=bytes.fromhex(settings["seccomp"]),
    )
    gc.freeze()  # what lives until here is not looked through, and so not copied, in every child
    zygote.control.send(json.dumps({"landlock": ruleset and landlock_version()}).encode())
    while True:
        message, files, _, _ = socket.recv_fds(zygote.control, 4096, 4)
        if not message:
            break
        try:
            reply = run_one(zygote, message, files)
        except EOFError:
            break
        zygote.control.send(json.dumps(reply).encode())
    with contextlib.suppress(OSError):  # the trainer removes it, unless it has been killed
        os.rmdir(settings["folder"])


if __name__ == "__main__":
    main()
