"""Who is here: link state, last activity and freshness of every device, apart from each other (DESIGN.md §7)."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice
from typing import Protocol

import msgspec
import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.device import DeviceStatus, PresenceView, SimCard
from signal_gateway.domain.events import DeviceDeleted, DeviceLinked, DeviceSeen, DeviceUnlinked
from signal_gateway.domain.principal import Principal
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage import records
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.records import StatusRecord
from signal_gateway.storage.rows import Upsert

log = logger("device")

NOTHING_TOLD = DeviceStatus()
NEVER_S = float("-inf")
FLUSH_ROWS = 500


class PresenceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[presence]`."""

    fresh_s: float = 75.0
    """A device that said something within this many seconds is fresh: two heartbeats and a half."""
    status_write_s: float = 1.0
    """Changed states go to disk this often: one row per device, the latest wins."""
    activity_write_s: float = 60.0
    """So often goes to disk when something was last heard of a linked device whose state has not changed; and at the end."""
    offline_after_s: float = 300.0
    """A link on which nothing was heard for so long counts as gone (seed 000: offline_threshold_minutes 5). 0 = never.

    The door ends silent links long before (CONTRACT.md §9); this is for what the door cannot see."""
    sweep_s: float = 10.0
    """How often silent links are looked for, and devices forgotten."""
    forget_after_s: float = 3600.0
    """A device without a link leaves memory so long after its last activity. The database still knows it."""
    offline_kept: int = 50_000
    """Devices without a link that are kept in memory at a time; beyond it the one that went first is forgotten."""

    def __post_init__(self) -> None:
        if min(self.fresh_s, self.status_write_s, self.activity_write_s, self.sweep_s, self.forget_after_s, self.offline_kept) <= 0:
            raise ValueError("fresh_s, status_write_s, activity_write_s, sweep_s, forget_after_s and offline_kept must be above 0")
        if self.offline_after_s < 0:
            raise ValueError("offline_after_s must not be below 0 (0 means never)")


class Heard(Protocol):
    """What presence must know of a link. Nobody tells of what comes without news of the device's state: it is asked for."""

    @property
    def heard_at(self) -> float:
        """When anything was last heard on it, be it a message, a ping or a pong; in Trio seconds."""
        ...


class _Device:
    """What memory knows of one device. Times in seconds are of the monotonic clock."""

    __slots__ = (
        "connected_at",
        "device_id",
        "generation",
        "is_silent",
        "is_status_kept",
        "kept_at_s",
        "kind",
        "link",
        "linked",
        "reported",
        "session_id",
        "share",
        "status",
        "told",
        "told_at_s",
    )

    def __init__(self, device_id: str, share: int) -> None:
        self.device_id = device_id
        self.share = share
        self.kind = ""
        self.linked = False
        self.is_silent = False
        self.generation = 0
        self.session_id = ""
        self.connected_at: int | None = None
        self.told_at_s = NEVER_S
        self.link: Heard | None = None
        self.reported: str | None = None
        self.status = NOTHING_TOLD
        self.told: DeviceStatus | None = None  # the last one, which is merged into the other already
        self.is_status_kept = True  # given to the writer since it changed
        self.kept_at_s = NEVER_S  # what the writer was given last of when it was heard

    @property
    def heard_at_s(self) -> float:
        """When something was last heard."""
        return self.told_at_s if self.link is None else max(self.told_at_s, self.link.heard_at)

    @property
    def has_moved(self) -> bool:
        """Whether it was heard since that was written; of one without a link that counts only with what it tells."""
        return (self.linked or self.told is not None) and self.heard_at_s > self.kept_at_s

    def let_go(self) -> None:
        """Its link has ended: what was heard on it is kept, the link is not."""
        self.told_at_s, self.link = self.heard_at_s, None


