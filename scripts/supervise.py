"""python -m scripts.supervise up|down|status: the five processes of this machine, under supervisord."""

import argparse
import fcntl
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import httpx
import psutil
from supervisor.xmlrpc import SupervisorTransport

from backend.settings import Settings, read_settings
from scripts.ports import needed_ports, require_free

ROOT = Path(__file__).parent.parent
START_SECONDS = 120.0
STOP_SECONDS = 120.0
MAX_STARTS = 3
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes, and supervisord adds a suffix while it starts


class Platform:
    """The five processes that belong to one home folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home
        self.embedded_broker = not os.environ.get("OCTAVO_REDIS_URL")
        self.socket = self.home / "supervisor.sock"
        self.addresses = {
            "backend": f"http://127.0.0.1:{settings.backend_port}",
            "serving": f"http://127.0.0.1:{settings.serving_port}",
            "dashboard": f"http://127.0.0.1:{settings.dashboard_port}",
        }

    def up(self) -> bool:
        """Start what is not running and wait until every part answers; returns whether it was running already.

        Raises:
            ValueError: a port is busy or a process does not come up; then nothing is left running.
        """
        self._prepare_home()
        with self._one_at_a_time():
            running = self.is_running()
            if running:
                self._start_stopped()
            else:
                require_free(needed_ports(self.settings, self.embedded_broker))
                self._spawn()
            try:
                self._wait_until_ready()
            except (ValueError, KeyboardInterrupt):
                if not running:
                    self._stop()
                raise
            return running

    def down(self) -> bool:
        """Stop everything, trainer processes too, and wait until they are gone; returns whether anything ran."""
        if not self.home.is_dir():
            return False
        with self._one_at_a_time():
            return self._stop()

    def is_running(self) -> bool:
        return self._supervisor() is not None

    def states(self) -> dict[str, dict[str, Any]]:
        """Program -> supervisord's own description; empty when it does not run."""
        remote = self._supervisor()
        found = cast(list[dict[str, Any]], remote.supervisor.getAllProcessInfo()) if remote else []
        return {program["name"]: program for program in found}

    def _prepare_home(self) -> None:
        if len(str(self.socket).encode()) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"OCTAVO_HOME is {self.home}, a path too long for a Unix socket in it; choose one of at most "
                f"{LONGEST_SOCKET_PATH - len('/supervisor.sock')} bytes"
            )
        self.settings.make_folders()
        (self.home / "logs").mkdir(mode=0o700, exist_ok=True)  # the backend's first lines hold the admin's key

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with self._open_lock() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _open_lock(self) -> IO[str]:
        try:
            return open(self.home / ".supervise.lock", "w")
        except OSError as error:
            raise ValueError(f"cannot write to OCTAVO_HOME {self.home} ({error.strerror}); is it yours?") from error

    def _supervisor(self) -> Any:
        """supervisord's XML-RPC interface, or None when nothing answers on its socket."""
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        remote = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            remote.supervisor.getState()
        except OSError:
            return None
        return remote

    def _spawn(self) -> None:
        environment = {
            "OCTAVO_SERVING_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
            **os.environ,
            "OCTAVO_HOME": str(self.home),
            "OCTAVO_PYTHON": sys.executable,
            "OCTAVO_EMBEDDED_BROKER": str(self.embedded_broker).lower(),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(ROOT / "supervisord.conf")]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"supervisord did not start: {last_line(done.stderr + done.stdout)}")

    def _start_stopped(self) -> None:
        remote = self._supervisor()
        for name, program in self.states().items():
            wanted = self.embedded_broker or name != "broker"
            if wanted and program["statename"] in {"STOPPED", "EXITED", "FATAL"}:
                remote.supervisor.startProcess(name, False)

    def _wait_until_ready(self) -> None:
        """Until each part answers over HTTP and no process is waiting to be started again."""
        deadline = time.monotonic() + START_SECONDS
        waiting = ["supervisord"]
        starts: dict[str, set[int]] = {}
        while waiting:
            states = self.states()
            for name, program in states.items():
                # One that lives for some seconds before it dies is started again forever.
                seen = starts.setdefault(name, set())
                seen.update({program["pid"]} - {0})
                if program["statename"] == "FATAL" or len(seen) > MAX_STARTS:
                    raise ValueError(f"{name} does not start: {self._last_words(name)} (see {self._log(name)})")
            waiting = self._not_ready(states)
            if waiting and time.monotonic() > deadline:
                raise ValueError(
                    f"{waiting[0]} did not answer within {START_SECONDS:.0f} s; see {self._log(waiting[0])}"
                )
            time.sleep(0.25 if waiting else 0)

    def _not_ready(self, states: dict[str, dict[str, Any]]) -> list[str]:
        wanted = [name for name in states if self.embedded_broker or name != "broker"]
        starting = [name for name in wanted if states[name]["statename"] != "RUNNING"]
        health = {"backend": "/healthz", "serving": "/healthz", "dashboard": "/_stcore/health"}
        silent = [name for name, path in health.items() if not answers(self.addresses[name] + path)]
        return ([] if states else ["supervisord"]) + starting + silent

    def _stop(self) -> bool:
        remote = self._supervisor()
        if remote is None:
            return False
        supervisor = psutil.Process(remote.supervisor.getPID())
        processes = [supervisor, *supervisor.children(recursive=True)]
        remote.supervisor.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
        for process in alive:
            print(f"killing {process.name()} (process {process.pid}), which did not stop by itself", file=sys.stderr)
            process.kill()
        psutil.wait_procs(alive, timeout=10)
        return True

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _last_words(self, name: str) -> str:
        path = self._log(name)
        said = path.read_text(errors="replace") if path.is_file() else ""
        return last_line(said).removeprefix("error: ")


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def show_up(platform: Platform) -> None:
    started = time.monotonic()
    if platform.up():
        print(f"The platform is already running in {platform.home}.")
    else:
        print(f"The platform is up in {platform.home} after {time.monotonic() - started:.0f} s.")
    print(f"Dashboard  {platform.addresses['dashboard']}   (log in with the key in {platform.home / 'admin_key'})")
    print(f"Backend    {platform.addresses['backend']}/docs")
    print(f"Endpoint   {platform.addresses['serving']}/v1")


def show_down(platform: Platform) -> None:
    stopped = platform.down()
    print("The platform is stopped." if stopped else f"No platform is running in {platform.home}.")


def show_status(platform: Platform) -> None:
    states = platform.states()
    if not states:
        print(f"No platform is running in {platform.home}.")
    for name, program in states.items():
        print(f"{name:<10} {program['statename']:<9} {program['description']}")


COMMANDS: dict[str, Callable[[Platform], None]] = {"up": show_up, "down": show_down, "status": show_status}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.supervise")
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(arguments).command
    try:
        COMMANDS[command](Platform(read_settings()))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
