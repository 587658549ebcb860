"""Data sets of the Hugging Face hub, or in its layout on disk, streamed by the library `datasets`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from trainer.data.sources.base import Found, Skipped, Source, Unit, make_source
from trainer.data.sources.rows import RowReader
from trainer.job_settings import HubDataset, RowSettings


def hub_source(wanted: HubDataset, name: str, settings: RowSettings) -> Source:
    """A unit for each shard of a split.

    Raises:
        ValueError: `datasets` is not installed, or there is no such data set, configuration or split.
    """
    dataset = _open(wanted)
    rows = RowReader(name, settings)
    shards = dataset.num_shards
    size = _bytes(dataset, wanted.split) // shards
    return make_source(
        name,
        [
            Unit(name, f"{wanted.name}[{shard}]", size, partial(_read, dataset, shard, wanted, rows))
            for shard in range(shards)
        ],
    )


def _open(wanted: HubDataset) -> Any:
    try:
        from datasets import Dataset, load_dataset, load_from_disk
    except ImportError as error:
        raise ValueError("hugging_face data sets need the extra 'hub': pip install -e '.[hub]'") from error
    try:
        if Path(wanted.name, "dataset_info.json").is_file() or Path(wanted.name, "dataset_dict.json").is_file():
            saved = load_from_disk(wanted.name)
            split = saved if isinstance(saved, Dataset) else saved[wanted.split]
            return split.to_iterable_dataset(num_shards=max(1, min(64, len(split) // 1000)))
        return load_dataset(wanted.name, wanted.config, split=wanted.split, revision=wanted.revision, streaming=True)
    except (OSError, ValueError, KeyError, RuntimeError, httpx.HTTPError) as error:
        place = f"'{wanted.name}', split '{wanted.split}'" + (f", config '{wanted.config}'" if wanted.config else "")
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"hugging_face: {place} cannot be opened ({reason}); check its name and that the hub can be reached, "
            "or give the path of a local copy"
        ) from error


def _bytes(dataset: Any, split: str) -> int:
    """Of a split as its card says; 0 where it says nothing."""
    splits = dataset.info.splits or {}
    return int(splits[split].num_bytes or 0) if split in splits else 0


def _read(dataset: Any, shard: int, wanted: HubDataset, rows: RowReader) -> Iterator[Found]:
    place = f"{wanted.name}[{shard}]"
    license = wanted.license or str(dataset.info.license or "")
    try:
        for number, row in enumerate(dataset.shard(dataset.num_shards, shard), start=1):
            yield rows.read(row, place, license, row=number)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        yield Skipped("stream ended early", place, " ".join(str(error).split())[:300])
