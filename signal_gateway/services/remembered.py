"""What was seen lately: a set that holds so many, for so long, and forgets the oldest."""

from collections import OrderedDict
from collections.abc import Hashable

import trio


class Remembered:
    """The newest things that were noted, `kept_max` of them, each for `kept_s` seconds."""

    def __init__(self, kept_max: int, kept_s: float) -> None:
        self._noted_at: OrderedDict[Hashable, float] = OrderedDict()  # in Trio seconds
        self._kept_max = kept_max
        self._kept_s = kept_s

    def __contains__(self, thing: Hashable) -> bool:
        noted_at = self._noted_at.get(thing)
        return noted_at is not None and trio.current_time() - noted_at < self._kept_s

    def note(self, thing: Hashable) -> bool:
        """It was seen now. False where another had to be forgotten for it before its time."""
        now_s = trio.current_time()
        self._noted_at[thing] = now_s
        self._noted_at.move_to_end(thing)
        if len(self._noted_at) <= self._kept_max:
            return True
        _, noted_at = self._noted_at.popitem(last=False)
        return now_s - noted_at >= self._kept_s

    def forget(self, thing: Hashable) -> None:
        """As if it had not been seen."""
        self._noted_at.pop(thing, None)
