"""Folders and files a user names, cut into units."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from trainer.data.sources.base import Skipped, Source, Unit, make_source
from trainer.data.sources.files import Reading, file_units
from trainer.data.sources.kinds import is_left_out, kind_of, known_suffixes
from trainer.data.sources.licences import LICENCE_FILE
from trainer.data.sources.rows import RowReader
from trainer.job_settings import RowSettings

_LONGEST_LICENCE = 2**17  # bytes that are looked at


def path_source(path: Path, name: str, settings: RowSettings) -> Source:
    """A folder with all that is in it, or a single file.

    Raises:
        ValueError: it does not exist, cannot be read or holds no file of a kind that is read.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; correct 'folders' of the clean job")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise ValueError(f"{path} cannot be read; check its permissions")
    reading = Reading(RowReader(name, settings))
    units = _folder_units(path, reading) if path.is_dir() else file_units(path, path.name, reading)
    if not any(kind_of(unit.name.split("[")[0]) for unit in units):
        raise ValueError(f"{path} holds no file of a kind that is read: {known_suffixes()} or program code")
    return make_source(name, units)


def _folder_units(root: Path, reading: Reading) -> list[Unit]:
    units: list[Unit] = []
    for found in walk(root):
        if isinstance(found, Skipped):
            units.append(Unit(reading.source, found.where, 0, partial(_only, found)))
            continue
        name = found.relative_to(root).as_posix()
        if LICENCE_FILE.match(found.name):
            reading.licences.add(name, partial(_beginning, found))
        units += file_units(found, name, reading)
    return units


def _only(skipped: Skipped) -> Iterator[Skipped]:
    yield skipped


def _beginning(path: Path) -> str:
    """Of a licence; where it cannot be read, that is counted when it is read as a text."""
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST_LICENCE).decode(errors="replace")
    except OSError:
        return ""


def walk(root: Path) -> Iterator[Path | Skipped]:
    """Files below a folder in order of their names, and what is left out of it: hidden and generated folders, links to
    folders, folders that cannot be listed."""
    failed: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=failed.append):
        here = Path(folder)
        for name in sorted(folders):
            reason = _left_out(here / name)
            if reason:
                folders.remove(name)
                yield Skipped(reason, (here / name).relative_to(root).as_posix())
        folders.sort()
        for name in sorted(files):
            if name.startswith("."):
                yield Skipped("hidden or generated", (here / name).relative_to(root).as_posix())
            else:
                yield here / name
    for error in failed:
        where = Path(error.filename).relative_to(root).as_posix()
        yield Skipped("folder cannot be read", where, str(error.strerror))


def _left_out(folder: Path) -> str:
    if is_left_out(folder.name):
        return "hidden or generated"
    return "link to a folder" if folder.is_symlink() else ""
