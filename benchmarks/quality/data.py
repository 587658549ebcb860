"""The data pack that these benchmarks read: JSON Lines in gzip, named by --data or OCTAVO_DATA."""

import argparse
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add_data_option(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("OCTAVO_DATA")
    parser.add_argument(
        "--data", type=Path, default=default, required=default is None, help="folder of the data pack; or OCTAVO_DATA"
    )


def rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of one file of the pack.

    Raises:
        ValueError: the pack has no such file.
    """
    path = folder / f"{name}.jsonl.gz"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; --data names the folder of the data pack")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
