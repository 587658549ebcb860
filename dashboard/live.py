"""What serving has counted since it started -> what it does now: the difference of two looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.schemas import Latency, Live, LiveVersion

WINDOW_S = 30.0
NOTHING = Latency(bounds=(), counts=())


@dataclass(frozen=True)
class Pace:
    """Of one version over the last `WINDOW_S` seconds, as far as there was a look so long ago."""

    requests_per_second: float
    tokens_per_second: float
    first_token: Latency
    inter_token: Latency


def remembered(looks: Sequence[Live], newest: Live) -> list[Live]:
    """The looks of the window with the newest. Where a count fell, serving has started anew and forgot the rest."""
    if any(is_younger(version, find(newest, version)) for look in looks[-1:] for version in look.versions):
        return [newest]
    since = newest.time - WINDOW_S
    inside = [look for look in looks if look.time >= since]
    before = [look for look in looks if look.time < since][-1:]
    return [*before, *inside, newest]


def pace(looks: Sequence[Live], version: LiveVersion) -> Pace:
    """What `version`, of the newest look, has done since the oldest."""
    then, seconds = find(looks[0], version), looks[-1].time - looks[0].time
    if then is None or seconds <= 0:
        return Pace(0.0, 0.0, NOTHING, NOTHING)
    return Pace(
        (version.requests - then.requests) / seconds,
        (version.completion_tokens - then.completion_tokens) / seconds,
        minus(version.first_token, then.first_token),
        minus(version.inter_token, then.inter_token),
    )


def find(look: Live, like: LiveVersion) -> LiveVersion | None:
    key = (like.model_name, like.version)
    return next((found for found in look.versions if (found.model_name, found.version) == key), None)


def is_younger(then: LiveVersion, now: LiveVersion | None) -> bool:
    """Whether `now` cannot be a later look at what `then` counted."""
    return now is not None and now.requests < then.requests


def minus(now: Latency, then: Latency) -> Latency:
    """What was counted between two looks; a histogram that did not exist yet counted nothing."""
    if now.bounds != then.bounds:
        return now
    return Latency(bounds=now.bounds, counts=tuple(a - b for a, b in zip(now.counts, then.counts, strict=True)))
