"""The mixture of domains, by tokens: how much of each is taken, and what shares were reached."""

from collections.abc import Iterable, Iterator, Mapping

from trainer.data.packing import Piece
from trainer.spec import DOMAINS, Domain

# Article: code 28 %, science 19 %, multilingual 33 %, general the rest.
TARGET: Mapping[Domain, float] = {"code": 0.28, "science": 0.19, "multilingual": 0.33, "general": 0.20}


def tokens_by_domain(pieces: Iterable[Piece]) -> dict[Domain, int]:
    counts: dict[Domain, int] = dict.fromkeys(DOMAINS, 0)
    for piece in pieces:
        counts[DOMAINS[piece.domain]] += len(piece.ids)
    return counts


def budgets(available: Mapping[Domain, int], limit: int) -> dict[Domain, int]:
    """Tokens to take of each domain: its share of the whole (at most `limit`), or all it has where that is less.

    Nothing is repeated to fill a share, and nothing else takes its place: the shares reached are reported.
    """
    whole = min(limit, sum(available.values()))
    return {domain: min(available.get(domain, 0), int(share * whole)) for domain, share in TARGET.items()}


def take(pieces: Iterable[Piece], granted: Mapping[Domain, int]) -> Iterator[Piece]:
    """Pieces in order, of each domain as long as they fit what is granted; the first of a domain always does."""
    left, begun = dict(granted), set()
    for piece in pieces:
        domain = DOMAINS[piece.domain]
        if len(piece.ids) <= left[domain] or domain not in begun:
            begun.add(domain)
            left[domain] -= len(piece.ids)
            yield piece


def shares(amounts: Mapping[Domain, int]) -> dict[str, float]:
    """Share of each domain in the whole; zeros for nothing."""
    total = sum(amounts.values())
    return {domain: round(amounts.get(domain, 0) / total, 4) if total else 0.0 for domain in DOMAINS}
