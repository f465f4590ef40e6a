"""How many commands are not in a final state, in all and of each device: whether there is anything to look for."""

from collections import Counter
from collections.abc import Mapping

from signal_gateway.domain.command import Command


class OpenCommands:
    """Counts. Under None stand commands whose phone is still to be chosen."""

    def __init__(self) -> None:
        self._of: Counter[str | None] = Counter()
        self.total = 0

    def begin(self, counts: Mapping[str | None, int]) -> None:
        """What the database holds at the start."""
        for device_id, count in counts.items():
            self._of[device_id] += count
            self.total += count

    def of(self, device_id: str | None) -> int:
        """How many are for this device."""
        return self._of.get(device_id, 0)

    def opened(self, command: Command) -> None:
        """One more."""
        self._move(command.device_id, 1)

    def moved(self, before: Command, after: Command) -> None:
        """A command has changed: it may have ended, begun again, or be another device's."""
        if before.final_at is None:
            self._move(before.device_id, -1)
        if after.final_at is None:
            self._move(after.device_id, 1)

    def _move(self, device_id: str | None, by: int) -> None:
        self.total += by
        self._of[device_id] += by
        if self._of[device_id] <= 0:
            del self._of[device_id]
