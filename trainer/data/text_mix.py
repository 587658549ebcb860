"""Text of all domains in the shares of a mixture: as much is encoded as is taken, and little more."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data import mixture
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded, Store
from trainer.data.encoding import Batch, Encode, Workers, batches
from trainer.data.packing import Slice
from trainer.spec import DOMAINS, Domain

Orders = Mapping[Domain, NDArray[np.int64]]  # of each domain, items in the order they are taken in, with repetitions


@dataclass(frozen=True)
class Taken:
    """Documents in order, n of them, repeated ones several times, and how many tokens of each: but for the last of a
    domain, all it has."""

    items_n: NDArray[np.int64]
    tokens_n: NDArray[np.int64]

    @classmethod
    def together(cls, parts: Iterable["Taken"]) -> "Taken":
        parts = list(parts)
        return cls(np.concatenate([part.items_n for part in parts]), np.concatenate([part.tokens_n for part in parts]))

    def shuffled(self, rng: np.random.Generator) -> "Taken":
        order_n = rng.permutation(len(self.items_n))
        return Taken(self.items_n[order_n], self.tokens_n[order_n])

    def of(self, chosen_n: NDArray[np.bool_]) -> "Taken":
        return Taken(self.items_n[chosen_n], self.tokens_n[chosen_n])

    @property
    def tokens(self) -> int:
        return int(self.tokens_n.sum())

    @property
    def repeated(self) -> float:
        """How often their text is in them; 0 where there is none."""
        _, first = np.unique(self.items_n, return_index=True)
        once = int(self.tokens_n[first].sum())
        return round(self.tokens / once, 2) if once else 0.0


class TextMix:
    """Documents of a corpus, N of them, and the pieces of those that were encoded."""

    def __init__(self, corpus: Corpus, store: Store) -> None:
        self._corpus, self._store = corpus, store
        self._first_N = np.full(len(corpus), -1, dtype=np.int64)
        self._pieces_N = np.zeros(len(corpus), dtype=np.int64)
        self._tokens_N = np.zeros(len(corpus), dtype=np.int64)

    def encode(
        self, order_n: NDArray[np.int64], most: int, workers: Workers, encode: Encode, watch: Callable[[], None]
    ) -> None:
        """Encode documents in order until those from the start on have `most` tokens, repetitions counted."""
        _, first = np.unique(order_n, return_index=True)
        done, tokens = 0, 0
        for batch, pieces in workers.map(encode, batches(self._corpus, order_n[np.sort(first)].tolist())):
            self._add(batch, pieces)
            watch()
            while tokens < most and done < len(order_n) and self._first_N[order_n[done]] >= 0:
                tokens += int(self._tokens_N[order_n[done]])
                done += 1
            if tokens >= most:
                break

    def available(self, items_n: NDArray[np.int64]) -> tuple[int, bool]:
        """Tokens of some items, and whether all of them were counted; else as many as their characters let expect."""
        encoded_n = items_n[self._first_N[items_n] >= 0]
        tokens = int(self._tokens_N[encoded_n].sum())
        if len(encoded_n) == len(items_n):
            return tokens, True
        characters = self._corpus.characters_N
        return round(tokens * characters[items_n].sum() / max(1, characters[encoded_n].sum())), False

    def take(self, order_n: NDArray[np.int64], budget: int) -> Taken:
        """Documents in order, of the last one as many tokens as are left of the budget."""
        ends_n = np.cumsum(self._tokens_N[order_n])
        count = min(len(order_n), int(np.searchsorted(ends_n, budget)) + 1) if budget else 0
        tokens_n = self._tokens_N[order_n[:count]].copy()
        if count and ends_n[count - 1] > budget:
            tokens_n[-1] -= ends_n[count - 1] - budget
        return Taken(order_n[:count], tokens_n)

    def slices(self, taken: Taken) -> Iterator[Slice]:
        for item, left in zip(taken.items_n.tolist(), taken.tokens_n.tolist(), strict=True):
            first = int(self._first_N[item])
            for piece in range(first, first + int(self._pieces_N[item])):
                length = min(left, self._store.length(piece))
                left -= length
                if length:
                    yield Slice(piece, 0, length)

    def report(self, wanted: Mapping[Domain, float], orders: Orders, taken: Mapping[Domain, Taken]) -> dict[str, Any]:
        """Of every domain and its sources: share wanted and reached, tokens taken, tokens there are, and how often
        what was taken is repeated."""
        whole = sum(part.tokens for part in taken.values())
        found: dict[str, Any] = {}
        for domain in DOMAINS:
            items_n, part = np.unique(orders[domain]), taken[domain]
            found[domain] = {
                "wanted": round(wanted[domain], 4),
                "reached": round(part.tokens / whole, 4) if whole else 0.0,
                **self._amounts(items_n, part),
                "sources": {
                    self._corpus.sources[source]: self._amounts(
                        items_n[self._corpus.sources_N[items_n] == source],
                        part.of(self._corpus.sources_N[part.items_n] == source),
                    )
                    for source in np.unique(self._corpus.sources_N[items_n]).tolist()
                },
            }
        return found

    def _amounts(self, items_n: NDArray[np.int64], taken: Taken) -> dict[str, Any]:
        available, counted = self.available(items_n)
        amounts = {"tokens": taken.tokens, "available": available, "counted": counted, "repeated": taken.repeated}
        return {"documents": len(items_n), **amounts}

    def _add(self, batch: Batch, pieces: list[Encoded]) -> None:
        """Pieces of a document follow each other."""
        self._first_N[batch.items] = len(self._store)
        for piece in pieces:
            item, number = piece.parts[0].item, self._store.append(piece)
            if self._pieces_N[item] == 0:
                self._first_N[item] = number
            self._pieces_N[item] += 1
            self._tokens_N[item] += len(piece.tokens)


def take_mixture(
    mix: TextMix, wanted: Mapping[Domain, float], orders: Orders, most: int, max_epochs: int
) -> tuple[dict[Domain, Taken], list[str]]:
    """At most `most` tokens, and no more than there is text, in the shares wanted; and in words what is missing."""
    available = {domain: mix.available(np.unique(order_n))[0] for domain, order_n in orders.items()}
    whole = min(most, sum(available.values()))
    taken = {domain: mix.take(orders[domain], round(share * whole)) for domain, share in wanted.items()}
    return taken, mixture.shortages(wanted, available, whole, max_epochs)
