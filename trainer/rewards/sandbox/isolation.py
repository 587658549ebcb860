"""Whether model-written code can be isolated on this machine: each mechanism is tried, and what came of it is said.

Always, and enough for anything but files: one process that may neither fork nor execute (seccomp, an allowlist of
system calls without sockets, signals, tracing, and so on), no capabilities, limits on resources (rlimits), an empty
environment, no open files but its own three. Files are kept from it by either of two, and by both where both work:

Landlock (Linux 5.13 and later; no installation, no privilege, also in containers): the program opens nothing but the
    standard library, for reading, and its own folder. What it can still learn of other files is whether a path that it
    guesses exists, with its size and times.
bubblewrap (the package of this name; needs leave to make namespaces, which most containers do not give): other files
    do not exist for it, but for the standard library and the system's libraries; nor do other processes and networks.

Not kept from a program: a flaw of the kernel in one of the allowed system calls, and what processors leak through time.
"""

import functools
import shutil
import sys
import tempfile
from typing import NamedTuple

from trainer.rewards.sandbox.limits import Limits
from trainer.rewards.sandbox.process import Isolation, ZygoteProcess

_TRIAL = """
import os, socket
for name, attempt in {{
    "read a file": lambda: open({canary!r}).read(),
    "open a socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "write elsewhere": lambda: open({canary!r} + ".new", "w"),
}}.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
open("own", "w").write("written")
print(open("own").read())
"""


class Finding(NamedTuple):
    """Of one mechanism: does it isolate, and in words why or why not."""

    works: bool
    words: str


class Probe(NamedTuple):
    landlock: Finding
    bubblewrap: Finding

    @property
    def isolation(self) -> Isolation | None:
        if not (self.landlock.works or self.bubblewrap.works):
            return None
        return Isolation(self.landlock.works, shutil.which("bwrap") if self.bubblewrap.works else None)


@functools.cache
def probe() -> Probe:
    """Tries each mechanism by itself, once per process."""
    if sys.platform != "linux":
        nothing = Finding(False, f"is Linux's, and this is {sys.platform}")
        return Probe(nothing, nothing)
    bwrap = shutil.which("bwrap")
    return Probe(
        _tried(Isolation(landlock=True, bubblewrap=None)),
        _tried(Isolation(landlock=False, bubblewrap=bwrap)) if bwrap else Finding(False, "is not installed"),
    )


def _tried(isolation: Isolation) -> Finding:
    try:
        with ZygoteProcess(isolation) as zygote, tempfile.NamedTemporaryFile() as canary:
            canary.write(b"canary")
            canary.flush()
            outcome = zygote.run(_TRIAL.format(canary=canary.name), "", Limits())
            version = f"version {zygote.landlock_version}" if isolation.landlock else "with namespaces of its own"
    except (OSError, RuntimeError) as error:
        return Finding(False, f"does not work: {error}")
    if outcome.stdout != "written\n":
        could = ", ".join(outcome.stdout.split("\n")[:-2]) or f"not even run: {outcome.stderr}"
        return Finding(False, f"lets a program {could}")
    return Finding(True, f"works ({version})")


def require_isolation() -> Isolation:
    """The mechanisms that work here.

    Raises:
        ValueError: model-written code cannot be isolated on this machine; the sentence says what to install or enable.
    """
    found = probe()
    if found.isolation is None:
        raise ValueError(
            "model-written code cannot be isolated on this machine, so it is not run: "
            f"Landlock {found.landlock.words}; bubblewrap {found.bubblewrap.words}. Enable Landlock (Linux 5.13 or "
            "later, with 'landlock' in its lsm= list), or install bubblewrap (apt-get install bubblewrap) and let it "
            "make user namespaces"
        )
    return found.isolation
