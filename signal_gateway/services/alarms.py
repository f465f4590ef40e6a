"""Alarms: raised by what devices report and by what they fail to, acknowledged by people, cleared when it is well again (T-51 to T-54).

Thresholds are looked at with every heartbeat, and cost nothing while nothing changes: memory knows what is open, and only a change goes to
the database.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Operator
from signal_gateway.domain.alarm import (
    CLEARED_BY_PEOPLE,
    SIM_ALARMS,
    SIM_ERROR,
    SIM_SLOTS,
    Alarm,
    AlarmKey,
    AlarmType,
    Hysteresis,
    Reading,
    Severity,
    balance_reading,
    blocked_by,
    is_enabled,
    proved_by,
    readings,
)
from signal_gateway.domain.command import Command, CommandState
from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.errors import AlarmNotFound, DatabaseDown, DiskFull
from signal_gateway.domain.events import (
    AlarmChanged,
    CommandChanged,
    DeliveryTold,
    DeviceDeleted,
    DeviceLinked,
    DeviceSeen,
    DeviceUnlinked,
    ReportFiled,
    SettingsChanged,
    SimChanged,
)
from signal_gateway.domain.failures_in_a_row import FailuresInARow
from signal_gateway.domain.principal import LinkKind
from signal_gateway.domain.report import Report
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.alarm_settings import AlarmsSettings
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.open_alarms import OpenAlarms
from signal_gateway.services.sim_switches import SimSwitches
from signal_gateway.services.wake_times import WakeTimes
from signal_gateway.storage import alarms as kept
from signal_gateway.storage import records, sims
from signal_gateway.storage.alarms import Acknowledge, Clear, Raise
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.sims import Seen, SimKey

SWEEP_EVERY_S = 1.0
MS_PER_MINUTE = 60_000


class Alarms:
    """All open alarms. Hears events and never waits in them; `run` watches for devices that stay away."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        directory: DeviceDirectory,
        settings: AlarmsSettings,
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._writer = writer
        self._bus = bus
        self._directory = directory
        self._hysteresis = Hysteresis(settings.battery_clear_percent, settings.signal_clear_bars, settings.balance_clear_percent)
        self._blocked_after = settings.blocked_after
        self._sims_remembered_max = settings.sims_remembered_max
        self._wall_ms = wall_ms
        self._open = OpenAlarms()
        self._failures = FailuresInARow()
        self._switches = SimSwitches(writer, bus)
        self._linked: set[str] = set()
        self._away_since: dict[str, int] = {}
        self._looks = WakeTimes()  # when to see whether one is still away
        self._seen: OrderedDict[SimKey, tuple[tuple[str, str], ...]] = OrderedDict()
        self._limits = metrics.limits
        self._raised = metrics.counter("alarms_raised_total", "Alarms raised, by type.", ("type",))
        metrics.gauge("alarms_open", "Alarms that are not cleared.", lambda: len(self._open))
        subscribe: Any = bus.subscribe
        for event, hear in (
            (DeviceSeen, self._hear_seen),
            (ReportFiled, self._hear_report),
            (DeviceLinked, self._hear_linked),
            (DeviceUnlinked, self._hear_unlinked),
            (CommandChanged, self._hear_command),
            (DeliveryTold, self._hear_delivery),
            (SettingsChanged, self._hear_settings),
            (DeviceDeleted, self._hear_deleted),
        ):
            subscribe(event, hear)

    async def find(
        self,
        operator: Operator,
        *,
        device_id: str | None = None,
        type: str | None = None,  # noqa: A002 the word of the API
        active: bool | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Alarm]:
        """Alarms that this operator may see, newest first, of ids below `before`. Raises DatabaseDown."""
        return await self._database.read(lambda connection: kept.find(connection, operator.scope, device_id, type, active, before, limit))

    async def acknowledge(self, alarm_id: int, operator: Operator) -> Alarm:
        """Somebody has seen it. Raises AlarmNotFound, DatabaseDown, DiskFull."""
        alarm = await self._database.read(lambda connection: kept.find_one(connection, alarm_id))
        device = None if alarm is None else await self._directory.find(alarm.device_id)
        group = None if device is None else device.device_group
        if alarm is None or not operator.scope.allows(alarm.device_id, group):
            raise AlarmNotFound
        change = Acknowledge(alarm_id, operator.subject, self._wall_ms(), CLEARED_BY_PEOPLE)
        acknowledged = await self._writer.have_done(kept.apply, change, self._hear_acknowledged)
        if acknowledged is None:
            raise AlarmNotFound
        return acknowledged

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Know what is open, and raise `offline` for phones that stay away longer than their settings allow (C-28)."""
        self._open.begin(await self._database.read(kept.open_severities))
        now = self._wall_ms()
        for device_id, last_at in await self._database.read(lambda connection: records.last_activities(connection, LinkKind.PHONE)):
            if device_id not in self._linked:
                self._watch(device_id, now if last_at is None else min(now, last_at), 1)  # its own settings are read then
        task_status.started()
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            self._switches.again()
            now = self._wall_ms()
            for device_id in self._looks.due(now):
                await self._look_for(device_id, now)

    # what is heard

    def _hear_seen(self, event: DeviceSeen) -> None:
        device_id, status = event.device_id, event.status
        if status is None or self._open.is_judged(device_id, status):
            return
        self._open.judged(device_id, status)  # first: what changes by it is looked at once more
        for reading in readings(status, self._directory.settings(device_id), self._hysteresis):
            self._judge(device_id, reading, event.at)
        self._look_at_sims(device_id, status)

    def _hear_report(self, event: ReportFiled) -> None:
        report = event.report
        if report.type != "alarm":
            return
        try:
            alarm_type = AlarmType(str(report.data.get("alarm_type")))
        except ValueError:
            return
        self._raise_reported(report, alarm_type)

    def _hear_linked(self, event: DeviceLinked) -> None:
        if event.kind == LinkKind.PHONE:
            self._linked.add(event.device_id)
            self._away_since.pop(event.device_id, None)
            self._clear(AlarmKey(event.device_id, AlarmType.OFFLINE), event.at)

    def _hear_unlinked(self, event: DeviceUnlinked) -> None:
        self._open.look_again(event.device_id)
        if event.kind == LinkKind.PHONE:
            self._linked.discard(event.device_id)
            self._watch(event.device_id, event.at)

    def _hear_settings(self, event: SettingsChanged) -> None:
        """An alarm that is not wanted any more is over at once."""
        self._open.look_again(event.device_id)
        for key in self._open.of(event.device_id):
            if not is_enabled(key.type, event.settings):
                self._clear(key, self._wall_ms())
        since = self._away_since.get(event.device_id)
        if since is not None:
            self._looks.add(since + MS_PER_MINUTE * event.settings.offline_threshold_minutes, event.device_id)

    def _hear_deleted(self, event: DeviceDeleted) -> None:
        """Nothing is wrong with a device that is no more; and no SIM of it is switched for that."""
        device_id = event.device_id
        self._failures.forget(device_id)
        self._switches.forget(device_id)
        self._away_since.pop(device_id, None)
        self._open.look_again(device_id)
        for key in self._open.of(device_id):
            self._clear(key, self._wall_ms(), is_deleted=True)
        for key in [(device_id, slot) for slot in range(SIM_SLOTS)]:
            self._seen.pop(key, None)

    def _hear_command(self, event: CommandChanged) -> None:
        command, device_id, slot = event.command, event.device_id, event.sim_slot
        if device_id is None:
            return
        if event.detail == "delivery_report" and command.state is CommandState.FAILED:
            self._hear_delivery(DeliveryTold(device_id, slot, is_delivered=False))
        elif command.error is not None and command.state in (CommandState.FAILED, CommandState.DEAD, CommandState.QUEUED):
            self._count_failure(device_id, slot, command)
        elif command.state in (CommandState.SENT, CommandState.DELIVERED):
            self._count_success(device_id, slot, command)

    def _hear_delivery(self, event: DeliveryTold) -> None:
        """Whether or not somebody waits for it: the network takes this SIM's messages, or does not (T-47)."""
        key = AlarmKey(event.device_id, AlarmType.ERROR_COUNT, event.sim_slot)
        if not event.is_delivered:
            self._raise_if_wanted(key, Severity.WARNING, "a message was not delivered", "server")
        elif event.sim_slot is not None:
            self._clear(key, self._wall_ms())

    # inside

    def _judge(self, device_id: str, reading: Reading, at: int) -> None:
        key = AlarmKey(device_id, reading.type, reading.sim_slot)
        if not reading.is_raised:
            self._clear(key, at)
        elif self._open.severity(key) is not reading.severity:
            self._raise(key, reading.severity, reading.message, "server")

    def _raise_reported(self, report: Report, alarm_type: AlarmType) -> None:
        said, slot = report.data.get("severity"), report.data.get("sim_slot")
        has_slot = (
            isinstance(slot, int) and not isinstance(slot, bool) and 0 <= slot < SIM_SLOTS
        )  # the fields that the seed has not are not checked
        severity = Severity(str(said)) if said in set(Severity) else Severity.WARNING
        key = AlarmKey(report.device_id, alarm_type, slot if has_slot else None)
        if report.data.get("cleared") is True:
            self._clear(key, report.received_at)
            return
        message = str(report.data.get("message") or f"the device reports {alarm_type.value}")
        self._raise_if_wanted(key, severity, message, "device")
        if alarm_type is AlarmType.OFFLINE:  # told late by one that is here again: kept as history (C-28)
            self._clear(key, report.received_at)

    def _count_failure(self, device_id: str, slot: int | None, command: Command) -> None:
        """Of the device, for what fails in a row; and of its SIM, where that is to blame."""
        threshold = self._directory.settings(device_id).error_count_threshold
        if command.error == SIM_ERROR:
            message = command.error_message or "the phone reports an error of its SIM"
            self._raise(AlarmKey(device_id, AlarmType.SIM_BLOCKED, slot), Severity.CRITICAL, message, "server")
        if (count := self._failures.failed(device_id)) >= threshold:
            self._raise_first(AlarmKey(device_id, AlarmType.ERROR_COUNT), f"{count} commands failed in a row")
        blocked = None if slot is None else blocked_by(command.kind, command.error, command.result)
        if blocked is None or not self._blocked_after or slot is None:
            return
        if (count := self._failures.failed(device_id, (slot, blocked))) >= self._blocked_after:
            self._raise_first(AlarmKey(device_id, blocked, slot), f"SIM {slot + 1} failed {count} times in a row")

    def _count_success(self, device_id: str, slot: int | None, command: Command) -> None:
        """What works is not blocked, whoever said that it is."""
        now = self._wall_ms()
        self._failures.succeeded(device_id)
        over = [AlarmKey(device_id, AlarmType.ERROR_COUNT)]
        if command.state is CommandState.DELIVERED:
            over.append(AlarmKey(device_id, AlarmType.ERROR_COUNT, slot))
        if (proved := proved_by(command.kind)) is not None:
            self._failures.succeeded(device_id, (slot, proved))
            over += [AlarmKey(device_id, proved), AlarmKey(device_id, proved, slot), AlarmKey(device_id, AlarmType.SIM_BLOCKED, slot)]
        for key in over:
            self._clear(key, now)
        balance = (command.result or {}).get("balance")
        if isinstance(balance, str) and slot is not None:
            reading = balance_reading(balance, slot, self._directory.settings(device_id), self._hysteresis)
            if reading is not None:
                self._judge(device_id, reading, now)

    def _raise_first(self, key: AlarmKey, message: str) -> None:
        """Once, and not again with each further failure."""
        if key not in self._open:
            self._raise_if_wanted(key, Severity.ERROR, message, "server")

    def _raise_if_wanted(self, key: AlarmKey, severity: Severity, message: str, source: str) -> None:
        if is_enabled(key.type, self._directory.settings(key.device_id)):
            self._raise(key, severity, message, source)

    def _raise(self, key: AlarmKey, severity: Severity, message: str, source: str) -> None:
        if key not in self._open:
            self._raised.add(key.type.value)
            if key.sim_slot is not None and key.type in SIM_ALARMS and self._directory.settings(key.device_id).auto_disable_sim_on_alarm:
                self._switches.switch((key.device_id, key.sim_slot), key.type.value)
        self._open.add(key, severity)
        self._post(Raise(key, severity, message, source, self._wall_ms()), severity)

    def _clear(self, key: AlarmKey, at: int, *, is_deleted: bool = False) -> None:
        severity = self._open.remove(key)
        if severity is not None:
            self._post(Clear(key, at), severity, is_deleted=is_deleted)

    def _post(self, change: Raise | Clear, severity: Severity, *, is_deleted: bool = False) -> None:
        """What the database does not take is as it was before: the next reading tries it again."""

        def undo() -> None:
            if isinstance(change, Raise):
                self._open.remove(change.key)
            elif change.key not in self._open:
                self._open.add(change.key, severity)

        def done(came: Alarm | Exception | None) -> None:
            if isinstance(came, Alarm) and is_deleted:
                self._bus.publish(AlarmChanged(came))
            elif isinstance(came, Alarm):
                self._follow(came)
            elif came is not None:
                undo()

        if not self._writer.post(kept.apply, change, done):
            undo()

    def _hear_acknowledged(self, alarm: Alarm | None) -> None:
        if alarm is not None:
            self._follow(alarm)

    def _follow(self, alarm: Alarm) -> None:
        if alarm.cleared_at is not None:
            self._open.remove(alarm.key)
            if alarm.sim_slot is not None and alarm.type in SIM_ALARMS:
                self._switch_on(alarm.device_id, alarm.sim_slot)
        self._bus.publish(AlarmChanged(alarm))

    def _switch_on(self, device_id: str, slot: int) -> None:
        """One of its alarms is over: a SIM may be used again, unless it has another one."""
        others = (kind for kind in AlarmType if kind in SIM_ALARMS and AlarmKey(device_id, kind, slot) in self._open)
        reason = next(others, None) if self._directory.settings(device_id).auto_disable_sim_on_alarm else None
        self._switches.switch((device_id, slot), reason)

    def _watch(self, device_id: str, since_ms: int, minutes: int | None = None) -> None:
        """Look at it when it may have been away for too long. One that came meanwhile and went again is looked at then, and once more,
        unless its settings have it looked at earlier now."""
        self._away_since[device_id] = since_ms
        if minutes is None:
            minutes = self._directory.settings(device_id).offline_threshold_minutes
        self._looks.add(since_ms + MS_PER_MINUTE * minutes, device_id)

    async def _look_for(self, device_id: str, now: int) -> None:
        """A phone may have been away for too long."""
        key = AlarmKey(device_id, AlarmType.OFFLINE)
        if device_id not in self._away_since or key in self._open:
            return
        try:
            device = await self._directory.find(device_id)
        except (DatabaseDown, DiskFull):
            self._looks.add(now + round(1000 * SWEEP_EVERY_S), device_id)
            return
        since = self._away_since.get(device_id)  # it may have come while we waited
        if device is None:
            self._away_since.pop(device_id, None)
        if since is None or device is None or not device.settings.enable_offline_alarms:
            return
        minutes = device.settings.offline_threshold_minutes
        if now < since + MS_PER_MINUTE * minutes:
            self._looks.add(since + MS_PER_MINUTE * minutes, device_id)
            return
        self._raise(key, Severity.ERROR, f"no contact for {minutes} minutes", "server")

    def _look_at_sims(self, device_id: str, status: DeviceStatus) -> None:
        for card in status.sim_cards or ():
            if not 0 <= card.slot_index < SIM_SLOTS:
                continue
            ids = tuple((name, each.digest) for name, each in (("imei", card.imei), ("imsi", card.imsi)) if each is not None)
            key = (device_id, card.slot_index)
            if ids and self._seen.get(key) != ids:
                self._note_sim(key, ids)

    def _note_sim(self, key: SimKey, ids: tuple[tuple[str, str], ...]) -> None:
        self._seen[key] = ids
        if len(self._seen) > self._sims_remembered_max:
            self._seen.popitem(last=False)
            self._limits.add("alarms.sims_remembered_max")

        def done(is_another: bool | Exception) -> None:
            if is_another is not True:
                return
            message = f"SIM {key[1] + 1} is another one than before, or in another phone"
            self._raise(AlarmKey(key[0], AlarmType.SIM_CHANGED, key[1]), Severity.WARNING, message, "server")
            entry = records.AuditEntry(self._wall_ms(), "server", "sim_changed", key[0], "ok", detail=f"slot {key[1]}")
            self._writer.put([records.audit_row(entry)])
            self._bus.publish(SimChanged(*key))

        if not self._writer.post(sims.note_seen, Seen(key, dict(ids)), done):
            self._seen.pop(key, None)
            self._open.look_again(key[0])  # the next heartbeat tells it again
