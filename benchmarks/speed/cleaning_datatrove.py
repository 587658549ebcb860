"""The peer's side of benchmarks.speed.cleaning, run by the Python of an environment that has datatrove and nothing of
ours: reads texts as JSON Lines, prints the seconds each rule took on all of them, and which texts it would keep."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters import GopherRepetitionFilter


def entropy(text: str) -> float:
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def main(path: str, signatures: str) -> None:
    texts = [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]
    repetition, minhash = GopherRepetitionFilter(), MinhashDedupSignature(signatures, MinhashConfig(n_grams=5))
    rules: dict[str, Callable[[str], object]] = {
        "words": lambda text: len(text.split()) >= 50,
        "entropy": lambda text: entropy(text) >= 3.5,
        "repetition": lambda text: repetition.filter(Document(text=text, id="")) is True,
        "minhash": lambda text: minhash.get_signature(minhash.get_shingles(text)) if len(text.split()) >= 5 else True,
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
