"""python -m benchmarks.speed.cleaning --data FOLDER --datatrove PYTHON: rules beside those of datatrove, on one core.

Both sides read the same texts (English, LaTeX and code of the data pack, and the standard library) in a process of
their own and apply each rule to every text: words, character entropy, Gopher's repetition, MinHash signatures. Ours
then applies all rules of a clean job in their order as well. What counts is the processor's time, which busy neighbours
hardly change. `python -m scripts.peers datatrove` makes the environment and prints the option.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.data import add_data_option, rows
from trainer.artifacts import write_atomic
from trainer.data.dedup.minhash import band_keys, signature
from trainer.data.rules import Document, RuleEngine, default_rules
from trainer.data.rules.repetition import DuplicateLines, DuplicateParagraphs, RepeatedWords
from trainer.data.rules.words import LowEntropy, TooFewWords
from trainer.spec import Domain, Record, RuleSettings

RESULTS = Path(__file__).parent.parent / "results" / "cleaning.json"
BAR = 10
FILES: dict[str, tuple[str, Domain]] = {
    "text_en": ("text", "general"),
    "longdoc_squality": ("document", "general"),
    "latex_science": ("text", "science"),
    "code_mbpp_train": ("solution", "code"),
}  # file of the pack -> field, domain
EVALUATED = ("math_gsm8k_train", "medical_pubmedqa")  # stand for evaluation sets in the run of all rules
WARM = "A few words to warm up with. Habari ya asubuhi. " * 20


@dataclass
class Seconds:
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        return Seconds(time.perf_counter() - self._wall, time.process_time() - self._cpu)


# -- texts -----------------------------------------------------------------------------------------------------------


def write_texts(data: Path, every: int, path: Path) -> int:
    """One text of `every` as JSON Lines, in a fixed random order; returns the characters of all of them."""
    texts = [(row[field], domain) for name, (field, domain) in FILES.items() for row in rows(data, name)]
    for folder, folders, files in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(name for name in folders if name not in ("site-packages", "dist-packages"))
        code = (Path(folder, name).read_text("utf-8", "replace") for name in sorted(files) if name.endswith(".py"))
        texts += [(text, "code") for text in code]
    Random(0).shuffle(texts)
    chosen = [text for text in texts[::every] if text[0].strip()]
    path.write_text("".join(json.dumps({"text": text, "domain": domain}) + "\n" for text, domain in chosen))
    return sum(len(text) for text, _ in chosen)


def read_texts(path: Path) -> list[Record]:
    read = map(json.loads, path.read_text().splitlines())
    return [
        Record(
            id=str(n),
            text=row["text"],
            source="benchmark",
            domain=row["domain"],
            language="python" * (row["domain"] == "code"),
        )
        for n, row in enumerate(read)
    ]


# -- ours ------------------------------------------------------------------------------------------------------------


def measure_ours(texts: Path, data: Path) -> dict[str, Any]:
    records = read_texts(texts)
    return {"equivalent": equivalent_rules(records), "all": all_rules(records, data)}


def equivalent_rules(records: list[Record]) -> dict[str, Any]:
    """Each rule on every text; what the first finds of words, the later ones use."""
    lines, paragraphs, runs = DuplicateLines(), DuplicateParagraphs(), RepeatedWords()
    words, entropy = TooFewWords(50), LowEntropy(3.5)

    def repetition(document: Document) -> bool:
        return all(rule.apply(document) is not None for rule in (paragraphs, lines, runs))

    rules: dict[str, Callable[[Document], object]] = {
        "words": lambda document: words.apply(document) is not None,
        "entropy": lambda document: entropy.apply(document) is not None,
        "repetition": repetition,
        "minhash": lambda document: band_keys(signature(document.words.hashes)[None]),
    }
    documents = [Document(record) for record in records]
    warm = Document(records[0].model_copy(update={"text": WARM}))
    found: dict[str, Any] = {}
    for name, rule in rules.items():
        rule(warm)
        watch = Stopwatch()
        kept = [rule(document) for document in documents]
        found[name] = {**asdict(watch.read()), "kept": None if name == "minhash" else kept}
    return found


def all_rules(records: list[Record], data: Path) -> dict[str, Any]:
    """A clean job's rules as they come, against two evaluation sets, and the signature of what is kept."""
    settings = RuleSettings(
        toxicity_labels=str(data / "toxicity_tweets.jsonl.gz"),
        evaluation_sets=tuple(str(data / f"{name}.jsonl.gz") for name in EVALUATED),
    )
    rules = default_rules(settings)
    RuleEngine(rules, 0).apply(records[0].model_copy(update={"text": WARM}))
    engine, watch = RuleEngine(rules, 0), Stopwatch()
    kept = [document for record in records if (document := engine.examine(Document(record))) is not None]
    signatures = [signature(document.words.hashes) for document in kept]
    band_keys(np.stack(signatures))
    return {**asdict(watch.read()), "kept": len(kept), "dropped": engine.dropped, "scrubbed": dict(engine.scrubbed)}


# -- side by side ----------------------------------------------------------------------------------------------------


def compare(data: Path, datatrove: Path, every: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.jsonl")
        characters = write_texts(data, every, texts)
        ours = _run([sys.executable, "-m", "benchmarks.speed.cleaning", "--arm", str(texts), "--data", str(data)])
        script = Path(__file__).with_name("cleaning_datatrove.py")
        # -P: the script's folder, in which `tokenize` is a benchmark, must not hide the standard library's.
        theirs = _run([str(datatrove), "-P", str(script), str(texts), str(Path(folder, "signatures"))])
    equivalent = ours["equivalent"]
    agreement = {name: _agreement(equivalent[name].pop("kept"), theirs[name].pop("kept")) for name in theirs}
    total = sum(rule["cpu_s"] for rule in equivalent.values())
    peer = sum(rule["cpu_s"] for rule in theirs.values())
    return {
        "characters": characters,
        "octavo": equivalent,
        "datatrove": theirs,
        "same decision": {name: share for name, share in agreement.items() if share is not None},
        "ratio of equivalent rules": round(peer / total, 1),
        "octavo, all rules": ours["all"],
        "ratio of all our rules to datatrove's equivalent ones": round(peer / ours["all"]["cpu_s"], 1),
        "bar": BAR,
    }


def _run(command: list[str]) -> dict[str, Any]:
    """On one core, which both sides have alone or share with the same neighbours; threads of libraries switched off."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _agreement(mine: list[bool] | None, theirs: list[bool] | None) -> float | None:
    if mine is None or theirs is None:
        return None
    return round(sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(mine), 4)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.cleaning")
    add_data_option(parser)
    parser.add_argument("--datatrove", type=Path, help="Python of the environment that has it")
    parser.add_argument("--every", type=int, default=1, help="take one text of so many")
    parser.add_argument("--arm", type=Path, help="measure our side only, on these texts, as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    if parsed.arm:
        print(json.dumps(measure_ours(parsed.arm, parsed.data)))
        return
    if parsed.datatrove is None:
        parser.error("--datatrove is missing; python -m scripts.peers datatrove makes the environment")
    found = compare(parsed.data, parsed.datatrove, parsed.every)
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), **found}
    print(json.dumps(found, indent=1))
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
