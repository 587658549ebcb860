"""Reading sources in tests: what comes out of a folder, records and skips apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.data.sources import Found, Skipped, Source, open_sources
from trainer.spec import CleanSpec, Record


def opened(*folders: Path, python_installation: bool = False, **fields: Any) -> list[Source]:
    names = tuple(map(str, folders))
    spec = {"name": "clean", "folders": names, "python_installation": python_installation, **fields}
    return open_sources(CleanSpec.model_validate(spec))


def all_of(source: Source) -> Iterator[Found]:
    return (found for unit in source.units for found in unit.read())


def read(*folders: Path, **fields: Any) -> tuple[list[Record], list[Skipped]]:
    found = [one for source in opened(*folders, **fields) for one in all_of(source)]
    return [one for one in found if isinstance(one, Record)], [one for one in found if isinstance(one, Skipped)]


def texts(*folders: Path, **fields: Any) -> list[str]:
    return [one.text for one in read(*folders, **fields)[0]]


def reasons(*folders: Path, **fields: Any) -> list[tuple[str, str]]:
    return sorted((one.reason, one.where) for one in read(*folders, **fields)[1])
