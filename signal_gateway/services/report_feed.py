"""Reports of the whole fleet in the order in which they are filed, for those who wait for the next one (long poll, CONTRACT.md §6)."""

from collections.abc import Awaitable, Callable

import msgspec
import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Scope
from signal_gateway.domain.errors import RateLimited
from signal_gateway.domain.events import ReportFiled
from signal_gateway.domain.fleet import ReportFilter
from signal_gateway.domain.report import Report
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage import fleet
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database

RETRY_AFTER_S = 1.0
PROVED_EVERY_S = 5.0
"""Seconds for which somebody who waits is believed: tokens end and are revoked meanwhile (H03)."""


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[feed]`: waiting for reports of the fleet."""

    waiters_max: int = 200
    """Requests that may wait at once; one more is answered 429."""
    wait_s_max: float = 60.0
    """Longest wait that is granted."""
    looks_distance_s: float = 0.1
    """Least time between two looks into the database for one waiter, however many reports come."""

    def __post_init__(self) -> None:
        if self.waiters_max < 1 or self.wait_s_max < 0 or self.looks_distance_s < 0:
            raise ValueError("waiters_max must be above 0, wait_s_max and looks_distance_s must not be below 0")


class _Waiter:
    """Somebody who waits; `woken` is set once there may be something new on disk."""

    __slots__ = ("is_due", "wanted", "woken")

    def __init__(self, wanted: ReportFilter) -> None:
        self.wanted = wanted
        self.woken = trio.Event()
        self.is_due = False
        """Whether something that it may want was filed since the last look, and is perhaps not on disk yet."""

    def hear(self, report: Report) -> None:
        wanted = self.wanted
        if wanted.type in (None, report.type) and wanted.device_id in (None, report.device_id):
            self.is_due = True


class ReportFeed:
    """Pages of reports by their number, and a wait for the next one when a page is empty."""

    def __init__(self, database: Database, writer: BatchWriter, bus: Bus, settings: FeedSettings, metrics: Metrics) -> None:
        self._database = database
        self._writer = writer
        self._settings = settings
        self._limits = metrics.limits
        self._waiters: dict[_Waiter, None] = {}
        self._is_closed = False
        self._marker_under_way = False
        metrics.gauge("feed_waiters", "Requests that wait for the next report.", lambda: len(self._waiters))
        self._unsubscribe: Callable[[], None] = bus.subscribe(ReportFiled, self._hear)

    async def last_id(self) -> int:
        """The number of the newest report: who begins behind it hears what comes from now on. Raises DatabaseDown."""
        return await self._database.look_up(fleet.find_last_report_id)

    async def find(
        self,
        scope: Scope,
        wanted: ReportFilter,
        after_id: int,
        limit: int,
        wait_s: float = 0.0,
        prove: Callable[[], Awaitable[object]] | None = None,
    ) -> list[Report]:
        """Reports behind `after_id`, oldest first. When there are none, wait for the first up to `wait_s`, and return empty then.

        `prove` is asked every PROVED_EVERY_S and before each look but the first, and raises where who waits may hear no more.
        Raises DatabaseDown, and RateLimited when too many wait already.
        """
        waiter = _Waiter(wanted)
        give_up_at = trio.current_time() + min(wait_s, self._settings.wait_s_max)
        is_waiting = wait_s > 0 and not self._is_closed
        if is_waiting:
            if len(self._waiters) >= self._settings.waiters_max:
                self._limits.add("feed.waiters_max")
                raise RateLimited("waiting", RETRY_AFTER_S)
            self._waiters[waiter] = None  # before the first look: what is filed after it must not be missed
        try:
            while True:
                found = await self._database.read(lambda connection: fleet.find_reports_after(connection, scope, wanted, after_id, limit))
                if found or not is_waiting or self._is_closed or trio.current_time() >= give_up_at:
                    return found
                await self._wait(waiter, give_up_at, prove)
        finally:
            self._waiters.pop(waiter, None)

    async def _wait(self, waiter: _Waiter, give_up_at: float, prove: Callable[[], Awaitable[object]] | None) -> None:
        """Until there may be something new, or it is time to give up; nobody looks into the database meanwhile."""
        while not waiter.woken.is_set() and trio.current_time() < give_up_at:
            with trio.move_on_at(min(give_up_at, trio.current_time() + PROVED_EVERY_S)):
                await waiter.woken.wait()
                await trio.sleep(0 if self._is_closed else self._settings.looks_distance_s)
            if prove is not None:
                await prove()
        waiter.woken = trio.Event()

    def close(self) -> None:
        """The server stops: whoever waits is answered now, and nobody waits any more."""
        self._is_closed = True
        for waiter in self._waiters:
            waiter.woken.set()

    def _hear(self, event: ReportFiled) -> None:
        """A report was given to the writer. An empty put behind it is called back once it is on disk."""
        if not self._waiters:
            return
        for waiter in self._waiters:
            waiter.hear(event.report)
        self._send_marker()

    def _send_marker(self) -> None:
        if self._marker_under_way or not any(waiter.is_due for waiter in self._waiters):
            return
        due = [waiter for waiter in self._waiters if waiter.is_due]
        for waiter in due:
            waiter.is_due = False

        def is_durable() -> None:
            self._marker_under_way = False
            for waiter in due:
                waiter.woken.set()
            self._send_marker()

        self._marker_under_way = self._writer.put([], is_durable, is_durable)
