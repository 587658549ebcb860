"""Subset: the documents of one domain, picked by rules or by a classifier, as a dataset of its own."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainer.artifacts import Run, new_folder, read_jsonl, write_jsonl
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.data.subset.classifier import train
from trainer.data.subset.examples import Example, hold_back, measured, read_examples, read_folder
from trainer.data.subset.rules import RulePicker
from trainer.spec import Record, SubsetRules, SubsetSpec

_REPORT_EVERY = 500  # documents
_MOST_OTHERS = 20_000  # documents that stand for all others, where only examples of the domain are given
_EXAMPLES, _EXAMPLE_CHARACTERS = 5, 200

Score = Callable[[Record], float]


def run(spec: SubsetSpec, run: Run) -> None:
    with stoppable():
        documents = run.input("documents").artifact("documents")
        score, measurement = _picker(spec, run, documents)
        picked = _Picked(spec, score)
        with new_folder(run.folder.artifacts / "documents") as folder:
            files = sorted(documents.glob("part-*.jsonl"))
            for number, file in enumerate(files):
                run.progress(number, len(files), f"reading {file.name}")
                write_jsonl(folder / file.name, picked.of(_watched(file, run)))
            if not picked.kept:
                raise ValueError(
                    f"none of {picked.read} documents belongs to the subset; loosen its rules or threshold"
                )
        run.progress(len(files), len(files), "done")
        run.log(f"kept {picked.kept} of {picked.read} documents")
        run.folder.write_result(picked.result() | {"measured": measurement})


def _watched(file: Path, run: Run) -> Iterator[Record]:
    for index, record in enumerate(read_jsonl(file, Record)):
        if index % _REPORT_EVERY == 0:
            stop_if_asked(run)
        yield record


def _picker(spec: SubsetSpec, run: Run, documents: Path) -> tuple[Score, dict[str, Any] | None]:
    """What scores a document, and how right it is on examples that it has not seen, where there are any."""
    examples = _examples(spec, run, documents)
    if spec.rules is not None:
        picks = rule_score(spec.rules)
        text_only = [Example(example.text, example.positive) for example in examples]
        return picks, measured(text_only, _of_text(picks), spec.threshold) if examples else None
    learnt, held_back = hold_back(examples, spec.heldout_share)
    run.log(f"learning from {len(learnt)} examples, measuring on {len(held_back)}")
    classifier = train([example.text for example in learnt], [example.positive for example in learnt], spec.seed)
    found = measured(held_back, classifier.probability, spec.threshold)
    return lambda record: classifier.probability(record.text), found


def rule_score(rules: SubsetRules) -> Score:
    picker = RulePicker(rules)
    return lambda record: float(picker(record))


def _of_text(score: Score) -> Callable[[str], float]:
    """Examples have a text and nothing else, so rules are measured by what they find in it."""
    return lambda text: score(Record(id="", text=text, source="", domain="general", language=""))


def _examples(spec: SubsetSpec, run: Run, documents: Path) -> list[Example]:
    if spec.examples is not None:
        return list(read_examples(Path(spec.examples), spec.positive))
    if spec.folder is None:
        return []
    of_domain = dict.fromkeys(read_folder(Path(spec.folder)))
    others: list[Example] = []
    for file in sorted(documents.glob("part-*.jsonl")):
        for record in _watched(file, run):
            if len(others) == _MOST_OTHERS:
                break
            if record.text not in of_domain:
                others.append(Example(record.text, False))
    return [Example(text, True) for text in of_domain] + others


class _Picked:
    """The documents that are kept, and an account of them."""

    def __init__(self, spec: SubsetSpec, score: Score) -> None:
        self._spec, self._score = spec, score
        self.read = self.kept = 0
        self._characters: dict[str, Counter[str]] = {"domains": Counter(), "sources": Counter(), "languages": Counter()}
        self._licenses: Counter[str] = Counter()
        self._examples: dict[str, list[dict[str, Any]]] = {"kept": [], "left out": []}

    def of(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self.read += 1
            score = self._score(record)
            kept = score >= self._spec.threshold
            self._note(record, score, "kept" if kept else "left out")
            if kept:
                self.kept += 1
                yield record.model_copy(update={"meta": record.meta | {"subset": self._spec.name}})

    def _note(self, record: Record, score: float, outcome: str) -> None:
        """Keep the examples whose scores are nearest to the threshold: there a person sees whether it is right."""
        examples = self._examples[outcome]
        examples.append({"source": record.source, "score": round(score, 4), "text": record.text[:_EXAMPLE_CHARACTERS]})
        examples.sort(key=lambda example: abs(example["score"] - self._spec.threshold))
        del examples[_EXAMPLES:]
        if outcome == "kept":
            for name, key in (("domains", record.domain), ("sources", record.source), ("languages", record.language)):
                self._characters[name][key] += len(record.text)
            self._licenses[str(record.meta.get("license", "unknown"))] += 1

    def result(self) -> dict[str, Any]:
        total = self._characters["domains"].total()
        return {
            "documents": {"read": self.read, "kept": self.kept},
            "by": "rules" if self._spec.rules is not None else "classifier",
            "characters": total,
            "shares": {name: round(count / total, 4) for name, count in self._characters["domains"].items()},
            "sources": dict(self._characters["sources"]),
            "languages": dict(self._characters["languages"].most_common()),
            "licenses": dict(self._licenses.most_common()),
            "examples": self._examples,
        }
