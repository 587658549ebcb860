"""Knowledge: from documents to a store of passages and triples that rewards and people search."""

from collections.abc import Iterator
from pathlib import Path

from trainer.artifacts import Run, new_folder, read_jsonl
from trainer.data.knowledge import Counts, build
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.spec import KnowledgeSpec, Record

_REPORT_EVERY = 200  # documents


def run(spec: KnowledgeSpec, run: Run) -> None:
    with stoppable():
        documents = run.input("documents").artifact("documents")
        with new_folder(run.folder.artifacts / "knowledge") as folder:
            counts = build(_watched(documents, run), folder, spec.passage_bytes)
            if not counts.documents:
                raise ValueError("input 'documents' holds no document; give a clean job that kept some")
        run.log(f"{counts.documents} documents: {counts.passages} passages, {counts.triples} triples")
        run.folder.write_result(_result(counts))


def _watched(folder: Path, run: Run) -> Iterator[Record]:
    """The documents as they come, with progress in files."""
    files = sorted(folder.glob("part-*.jsonl"))
    for number, file in enumerate(files):
        run.progress(number, len(files), f"reading {file.name}")
        for index, record in enumerate(read_jsonl(file, Record)):
            if index % _REPORT_EVERY == 0:
                stop_if_asked(run)
            yield record
    run.progress(len(files), len(files), "sorting")


def _result(counts: Counts) -> dict[str, object]:
    return {
        "documents": counts.documents,
        "passages": counts.passages,
        "triples": counts.triples,
        "unresolved": counts.unresolved,
        "relations": dict(counts.relations.most_common()),
        "without_triples": dict(counts.unread.most_common()),
    }
