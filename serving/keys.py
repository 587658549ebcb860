"""Keys as serving.json has them, and how much each may ask for."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from serving.errors import too_many
from trainer.spec import Spec

SECONDS_A_MINUTE = 60.0
ROUNDING = 1e-6


class Key(Spec):
    """A key that opens the endpoint; None: no limit."""

    id: str
    sha256: str
    requests_per_minute: int | None = Field(None, gt=0)
    tokens_per_minute: int | None = Field(None, gt=0, description="of prompts and answers together")
    keep_chats: bool = Field(False, description="its owner consents to requests and answers being kept")


@dataclass
class _Bucket:
    """What is left of a minute's allowance; it fills up evenly (a token bucket)."""

    limit: int
    left: float
    seen: float

    def refill(self, now: float) -> None:
        self.left = min(self.limit, self.left + (now - self.seen) * self.limit / SECONDS_A_MINUTE)
        self.seen = now

    def seconds_until_one(self) -> float:
        missing = 1 - self.left
        return missing * SECONDS_A_MINUTE / self.limit if missing > ROUNDING else 0.0


class RateLimiter:
    """Per key, requests and tokens a minute, counted in this process.

    How long an answer will be is not known before; so tokens are charged as they come, the allowance may become
    negative, and the next request waits until that is made good.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def admit(self, key: Key) -> None:
        """Count a request.

        Raises:
            ApiError: 429 with the seconds to wait; the key is over one of its limits.
        """
        buckets = self._buckets_of(key)
        for kind, bucket in buckets.items():
            if (wait := bucket.seconds_until_one()) > 0:
                seconds = math.ceil(wait)
                message = f"this key may use {bucket.limit} {kind} a minute; try again in {seconds} s"
                raise too_many(message, "rate_limit_exceeded", seconds)
        if "requests" in buckets:
            buckets["requests"].left -= 1

    def charge(self, key: Key, tokens: int) -> None:
        """Count tokens that were read or written."""
        if "tokens" in (buckets := self._buckets_of(key)):
            buckets["tokens"].left -= tokens

    def _buckets_of(self, key: Key) -> dict[str, _Bucket]:
        """By kind, those that the key has, as they are now. A limit that was changed takes effect at once."""
        now, found = self._now(), {}
        for kind, limit in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
            if limit is not None:
                bucket = self._buckets.setdefault((key.id, kind), _Bucket(limit, limit, now))
                bucket.limit = limit
                bucket.refill(now)
                found[kind] = bucket
        return found
