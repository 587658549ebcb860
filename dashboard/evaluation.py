"""The result of an evaluate job as table rows. Imports no Streamlit."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboard import formats


def bounds(value: Any) -> tuple[float, float] | None:
    """An interval as the stages write it: [low, high], or an object with `low` and `high`."""
    if isinstance(value, Mapping):
        return float(value["low"]), float(value["high"])
    if isinstance(value, Sequence) and len(value) == 2:
        return float(value[0]), float(value[1])
    return None


def exact_match(result: Mapping[str, Any]) -> str:
    """'62.4 % (58.0 to 66.6 %)'."""
    share, limits = result.get("exact_match"), bounds(result.get("exact_match_interval"))
    return formats.percent(share) + (f" ({formats.interval(*limits)})" if limits else "")


def difference(result: Mapping[str, Any]) -> str:
    """'+12.0 % (+8.1 to +15.9 %)', or a dash where there is no baseline."""
    found = result.get("baseline_difference")
    if not isinstance(found, Mapping):
        return "–"
    limits = bounds(found)
    assert limits is not None
    return f"{formats.percent(found['mean'], signed=True)} ({formats.interval(*limits, signed=True)})"


def evaluation_rows(results: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row an evaluation, in the order given; a column for the perplexity of each source."""
    rows = []
    for name, result in results:
        row = {
            "Stage": name,
            "Problems": result.get("n"),
            "Exact match": exact_match(result),
            "Against the baseline": difference(result),
        }
        perplexity = result.get("perplexity") or {}
        row |= {f"Perplexity, {source}": formats.number(value) for source, value in perplexity.items()}
        rows.append(row)
    return rows
