"""Files that people send, kept in the home: uploads/<id>/upload.json, and the file beside it.

While a file arrives it is called `part`; the rename to its own name is what makes it whole, so whoever sees the name
sees all of the file. There are no rows: what lies on disk is the truth.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.tables import FINISHED, JobRow
from backend.platform import Platform
from backend.settings import Settings
from backend.uploads.schemas import NewUpload, UploadSchema
from trainer.artifacts import write_atomic

_ID = re.compile(r"[0-9a-f]{12}")
_ABOUT, _PART = "upload.json", "part"
_LONGEST_NAME = 100
_UNSAFE = re.compile(r"[^\w.+()-]+")


def create(platform: Platform, wanted: NewUpload, user: str) -> UploadSchema:
    """Make room for a file.

    Raises:
        Invalid: it is larger than allowed or than the disk has room for, or its name says nothing.
    """
    largest = platform.settings.upload_megabytes * 1_000_000
    if wanted.bytes > largest:
        raise Invalid(
            f"'{wanted.name}' has {wanted.bytes} bytes, more than the {largest} an upload may have; compress or split "
            "it, or set OCTAVO_UPLOAD_MEGABYTES"
        )
    free = shutil.disk_usage(platform.settings.home).free
    if wanted.bytes > free:
        raise Invalid(f"'{wanted.name}' has {wanted.bytes} bytes, but only {free} are free on the platform's disk")
    folder = platform.settings.uploads / uuid4().hex[:12]
    about = UploadSchema(
        id=folder.name, name=safe_name(wanted.name), bytes=wanted.bytes, received=0, created=time.time(), user=user
    )
    folder.mkdir(parents=True)
    (folder / _PART).touch()
    write_atomic(folder / _ABOUT, about.model_dump_json())
    return about


def safe_name(name: str) -> str:
    """The last part of a path in letters, digits and a few signs; never hidden, never one of our own names.

    Raises:
        Invalid: nothing is left.
    """
    last = re.split(r"[/\\]", name)[-1]
    safe = _UNSAFE.sub("_", last).strip("._")[-_LONGEST_NAME:].lstrip(".")
    if not safe or safe in (_ABOUT, _PART):
        raise Invalid(f"'{name}' is no name for a file; give one such as corpus.jsonl")
    return safe


def list_uploads(settings: Settings) -> list[UploadSchema]:
    """Newest first."""
    found = [_about(folder) for folder in settings.uploads.glob("*") if (folder / _ABOUT).is_file()]
    return sorted(found, key=lambda upload: -upload.created)


def get(settings: Settings, upload_id: str) -> UploadSchema:
    """Raises: NotFound."""
    return _about(_folder(settings, upload_id))


def _folder(settings: Settings, upload_id: str) -> Path:
    folder = settings.uploads / upload_id
    if not _ID.fullmatch(upload_id) or not (folder / _ABOUT).is_file():
        raise NotFound(f"there is no upload '{upload_id}'; GET /uploads lists them")
    return folder


def _about(folder: Path) -> UploadSchema:
    about = UploadSchema.model_validate(json.loads((folder / _ABOUT).read_text()))
    try:
        received = (folder / _PART).stat().st_size
    except FileNotFoundError:
        received = about.bytes
    return about.model_copy(update={"received": received})


async def append(settings: Settings, upload_id: str, offset: int, body: AsyncIterator[bytes]) -> UploadSchema:
    """Write what is sent behind what is there. A connection that breaks leaves what has arrived: go on from there.

    Raises:
        NotFound: no such upload.
        Conflict: `offset` is not where the file goes on, or another request is writing to it.
        Invalid: more is sent than was announced.
    """
    folder = _folder(settings, upload_id)
    with _part(folder) as file:
        about = _about(folder)
        if offset != about.received:
            raise Conflict(f"{about.received} bytes of '{about.name}' are here; go on with offset={about.received}")
        left = about.bytes - offset
        file.seek(offset)
        async for chunk in body:
            if len(chunk) > left:
                file.truncate(offset)
                raise Invalid(
                    f"more is sent than the {about.bytes} bytes announced for '{about.name}'; nothing is kept"
                )
            left -= len(chunk)
            await run_in_threadpool(file.write, chunk)
        file.flush()
        if left == 0:
            os.fsync(file.fileno())
            os.replace(folder / _PART, folder / about.name)
    return _about(folder)


@contextmanager
def _part(folder: Path) -> Iterator[BinaryIO]:
    """The file that grows, for one request at a time."""
    about = _about(folder)
    if not (folder / _PART).is_file():
        raise Conflict(f"'{about.name}' is whole already; upload it anew to replace it")
    with open(folder / _PART, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"another request is writing to '{about.name}'; wait for it or delete the upload") from error
        yield file


def remove(platform: Platform, upload_id: str) -> None:
    """Raises: NotFound; Conflict: a job that has not ended reads it."""
    folder = _folder(platform.settings, upload_id)
    query = select(JobRow).where(JobRow.state.not_in(FINISHED), JobRow.kind == "clean")
    with platform.database.read() as session:
        readers = [row.name for row in session.scalars(query) if str(folder) in str(row.spec.get("uploads"))]
    if readers:
        raise Conflict(f"job '{readers[0]}' reads this upload and has not ended; wait for it or cancel it")
    # The description goes first: from then on there is no such upload.
    (folder / _ABOUT).unlink(missing_ok=True)
    shutil.rmtree(folder)


def path_of(settings: Settings, upload: str) -> Path:
    """Where a whole upload lies.

    Args:
        upload: its id; or this very path, as a job that was submitted before names it.

    Raises:
        NotFound: there is no such upload.
        Conflict: it is not whole yet.
    """
    path = Path(upload)
    about = get(settings, path.parent.name if path.is_absolute() else upload)
    if about.received < about.bytes:
        raise Conflict(f"upload '{about.name}' is not whole: {about.received} of {about.bytes} bytes are here")
    return settings.uploads / about.id / about.name
