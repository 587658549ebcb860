"""What the attacks of `escapes.py` aim at: real files, sockets and processes, made for them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from trainer.rewards.sandbox.escapes import Escape
from trainer.rewards.sandbox.limits import Outcome

class Targets(NamedTuple):
    secret: str  # a file to read
    spoilt: str  # a file to change
    outside: str  # a folder to write to
    home: str
    repository: str  # a file of this package
    variable: str  # of the environment
    parent: int  # the process that runs the programs
    victim: int  # another process of the same user
    inherited: int  # number of an open file
    tcp: int
    udp: int
    unix: str
    abstract: str


@contextmanager
def targets() -> Iterator[Targets]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="octavo-targets-")))
        secret, spoilt = folder / "secret", folder / "spoilt"
        secret.write_text("secret")
        spoilt.write_text("whole")
        tcp, udp, _, _ = (
            stack.enter_context(_bound(family, kind, address))
            for family, kind, address in (
                (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
                (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
                (socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket")),
                (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{folder.name}"),
            )
        )
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE))
        stack.callback(victim.kill)
        os.environ[folder.name] = "secret"
        stack.callback(os.environ.pop, folder.name)
        yield Targets(
            str(secret), str(spoilt), str(folder), str(Path.home()), __file__, folder.name, os.getpid(), victim.pid,
            stack.enter_context(secret.open()).fileno(), tcp.getsockname()[1], udp.getsockname()[1],
            str(folder / "socket"), folder.name,
        )  # fmt: skip


def _bound(family: int, kind: int, address: object) -> socket.socket:
    opened = socket.socket(family, kind)
    opened.bind(address)  # type: ignore[arg-type]  # what an address is depends on the family
    if kind == socket.SOCK_STREAM:
        opened.listen()
    return opened


def aimed(escape: Escape, at: Targets) -> str:
    """The attack as a program of its own."""
    return f"T = {json.dumps(at._asdict())}\n{escape.program}"


def escaped(escape: Escape, outcome: Outcome) -> bool:
    """Whether a run inside got what it wanted."""
    wrong_end = outcome.status != escape.stopped_by if escape.stopped_by else outcome.status == "timeout"
    return "ESCAPED" in outcome.stdout or wrong_end


def works_outside(escape: Escape, at: Targets, folder: Path) -> bool:
    """Whether a plain process of the same user gets what the attack wants, or is still there after its time."""
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", aimed(escape, at)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=escape.limits.seconds,
            check=False,
            pass_fds=[at.inherited],
        )
    except subprocess.TimeoutExpired:
        return escape.stopped_by == "timeout"
    return "ESCAPED" in done.stdout
