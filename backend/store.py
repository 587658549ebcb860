"""Where run folders are kept. Jobs work on this machine's disk; with a URL as store, what a finished job left is copied
there, and what is not on this machine is fetched from there before it is read.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from trainer.artifacts import COMPLETE, RunFolder
from trainer.remote import Remote

_NOT_KEPT = ("volatile", "passes")  # what a job only needs to go on with on the machine that it ran on
_LAST = "status.json"


class StoreError(OSError):
    """A sentence that says what could not be copied or looked at, and why."""


class Store:
    """Folders below one local folder, and their copies at a URL.

    Args:
        url: none: the local folder is all there is, and nothing is copied.
    """

    def __init__(self, local: Path, url: str | None) -> None:
        self.local = local
        self._remote = Remote(url) if url is not None else None

    def keep(self, folder: Path) -> None:
        """Copy a run folder to the store, its status last: a copy without one does not exist.

        Raises:
            StoreError: the store does not take it.
        """
        if self._remote is None:
            return
        with _as_store_error("its result cannot be copied to the store"):
            for path in sorted(_files(folder), key=lambda path: (path.name == _LAST, path.name == COMPLETE)):
                self._remote.upload(path, self._name(path))

    def has(self, folder: Path) -> bool:
        """Whether a succeeded job's folder is here or in the store.

        Raises:
            StoreError: the store does not answer.
        """
        if self._remote is None or _is_whole(folder):
            return folder.is_dir()
        with _as_store_error("the store cannot be looked at"):
            return self._remote.exists(self._name(folder / _LAST))

    def fetch(self, folder: Path) -> None:
        """See to it that a run folder is on this machine, where it is anywhere; other folders are left alone.

        Raises:
            StoreError: the store does not answer, or there is no room here.
        """
        if self._remote is None or not folder.is_relative_to(self.local) or _is_whole(folder) or not self.has(folder):
            return
        name, partial = self._name(folder), folder.with_name(f".{folder.name}.{uuid4().hex}.partial")
        with _as_store_error(f"run {folder.name} cannot be fetched from the store"):
            try:
                for file in self._remote.files(name):
                    self._remote.download(file.name, partial / Path(file.name).relative_to(name))
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that ended here, where another did not
                os.replace(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.local).as_posix()


@contextmanager
def _as_store_error(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what} ({error}); is OCTAVO_STORE_URL right, and the place reachable?") from error


def _is_whole(folder: Path) -> bool:
    status = RunFolder(folder).status()
    return status is not None and status.state == "succeeded"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in _NOT_KEPT and not any(part.startswith(".") for part in parts):
            yield path
