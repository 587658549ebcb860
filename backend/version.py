"""The version of this installation."""

import importlib.metadata
import tomllib

from backend.jobs.reuse import SOURCE_ROOT


def version() -> str:
    """As installed; in a checkout that is not installed, as pyproject.toml says."""
    try:
        return importlib.metadata.version("octavo")
    except importlib.metadata.PackageNotFoundError:
        with open(SOURCE_ROOT / "pyproject.toml", "rb") as file:
            return str(tomllib.load(file)["project"]["version"])
