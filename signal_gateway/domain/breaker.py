"""A circuit breaker: whoever failed again and again is left alone for a while, then tried by one alone."""

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """`failures_max` failures in a row open it; `open_s` seconds later one attempt is let through."""

    failures_max: int
    open_s: float


class Breaker:
    """Whether another system is asked now. The caller gives the time, in seconds of any monotonic clock.

    Whoever was let through says what became of it: `succeeded`, `failed`, or `gave_up` when that will never be known.
    """

    __slots__ = ("_failures", "_is_probing", "_opened_at_s", "_rules")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._failures = 0
        self._opened_at_s: float | None = None
        self._is_probing = False

    def state(self, now_s: float) -> State:
        """Closed: all may ask. Open: nobody. Half open: one, whose luck decides for all."""
        if self._opened_at_s is None:
            return "closed"
        return "open" if now_s - self._opened_at_s < self._rules.open_s else "half_open"

    def let_through(self, now_s: float) -> bool:
        """Whether an attempt may begin now. In the half-open state only the first may, until it has ended."""
        state = self.state(now_s)
        if state == "closed":
            return True
        if state == "open" or self._is_probing:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        """An attempt reached its end: all may ask again."""
        self._failures = 0
        self._opened_at_s = None
        self._is_probing = False

    def failed(self, now_s: float) -> bool:
        """An attempt failed. Returns whether this very failure opened the breaker, so that it can be told once.

        What began before the breaker opened and fails after it does not prolong the rest.
        """
        self._failures += 1
        if self._opened_at_s is not None:
            if self._is_probing:
                self._opened_at_s = now_s
                self._is_probing = False
            return False
        if self._failures < self._rules.failures_max:
            return False
        self._opened_at_s = now_s
        return True

    def gave_up(self) -> None:
        """An attempt ended without telling anything of the other system: the next one may try."""
        self._is_probing = False
