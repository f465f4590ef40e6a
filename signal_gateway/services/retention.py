"""Keeps what is wanted for as long as it is wanted: old rows go in the background, in small steps (section `[retention]`)."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import trio

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage import retention
from signal_gateway.storage.batch_writer import BatchWriter

MS_PER_DAY = 86_400_000
MONTHS_KEPT_MS = 62 * MS_PER_DAY

_SETTING_OF = {"stays": "rooms", "sessions": "rooms"}
_DAYS_OF = {"tokens": 1.0, "guests": 7.0}
"""Kinds that no setting names."""

log = logger("storage")


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[retention]`: days that each kind of row is kept. 0 = for ever."""

    heartbeats_days: float = 30.0
    """Filed heartbeats. 0 = for ever."""
    reports_days: float = 365.0
    """All other reports: messages that came in, results, alarms as they were reported. 0 = for ever."""
    commands_days: float = 365.0
    """Commands in a final state, with their timelines; an Idempotency-Key is known as long. 0 = for ever."""
    alarms_days: float = 365.0
    """Alarms, from the day on which they were cleared. 0 = for ever."""
    connections_days: float = 90.0
    """The log of connections. 0 = for ever."""
    rooms_days: float = 365.0
    """The archive of rooms, from the day on which a room ended or a stay in one. 0 = for ever."""
    audit_days: float = 730.0
    """The audit trail. 0 = for ever."""
    every_s: float = 3600.0
    """How often old rows are looked for."""
    step_rows: int = 500
    """Rows of one step, which is one transaction."""
    pause_s: float = 0.1
    """Rest between two steps, in which others write."""

    def __post_init__(self) -> None:
        if (
            min(getattr(self, f"{kind}_days") for kind in ("heartbeats", "reports", "commands", "alarms", "connections", "rooms", "audit"))
            < 0
        ):
            raise ValueError("days must not be below 0")
        if 0 < self.commands_days < 1:
            raise ValueError("commands_days must be at least 1, for an Idempotency-Key holds for a day")
        if self.every_s <= 0 or self.step_rows < 1 or self.pause_s <= 0:
            raise ValueError("every_s, step_rows and pause_s must be above 0")


class Retention:
    """The loop that deletes."""

    def __init__(self, writer: BatchWriter, settings: RetentionSettings, metrics: Metrics, wall_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._settings = settings
        self._wall_ms = wall_ms
        self._deleted = metrics.counter("retention_rows_deleted_total", "Rows deleted for their age, by kind.", ("kind",))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for old rows now and then, until cancelled. A database that is away is asked again the next time."""
        task_status.started()
        while True:
            await trio.sleep(self._settings.every_s)
            try:
                await self.delete_old()
            except (DatabaseDown, DiskFull) as error:
                log.warning("old rows cannot be deleted now", reason=error.reason)

    async def delete_old(self) -> None:
        """Delete everything that is too old by now, step by step. Raises DatabaseDown, DiskFull."""
        now = self._wall_ms()
        for kind in retention.KINDS:
            days = _DAYS_OF.get(kind) or getattr(self._settings, f"{_SETTING_OF.get(kind, kind)}_days")
            if days > 0:
                await self._delete(kind, partial(retention.delete_some, kind, now - round(days * MS_PER_DAY)))
        if self._settings.commands_days > 0:
            await self._delete_commands(now - round(self._settings.commands_days * MS_PER_DAY))
        month = datetime.fromtimestamp((now - MONTHS_KEPT_MS) / 1000, UTC).strftime("%Y-%m")
        await self._delete("recipients", partial(retention.delete_recipients, month))

    async def _delete(self, kind: str, some: Callable[[Any, int], int]) -> None:
        step = self._settings.step_rows
        while True:
            rows = await self._writer.call(lambda connection: some(connection, step))
            self._deleted.add(kind, by=rows)
            if rows < step:
                return
            await trio.sleep(self._settings.pause_s)

    async def _delete_commands(self, before_ms: int) -> None:
        walk = retention.Walk(0, 0)
        while (last_id := walk.last_id) is not None:
            walk = await self._writer.call(partial(retention.delete_commands, before_ms, last_id, self._settings.step_rows))
            self._deleted.add("commands", by=walk.deleted)
            await trio.sleep(self._settings.pause_s)
