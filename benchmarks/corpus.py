"""What a tokenize job reads, made of a folder of JSON Lines in gzip and of this machine's Python library: rows with
`messages` are dialogues, of the others the first of some fields is the text."""

import gzip
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from trainer.artifacts import RunFolder, new_folder, write_jsonl
from trainer.data.conversations import ROLES, text_and_roles
from trainer.data.synthesis import Generator
from trainer.process import execute
from trainer.spec import Domain, Job, Record, TokenizeSpec
from trainer.stages import tokenize

TEXT_FIELDS = ("text", "document", "solution", "context")
DOMAINS_OF_FILES: dict[str, Domain] = {
    "code": "code",
    "latex": "science",
    "math": "science",
    "multilingual": "multilingual",
}
PROBLEMS = 10_000
LEFT_OUT = ("preference", "toxicity")  # not meant to be learned
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib"}


def pack_records(folder: Path) -> Iterator[Record]:
    """Every row that holds a text or a dialogue, file by file.

    Raises:
        ValueError: the folder holds no .jsonl.gz.
    """
    paths = [path for path in sorted(folder.glob("*.jsonl.gz")) if not path.name.startswith(LEFT_OUT)]
    if not paths:
        raise ValueError(f"{folder} holds no .jsonl.gz; --data names a folder of such files")
    for path in paths:
        name = path.name.partition(".")[0]
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file):
                yield from _record(json.loads(line), name, f"{name}-{number}")


def _record(row: dict[str, Any], name: str, identity: str) -> Iterator[Record]:
    domain: Domain = next((domain for mark, domain in DOMAINS_OF_FILES.items() if mark in name), "general")
    texts = [row[field] for field in TEXT_FIELDS if isinstance(row.get(field), str)]
    meta: dict[str, Any] = {}
    if "messages" in row:
        text, meta[ROLES] = text_and_roles(row["messages"])
        texts = [text]
    for text in texts[:1]:
        language = "python" if domain == "code" else str(row.get("lang", ""))
        yield Record(id=identity, text=text, source=name, domain=domain, language=language, meta=meta)


def library_records() -> Iterator[Record]:
    """The standard library's programs."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if not _SKIPPED_FOLDERS & set(place.parts):
            text = path.read_text(encoding="utf-8", errors="replace")
            yield Record(id=f"library-{place}", text=text, source="library", domain="code", language="python")


def copies(records: Iterable[Record], characters: int) -> Iterator[Record]:
    """The records over and over, each time with other ids, until there is so much text."""
    known = list(records)
    for turn in count():
        for record in known:
            if characters <= 0:
                return
            characters -= len(record.text)
            yield record.model_copy(update={"id": f"{turn}-{record.id}"})


def write_inputs(home: Path, data: Path, characters: int | None = None) -> dict[str, str]:
    """Run folders for the roles of a tokenize job; with `characters` of text where they are given."""
    documents, problems = RunFolder(home / "documents"), RunFolder(home / "problems")
    records: Iterable[Record] = chain(pack_records(data), library_records())
    with new_folder(documents.artifacts / "documents") as folder:
        write_jsonl(folder / "part-000.jsonl", records if characters is None else copies(records, characters))
    with new_folder(problems.artifacts / "problems") as folder:
        write_jsonl(folder / "train.jsonl", Generator((), (1, 2), 0).problems("train", PROBLEMS))
    return {"documents": str(documents.path), "problems": str(problems.path)}


def new_job(path: Path, inputs: dict[str, str], **settings: Any) -> RunFolder:
    spec = TokenizeSpec(name="tokenize", inputs=dict.fromkeys(inputs, "run:made"), **settings)
    folder = RunFolder(path)
    folder.write_job(Job(id=path.name, spec=spec, inputs=inputs))
    return folder


def tokenized(path: Path, inputs: dict[str, str], **settings: Any) -> RunFolder:
    """A tokenize job, run here.

    Raises:
        ValueError: it failed, as its log says.
    """
    folder = new_job(path, inputs, **settings)
    if execute(folder, tokenize.run):
        raise ValueError(f"the job in {path} failed")
    sys.stdout.flush()
    return folder
