"""Where text comes from. Every source is cut into units, and every unit yields its records one at a time, in an order
that depends only on names and contents. Language is left empty where nobody said it; the language rule fills it in.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from trainer.data.sources.base import Found as Found
from trainer.data.sources.base import Skipped as Skipped
from trainer.data.sources.base import Source as Source
from trainer.data.sources.base import Unit as Unit
from trainer.data.sources.base import record as record
from trainer.data.sources.folders import path_source
from trainer.data.sources.hub import hub_source
from trainer.data.sources.installation import installation_sources as installation_sources
from trainer.data.sources.remote import remote_source
from trainer.remote import is_url
from trainer.spec import CleanSpec


def open_sources(spec: CleanSpec) -> list[Source]:
    """The sources of a clean job; checks what can be checked before anything is read.

    Raises:
        ValueError: a folder, file, upload or data set is missing, unreadable or holds nothing that is read, or no
            source is left.
    """
    names: set[str] = set()
    sources = [make(_unique(name, names)) for name, make in _named(spec)]
    if spec.python_installation:
        sources += installation_sources()
    if not sources:
        raise ValueError("there is nothing to read: name a folder, an upload or a data set, or set python_installation")
    return sources


def _named(spec: CleanSpec) -> Iterator[tuple[str, Callable[[str], Source]]]:
    """How to make each source that the job names, once its own name is settled."""
    for place in spec.folders + spec.uploads:
        if is_url(place):
            yield Path(place).name, partial(remote_source, place, settings=spec.rows)
        else:
            yield Path(place).absolute().name, partial(path_source, Path(place), settings=spec.rows)
    for wanted in spec.hugging_face:
        yield Path(wanted.name).name, partial(hub_source, wanted, settings=wanted.rows or spec.rows)


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another source has it already."""
    unused = name
    for number in count(2):
        if unused not in taken:
            break
        unused = f"{name}-{number}"
    taken.add(unused)
    return unused
