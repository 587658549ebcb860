"""The peer's side of benchmarks.speed.cleaning, run by the Python of an environment that has datatrove and nothing of
ours: reads texts as JSON Lines, prints the seconds each rule took on all of them, and which texts it would keep."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters import GopherRepetitionFilter


def entropy(text: str) -> float:
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def signature(minhash: MinhashDedupSignature, text: str) -> Any:
    """Nothing for a text of fewer words than a shingle has, which datatrove's step passes over too."""
    shingles = minhash.get_shingles(text)
    return minhash.get_signature(shingles) if len(shingles) else None


def main(path: str, signatures: str) -> None:
    texts = [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]
    repetition, minhash = GopherRepetitionFilter(), MinhashDedupSignature(signatures, MinhashConfig(n_grams=5))
    rules: dict[str, Callable[[str], Any]]
    rules = {
        "words": lambda text: len(text.split()) >= 50,
        "entropy": lambda text: entropy(text) >= 3.5,
        "repetition": lambda text: repetition.filter(Document(text=text, id="")) is True,
        "minhash": lambda text: signature(minhash, text),
    }
    found: dict[str, dict[str, object]] = {}
    for name, rule in rules.items():
        rule("five words to warm up with")
        wall, processor = time.perf_counter(), time.process_time()
        kept = [rule(text) for text in texts]
        seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
        found[name] = {**seconds, "kept": None if name == "minhash" else kept}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
