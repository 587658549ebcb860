"""Where text comes from. Every source is cut into units, and every unit yields its records one at a time, in an order
that depends only on names and contents. Language is left empty where nobody said it; the language rule fills it in.
"""

from pathlib import Path

from trainer.data.sources.base import Found as Found
from trainer.data.sources.base import Skipped as Skipped
from trainer.data.sources.base import Source as Source
from trainer.data.sources.base import Unit as Unit
from trainer.data.sources.base import record as record
from trainer.data.sources.folders import folder_source
from trainer.data.sources.installation import installation_sources as installation_sources
from trainer.spec import CleanSpec


def open_sources(spec: CleanSpec) -> list[Source]:
    """The sources of a clean job; checks what can be checked before anything is read.

    Raises:
        ValueError: a folder is missing, unreadable or holds nothing that is read, or no source is left.
    """
    sources = [folder_source(Path(folder)) for folder in spec.folders]
    if spec.python_installation:
        sources += installation_sources()
    if not sources:
        raise ValueError("there is nothing to read: name a folder or set python_installation")
    return sources
