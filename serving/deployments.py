"""Which models answer and which keys open them: serving.json, polled; exports loaded beside what is running."""

import hashlib
import hmac
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.engine_protocol import Served
from serving.gate import Gate
from serving.keys import Key
from trainer.artifacts import COMPLETE
from trainer.spec import Spec, explain

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
State = Literal["loading", "ready", "failed"]


class WantedVersion(Spec):
    """An export, under an id of the backend's. Weight 0: kept loaded, so that going back to it takes no time."""

    id: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    export: str
    weight: float = Field(1.0, ge=0)


class WantedDeployment(Spec):
    """What is to answer under a name; requests are shared out by weight."""

    model_name: str = Field(pattern=r"^[^@]+$")
    versions: tuple[WantedVersion, ...]

    @model_validator(mode="after")
    def _can_answer(self) -> Self:
        if len({version.id for version in self.versions}) != len(self.versions):
            raise ValueError(f"model '{self.model_name}' names a version twice")
        if not any(version.weight for version in self.versions):
            raise ValueError(f"no version of model '{self.model_name}' has a weight above 0")
        return self


class ServingFile(Spec):
    """serving.json as the backend writes it."""

    version: int
    deployments: tuple[WantedDeployment, ...] = ()
    keys: tuple[Key, ...] = ()


