"""python -m trainer inspect TOKENIZE_RUN --source S --split train --row N [--training RUN] [--documents RUN]

A packed row as JSON: its tokens with their loss mask, where each comes from, and the steps of a training that drew it.

    {"tokens": [{"id", "text", "counts", "segment", "domain", "structure"}],
     "documents": [{"id", "kind", "segment", "start", "length",
                    "source", "license", "language", "rules_passed", "meta"}],
     "drawn": [{"phase", "step"}]}

Imports no torch.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.artifacts import RunFolder
from trainer.data.drawn import DRAWN, steps_that_drew
from trainer.data.packing import ARRAYS, ORIGINS
from trainer.data.structure.kinds import CodeKind, LatexKind
from trainer.data.tokenizer import Tokenizer
from trainer.spec import DOMAINS, Problem, Record

VERIFIED = "steps and answer verified"  # what every problem has passed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer inspect")
    parser.add_argument("dataset", type=Path, help="run folder of a tokenize job")
    parser.add_argument("--source", required=True, help="text, completion or dialogue")
    parser.add_argument("--split", default="train", choices=("train", "heldout"))
    parser.add_argument("--row", type=int, required=True, help="from 0 on")
    parser.add_argument("--training", type=Path, help="run folder of a training job that read the rows")
    parser.add_argument("--documents", type=Path, help="run folder that the documents lie in now, where it was moved")
    parsed = parser.parse_args(arguments)
    try:
        found = inspect(
            RunFolder(parsed.dataset), parsed.source, parsed.split, parsed.row,
            None if parsed.training is None else RunFolder(parsed.training),
            None if parsed.documents is None else RunFolder(parsed.documents),
        )  # fmt: skip
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, ensure_ascii=False))
    return 0


def inspect(
    dataset: RunFolder,
    source: str,
    split: str,
    row: int,
    training: RunFolder | None = None,
    documents: RunFolder | None = None,
) -> dict[str, Any]:
    """What is known of a packed row.

    Raises:
        ValueError: there is no such row, or a run folder lacks what is asked of it.
    """
    folder = dataset.artifact("tokens") / source / split
    if not folder.is_dir():
        there = ", ".join(sorted(path.parent.name for path in dataset.artifact("tokens").glob(f"*/{split}")))
        raise ValueError(f"the dataset has no source '{source}' with a split '{split}'; there are {there}")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    rows = len(arrays["tokens"])
    if not 0 <= row < rows:
        raise ValueError(f"row {row} does not exist: the {split} rows of '{source}' are 0 to {rows - 1}")
    held = {name: array[row] for name, array in arrays.items()}
    pieces = _origins(folder / ORIGINS, row)
    return {
        "tokens": list(_tokens(Tokenizer.load(dataset.artifact("tokenizer")), held)),
        "documents": _documents(dataset, documents, pieces, held["segments"]),
        "drawn": [] if training is None else _drawn(dataset, training, source, split, row, rows),
    }


def _tokens(tokenizer: Tokenizer, held: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
    """Every place of the row but padding; a special token as it is written."""
    written = {number: token for token, number in tokenizer.special_ids.items()}
    for place in np.flatnonzero(held["segments"]).tolist():
        token, domain = int(held["tokens"][place]), DOMAINS[held["domains"][place]]
        yield {
            "id": token,
            "text": written.get(token) or tokenizer.token_text(token),
            "counts": bool(held["loss_mask"][place]),
            "segment": int(held["segments"][place]),
            "domain": domain,
            "structure": _structure(domain, int(held["structure"][place])),
        }


def _structure(domain: str, kind: int) -> str | None:
    if kind < 0:
        return None
    return (CodeKind(kind) if domain == "code" else LatexKind(kind)).name.lower()


def _origins(path: Path, row: int) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: the dataset was made before rows knew their origins; tokenize again")
    with open(path, encoding="utf-8") as file:
        pieces: list[dict[str, Any]] = json.loads(next(islice(file, row, None)))["pieces"]
    return pieces


def _documents(
    dataset: RunFolder, documents: RunFolder | None, pieces: list[dict[str, Any]], segments: NDArray[np.int32]
) -> list[dict[str, Any]]:
    """Each piece of the row in order, with what its document or problem says of itself."""
    inputs = dataset.job().inputs
    records = RunFolder(inputs["documents"]) if documents is None else documents
    found = {**_records(records, pieces), **_problems(RunFolder(inputs["problems"]), pieces)}
    ends = np.cumsum([piece["length"] for piece in pieces])
    return [
        {**piece, "segment": int(segments[end - 1]), **found.get(piece["id"], {})}
        for piece, end in zip(pieces, ends, strict=True)
    ]


def _records(run: RunFolder, pieces: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    rules = _rules(run)
    paths = sorted(run.artifact("documents").glob("part-*.jsonl"))
    records = (Record.model_validate_json(line) for line in _lines(paths, pieces))
    return {
        record.id: {
            "source": record.source,
            "license": record.meta.get("license"),
            "language": record.language,
            "rules_passed": rules,
            "meta": record.meta,
        }
        for record in records
    }


def _problems(run: RunFolder, pieces: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    problems = (
        Problem.model_validate_json(line) for line in _lines([run.artifact("problems") / "train.jsonl"], pieces)
    )
    return {
        problem.id: {
            "source": "problems",
            "license": None,
            "language": None,
            "rules_passed": [VERIFIED],
            "meta": {"family": problem.family, "level": problem.level},
        }
        for problem in problems
    }


def _lines(paths: list[Path], pieces: list[dict[str, Any]]) -> Iterator[bytes]:
    """The lines of the items that the pieces are of, and perhaps some that only name them: to parse every line would
    take far longer."""
    wanted = {json.dumps(piece["id"], ensure_ascii=False).encode() for piece in pieces}
    for path in paths:
        with open(path, "rb") as file:
            yield from (line for line in file if any(identity in line for identity in wanted))


def _rules(run: RunFolder) -> list[str]:
    """The rules that everything in the folder has passed, in order: those of the clean job that it comes from."""
    while "dropped" not in run.result():
        earlier = run.job().inputs.get("documents")
        if earlier is None:
            return []
        run = RunFolder(earlier)
    return list(run.result()["dropped"])


def _drawn(
    dataset: RunFolder, training: RunFolder, source: str, split: str, row: int, rows: int
) -> list[dict[str, Any]]:
    job = training.job()
    if Path(job.inputs.get("dataset", "")).name != dataset.path.name:
        raise ValueError(f"run {training.path.name} was not trained on the rows of run {dataset.path.name}")
    record = training.artifacts / DRAWN
    if not record.is_file():
        raise ValueError(
            f"run {training.path.name} has no record of the rows it drew; only fine-tuning (sft) keeps one"
        )
    return list(steps_that_drew(record, source, row, rows, job.spec.seed)) if split == "train" else []
