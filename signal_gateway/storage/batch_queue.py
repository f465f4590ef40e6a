"""What waits to be written, and what of it the next batch takes (DESIGN.md §5).

Rows and jobs keep their order among each other, and so do calls. A call comes behind all that was given before it, and lets what was given
after it pass: a call costs as much as fifty rows, and while a fleet registers, or somebody attacks, thousands wait. A batch with all of
them would keep every report waiting that came behind them.
"""

from collections import deque
from collections.abc import Iterable

from signal_gateway.storage.batch import Call, Entry, Job, Put


class BatchQueue:
    """Entries that were given and are in no batch yet."""

    def __init__(self) -> None:
        self._rows: deque[Put | Job] = deque()
        self._calls: deque[tuple[int, Call]] = deque()
        """Each with how many rows and jobs were given before it."""
        self._given = 0
        self._taken = 0
        self.askers = 0
        """Calls and jobs in it: somebody waits for each."""

    def __bool__(self) -> bool:
        return bool(self._rows or self._calls)

    @property
    def oldest_at(self) -> float | None:
        """When the entry was given that has waited longest, in Trio seconds."""
        rows_at = self._rows[0].at if self._rows else None
        calls_at = self._calls[0][1].at if self._calls else None
        return min((at for at in (rows_at, calls_at) if at is not None), default=None)

    def add(self, entry: Entry) -> None:
        """The last of its kind."""
        if isinstance(entry, Call):
            self._calls.append((self._given, entry))
        else:
            self._rows.append(entry)
            self._given += 1
        self.askers += not isinstance(entry, Put)

    def take(self, rows_max: int, calls_max: int) -> list[Entry]:
        """The next batch: rows and jobs until `rows_max` is reached, then as many of the calls that come behind these as `calls_max`."""
        taken: list[Entry] = []
        while self._rows and rows_max > 0:
            entry = self._rows.popleft()
            taken.append(entry)
            rows_max -= size_of(entry)
            self._taken += 1
            self.askers -= not isinstance(entry, Put)
        while self._calls and calls_max > 0 and self._calls[0][0] <= self._taken:
            taken.append(self._calls.popleft()[1])
            calls_max -= 1
            self.askers -= 1
        return taken

    def is_held_up(self) -> bool:
        """Whether a call is left that only its number kept out of the batch that was just taken."""
        return bool(self._calls) and self._calls[0][0] <= self._taken

    def take_calls(self) -> list[Call]:
        """All calls: they are told that the database is away, and asked again if they like."""
        calls = [call for _, call in self._calls]
        self._calls.clear()
        self.askers -= len(calls)
        return calls

    def give_back(self, entries: Iterable[Put | Job]) -> None:
        """They were taken and not written: they are first in line again, in their order."""
        for entry in reversed(list(entries)):
            self._rows.appendleft(entry)
            self._taken -= 1
            self.askers += isinstance(entry, Job)

    def clear(self) -> list[Entry]:
        """Take all that is left, to write none of it."""
        left = [*self._rows, *self.take_calls()]
        self._rows.clear()
        self.askers = 0
        self._taken = self._given
        return left


def size_of(entry: Entry) -> int:
    """How much it counts of a batch, and of what may wait."""
    return len(entry.rows) if isinstance(entry, Put) else 1
