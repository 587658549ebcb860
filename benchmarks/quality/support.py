"""python -m benchmarks.quality.support --data FOLDER: does the support reward tell right answers from wrong ones?

The store holds the paragraphs of XQuAD in twelve languages and PubMedQA's abstracts without their conclusions. Every
question has its right answer and two wrong ones: that of another question on the same text, and that of a question on
another text of the same language. Kept are how often the right one scores higher (a tie counts half), and how often
the text it was written about is among the passages that the question finds.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.data import add_data_option, rows
from trainer.artifacts import write_atomic
from trainer.data.knowledge import KnowledgeStore, build
from trainer.rewards.support import RETRIEVED, SupportReward
from trainer.spec import Record

RESULTS = Path(__file__).parent.parent / "results" / "support.json"


class Question(NamedTuple):
    group: str
    text: str
    answer: str
    document: str


def corpus(data: Path) -> tuple[list[Record], list[Question]]:
    records, questions = [], []
    for row in rows(data, "qa_multilingual"):
        group = f"xquad {row['lang']}"
        records.append(record(row["id"], row["context"], row["lang"]))
        questions += [Question(group, asked["question"], asked["answer"], row["id"]) for asked in row["qas"]]
    for row in rows(data, "medical_pubmedqa"):
        text = "\n\n".join(part["text"] for part in row["context"])
        records.append(record(row["id"], text, "en"))
        questions.append(Question("pubmedqa", row["question"], row["long_answer"], row["id"]))
    return records, questions


def record(id: str, text: str, language: str) -> Record:
    return Record(id=id, text=text, source="pack", domain="general", language=language)


def measure(reward: SupportReward, store: KnowledgeStore, questions: list[Question]) -> dict[str, Any]:
    """Figures of one group of questions."""
    seen: dict[str, list[float]] = defaultdict(list)
    for number, asked in enumerate(questions):
        seen["retrieved"].append(
            any(hit.passage.document == asked.document for hit in store.search(asked.text, RETRIEVED))
        )
        wrong = dict(wrong_answers(questions, number))
        right, *others = reward.score(asked.text, [asked.answer, *wrong.values()])
        seen["right"].append(right.value)
        for name, other in zip(wrong, others, strict=True):
            seen[f"beats {name}"].append((right.value > other.value) + 0.5 * (right.value == other.value))
    return {"questions": len(questions)} | {name: round(sum(all) / len(all), 4) for name, all in seen.items()}


def wrong_answers(questions: list[Question], number: int) -> Iterator[tuple[str, str]]:
    """The nearest later question with another answer on the same text, and on another one, going round."""
    asked = questions[number]
    later = questions[number + 1 :] + questions[:number]
    for name, same in (("same text", True), ("other text", False)):
        for other in later:
            if (other.document == asked.document) == same and other.answer != asked.answer:
                yield name, other.answer
                break


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.support")
    add_data_option(parser)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    records, questions = corpus(parsed.data)
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.group].append(question)
    with tempfile.TemporaryDirectory() as folder:
        build(records, Path(folder))
        store = KnowledgeStore.open(Path(folder))
        found = {name: measure(SupportReward(store), store, group) for name, group in groups.items()}
    for name, figures in found.items():
        print(f"{name:<10}", *(f"{key} {value}" for key, value in figures.items()), sep="  ")
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "groups": found}
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
