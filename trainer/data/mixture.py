"""The mixture of domains, by tokens: in what order documents are taken, how much of each domain, and what was reached.

A domain that has too little text is repeated, each document at most `max_epochs` times: up to four, repeated text is
nearly worth new text (Muennighoff et al., arXiv:2305.16264). What is missing beyond that is missing: nothing else takes
its place.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from trainer.data.corpus import Corpus
from trainer.spec import DOMAINS, Domain, PhaseSpec


def sequence(
    corpus: Corpus, items_n: NDArray[np.int64], weights: Mapping[str, float], max_epochs: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The items in the order they are taken in, each `max_epochs` times; however many are taken, sources have shares
    of them in proportion to their text times their weight, as long as they last.

    In time t, a source of weight w is passed through w·t times: pass e of a document whose middle lies at the share x
    of its source's (shuffled) text is at t = (e + x)/w, e = 0, 1, …, max_epochs − 1. Sources of weight 0 are left out.
    """
    orders, times = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for source in np.unique(corpus.sources_N[items_n]).tolist():
        weight = weights.get(corpus.sources[source], 1.0)
        if weight > 0:
            order = rng.permutation(items_n[corpus.sources_N[items_n] == source])
            ends = np.cumsum(corpus.characters_N[order] + 1)  # a text may be empty
            middles = (ends - (corpus.characters_N[order] + 1) / 2) / ends[-1]
            for epoch in range(max_epochs):
                orders.append(order)
                times.append((epoch + middles) / weight)
    return np.concatenate(orders)[np.argsort(np.concatenate(times), kind="stable")]


def check_weights(corpus: Corpus, weights: Mapping[str, float]) -> None:
    """Raises ValueError when a weight is for a source that there is not."""
    unknown = weights.keys() - set(corpus.sources)
    if unknown:
        raise ValueError(
            f"source_weights names {', '.join(sorted(unknown))}, of which there is nothing; the sources are "
            f"{', '.join(sorted(corpus.sources))}"
        )


def rows_drawn(phases: Iterable[PhaseSpec]) -> dict[str, float]:
    """Share of the rows of a whole training run that come from each source of rows."""
    drawn: dict[str, float] = {}
    for phase in phases:
        for name, weight in phase.mix.items():
            drawn[name] = drawn.get(name, 0.0) + phase.share * weight / sum(phase.mix.values())
    return drawn


def shares_left(
    wanted: Mapping[Domain, float], text: float, others: Mapping[str, float], shares: Mapping[str, Mapping[str, float]]
) -> dict[Domain, float]:
    """Shares of domains within text so that text and the other sources together have the shares that are wanted.

    Args:
        text, others: tokens that a run draws from text and from each other source, in any unit.
        shares: of the domains in each other source.

    Where the others alone already hold more of a domain than is wanted, text has none of it, and less of the rest.
    """
    whole = text + sum(others.values())
    left = {
        domain: max(0.0, share * whole - sum(amount * shares[name][domain] for name, amount in others.items()))
        for domain, share in wanted.items()
    }
    return {domain: amount / sum(left.values()) for domain, amount in left.items()}


def excesses(
    wanted: Mapping[Domain, float], text: float, others: Mapping[str, float], shares: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """A sentence for each domain of which the other sources alone hold more than is wanted; arguments as those of
    `shares_left`."""
    whole = text + sum(others.values())
    alone = {domain: sum(amount * shares[name][domain] for name, amount in others.items()) for domain in wanted}
    return [
        f"{domain}: {' and '.join(others)} alone make it {alone[domain] / whole:.1%} of what the phases draw, more "
        f"than {wanted[domain]:.1%}; draw less of them, or put other items into them"
        for domain in wanted
        if alone[domain] > wanted[domain] * whole
    ]


def together(amounts: Mapping[str, float], shares: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Shares of domains in so much of each source."""
    whole = sum(amounts.values())
    return {
        domain: round(sum(amount * shares[name][domain] for name, amount in amounts.items()) / whole, 4)
        for domain in DOMAINS
    }


def shares(amounts: Mapping[Domain, int]) -> dict[str, float]:
    """Share of each domain in the whole; zeros for nothing."""
    total = sum(amounts.values())
    return {domain: round(amounts.get(domain, 0) / total, 4) if total else 0.0 for domain in DOMAINS}


def shortages(
    wanted: Mapping[Domain, float], available: Mapping[Domain, int], whole: int, max_epochs: int
) -> list[str]:
    """A sentence for each domain whose text, repeated as often as it may be, is less than its share of the whole."""
    reach = {domain: int(available[domain] * max_epochs / share) for domain, share in wanted.items() if share > 0}
    least = min(reach.values())
    remedy = f"give more of it, or lower max_tokens to {least:,}" if least else "give some"
    return [
        f"{domain}: {available[domain]:,} tokens of text, taken {max_epochs} times, are less than the "
        f"{wanted[domain] * whole:,.0f} that are {wanted[domain]:.1%} of {whole:,}; {remedy}"
        for domain, most in reach.items()
        if most < whole
    ]
