"""Token buckets (CONTRACT.md §8): how much a client may say, in a steady rate and a burst."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` messages a second in the long run, `burst` at once. A rate of 0 means unlimited."""

    per_s: float
    burst: float


class TokenBucket:
    """What one client has left of one rate. The caller gives the time, in seconds of any monotonic clock."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = now_s

    def take(self, now_s: float, tokens: float = 1.0) -> float:
        """Take `tokens` and return 0.0, or take nothing and return how many seconds to wait for them."""
        rate = self._rate
        if rate.per_s <= 0:
            return 0.0
        left = self._tokens + (now_s - self._at) * rate.per_s
        if left > rate.burst:
            left = rate.burst
        self._at = now_s
        if left >= tokens:
            self._tokens = left - tokens
            return 0.0
        self._tokens = left
        return (tokens - left) / rate.per_s

    def spend(self, now_s: float, tokens: float = 1.0) -> float:
        """Take `tokens`, owing what is not there: what was read cannot be unread. Returns the seconds until nothing is owed."""
        rate = self._rate
        if rate.per_s <= 0:
            return 0.0
        left = min(self._tokens + (now_s - self._at) * rate.per_s, rate.burst) - tokens
        self._at = now_s
        self._tokens = left
        return -left / rate.per_s if left < 0 else 0.0

    def is_full(self, now_s: float) -> bool:
        """Whether nothing is owed any more, so that forgetting the bucket changes nothing."""
        return self._tokens + (now_s - self._at) * self._rate.per_s >= self._rate.burst