class DeploymentState(BaseModel):
    """One row of GET /deployments: a version that is wanted, how far it has come, and what the parity gate found."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_name: str
    version: str
    export: str
    state: State
    error: str | None = None
    share: float = Field(description="of the requests of its name, which it answers now")
    gate: Gate | None = None


@dataclass(frozen=True)
class _Version:
    """A wanted version, and what answers for it once it has proved itself."""

    name: str
    wanted: WantedVersion
    identity: str  # changes when the folder is written anew
    state: State = "loading"
    error: str | None = None
    served: Served | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.wanted.id


@dataclass(frozen=True)
class Share:
    """A version that answers now, with its part of the requests; those of a name sum to 1."""

    served: Served
    part: float


class Deployments:
    """Follows serving.json. Loading happens in one thread, one export after the other; reading never waits for it.

    What answers under a name changes as a whole, when every version that is to have a share has proved itself. Until
    then, and if one is refused, what answered before goes on, also where the file no longer names it.
    """

    def __init__(self, path: Path, load: Callable[[Path], Served]) -> None:
        self.path, self._load = path, load
        self.error: str | None = f"{path} does not exist yet; the backend writes it"
        self._keys: tuple[Key, ...] = ()
        self._wanted: tuple[WantedDeployment, ...] = ()
        self._versions: dict[tuple[str, str], _Version] = {}
        self._answering: dict[str, tuple[Share, ...]] = {}
        self._changed = threading.Condition()  # for all of the above
        self._seen: tuple[int, int, int] | None = None
        self._stop = threading.Event()
        self._to_load: queue.SimpleQueue[_Version | None] = queue.SimpleQueue()
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
        for _, served in self.loaded():
            served.engine.abort()

    # -- reading ---------------------------------------------------------------------------------------------------

    def states(self) -> list[DeploymentState]:
        with self._changed:
            versions, answering = list(self._versions.values()), self._answering
        return [
            DeploymentState(
                model_name=version.name,
                version=version.wanted.id,
                export=version.wanted.export,
                state=version.state,
                error=version.error,
                share=sum(s.part for s in answering.get(version.name, ()) if s.served.version == version.wanted.id),
                gate=version.served.gate if version.served else None,
            )
            for version in versions
        ]

    def ready(self) -> dict[str, Served]:
        """Model name -> what answers most requests under it now."""
        with self._changed:
            return {name: max(shares, key=lambda s: s.part).served for name, shares in self._answering.items()}

    def loaded(self) -> list[tuple[str, Served]]:
        """Every version in memory, with its model name."""
        with self._changed:
            return [(name, served) for name, served in self._loaded()]

    def route(self, model: str, sticky: str) -> Served | None:
        """What is to answer a request for `model`, which may pin a version as 'name@version'; None: nothing does.

        Requests of the same `sticky` text go to the same version while the shares stay as they are, in every replica.
        """
        name, _, pinned = model.partition("@")
        with self._changed:
            shares, version = self._answering.get(name, ()), self._versions.get((name, pinned))
        if pinned:
            return version.served if version else None
        return _pick(shares, f"{name}\n{sticky}") if shares else None

    def find_key(self, presented: str) -> Key | None:
        """The key as serving.json has it; takes the same time whichever key it is compared with."""
        digest = hashlib.sha256(presented.encode()).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def wait_until_settled(self, timeout: float) -> bool:
        """Wait until nothing that the file wants is still loading; false when that takes longer."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(version.state != "loading" for version in self._versions.values()), timeout
            )

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
        with self._changed:
            before = self._versions
            found = [_Version(w.model_name, v, _identity(v)) for w in file.deployments for v in w.versions]
            self._versions = {version.key: _known(before, version) for version in found}
            self._keys, self._wanted = file.keys, file.deployments
            new = [version for version in self._versions.values() if version.state == "loading"]
            retired = self._settle(before)
        _close(retired)
        for version in new:
            self._to_load.put(version)

    def _settle(self, before: dict[tuple[str, str], _Version]) -> list[Served]:
        """Let the wanted shares answer where all are ready; returns what is needed no longer. Called under the lock."""
        loaded = [served for _, served in self._loaded(before)]
        answering: dict[str, tuple[Share, ...]] = {}
        for wanted in self._wanted:
            found = [(self._versions[wanted.model_name, v.id].served, v.weight) for v in wanted.versions if v.weight]
            total = sum(weight for _, weight in found)
            shares = tuple(Share(served, weight / total) for served, weight in found if served is not None)
            if len(shares) < len(found):
                shares = self._answering.get(wanted.model_name, ())
            if shares:
                answering[wanted.model_name] = shares
        self._answering = answering
        self._changed.notify_all()
        needed = [served for _, served in self._loaded()]
        return [served for served in loaded if not any(served is other for other in needed)]

    def _loaded(self, versions: dict[tuple[str, str], _Version] | None = None) -> list[tuple[str, Served]]:
        versions = self._versions if versions is None else versions
        found = [(version.name, version.served) for version in versions.values() if version.served is not None]
        found += [(name, share.served) for name, shares in self._answering.items() for share in shares]
        return list({id(served): (name, served) for name, served in found}.values())

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.poll()

    def _load_wanted(self) -> None:
        while (version := self._to_load.get()) is not None and not self._stop.is_set():
            with self._changed:
                wanted = self._is_wanted(version)
            if wanted:
                self._take(version, *self._try_load(version))

    def _try_load(self, version: _Version) -> tuple[Served | None, str | None]:
        label, export = f"{version.name}@{version.wanted.id}", version.wanted.export
        logger.info("'%s': loading %s", label, export)
        try:
            return replace(self._load(Path(export)), version=version.wanted.id), None
        except ValueError as error:
            logger.error("'%s': refused: %s", label, error)
            return None, str(error)
        except Exception as error:
            # The supervision point of loading: whatever a damaged export sets off is the reason of this deployment.
            logger.exception("'%s': loading failed", label)
            return None, f"{type(error).__name__}: {error}"

    def _take(self, version: _Version, served: Served | None, error: str | None) -> None:
        """New requests go to the new engine; the old one ends its streams and then itself."""
        with self._changed:
            before = self._versions
            if self._is_wanted(version):
                state: State = "ready" if served is not None else "failed"
                done = replace(before[version.key], state=state, served=served, error=error)
                self._versions = {**before, version.key: done}
                retired = self._settle(before)
            else:  # the file has changed meanwhile
                retired = [served] if served is not None else []
        _close(retired)

    def _is_wanted(self, version: _Version) -> bool:
        """Whether the file still waits for it; its weight may have changed."""
        found = self._versions.get(version.key)
        return found is not None and (found.identity, found.state) == (version.identity, "loading")


def _known(before: dict[tuple[str, str], _Version], version: _Version) -> _Version:
    """The version as it was, with its new weight, unless it failed or its folder was written anew."""
    old = before.get(version.key)
    if old is None or old.identity != version.identity or old.state == "failed":
        return version
    return replace(old, wanted=version.wanted)


def _close(retired: Sequence[Served]) -> None:
    for served in retired:
        logger.info("version %s answers no more requests", served.version)
        served.engine.close()


def _pick(shares: Sequence[Share], sticky: str) -> Served:
    """A text's place in [0, 1) decides; a share that grows keeps the texts it has."""
    place = int.from_bytes(hashlib.sha256(sticky.encode()).digest()[:8], "big") / 2**64
    for share in shares:
        if place < share.part:
            return share.served
        place -= share.part
    return shares[-1].served


def _identity(wanted: WantedVersion) -> str:
    """An export is its marker, which holds the hashes of its files."""
    marker = Path(wanted.export) / COMPLETE
    content = marker.read_bytes() if marker.is_file() else b""
    return f"{wanted.export} {hashlib.sha256(content).hexdigest()}"
