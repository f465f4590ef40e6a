"""Reads out of the database what waits for a device: one trip for each that was asked for, however often it was asked meanwhile."""

from collections.abc import Callable
from functools import partial

import trio

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.command_lanes import Lane
from signal_gateway.services.device_directory import DeviceDirectory, KnownDevice
from signal_gateway.storage.database import Database
from signal_gateway.storage.lanes import LaneContents, PoolContents, read_lane, read_pool

RETRY_S = 1.0
"""Until a database that is away is asked again."""
PAGE, PAGE_WHEN_FULL = 128, 32
"""Queued commands read for one lane at a time, and while memory holds as many as it may."""
COUNTED_S = 0.1
"""How long a count of what memory holds is believed: it looks at every lane."""


class LaneReader:
    """Starts reads in the nursery of the dispatcher, and tells it what came. `room` says how many queued commands more memory may hold."""

    def __init__(
        self, database: Database, directory: DeviceDirectory, wall_ms: Callable[[], int], room: Callable[[], int], metrics: Metrics
    ) -> None:
        self._database = database
        self._directory = directory
        self._wall_ms = wall_ms
        self._room = room
        self._pages_left = 0
        self._counted_at_s = float("-inf")
        self._limits = metrics.limits
        self.nursery: trio.Nursery | None = None
        """Where reads live; None while the dispatcher does not run."""

    def read(self, lane: Lane, tell: Callable[[Lane, LaneContents], None]) -> None:
        """Read a lane, unless that is under way; then once more afterwards."""
        if self.nursery is None:
            return
        if lane.is_loading:
            lane.is_asked_again = True
            return
        lane.is_loading = True
        self.nursery.start_soon(self._read, lane, tell)

    def read_pool(self, tell: Callable[[PoolContents], None]) -> None:
        """Read what waits for any phone."""
        if self.nursery is not None:
            self.nursery.start_soon(self._read_pool, tell)

    async def _read(self, lane: Lane, tell: Callable[[Lane, LaneContents], None]) -> None:
        device_id = lane.device.device_id
        while True:
            lane.begin_to_read()
            try:
                device = await self._directory.find(device_id)
                work = partial(read_lane, device_id=device_id, now_ms=self._wall_ms(), page=self._page(), is_known=lane.is_loaded)
                contents = await self._database.look_up(work)
            except (DatabaseDown, DiskFull):
                await trio.sleep(RETRY_S)
                continue
            if not lane.is_asked_again:
                break
        lane.is_loading = False
        lane.learn(device or KnownDevice(device_id, lane.device.kind, None, self._directory.settings_of_all))
        tell(lane, contents)

    async def _read_pool(self, tell: Callable[[PoolContents], None]) -> None:
        while True:
            try:
                contents = await self._database.look_up(partial(read_pool, now_ms=self._wall_ms(), page=self._page()))
            except (DatabaseDown, DiskFull):
                await trio.sleep(RETRY_S)
            else:
                tell(contents)
                return

    def _page(self) -> int:
        now_s = trio.current_time()
        if now_s - self._counted_at_s >= COUNTED_S:
            self._counted_at_s, self._pages_left = now_s, self._room() // PAGE
        if self._pages_left > 0:
            self._pages_left -= 1
            return PAGE
        self._limits.add("commands.in_memory_max")
        return PAGE_WHEN_FULL
