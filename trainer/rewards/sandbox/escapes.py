"""Attacks on the sandbox: programs that try to get out, to see, to spoil, to stay or to use up.

Each goes on to its end, and says ESCAPED there, only if nothing has stopped it. They find what they aim at in `T`
(`targets.py`). Run outside of the sandbox they do no harm; and there they succeed, else their failing inside would say
nothing.
"""

from typing import NamedTuple

from trainer.rewards.sandbox.limits import Limits, Status

_BEFORE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "denied")
"""
_AFTER = "\nprint('ESCAPED')\n"


class Escape(NamedTuple):
    """An attack by its name.

    stopped_by: the limit (or a kill) that has to stop it; None where it fails by itself.
    proven: whether it works outside on every machine; some need privileges there.
    """

    name: str
    attack: str
    stopped_by: Status | None = None
    proven: bool = True

    @property
    def program(self) -> str:
        return _BEFORE + self.attack + _AFTER

    @property
    def limits(self) -> Limits:
        """Small, so that bombs are small and waiting is short; but time for a busy machine where none is wasted."""
        seconds = 0.3 if self.stopped_by == "timeout" else 10.0
        return Limits(seconds=seconds, memory_bytes=256 * 2**20, folder_bytes=4 * 2**20)


_READ = {
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read a secret": "open(T['secret']).read()",
    "read this repository": "open(T['repository']).read()",
    "list the home folder": "os.listdir(T['home']); assert os.stat(T['home'])[1:3] == tuple(T['home_place'])",
    "climb out by ..": "open('../' * 20 + T['secret']).read()",
    "climb out by chdir": "os.chdir('/'); open(T['secret'][1:]).read()",
    "open in an opened folder": "open(os.path.basename(T['secret']), opener=lambda name, flags: "
    "os.open(name, flags, dir_fd=os.open(T['outside'], os.O_PATH))).read()",
    "make a symbolic link": "os.symlink(T['secret'], 'link'); open('link').read()",
    "make a hard link": "os.link(T['secret'], 'link'); open('link').read()",
    "take a file by renaming it": "os.rename(T['spoilt'], 'mine')",
    "reopen by /proc/self/fd": "open(f'/proc/self/fd/{os.open(T[\"secret\"], os.O_PATH)}').read()",
    "see os.environ": "os.environ[T['variable']]",
    "see the environment in /proc": "assert T['variable'] in open('/proc/self/environ').read()",
    "see the environment by libc": "libc.getenv.restype = ctypes.c_char_p\nassert libc.getenv(T['variable'].encode())",
    "see the parent's environment": "open(f'/proc/{T[\"parent\"]}/environ').read()",
    "see the parent's folder": "os.readlink(f'/proc/{T[\"parent\"]}/cwd')",
    "see the parent's files": "os.listdir(f'/proc/{T[\"parent\"]}/fd')",
    "see processes": "assert any(map(str.isdigit, os.listdir('/proc')))",
    "see its own memory": "open('/proc/self/mem', 'rb').close()",
    "inherit an open file": "os.fstat(T['inherited'])",
}

_WRITE = {
    "write a file": "open(T['outside'] + '/planted', 'w').write('x')",
    "write beside the temporary folder": "open(T['outside'] + '.new', 'x'); os.unlink(T['outside'] + '.new')",
    "move its own file out": "open('own', 'w'); os.rename('own', T['outside'] + '/own')",
    "append to a file": "open(T['spoilt'], 'a').write('x')",
    "truncate a file": "os.truncate(T['spoilt'], 0)",
    "truncate by opening": "os.open(T['spoilt'], os.O_TRUNC)",
    "truncate by opening for nothing": "os.open(T['spoilt'], os.O_TRUNC | 3)",
    "make a folder": "os.mkdir(T['outside'] + '/new'); os.rmdir(T['outside'] + '/new')",
    "make a folder of its own": "os.mkdir('new')",
    "make a pipe with a name": "os.mkfifo('fifo')",
    "change a mode": "os.chmod(T['spoilt'], 0o777)",
    "change the mode of an open file": "os.fchmod(os.open(T['spoilt'], os.O_RDONLY), 0o777)",
    "change an owner": "os.chown(T['spoilt'], os.getuid(), os.getgid())",
    "change times": "os.utime(T['spoilt'])",
    "remove a file": "os.unlink(T['spoilt'])",
    "shared memory by file": "open('/dev/shm/' + T['variable'], 'x'); os.unlink('/dev/shm/' + T['variable'])",
    "memory that counts as a file": "must(libc.memfd_create(b'x', 0))",
    "shared memory of System V": "number = libc.shmget(0, 4096, 0o1600); must(number); libc.shmctl(number, 0, None)",
    "open a device": "open('/dev/zero', 'rb').read(1)",
    "write to a device": "open('/dev/null', 'w').write('x')",
}

_CONNECT = {
    "TCP": "socket.create_connection(('127.0.0.1', T['tcp']))",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', T['udp']))",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "a unix socket": "socket.socket(socket.AF_UNIX).connect(T['unix'])",
    "an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + T['abstract'])",
    "a pair of sockets": "socket.socketpair()",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a socket by libc": "must(libc.socket(2, 1, 0))",
}

_MULTIPLY = {
    "fork": "os.fork() or os._exit(0); os.wait()",
    "fork bomb": "for _ in range(20): os.fork() or os._exit(0); os.wait()",
    "fork by libc": "number = libc.fork()\nnumber or os._exit(0)\nmust(number)",
    "fork by a raw system call": """
number = libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 17, 0, 0, 0, 0)
number or os._exit(0)
must(number)""",
    "run a shell": "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "become a shell": "os.execve('/bin/sh', ['sh', '-c', 'echo ESCAPED'], {})",
    "become a shell by libc": "libc.execl(b'/bin/sh', b'sh', b'-c', b'echo ESCAPED', None); raise OSError",
    "spawn": "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {}), 0)",
    "stay as a daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(T["outside"] + "/daemon", "w")
    os._exit(0)
os.wait()""",
    "leave its process group": "os.setpgid(0, 0)",
    "start a thread": "import threading; threading.Thread(target=int).start()",
}

_TOUCH = {
    "signal the parent": "os.kill(T['parent'], 0)",
    "signal whoever started it": "os.kill(os.getppid(), 0)",
    "signal a group": "import signal; os.killpg(os.getpgid(T['parent']), 0)",
    "signal everybody": "os.kill(-1, 0)",
    "signal by a pidfd": "import signal; signal.pidfd_send_signal(os.pidfd_open(T['parent']), 0)",
    "have the kernel signal": "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, T['victim'])",
    "choose what the kernel signals": "import fcntl; fcntl.fcntl(os.pipe()[0], 10, 9)",
    "be traced": "must(libc.ptrace(0, 0, 0, 0))",
    "read another's memory": """
place = ctypes.create_string_buffer(8)
part = (ctypes.c_size_t * 2)(ctypes.addressof(place), 8)
must(libc.process_vm_readv(os.getpid(), part, 1, part, 1, 0))""",
    "see another's limits": "import resource; resource.prlimit(T['victim'], resource.RLIMIT_NOFILE)",
    "change another's priority": "os.setpriority(os.PRIO_PROCESS, T['victim'], 19)",
    "choose who inherits it": "must(libc.prctl(1, 0, 0, 0, 0))",
}

# Outside these work with the right privileges, or on some machines only, and leave no trace.
_RULE = {
    "trace another": "must(libc.ptrace(16, T['victim'], 0, 0))",
    "write to its stdin": "os.write(0, b'x')",
    "raise a limit": """
import resource
most = resource.getrlimit(resource.RLIMIT_AS)[1]
assert most > 0
resource.setrlimit(resource.RLIMIT_AS, (most + 1, most + 1))""",
    "make namespaces": "must(libc.unshare(0x10000000))",
    "change the root": "must(libc.chroot(b'.'))",
    "mount": """
must(libc.unshare(0x20000))  # so that outside it ends with the process
must(libc.mount(None, b"/", None, 0x44000, None))
must(libc.mount(b"none", T["outside"].encode(), b"tmpfs", 0, None))""",
    "write to the standard library": "open(os.__file__, 'a')",
    "write a file without a name": "os.write(os.open(T['outside'], os.O_TMPFILE | os.O_WRONLY), b'x')",
    "become another user": "must(libc.setgid(65534))",
}

_USE_UP: dict[str, tuple[str, Status]] = {
    "memory": ("data = [bytes(2**24) for _ in range(32)]", "memory"),
    "output": ("print('x' * 2**22)", "output"),
    "output to stderr": ("import sys; sys.stderr.write('x' * 2**22)", "output"),
    "a large file": ("open('large', 'wb').write(bytes(2**22))", "output"),
    "many files": (
        "import time\nfor name in range(80): open(str(name), 'wb').write(bytes(2**16))\ntime.sleep(0.5)",
        "output",
    ),
    "files that come and go": ("while True: open('a', 'w'); os.unlink('a')", "timeout"),
    "a loop": ("while True: pass", "timeout"),
    "a loop that nothing may end": (
        """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException: pass""",
        "timeout",
    ),
    "sleep": ("import time; time.sleep(1000)", "timeout"),
    "hang when it ends": ("import atexit; atexit.register(lambda: [None for _ in iter(int, 1)])", "timeout"),
}

ESCAPES: tuple[Escape, ...] = (
    *(Escape(name, attack) for name, attack in (_READ | _WRITE).items()),
    *(Escape(name, f"import socket\n{attack}") for name, attack in _CONNECT.items()),
    *(Escape(name, attack) for name, attack in (_MULTIPLY | _TOUCH).items()),
    *(Escape(name, attack, proven=False) for name, attack in _RULE.items()),
    *(Escape(f"use up: {name}", attack, stopped_by) for name, (attack, stopped_by) in _USE_UP.items()),
    Escape(
        "a system call of 32 bits",
        """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))  # x86: move 20 (getpid) to eax, int 0x80, return
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()""",
        "killed",
        proven=False,
    ),
    Escape("use up: mapped memory", "import mmap; mmap.mmap(-1, 2**29)"),
    Escape("use up: open files", "files = [os.dup(0) for _ in range(500)]"),
)
