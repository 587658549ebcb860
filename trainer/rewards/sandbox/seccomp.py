"""The system calls that a program may make, as a seccomp filter (classic BPF; `seccomp(2)`, `linux/filter.h`).

A list of what is allowed: a call that the kernel learns tomorrow is denied. None of them starts a process or a thread,
executes a file, opens a socket, signals, traces or reads another process, or changes who may open a file.
"""

import errno
import os
import platform
import struct

# Constants of linux/audit.h, linux/seccomp.h, linux/bpf_common.h.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_ALLOW, _DENY, _KILL_PROCESS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data

Pair = tuple[int | None, int | None]  # the number on x86_64 and on aarch64, where the call exists

# Calls whose arguments do not matter.
_PLAIN: dict[str, Pair] = {
    # open files
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "fstat": (5, 80), "ftruncate": (77, 46), "fsync": (74, 82),
    "fdatasync": (75, 83), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None),
    "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # names of files; what may be opened, made and removed is the file system's side of the isolation
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "umask": (95, 166), "unlink": (87, None), "rename": (82, None), "renameat": (264, 38),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214),
    "madvise": (28, 233),
    # its own signals, time and end
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "futex": (202, 98), "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153), "setitimer": (38, 103), "getitimer": (36, 102), "alarm": (37, None),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
    # what it is and what it runs on
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getrusage": (98, 165), "getrlimit": (97, 163), "uname": (63, 160),
    "sched_getaffinity": (204, 123), "sysinfo": (99, 179), "getrandom": (318, 278),
}  # fmt: skip

# Calls that are allowed for these values of one argument only: (number, position, values).
_FOR_VALUES: dict[str, tuple[Pair, int, tuple[int, ...]]] = {
    # Not F_SETOWN and F_SETSIG, by which the kernel would send any signal to any process.
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
    "ioctl": ((16, 29), 1, (0x5401, 0x5450, 0x5451)),  # TCGETS (is it a terminal?), FIONCLEX, FIOCLEX
    "prlimit64": ((302, 261), 0, (0,)),  # its own limits, which have no room upwards
    "unlinkat": ((263, 35), 2, (0,)),  # files, not folders
}

# Position of the flags. Denied: O_TRUNC without the right to write, which old Landlocks do not see, and access mode 3,
# "neither reading nor writing", which none of them does.
_OPENING: dict[str, tuple[Pair, int]] = {"open": ((2, None), 1), "openat": ((257, 56), 2)}
_ACCESS_MODE = 3

Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, operand


def machine() -> str:
    """This machine's architecture, if the filter knows its system calls.

    Raises:
        ValueError: for any other.
    """
    name = platform.machine()
    if name not in _AUDIT_ARCH:
        known = " and ".join(_AUDIT_ARCH)
        raise ValueError(f"model-written code runs isolated on {known} only, not on {name}: use such a machine")
    return name


def filter_for(architecture: str) -> bytes:
    """An array of `struct sock_filter`. What it does not allow fails with EPERM.

    A call by another architecture's entry (32 bits on x86_64), where numbers mean other calls, ends the process.
    """
    column = _COLUMN[architecture]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[architecture]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for pair in _PLAIN.values():
        program += _when_called(pair[column], [(_RETURN, 0, 0, _ALLOW)])
    for pair, position, values in _FOR_VALUES.values():
        program += _when_called(pair[column], [_load_argument(position), *_one_of(values, _ALLOW, _DENY)])
    for pair, position in _OPENING.values():
        program += _when_called(pair[column], _opening(position))
    program.append((_RETURN, 0, 0, _DENY))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _when_called(number: int | None, body: list[Instruction]) -> list[Instruction]:
    """`body`, which ends in a return, for one call; every other call goes on behind it."""
    return [] if number is None else [(_JUMP_IF_EQUAL, 0, len(body), number), *body]


def _load_argument(position: int) -> Instruction:
    # The lower half on little-endian machines; the kernel takes no more than 32 bits of the arguments looked at here.
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * position)


def _one_of(values: tuple[int, ...], then: int, otherwise: int) -> list[Instruction]:
    tests = [(_JUMP_IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [*tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, then)]


def _opening(position: int) -> list[Instruction]:
    looked_at = os.O_TRUNC | _ACCESS_MODE
    denied = (os.O_TRUNC, _ACCESS_MODE, os.O_TRUNC | _ACCESS_MODE)
    return [_load_argument(position), (_AND, 0, 0, looked_at), *_one_of(denied, _DENY, _ALLOW)]