class Presence:
    """Hears of links and of what devices tell, and knows what is so now.

    The newest link of a device is the device's link: whatever an older one still says of its end changes nothing (generation numbers).
    All but `run` and `find` are plain functions that never wait. When something was last heard nobody tells: links are asked for it.
    """

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        settings: PresenceSettings,
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._writer = writer
        self._bus = bus
        self._settings = settings
        self._wall_ms = wall_ms
        self._devices: dict[str, _Device] = {}
        self._offline: OrderedDict[str, _Device] = OrderedDict()
        self._sessions: dict[str, tuple[int, float]] = {}  # session id: connected at, in wall milliseconds and monotonic seconds
        self._unwritten: dict[str, _Device] = {}
        shares = max(1, round(settings.activity_write_s / settings.status_write_s))
        self._shares: list[dict[str, _Device]] = [{} for _ in range(shares)]  # of all devices; each is looked at in its turn
        self._newest = self._turn = -1
        self._generations = count(1)  # of all devices together: one that was forgotten comes back by a number of its own
        self._limits = metrics.limits
        bus.subscribe(DeviceDeleted, self._hear_deleted)
        metrics.gauge("devices_linked", "Devices that have a link.", lambda: len(self._devices) - len(self._offline))
        metrics.gauge("devices_remembered", "Devices in memory, with or without a link.", lambda: len(self._devices))
        metrics.gauge("presence_unwritten", "Devices whose changed state is not given to the writer yet.", lambda: len(self._unwritten))

    def link_opened(self, principal: Principal, session_id: str, address: str, link: Heard | None = None) -> int:
        """A link authenticated. Returns its generation: from now on it is the device's link, and older ones are not.

        `link` is asked when something was last heard on it, until `link_closed`.
        """
        now, now_s = self._wall_ms(), trio.current_time()
        device_id, kind = principal.client_id, principal.kind.value
        device = self._devices.get(device_id) or self._remember(device_id)
        self._offline.pop(device_id, None)
        device.kind = kind
        device.generation = next(self._generations)
        device.session_id = session_id
        device.linked, device.is_silent = True, False
        device.connected_at = now
        device.told_at_s = now_s
        device.link = link
        self._sessions[session_id] = (now, now_s)
        self._unwritten[device_id] = device
        self._writer.put([records.link_opened_row(device_id, session_id, kind, address, now)])
        self._bus.publish(DeviceLinked(device_id, kind, device.generation, now))
        return device.generation

    def link_closed(self, device_id: str, generation: int, session_id: str, close_code: int | None, reason: str) -> None:
        """A link ended. Only the end of the newest link takes the device offline. Telling the same end twice changes nothing."""
        opened = self._sessions.pop(session_id, None)
        if opened is None:
            return
        now, now_s = self._wall_ms(), trio.current_time()
        connected_at, connected_at_s = opened
        duration_s = now_s - connected_at_s
        self._writer.put([records.link_closed_row(session_id, connected_at + round(duration_s * 1000), duration_s, close_code, reason)])
        device = self._devices.get(device_id)
        if device is None or device.generation != generation or device.session_id != session_id or not device.linked:
            return
        was_told = device.is_silent
        self._go_offline(device)
        if not was_told:
            self._bus.publish(DeviceUnlinked(device_id, device.kind, generation, now, reason))

    def heard_from(self, device_id: str, status: DeviceStatus, now_s: float | None = None) -> None:
        """A device told its state. The same object as the last time says that nothing has changed.

        `now_s` is the time of Trio's clock, where the caller knows it.
        """
        device = self._devices.get(device_id)
        if device is None:
            device = self._remember_offline(device_id)
        device.told_at_s = trio.current_time() if now_s is None else now_s
        if device.is_silent:
            self._is_back(device)
        if device.told is not status:
            device.told, device.status, device.is_status_kept = status, device.status.merged(status), False
            self._unwritten[device_id] = device
        self._bus.publish(DeviceSeen(device_id, self._wall_ms(), status))

    def reported(self, device_id: str, reported: str) -> None:
        """A device told its own condition (T-19): one of PresenceStatus."""
        device = self._devices.get(device_id) or self._remember_offline(device_id)
        device.told_at_s = trio.current_time()
        if device.is_silent:
            self._is_back(device)
        device.reported = reported
        self._unwritten[device_id] = device
        self._bus.publish(DeviceSeen(device_id, self._wall_ms(), None))

    def view(self, device_id: str) -> PresenceView | None:
        """What memory knows: everything of a linked device since its link began, nothing of one that is long gone (see `find`)."""
        device = self._devices.get(device_id)
        return None if device is None else self._view(device, None)

    def sims_told(self, device_id: str) -> tuple[SimCard, ...] | None:
        """The SIMs that memory knows a device to have, be they on disk or not; None when it has told of none since it is remembered."""
        device = self._devices.get(device_id)
        return None if device is None else device.status.sim_cards

    async def find(self, device_id: str) -> PresenceView | None:
        """What is known at all: memory, and beneath it what the database kept from before. None for an unknown device.

        Raises DatabaseDown.
        """
        kept = await self._database.read(lambda connection: records.find_status(connection, device_id))
        return self.view_over(device_id, kept)

    def view_over(self, device_id: str, kept: StatusRecord | None) -> PresenceView | None:
        """What memory knows, over what the database `kept` from before; None when neither knows anything."""
        device = self._devices.get(device_id)
        if device is not None:
            return self._view(device, kept)
        if kept is None:
            return None
        return PresenceView(device_id, False, 0, None, kept.last_activity_at, False, kept.reported, kept.status)

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """End what a crash left open, then write changed states every `status_write_s` and sweep every `sweep_s`.

        What is unwritten when this is cancelled goes to the writer, which ends later.
        """
        abandoned = await self._writer.call(lambda connection: records.close_abandoned(connection, "server_restart"))
        if abandoned:
            log.warning("links of before the restart ended", links=abandoned)
        task_status.started()
        sweep_at_s = trio.current_time() + self._settings.sweep_s
        try:
            while True:
                await trio.sleep(self._settings.status_write_s)
                self._turn = (self._turn + 1) % len(self._shares)
                self._tell_activity(self._shares[self._turn])
                if trio.current_time() >= sweep_at_s:
                    self._sweep()
                    sweep_at_s = trio.current_time() + self._settings.sweep_s
                while self._flush():
                    await trio.lowlevel.checkpoint()  # ten thousand rows at once would hold the loop for 70 ms
        finally:
            self._tell_activity(self._devices)
            while self._flush():
                pass

    def _hear_deleted(self, event: DeviceDeleted) -> None:
        """Its record is gone: its status must not be written once more when its link ends."""
        device = self._devices.pop(event.device_id, None)
        self._offline.pop(event.device_id, None)
        self._unwritten.pop(event.device_id, None)
        if device is not None:
            del self._shares[device.share][device.device_id]
        if device is not None and device.linked and not device.is_silent:
            self._bus.publish(DeviceUnlinked(event.device_id, device.kind, device.generation, self._wall_ms(), "deleted"))

    def _remember(self, device_id: str) -> _Device:
        self._newest = (self._newest + 1) % len(self._shares)
        device = self._devices[device_id] = self._shares[self._newest][device_id] = _Device(device_id, self._newest)
        return device

    def _remember_offline(self, device_id: str) -> _Device:
        """A device that tells something and has no link here."""
        device = self._remember(device_id)
        self._keep_offline(device)
        return device

    def _go_offline(self, device: _Device) -> None:
        device.linked = device.is_silent = False
        device.connected_at = None
        device.let_go()
        self._unwritten[device.device_id] = device
        self._keep_offline(device)

    def _keep_offline(self, device: _Device) -> None:
        self._offline[device.device_id] = device
        if len(self._offline) > self._settings.offline_kept:
            self._limits.add("presence.offline_kept")
            self._forget(next(iter(self._offline.values())))

    def _forget(self, device: _Device) -> None:
        """Out of memory; what is unwritten goes to the writer first."""
        device_id = device.device_id
        del self._offline[device_id], self._devices[device_id], self._shares[device.share][device_id]
        if self._unwritten.pop(device_id, None) is not None or device.has_moved:
            self._write([device])

    def _is_back(self, device: _Device) -> None:
        device.is_silent = False
        self._unwritten[device.device_id] = device
        self._bus.publish(DeviceLinked(device.device_id, device.kind, device.generation, self._wall_ms()))

    def _sweep(self) -> None:
        """Find links that fell silent, and forget devices that are long gone."""
        now_s = trio.current_time()
        if self._settings.offline_after_s:
            silent_since_s = now_s - self._settings.offline_after_s
            silent = [
                device
                for device in self._devices.values()
                if device.heard_at_s <= silent_since_s and device.linked and not device.is_silent
            ]
            for device in [device for device in self._devices.values() if device.is_silent and device.heard_at_s > silent_since_s]:
                self._is_back(device)  # what it said was no news of its state, of which nobody told
            for device in silent:
                device.is_silent = True
                self._unwritten[device.device_id] = device
                self._bus.publish(DeviceUnlinked(device.device_id, device.kind, device.generation, self._wall_ms(), "silent"))
        gone_since_s = now_s - self._settings.forget_after_s
        for device in [device for device in self._offline.values() if device.heard_at_s <= gone_since_s]:
            self._forget(device)

    def _tell_activity(self, devices: Mapping[str, _Device]) -> None:
        """Those of whom only something was heard are written, too. Nobody tells when: of agents it is asked for here alone."""
        self._unwritten.update({device_id: device for device_id, device in devices.items() if device.has_moved})

    def _flush(self) -> bool:
        """Give the next changed states to the writer; whether there were any, and it took them."""
        slice_of = [self._unwritten.pop(device_id) for device_id in list(islice(self._unwritten, FLUSH_ROWS))]
        if not slice_of or self._write(slice_of):
            return bool(slice_of)
        self._unwritten.update({device.device_id: device for device in slice_of})
        return False

    def _write(self, some: Sequence[_Device]) -> bool:
        """Whether the writer had room. A status that it was given before is not given again: with its SIMs it is most of a row."""
        if not self._writer.put([self._row(device) for device in some]):
            return False
        for device in some:
            device.is_status_kept, device.kept_at_s = True, device.heard_at_s
        return True

    def _row(self, device: _Device) -> Upsert:
        linked = device.linked and not device.is_silent
        status = NOTHING_TOLD if device.is_status_kept else device.status
        return records.status_row(device.device_id, linked, self._heard_at(device), device.reported, status, self._wall_ms())

    def _heard_at(self, device: _Device) -> int | None:
        """When something was last heard, on the wall clock of now: a step of that clock moves it along."""
        if device.heard_at_s == NEVER_S:
            return None
        return self._wall_ms() - round((trio.current_time() - device.heard_at_s) * 1000)

    def _view(self, device: _Device, kept: StatusRecord | None) -> PresenceView:
        return PresenceView(
            device_id=device.device_id,
            linked=device.linked and not device.is_silent,
            generation=device.generation,
            connected_at=device.connected_at,
            last_activity_at=self._heard_at(device),
            fresh=trio.current_time() - device.heard_at_s <= self._settings.fresh_s,
            reported=device.reported or (kept.reported if kept else None),
            status=kept.status.merged(device.status) if kept else device.status,
        )
