"""python -m benchmarks.quality.subsets --data FOLDER: precision and recall of the medical and the legal subset.

Medicine is PubMedQA and the medical dialogues; law the contract clauses and the terms of service; each stands against
all the rest of the pack. Long documents are cut into pieces of 4,000 characters. All is measured on the same fifth,
held back by text, which the classifier does not learn from; of the shipped rules, the words were written without this
pack and the two bounds chosen on the other four fifths.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.data import add_data_option, rows
from trainer.artifacts import write_atomic
from trainer.data.subset.classifier import train
from trainer.data.subset.examples import Example, hold_back, measured
from trainer.spec import Record
from trainer.stages.subset import rule_score
from trainer.subset_rules import PRESETS

RESULTS = Path(__file__).parent.parent / "results" / "subsets.json"
MEDICAL, LEGAL = ("medical_pubmedqa", "dialogue_medical"), ("law_contract_clauses", "law_plain_english")
OTHERS = (
    "text_en", "text_multilingual", "latex_science", "code_mbpp_train", "dialogue_sgd", "dialogue_tools",
    "longdoc_squality", "longdoc_qmsum", "math_gsm8k_train", "preference_hh", "preference_en_zh", "toxicity_tweets",
    "qa_multilingual",
)  # fmt: skip
PIECE = 4_000  # characters
THRESHOLD, HELD_BACK = 0.5, 0.2


def text_of(row: dict[str, Any]) -> str:
    """What a row of any file of the pack says."""
    parts = [row.get(name) for name in ("text", "document", "question", "prompt", "solution", "summary", "chosen")]
    parts += [turn.get("content") for turn in row.get("messages", ())]
    context = row.get("context", "")
    parts += [context] if isinstance(context, str) else [part["text"] for part in context]
    return "\n".join(part for part in parts if isinstance(part, str))


def pieces(data: Path, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """File and text."""
    for name in names:
        for row in rows(data, name):
            text = text_of(row)
            yield from ((name, text[start : start + PIECE]) for start in range(0, len(text), PIECE))


def by_rules(domain: str) -> Callable[[str], float]:
    score = rule_score(PRESETS[domain])
    return lambda text: score(Record(id="", text=text, source="", domain="general", language=""))


def mistakes(found: list[tuple[str, Example]], score: Callable[[str], float]) -> dict[str, dict[str, int]]:
    """By file: pieces picked wrongly and missed."""
    counts: dict[str, dict[str, int]] = {}
    for name, example in found:
        picked = score(example.text) >= THRESHOLD
        if picked != example.positive:
            of_file = counts.setdefault(name, {"picked wrongly": 0, "missed": 0})
            of_file["picked wrongly" if picked else "missed"] += 1
    return counts


def measure(domain: str, of_domain: tuple[str, ...], texts: list[tuple[str, str]]) -> dict[str, Any]:
    named = [(name, Example(text, name in of_domain)) for name, text in texts]
    learnt, held_back = hold_back([example for _, example in named], HELD_BACK)
    began = time.perf_counter()
    classifier = train([example.text for example in learnt], [example.positive for example in learnt])
    seconds = time.perf_counter() - began
    pickers = {"rules": by_rules(domain), "classifier": classifier.probability}
    unseen = set(held_back)
    found: dict[str, Any] = {}
    for way, score in pickers.items():
        began = time.perf_counter()
        found[way] = measured(held_back, score, THRESHOLD)
        found[way]["pieces a second"] = round(len(held_back) / (time.perf_counter() - began))
        found[way]["mistakes"] = mistakes([item for item in named if item[1] in unseen], score)
    found["classifier"]["train seconds"] = round(seconds, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.subsets")
    add_data_option(parser)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    texts = list(pieces(parsed.data, MEDICAL + LEGAL + OTHERS))
    kept = {domain: measure(domain, files, texts) for domain, files in (("medical", MEDICAL), ("legal", LEGAL))}
    for domain, ways in kept.items():
        for way, found in ways.items():
            print(
                f"{domain:<8} {way:<11} precision {found['precision']} recall {found['recall']} of "
                f"{found['positive']} in {found['examples']}; {found['pieces a second']} pieces/s; {found['mistakes']}"
            )
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "subsets": kept}
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
