"""Attacks on the sandbox: programs that try to get out, to see, to spoil, to stay or to use up.

Each prints ESCAPED when it got what it wanted, or counts on never being stopped. They find what they aim at in `T`
(`targets.py`). Run outside of the sandbox they do no harm; and there they succeed, else their failing inside says nothing.
"""

from typing import NamedTuple

from trainer.rewards.sandbox.limits import Limits, Status

class Escape(NamedTuple):
    """An attack by its name.

    stopped_by: the limit that has to stop it; None where its attempts fail and it ends by itself.
    proven: whether it works outside on every machine; some need privileges there.
    """

    name: str
    program: str
    stopped_by: Status | None = None
    proven: bool = True

    @property
    def limits(self) -> Limits:
        """Small, so that bombs are small and waiting is short; but time for a busy machine where none is wasted."""
        seconds = 0.3 if self.stopped_by == "timeout" else 10.0
        return Limits(seconds=seconds, memory_bytes=256 * 2**20, folder_bytes=4 * 2**20)


def _attempts(*lines: str) -> str:
    """Each line by itself: an attack has succeeded with any of them."""
    return "".join(f"try:\n    {line}\n    print('ESCAPED')\nexcept (OSError, ImportError):\n    pass\n" for line in lines)


_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _libc(*conditions: str) -> str:
    return _LIBC + "".join(f"if {condition}:\n    print('ESCAPED')\n" for condition in conditions)


_READING = (
    Escape("read /etc/passwd", _attempts("open('/etc/passwd').read()")),
    Escape("read a secret file", _attempts("open(T['secret']).read()")),
    Escape("list the home folder", "import os\n" + _attempts("os.listdir(T['home'])")),
    Escape("read this repository", _attempts("open(T['repository']).read()")),
    Escape("climb out by ..", "import os\n" + _attempts("open('../' * 20 + T['secret']).read()",
                                                         "os.chdir('/'); open(T['secret'][1:]).read()")),
    Escape("through a symbolic link", "import os\n" + _attempts("os.symlink(T['secret'], 'link'); open('link').read()")),
    Escape("through a hard link", "import os\n" + _attempts("os.link(T['secret'], 'link'); open('link').read()")),
    Escape("rename a file into the folder", "import os\n" + _attempts("os.rename(T['spoilt'], 'mine')")),
    Escape("reopen by /proc/self/fd",
           "import os\n" + _attempts("fd = os.open(T['secret'], os.O_PATH); open(f'/proc/self/fd/{fd}').read()")),
    Escape("secrets of the environment", "import os\nif T['variable'] in os.environ:\n    print('ESCAPED')\n"
           + _libc("ctypes.c_char_p.in_dll(libc, 'environ') and libc.getenv(T['variable'].encode())")
           + _attempts("assert T['variable'] in open('/proc/self/environ').read()")),
    Escape("see the parent in /proc", "import os\n" + _attempts("open(f'/proc/{T[\"parent\"]}/environ', 'rb').read()",
                                                                "os.readlink(f'/proc/{T[\"parent\"]}/cwd')")),
    Escape("see other processes", "import os\n" + _attempts("assert any(map(str.isdigit, os.listdir('/proc')))")),
    Escape("map its own memory from /proc", _attempts("open('/proc/self/mem', 'rb')")),
    Escape("inherited files",
           "import os\n" + _attempts("assert any(os.fstat(fd) for fd in [T['inherited']])")),
)  # fmt: skip

_WRITING = (
    Escape("write outside", _attempts("open(T['outside'] + '/planted', 'w').write('x')")),
    Escape("append to a file", _attempts("open(T['spoilt'], 'a').write('x')")),
    Escape("empty a file", "import os\n" + _attempts(
        "os.truncate(T['spoilt'], 0)", "os.open(T['spoilt'], os.O_TRUNC)", "os.open(T['spoilt'], os.O_TRUNC | 3)")),
    Escape("make a folder outside", "import os\n" + _attempts("os.mkdir(T['outside'] + '/new')")),
    Escape("change modes and owners", "import os\n" + _attempts(
        "os.chmod(T['spoilt'], 0o777)", "os.utime(T['spoilt'])", "os.chown(T['spoilt'], os.getuid(), os.getgid())",
        "fd = os.open(T['secret'], os.O_RDONLY); os.fchmod(fd, 0o600)")),
    Escape("remove a file", "import os\n" + _attempts("os.unlink(T['spoilt'])")),
    Escape("shared memory", _attempts("open('/dev/shm/' + T['variable'], 'w').write('x')")
           + _libc("libc.memfd_create(b'x', 0) >= 0", "libc.shmget(0, 4096, 0o1600) >= 0")),
    Escape("devices", "import os\n" + _attempts("open('/dev/null', 'w')", "open('/dev/zero', 'rb').read(1)",
                                                 "os.mkfifo('fifo')")),
    Escape("write to its own stdin", "import os\n" + _attempts("os.write(0, b'x')", "os.truncate(0, 10)"), proven=False),
)  # fmt: skip

_NETWORK = tuple(
    Escape(f"network: {name}", "import socket as s\n" + _attempts(line))
    for name, line in {
        "TCP": "s.create_connection(('127.0.0.1', T['tcp']))",
        "UDP": "s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', T['udp']))",
        "listening": "s.create_server(('127.0.0.1', 0))",
        "a unix socket": "s.socket(s.AF_UNIX).connect(T['unix'])",
        "an abstract socket": "s.socket(s.AF_UNIX).connect('\\0' + T['abstract'])",
        "a pair": "s.socketpair()",
        "netlink": "s.socket(s.AF_NETLINK, s.SOCK_RAW)",
    }.items()
) + (Escape("network: by libc", _libc("libc.socket(2, 1, 0) >= 0")),)

