"""What a program may use, and what came of running it."""

from typing import Literal, NamedTuple

from pydantic import Field

from trainer.records import Spec

MEBIBYTE = 2**20


class Limits(Spec):
    """Of one program, which is one process with one thread."""

    seconds: float = Field(6.0, gt=0, description="from start to end")
    cpu_seconds: int = Field(3, ge=1, description="of computing")
    memory_bytes: int = Field(512 * MEBIBYTE, ge=64 * MEBIBYTE, description="of address space")
    open_files: int = Field(64, ge=8)
    output_bytes: int = Field(MEBIBYTE, ge=1024, description="of stdout, of stderr and of each file it writes")
    folder_bytes: int = Field(16 * MEBIBYTE, ge=1024, description="of all files in its folder together")


Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]


class Outcome(NamedTuple):
    """Of one program.

    status: ok (it ended with 0), error (with anything else), timeout, memory or output (it reached a limit), killed (a
        crash). A label of what happened, and no proof: a program can end itself in any of these ways.
    stdout, stderr: what it wrote, up to the limit; bytes that are no UTF-8 are replaced.
    seconds: from start to end.
    """

    status: Status
    stdout: str
    stderr: str
    seconds: float
