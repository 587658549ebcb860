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
    home_place: tuple[int, int]  # inode and device, since a folder of the same name may stand in its place
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
        home = Path.home() if Path.home().is_dir() else Path("/")
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
            secret=str(secret),
            spoilt=str(spoilt),
            outside=str(folder),
            home=str(home),
            home_place=(home.stat().st_ino, home.stat().st_dev),
            repository=__file__,
            variable=folder.name,
            parent=os.getpid(),
            victim=victim.pid,
            inherited=stack.enter_context(secret.open()).fileno(),
            tcp=tcp.getsockname()[1],
            udp=udp.getsockname()[1],
            unix=str(folder / "socket"),
            abstract=folder.name,
        )


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
    """Whether a run inside got what it wanted: it was not stopped by what had to stop it, an error or a limit."""
    return "ESCAPED" in outcome.stdout or outcome.status != (escape.stopped_by or "error")


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
