"""Laws of the mixture: in proportion, repeated no more often than may be, what text owes to the other sources."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.artifacts import write_jsonl
from trainer.data import mixture
from trainer.data.corpus import Corpus, Kind
from trainer.data.sources import record
from trainer.spec import CURRICULUM, DOMAINS, MIXTURE, Domain, PhaseSpec, TokenizeSpec

shares_of_domains = st.lists(st.integers(1, 20), min_size=4, max_size=4).map(
    lambda parts: {domain: part / sum(parts) for domain, part in zip(DOMAINS, parts, strict=True)}
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One domain from three sources: much in long documents, less in short ones, one document."""
    path = tmp_path_factory.mktemp("corpus") / "part-0.jsonl"
    sizes = [("long", 400)] * 120 + [("short", 20)] * 600 + [("single", 50)]
    write_jsonl(
        path, (record(f"{n:06}" + "x" * (size - 6), source, "general") for n, (source, size) in enumerate(sizes))
    )
    return Corpus([path], [])


def characters(corpus: Corpus, items: np.ndarray) -> Counter[str]:
    found: Counter[str] = Counter()
    for item in items.tolist():
        found[corpus.sources[corpus.sources_N[item]]] += int(corpus.characters_N[item])
    return found


def order(corpus: Corpus, weights: dict[str, float], epochs: int) -> np.ndarray:
    items = corpus.items(Kind.DOCUMENT, heldout=False)
    return mixture.sequence(corpus, items, weights, epochs, np.random.default_rng(0))


@pytest.mark.parametrize("weights", [{}, {"short": 3.0}, {"long": 0.25, "short": 2.0}])
def test_any_beginning_has_the_sources_by_their_text_times_their_weight(
    corpus: Corpus, weights: dict[str, float]
) -> None:
    taken = order(corpus, weights, 4)
    whole = characters(corpus, corpus.items(Kind.DOCUMENT, heldout=False))
    for share in (0.1, 0.3, 0.5):
        found = characters(corpus, taken[: round(share * len(taken))])
        passes = {source: found[source] / whole[source] / weights.get(source, 1.0) for source in ("long", "short")}
        if max(found[source] / whole[source] for source in passes) < 3.9:  # none is used up
            assert passes["long"] == pytest.approx(passes["short"], abs=0.05)


def test_every_document_comes_as_often_as_it_may_and_again_only_after_all_of_its_source(corpus: Corpus) -> None:
    taken = order(corpus, {"single": 0.0}, 3)
    assert set(Counter(taken.tolist()).values()) == {3}
    assert "single" not in characters(corpus, taken)
    for source in ("long", "short"):
        of_source = [item for item in taken.tolist() if corpus.sources[corpus.sources_N[item]] == source]
        size = len(of_source) // 3
        assert len(set(of_source[:size])) == len(set(of_source[size : 2 * size])) == size


def test_a_weight_of_a_source_that_is_not_there_is_named(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=r"names lang, of which .* are long, short, single"):
        mixture.check_weights(corpus, {"lang": 2.0, "short": 1.0})


@settings(max_examples=100, deadline=None)
@given(wanted=shares_of_domains, dialogue=shares_of_domains, completion=st.floats(0.01, 0.4), said=st.floats(0.01, 0.4))
def test_text_makes_up_for_what_the_others_hold(
    wanted: dict[Domain, float], dialogue: dict[str, float], completion: float, said: float
) -> None:
    amounts = {"completion": completion, "dialogue": said}
    shares = {"completion": {**dict.fromkeys(DOMAINS, 0.0), "code": 1.0}, "dialogue": dialogue}
    text = 1 - completion - said
    left = mixture.shares_left(wanted, text, amounts, shares)  # type: ignore[arg-type]
    assert sum(left.values()) == pytest.approx(1)
    assert min(left.values()) >= 0
    reached = mixture.together({"text": text, **amounts}, {"text": left, **shares})  # type: ignore[dict-item]
    if min(left.values()) > 0:
        assert reached == pytest.approx(wanted, abs=1e-4)
    else:
        assert any(reached[domain] > wanted[domain] - 1e-4 for domain, share in left.items() if share == 0)
    said_of = mixture.excesses(wanted, text, amounts, shares)  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in said_of] == [
        domain
        for domain in DOMAINS
        if domain in wanted and completion * shares["completion"][domain] + said * dialogue[domain] > wanted[domain]
    ]


def test_rows_of_a_run_are_those_of_its_phases() -> None:
    drawn = mixture.rows_drawn(CURRICULUM)
    assert drawn == pytest.approx({"text": 0.55, "completion": 0.225, "dialogue": 0.225})
    assert mixture.rows_drawn([PhaseSpec(phase="text", share=1.0, mix={"text": 3.0, "dialogue": 1.0})])["text"] == 0.75


def test_what_is_missing_is_said_with_what_would_do() -> None:
    available: dict[Domain, int] = {"code": 900, "science": 400, "multilingual": 40, "general": 500}
    (said,) = mixture.shortages(MIXTURE, available, 1_840, 4)
    assert "multilingual" in said
    assert "lower max_tokens to 484" in said
    assert mixture.shortages(MIXTURE, available, 484, 4) == []
    assert mixture.shortages(MIXTURE, {**available, "multilingual": 0}, 100, 4)[0].endswith("give some")


@pytest.mark.parametrize("shares", [{"code": 1.0}, {**MIXTURE, "code": 0.5}])
def test_a_mixture_is_whole(shares: dict[Domain, float]) -> None:
    inputs = {"documents": "d", "problems": "p"}
    with pytest.raises(ValueError, match="together 1"):
        TokenizeSpec.model_validate({"name": "t", "inputs": inputs, "vocab_size": 400, "mixture": shares})


def test_phases_without_text_cannot_be_mixed() -> None:
    phases = [{"phase": "dialogue", "share": 1.0, "mix": {"dialogue": 1.0}}]
    with pytest.raises(ValueError, match="draw no text"):
        TokenizeSpec.model_validate(
            {"name": "t", "inputs": {"documents": "d", "problems": "p"}, "vocab_size": 400, "phases": phases}
        )


def test_the_path_of_a_corpus_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").touch()
    corpus = Corpus([tmp_path / "part-0.jsonl"], [])
    assert len(corpus) == 0
    assert len(order(corpus, {}, 4)) == 0
