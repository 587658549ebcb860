"""Files at a URL that fsspec knows, such as s3://bucket/prefix. Imports no torch.

Credentials and endpoint are those of the protocol's own variables (of S3: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL …).
"""

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec

try:
    from botocore.exceptions import BotoCoreError
except ImportError:  # without the extra 's3' nothing raises it

    class BotoCoreError(Exception):  # type: ignore[no-redef]
        pass


def is_url(place: str) -> bool:
    return "://" in place


@dataclass(frozen=True)
class RemoteFile:
    """`version` changes when the content does: what the protocol has for it, a hash or a time."""

    name: str
    bytes: int
    version: str


class Remote:
    """What lies below one URL; names are relative to it, with '/' between folders.

    Raises:
        ValueError: nothing here knows the URL's protocol.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            # A listing is never kept: another machine may have written since.
            self._files, root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{url} cannot be opened: {error}; for s3:// install the extra 's3'") from error
        self._root = str(root).rstrip("/")

    def files(self, folder: str = "") -> list[RemoteFile]:
        """All below a folder in order of their names; none where there is no such folder.

        Raises: OSError: it cannot be listed.
        """
        with _as_os_error(self.url):
            found: dict[str, dict[str, object]] = self._files.find(self._path(folder), detail=True)
        return [
            RemoteFile(posixpath.relpath(path, self._root), int(str(entry["size"] or 0)), _version(entry))
            for path, entry in sorted(found.items())
        ]

    def exists(self, name: str) -> bool:
        """Raises: OSError: the place does not answer."""
        with _as_os_error(self.url):
            return bool(self._files.exists(self._path(name)))

    def download(self, name: str, path: Path) -> None:
        """Raises: OSError: it cannot be read, or not written here."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with _as_os_error(f"{self.url}/{name}"):
                self._files.get_file(self._path(name), str(partial))
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                partial.unlink()

    def upload(self, path: Path, name: str) -> None:
        """Raises: OSError: it cannot be written."""
        with _as_os_error(f"{self.url}/{name}"):
            self._files.put_file(str(path), self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _version(entry: dict[str, object]) -> str:
    return str(next((entry[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in entry), ""))


@contextmanager
def _as_os_error(place: str) -> Iterator[None]:
    """A server that cannot be reached is an OSError, as a disk that cannot be read is; botocore has its own."""
    try:
        yield
    except BotoCoreError as error:
        raise OSError(f"{place}: {error}") from error