_FORKED = "    if pid == 0:\n        os._exit(0)\n    os.waitpid(pid, 0)\n"
_PROCESSES = (
    Escape("fork", _attempts("import os; pid = os.fork(); pid or os._exit(0); os.waitpid(pid, 0)")),
    Escape("fork bomb", f"import os\nfor _ in range(20):\n    pid = os.fork()\n{_FORKED}print('ESCAPED')\n"),
    Escape("fork by libc", _LIBC + f"for call in (libc.fork, libc.vfork)[:1]:\n    pid = call()\n{_FORKED}"
           "    if pid > 0:\n        print('ESCAPED')\n"),
    Escape("fork by a raw system call", _LIBC + "number = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]\n"
           f"for _ in range(1):\n    pid = libc.syscall(number, 17, 0, 0, 0, 0)\n{_FORKED}"
           "    if pid > 0:\n        print('ESCAPED')\n"),
    Escape("run a shell", "import subprocess\n" + _attempts("subprocess.run(['/bin/sh', '-c', 'true'], check=True)")),
    Escape("become a shell", "import os\nos.execve('/bin/sh', ['sh', '-c', 'echo ESCAPED'], {})\n"),
    Escape("spawn", "import os\n" + _attempts("os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)")),
    Escape("stay as a daemon", "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
           "        open(T['outside'] + '/daemon', 'w')\n    os._exit(0)\nos.wait()\nprint('ESCAPED')\n"),
    Escape("leave its session", "import os\n" + _attempts("os.setpgid(0, 0)", "os.setsid()")),
    Escape("threads", "import threading\ntry:\n    threading.Thread(target=print, args=['ESCAPED']).start()\n"
           "except RuntimeError:\n    pass\n"),
)  # fmt: skip

_OTHERS = (
    Escape("signal its parent", "import os, signal\n" + _attempts(
        "os.kill(T['parent'], 0)", "os.killpg(os.getpgid(T['parent']), 0)",
        "signal.pidfd_send_signal(os.pidfd_open(T['parent']), 0)")),
    Escape("signal everybody", "import os\n" + _attempts("os.kill(os.getppid(), 0)", "os.kill(-1, 0)")),
    Escape("have the kernel signal", "import fcntl, os\n" + _attempts(
        "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, T['victim'])", "fcntl.fcntl(os.pipe()[0], 10, 9)")),
    Escape("trace", _libc("libc.ptrace(16, T['victim'], 0, 0) == 0 or libc.ptrace(0, 0, 0, 0) == 0")),
    Escape("read another's memory", _LIBC + "place = ctypes.create_string_buffer(8)\n"
           "part = (ctypes.c_size_t * 2)(ctypes.addressof(place), 8)\n"
           "for pid in (T['parent'], os.getpid()):\n"
           "    if libc.process_vm_readv(pid, part, 1, part, 1, 0) == 8:\n        print('ESCAPED')\n"),
    Escape("another's limits", "import resource\n" + _attempts("resource.prlimit(T['victim'], resource.RLIMIT_NOFILE)")),
    Escape("another's priority", "import os\n" + _attempts("os.setpriority(os.PRIO_PROCESS, T['victim'], 19)")),
    Escape("raise its own limits", "import resource\nfor name in ('AS', 'FSIZE', 'NOFILE'):\n"
           "    kind = getattr(resource, f'RLIMIT_{name}')\n    now = resource.getrlimit(kind)[1]\n"
           "    try:\n        resource.setrlimit(kind, (now, now + 1))\n        print('ESCAPED')\n"
           "    except (OSError, ValueError):\n        pass\n", proven=False),
    Escape("namespaces and mounts", _libc("libc.unshare(0x10000000) == 0", "libc.chroot(b'/') == 0",
           "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"), proven=False),
    Escape("regain rights", _libc("libc.setuid(0) == 0 and os.getuid() != 0", "libc.prctl(1, 0, 0, 0, 0) == 0")),
)  # fmt: skip

_USING_UP = (
    Escape("memory", "data = [bytes(2**24) for _ in range(32)]\nprint('ESCAPED')\n", "memory"),
    Escape("mapped memory", "import mmap\n" + _attempts("mmap.mmap(-1, 2**29)")),
    Escape("output", "print('x' * 2**22)\nprint('ESCAPED')\n", "output"),
    Escape("output to stderr", "import sys\nsys.stderr.write('x' * 2**22)\nprint('ESCAPED')\n", "output"),
    Escape("a large file", "open('large', 'wb').write(bytes(2**22))\nprint('ESCAPED')\n", "output"),
    Escape("many files", "import time\nfor number in range(80):\n    open(str(number), 'wb').write(bytes(2**16))\n"
           "time.sleep(0.5)\nprint('ESCAPED')\n", "output"),
    Escape("many open files", "import os\n" + _attempts("[os.dup(0) for _ in range(500)]")),
    Escape("a loop", "while True:\n    pass\n", "timeout"),
    Escape("a loop that lets nothing end it", "import signal\nfor number in set(signal.Signals) - {9, 19}:\n"
           "    signal.signal(number, signal.SIG_IGN)\nwhile True:\n    try:\n        while True:\n            pass\n"
           "    except BaseException:\n        pass\n", "timeout"),
    Escape("sleep", "import time\ntime.sleep(1000)\n", "timeout"),
    Escape("hang when it ends", "import atexit\n@atexit.register\ndef hang():\n    while True:\n        pass\n", "timeout"),
    Escape("files that come and go", "import os\nwhile True:\n    open('a', 'w')\n    os.unlink('a')\n", "timeout"),
)  # fmt: skip

ESCAPES: tuple[Escape, ...] = (*_READING, *_WRITING, *_NETWORK, *_PROCESSES, *_OTHERS, *_USING_UP)
