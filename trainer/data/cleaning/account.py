"""What became of what was read: counts by reason and a few examples of each, of one shard or of all together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, Self

from pydantic import BaseModel

from trainer.data.sources import Skipped

KEPT_EXAMPLES = 3
EXAMPLE_CHARACTERS = 200


class Account(BaseModel):
    """`read` records were kept or dropped; what was skipped could not be read and comes on top of them."""

    read: int = 0
    skipped: dict[str, int] = {}
    skipped_examples: dict[str, list[dict[str, str]]] = {}
    dropped: dict[str, int] = {}
    examples: dict[str, list[dict[str, str]]] = {}
    scrubbed: dict[str, int] = {}

    def skip(self, what: Skipped) -> None:
        self.skipped[what.reason] = self.skipped.get(what.reason, 0) + 1
        examples = self.skipped_examples.setdefault(what.reason, [])
        if len(examples) < KEPT_EXAMPLES:
            examples.append({"where": what.where, "detail": what.detail[:EXAMPLE_CHARACTERS]})

    def summary(self) -> str:
        """One line: what dropped or skipped how many."""
        counts = [*self.dropped.items(), *((f"skipped, {reason}", count) for reason, count in self.skipped.items())]
        return ", ".join(f"{reason}: {count}" for reason, count in counts if count) or "nothing dropped"

    @classmethod
    def together(cls, parts: Sequence[Self], seed: int) -> Self:
        """Of all shards. Each part's examples stand for all it dropped, so a part that dropped more keeps more."""
        return cls(
            read=sum(part.read for part in parts),
            skipped=_sum(part.skipped for part in parts),
            skipped_examples={
                reason: [found for part in parts for found in part.skipped_examples.get(reason, ())][:KEPT_EXAMPLES]
                for reason in _sum(part.skipped for part in parts)
            },
            dropped=_sum(part.dropped for part in parts),
            examples={
                reason: _drawn([(part.examples.get(reason, []), part.dropped.get(reason, 0)) for part in parts], seed)
                for reason in _sum(part.dropped for part in parts)
            },
            scrubbed=_sum(part.scrubbed for part in parts),
        )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by key, in the order in which keys first come."""
    total: Counter[str] = Counter()
    for mapping in counts:
        total.update(mapping)
    return dict(total)


def _drawn(parts: Sequence[tuple[list[dict[str, str]], int]], seed: int) -> list[dict[str, str]]:
    """A weighted sample without replacement: the largest of u^(1/weight) stay (Efraimidis and Spirakis, 2006)."""
    rng = Random(seed)
    keyed: list[tuple[float, dict[str, Any]]] = [
        (rng.random() ** (len(examples) / dropped), example) for examples, dropped in parts for example in examples
    ]
    return [example for _, example in sorted(keyed, key=lambda pair: -pair[0])[:KEPT_EXAMPLES]]
