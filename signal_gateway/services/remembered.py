"""What was seen lately: a set that holds so many and forgets the oldest."""

from collections import OrderedDict
from collections.abc import Hashable


class Remembered:
    """The newest things that were asked about, `kept_max` of them."""

    def __init__(self, kept_max: int) -> None:
        self._kept: OrderedDict[Hashable, None] = OrderedDict()
        self._kept_max = kept_max

    def is_new(self, thing: Hashable) -> bool:
        """Whether it was not seen lately. From now on it was."""
        if thing in self._kept:
            self._kept.move_to_end(thing)
            return False
        self._kept[thing] = None
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return True

    def forget(self, thing: Hashable) -> None:
        """The next time it is new."""
        self._kept.pop(thing, None)
