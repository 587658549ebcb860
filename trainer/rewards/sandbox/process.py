"""The trainer's side of one zygote (see `zygote.py`): starts it, hands it programs one at a time, ends it."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from trainer.rewards.sandbox.limits import Limits, Outcome
from trainer.rewards.sandbox.seccomp import filter_for, machine

ZYGOTE = Path(__file__).with_name("zygote.py")
PATIENCE = 20.0  # seconds that a zygote may take for what is its own work


class Isolation(NamedTuple):
    """What keeps a program from the file system, besides the seccomp filter and the limits, which are always there."""

    landlock: bool
    bubblewrap: str | None  # path of bwrap

    @property
    def name(self) -> str:
        return " and ".join(filter(None, ["Landlock" * self.landlock, "bubblewrap" if self.bubblewrap else ""]))


class ZygoteProcess:
    """Runs one program at a time; not to be shared between threads. A context manager: leaving it ends everything.

    Raises:
        OSError: the zygote cannot start, with the reason it gave.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="octavo-sandbox-", ignore_cleanup_errors=True)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                _command(isolation, self._folder.name),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0"},  # a program gives the same answer every time
                cwd=self._folder.name,
                start_new_session=True,
            )
        try:
            self.landlock_version: int | None = self._receive(PATIENCE)["landlock"]
        except (EOFError, TimeoutError):
            raise OSError(self.close()) from None

    def run(self, program: str, stdin: str, limits: Limits) -> Outcome:
        """Raises RuntimeError if the zygote itself fails, which no program can bring about."""
        with contextlib.ExitStack() as stack:
            files = [_memory_file(text) for text in (program, stdin, None, None)]
            for file in files:
                stack.callback(os.close, file)
            try:
                socket.send_fds(self._control, [limits.model_dump_json().encode()], files)
                reply = self._receive(limits.seconds + PATIENCE)
            except (OSError, EOFError) as error:
                raise RuntimeError(f"the sandbox's own process failed: {self.close()}") from error
            stdout, stderr = (_content(file, limits.output_bytes) for file in files[2:])
        if not reply["confined"]:
            raise RuntimeError(f"nothing was run, since a right could not be given up: {stderr}")
        return Outcome(reply["status"], stdout, stderr, reply["seconds"])

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        message = self._control.recv(4096)
        if not message:
            raise EOFError
        return cast("dict[str, Any]", json.loads(message))

    def close(self) -> str:
        """End the zygote with all it runs; the last line that it wrote as an error, if any."""
        self._control.close()  # whereupon it kills what it runs, and ends
        try:
            _, errors = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            _, errors = self._process.communicate()
        self._folder.cleanup()
        lines = errors.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {self._process.returncode}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _command(isolation: Isolation, folder: str) -> list[str]:
    stdlib = os.path.realpath(sysconfig.get_path("stdlib"))
    settings = {
        "folder": folder,
        "readable": [stdlib],
        "landlock": isolation.landlock,
        "seccomp": filter_for(machine()).hex(),
    }
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    start = [python, "-P", "-s", "-S", str(ZYGOTE), json.dumps(settings)]
    if isolation.bubblewrap is None:
        return start
    # Libraries of the system and, for a Python of its own, beside the standard library.
    shown = [python, stdlib, str(ZYGOTE), *sorted(map(str, Path(stdlib).parent.glob("libpython3*")))]
    binds = [argument for path in shown for argument in ("--ro-bind", path, path)]
    for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"):
        binds += ["--ro-bind-try", path, path]
    alone = ["--unshare-all", "--cap-drop", "ALL"]
    return [isolation.bubblewrap, *alone, *binds, "--bind", folder, folder, "--remount-ro", "/", "--", *start]


def _memory_file(text: str | None) -> int:
    """An open file in memory: for reading only, or empty for writing."""
    if text is None:
        return os.memfd_create("output")
    file = os.memfd_create("input", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with open(file, "wb", closefd=False) as writing:
        writing.write(text.encode("utf-8", "replace"))
    os.lseek(file, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


def _content(file: int, most: int) -> str:
    return os.pread(file, most, 0).decode("utf-8", "replace")
