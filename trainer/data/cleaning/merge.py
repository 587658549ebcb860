"""The third pass: of each cluster of duplicates the first document stays; what stays is written and counted."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.cleaning.account import EXAMPLE_CHARACTERS, KEPT_EXAMPLES, Account
from trainer.data.cleaning.shard import NAMED, ShardReport
from trainer.data.dedup.clusters import Places, apart, find, join
from trainer.data.dedup.columns import BLOCK, Column
from trainer.spec import DOMAINS, CleanSpec

EXACT, NEAR = "exact duplicate", "near duplicate"
_REASONS = (None, EXACT, NEAR)
# Words from which on a document counts here and no longer in the one before.
LENGTHS = (0, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)

Verdicts = NDArray[np.uint8]  # places in `_REASONS`


def write_documents(
    spec: CleanSpec, shards: Sequence[Path], buckets: Sequence[Path], folder: Path, report: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write part-*.jsonl, one for each shard, and return the result of the clean job.

    Args:
        report: called with the documents written and all there are; may end the work by an exception.

    Raises:
        ValueError: no document is left, saying what dropped them.
    """
    verdicts_N = _verdicts(Column([shard / "facts.npy" for shard in shards]), buckets)
    reports = [ShardReport.model_validate_json((shard / "shard.json").read_text()) for shard in shards]
    account = Account.together([found.account for found in reports], spec.seed)
    kept = int(np.count_nonzero(verdicts_N == 0))
    account.dropped |= {
        reason: int(np.count_nonzero(verdicts_N == number)) for number, reason in enumerate(_REASONS) if reason
    }
    if kept == 0:
        raise ValueError(
            f"no document is left of {account.read} read ({account.summary()}); loosen the rules or give more text"
        )
    account.examples |= _write_parts(shards, verdicts_N, folder, Random(spec.seed), report)
    assert account.read == kept + sum(account.dropped.values()), "every record that was read is kept or dropped"
    return {"documents": {"read": account.read, "kept": kept}, **account.model_dump(exclude={"read"})} | _facts(
        shards, reports, verdicts_N
    )


def _verdicts(facts: Column, buckets: Sequence[Path]) -> Verdicts:
    """What is to become of each document: of those that are joined, however far around, only the first stays."""
    exact_N = apart(len(facts))
    for found in _edges(buckets, "exact.npy"):
        join(exact_N, found)
    near_N = exact_N.copy()
    for found in _edges(buckets, "near.npy"):
        join(near_N, found)
    verdicts_N = np.zeros(len(facts), np.uint8)
    for start in range(0, len(facts), BLOCK):
        places_K = np.arange(start, min(start + BLOCK, len(facts)))
        again_K, alike_K = find(exact_N, places_K) != places_K, find(near_N, places_K) != places_K
        verdicts_N[places_K] = np.where(again_K, _REASONS.index(EXACT), np.where(alike_K, _REASONS.index(NEAR), 0))
    return verdicts_N


def _edges(buckets: Sequence[Path], name: str) -> Iterator[Places]:
    return (block for _, block in Column([bucket / name for bucket in buckets]).blocks())


def _write_parts(
    shards: Sequence[Path], verdicts_N: Verdicts, folder: Path, rng: Random, report: Callable[[int, int], None]
) -> dict[str, list[dict[str, str]]]:
    """Copy the lines of what stays; returns examples of what does not, drawn evenly."""
    examples: dict[str, list[dict[str, str]]] = {EXACT: [], NEAR: []}
    seen = dict.fromkeys(examples, 0)
    place = 0
    for number, shard in enumerate(shards):
        with open(shard / "documents.jsonl", "rb") as lines, open(folder / f"part-{number:03d}.jsonl", "wb") as part:
            for line in lines:
                reason = _REASONS[verdicts_N[place]]
                if place % 1_000 == 0:
                    report(place, len(verdicts_N))
                place += 1
                if reason is None:
                    part.write(line)
                    continue
                seen[reason] += 1
                slot = rng.randrange(seen[reason])
                if slot < KEPT_EXAMPLES:
                    examples[reason][slot : slot + 1] = [_example(line)]
    return examples


def _example(line: bytes) -> dict[str, str]:
    record = json.loads(line)
    return {"source": record["source"], "text": record["text"][:EXAMPLE_CHARACTERS]}


def _facts(shards: Sequence[Path], reports: Sequence[ShardReport], verdicts_N: Verdicts) -> dict[str, Any]:
    """Sums over what stays."""
    characters: dict[str, dict[str, int]] = {kind: {} for kind in ("domain", *NAMED)}
    licenses: dict[str, int] = {}
    lengths_B = np.zeros(len(LENGTHS), np.int64)
    size, place = 0, 0
    for shard, report in zip(shards, reports, strict=True):
        names = report.names | {"domain": list(DOMAINS)}
        for _, block in Column([shard / "facts.npy"]).blocks():
            kept = block[verdicts_N[place : place + len(block)] == 0]
            place += len(block)
            for kind, counts in characters.items():
                _add(counts, names[kind], np.bincount(kept[kind], kept["characters"], len(names[kind])))
            _add(licenses, names["license"], np.bincount(kept["license"], minlength=len(names["license"])))
            lengths_B += np.bincount(np.searchsorted(LENGTHS, kept["words"], "right") - 1, minlength=len(LENGTHS))
            size += int(kept["bytes"].sum())
    total = sum(characters["domain"].values())
    return {
        "characters": total,
        "bytes": size,
        "shares": {domain: round(count / total, 4) for domain, count in characters["domain"].items()},
        "sources": characters["source"],
        "languages": _falling(characters["language"]),
        "licenses": _falling({name: count for name, count in licenses.items() if name}),
        "lengths": {"bounds": list(LENGTHS), "counts": lengths_B.tolist()},
    }


def _add(counts: dict[str, int], names: Sequence[str], amounts: NDArray[Any]) -> None:
    for name, amount in zip(names, amounts, strict=True):
        if amount:
            counts[name] = counts.get(name, 0) + int(amount)


def _falling(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
