"""R_corr where no verifier can check an answer: is what it says found in the knowledge store?

It measures that the same things are said together, not that one follows from the other: a source that denies what the
answer claims supports it too. Numbers are held to: one that the source lacks makes a sentence unsupported.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from trainer.data.knowledge import KnowledgeStore
from trainer.data.knowledge.words import terms
from trainer.rewards.coherence import sentences
from trainer.rewards.correctness import after_working

RETRIEVED = 8  # passages looked at for one question


class Support(NamedTuple):
    """`passage` is the number of the one that supports most of the answer, None where none supports anything."""

    value: float
    passage: int | None


def support(answer: str, passages: Sequence[str], question: str = "") -> Support:
    """R_corr = sum_s |T_s| max_e w(e) c(s, e) / sum_s |T_s|, in [0, 1].

    s are the answer's sentences, T_s the set of a sentence's terms (no stop words) that the question does not have:
    repeating the question earns nothing. e are the sentences of the passages. With P_s the pairs of neighbouring terms
    in s and Q the question's terms,

        c(s, e) = (|T_s in T_e| + |P_s in P_e|) / (|T_s| + |P_s|), but 0 where s has a number that e lacks;
        w(e) = |Q in T_e| / max over all e of the same, and 1 where no e has any.

    The share of what is said that a source holds is the precision of FActScore (Min et al. 2023, arXiv:2305.14251),
    with n-gram containment (ROUGE, Lin 2004) in the place of a model that judges. The weight is ours: without it any
    word of the right passage is as good an answer as the right one. Only what follows the working counts; an answer
    with nothing of its own to say scores 0.
    """
    asked = frozenset(terms(question))
    said = sentences(after_working(answer) or "")
    parts = [_grams([term for term in terms(sentence) if term not in asked]) for sentence in said]
    evidence = [
        (number, _grams(terms(sentence))) for number, text in enumerate(passages) for sentence in sentences(text)
    ]
    total = sum(len(part.terms) for part in parts)
    if not total or not evidence:
        return Support(0.0, None)
    about = [len(asked & source.terms) for _, source in evidence]
    most = max(about)
    value, by_passage = 0.0, [0.0] * len(passages)
    for part in parts:
        best, passage = max(
            (len(part.terms) * _cover(part, source) * (shared / most if most else 1.0), -number)
            for (number, source), shared in zip(evidence, about, strict=True)
        )
        value += best
        by_passage[-passage] += best
    decisive = max(range(len(passages)), key=by_passage.__getitem__)
    return Support(value / total, decisive if value else None)


class _Grams(NamedTuple):
    terms: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def _grams(found: list[str]) -> _Grams:
    return _Grams(frozenset(found), frozenset(pairwise(found)))


def _cover(part: _Grams, source: _Grams) -> float:
    missing = part.terms - source.terms
    if not part.terms or any(term.isdigit() for term in missing):
        return 0.0
    shared = len(part.terms) - len(missing) + len(part.pairs & source.pairs)
    return shared / (len(part.terms) + len(part.pairs))


class Supported(NamedTuple):
    """A support with the passage that decided, for a table of rollouts to show."""

    value: float
    passage: str
    document: str


class SupportReward:
    """Looks up what is known about a question, once, and scores any number of answers by it."""

    def __init__(self, store: KnowledgeStore, retrieved: int = RETRIEVED) -> None:
        self._store, self._retrieved = store, retrieved

    def score(self, question: str, answers: Sequence[str]) -> list[Supported]:
        """Retrieval is by the question alone: an answer about something else finds no support by bringing its own."""
        known = [hit.passage for hit in self._store.search(question, self._retrieved)]
        scored = []
        for answer in answers:
            value, number = support(answer, [passage.text for passage in known], question)
            passage = known[number] if number is not None else None
            scored.append(Supported(value, passage.text if passage else "", passage.document if passage else ""))
        return scored
