"""Numbers that the SIMs of one phone have not written to this month, as far as the database has said so (`recipients_per_month`).

To whom a SIM has written stands on disk alone, for it may be thousands. So a lane learns only by a refusal that a number is new to a SIM,
and remembers that: or it would ask again at once, and for ever. Whether a new number is one too many it judges from rules and usage.
"""

from collections.abc import Iterable

KEPT_AT_LEAST = 64
"""So few are never looked through."""
SLOTS_PER_NUMBER = 16
"""Above what a phone has: beyond so many for each command that waits, some belong to none that waits."""


class NewNumbers:
    """Bounded by what waits: who adds one calls `prune` then."""

    def __init__(self) -> None:
        self._months: dict[tuple[int, str], str] = {}

    def __len__(self) -> int:
        return len(self._months)

    def add(self, slot: int, number: str, month: str) -> None:
        """This SIM has not written to this number in this month."""
        self._months[slot, number] = month

    def holds(self, slot: int, number: str | None, month: str) -> bool:
        """Whether that is known. In another month it is to be learnt again."""
        return number is not None and self._months.get((slot, number)) == month

    def discard(self, slot: int | None, number: str | None) -> None:
        """Now it has."""
        if slot is not None and number is not None:
            self._months.pop((slot, number), None)

    def prune(self, waiting: int, numbers: Iterable[str | None]) -> None:
        """Forget those to whom nothing waits, once they are many for so many commands that wait: to these `numbers`."""
        if len(self._months) > KEPT_AT_LEAST + SLOTS_PER_NUMBER * waiting:
            wanted = set(numbers)
            self._months = {key: month for key, month in self._months.items() if key[1] in wanted}
