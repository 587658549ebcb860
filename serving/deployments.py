"""Which models answer and which keys open them: serving.json, polled; exports loaded beside what is running."""

import hashlib
import hmac
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.engine_protocol import Served
from serving.keys import Key
from trainer.artifacts import COMPLETE
from trainer.spec import Spec, explain

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
State = Literal["loading", "ready", "failed"]


class WantedDeployment(Spec):
    model_name: str
    export: str


class ServingFile(Spec):
    """serving.json as the backend writes it."""

    version: int
    deployments: tuple[WantedDeployment, ...] = ()
    keys: tuple[Key, ...] = ()


class DeploymentState(BaseModel):
    """One row of GET /deployments: the export that is wanted, and how far it has come."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_name: str
    export: str
    state: State
    error: str | None = None


@dataclass(frozen=True)
class _Entry:
    """A wanted export. `served` is what answers under its name now, which may still be the one before."""

    wanted: WantedDeployment
    identity: str  # changes when the folder is written anew
    state: State = "loading"
    error: str | None = None
    served: Served | None = None


class Deployments:
    """Follows serving.json. Loading happens in one thread, one export after the other; reading never waits for it."""

    def __init__(self, path: Path, load: Callable[[Path], Served]) -> None:
        self.path, self._load = path, load
        self.error: str | None = f"{path} does not exist yet; the backend writes it"
        self._keys: tuple[Key, ...] = ()
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._stop = threading.Event()
        self._to_load: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            for target in (self._watch, self._load_wanted)
        ]

    def start(self) -> None:
        """Read the file once, so that keys are known, then follow it."""
        self.poll()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop following and fail what is not answered yet."""
        self._stop.set()
        self._to_load.put(None)
        for thread in self._threads:
            thread.join(timeout=5)  # a load that is under way ends with the process
        for served in self.ready().values():
            served.engine.abort()

    # -- reading ---------------------------------------------------------------------------------------------------

    def states(self) -> list[DeploymentState]:
        with self._lock:
            entries = list(self._entries.values())
        return [
            DeploymentState(
                model_name=entry.wanted.model_name, export=entry.wanted.export, state=entry.state, error=entry.error
            )
            for entry in entries
        ]

    def ready(self) -> dict[str, Served]:
        """Model name -> what answers under it now."""
        with self._lock:
            return {name: entry.served for name, entry in self._entries.items() if entry.served is not None}

    def find_key(self, presented: str) -> Key | None:
        """The key as serving.json has it; takes the same time whichever key it is compared with."""
        digest = hashlib.sha256(presented.encode()).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    # -- following -------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Look whether the file has changed; a bad one is reported and the last good one stays in force."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            wanted = ServingFile.model_validate_json(self.path.read_text())
        except ValidationError as error:
            self.error = f"{self.path} was not taken over: {explain(error)}"
            logger.error(self.error)
            return
        self.error = None
        self._apply(wanted)

    def _apply(self, file: ServingFile) -> None:
        """Take over keys and wanted exports. What is unchanged and did not fail stays as it is."""
        entries: dict[str, _Entry] = {}
        with self._lock:
            before = self._entries
            for wanted in file.deployments:
                old = before.get(wanted.model_name)
                entry = _Entry(wanted, _identity(wanted), served=old.served if old else None)
                unchanged = old is not None and old.identity == entry.identity and old.state != "failed"
                entries[wanted.model_name] = old if old is not None and unchanged else entry
            self._keys, self._entries = file.keys, entries
        for name, entry in entries.items():
            if entry is not before.get(name):
                self._to_load.put(entry)
        for name, old in before.items():
            if name not in entries and old.served is not None:
                logger.info("'%s' is no longer deployed", name)
                old.served.engine.close()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.poll()

    def _load_wanted(self) -> None:
        while (entry := self._to_load.get()) is not None and not self._stop.is_set():
            if self._is_current(entry):
                self._switch(entry, *self._try_load(entry))

    def _try_load(self, entry: _Entry) -> tuple[Served | None, str | None]:
        name = entry.wanted.model_name
        logger.info("'%s': loading %s", name, entry.wanted.export)
        try:
            return self._load(Path(entry.wanted.export)), None
        except ValueError as error:
            logger.error("'%s': refused: %s", name, error)
            return None, str(error)
        except Exception as error:
            # The supervision point of loading: whatever a damaged export sets off is the reason of this deployment.
            logger.exception("'%s': loading failed", name)
            return None, f"{type(error).__name__}: {error}"

    def _switch(self, entry: _Entry, served: Served | None, error: str | None) -> None:
        """New requests go to the new engine; the old one ends its streams and then itself."""
        name = entry.wanted.model_name
        with self._lock:
            current = self._entries.get(name) is entry
            if current and served is not None:
                self._entries[name] = replace(entry, state="ready", served=served)
            elif current:
                self._entries[name] = replace(entry, state="failed", error=error)
        retired = entry.served if current and served is not None else served
        if retired is not None:
            retired.engine.close()
        if current and served is not None:
            logger.info("'%s' is ready", name)

    def _is_current(self, entry: _Entry) -> bool:
        with self._lock:
            return self._entries.get(entry.wanted.model_name) is entry


def _identity(wanted: WantedDeployment) -> str:
    """An export is its marker, which holds the hashes of its files."""
    marker = Path(wanted.export) / COMPLETE
    content = marker.read_bytes() if marker.is_file() else b""
    return f"{wanted.export} {hashlib.sha256(content).hexdigest()}"
