"""Folders behind a URL, such as s3://bucket/prefix. A file is fetched when its turn comes, and thrown away after."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from trainer.data.sources.base import Found, Skipped, Source, Unit, make_source
from trainer.data.sources.files import Reading, file_units
from trainer.data.sources.kinds import is_left_out, kind_of, known_suffixes
from trainer.data.sources.licences import LICENCE_FILE
from trainer.data.sources.rows import RowReader
from trainer.job_settings import RowSettings
from trainer.remote import Remote, RemoteFile


def remote_source(url: str, name: str, settings: RowSettings) -> Source:
    """All below a URL, one unit a file.

    Raises:
        ValueError: it cannot be listed or holds no file of a kind that is read.
    """
    remote, reading = Remote(url), Reading(RowReader(name, settings))
    try:
        files = remote.files()
    except OSError as error:
        raise ValueError(f"{url} cannot be listed ({error}); correct 'folders' of the clean job") from error
    if not any(kind_of(file.name) for file in files):
        raise ValueError(f"{url} holds no file of a kind that is read: {known_suffixes()} or program code")
    for file in files:
        if LICENCE_FILE.match(PurePosixPath(file.name).name):
            reading.licences.add(file.name, partial(_text, remote, file.name))
    return make_source(
        name, [Unit(name, file.name, file.bytes, partial(_read, remote, file, reading)) for file in files]
    )


def _read(remote: Remote, file: RemoteFile, reading: Reading) -> Iterator[Found]:
    """Raises: OSError: the place does not answer; nothing is skipped for that, since it would be lost."""
    if any(is_left_out(part) for part in PurePosixPath(file.name).parts):
        yield Skipped("hidden or generated", file.name)
        return
    with TemporaryDirectory(prefix="octavo-") as folder:
        path = Path(folder, "file").with_suffix(PurePosixPath(file.name).suffix)
        try:
            remote.download(file.name, path)
        except FileNotFoundError:
            yield Skipped("file cannot be read", file.name, "it was removed after the listing")
            return
        for unit in file_units(path, file.name, reading):
            yield from unit.read()


def _text(remote: Remote, name: str) -> str:
    with TemporaryDirectory(prefix="octavo-") as folder:
        remote.download(name, Path(folder, "licence"))
        return Path(folder, "licence").read_text(encoding="utf-8", errors="replace")
