"""What nobody asks for: commands whose deadline has passed, and those that were accepted while their device was being deleted."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.command_rules import CommandEvent, TimedOut, Withdrawn
from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.domain.events import DeviceDeleted
from signal_gateway.storage import commands as kept
from signal_gateway.storage.database import Database

SWEEP_EVERY_S = 1.0
"""How often deadlines are looked at while a command is open: their precision."""
IDLE_SWEEPS_LEFT_OUT = 9
"""While none is known to be open. Not all of them: somebody else may write to the same database."""
SWEEP_ROWS = 500


class CommandSweeps:
    """Finds them and hands on an event for each. A database that is away is asked again the next time."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        wall_ms: Callable[[], int],
        apply: Callable[[CommandEvent], object],
        is_idle: Callable[[], bool],
    ) -> None:
        self._database = database
        self._is_idle = is_idle
        self._wall_ms = wall_ms
        self._apply = apply
        self._deleted: dict[str, int] = {}  # when; what is newer is for whoever came by that id since
        self.random = Random()
        """Spreads retries; a simulated world has it drawn from its seed."""
        bus.subscribe(DeviceDeleted, lambda event: self._deleted.update({event.device_id: wall_ms()}))

    async def run(self) -> None:
        """Once a second, until cancelled; more seldom while there is nothing to find."""
        left_out = 0
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            if self._is_idle() and not self._deleted and left_out < IDLE_SWEEPS_LEFT_OUT:
                left_out += 1
                continue
            left_out = 0
            with suppress(DatabaseDown, DiskFull):
                await self._sweep()

    async def _sweep(self) -> None:
        now = self._wall_ms()
        for message_id in await self._database.read(lambda connection: kept.overdue(connection, now, SWEEP_ROWS)):
            self._apply(TimedOut(message_id, now, self.random.random()))
        for device_id, deleted_at in list(self._deleted.items()):
            ids = await self._database.read(partial(kept.open_ids, device_id=device_id, limit=SWEEP_ROWS, created_until=deleted_at))
            for message_id in ids:
                self._apply(Withdrawn.by_deletion(message_id, now))
            if not ids:
                del self._deleted[device_id]
