"""Alarms under a clock of our own: who is away, what a restart knows, what a database refuses, and how much is remembered."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from sqlalchemy import insert, select
from trio.testing import MockClock

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.alarm import AlarmType
from signal_gateway.domain.device import DeviceStatus, SimCard, SubscriberId
from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.domain.events import DeviceLinked, DeviceSeen, DeviceUnlinked, ReportFiled, SettingsChanged
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.report import Report
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.alarm_settings import AlarmsSettings
from signal_gateway.services.alarms import Alarms
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.storage import alarms as kept
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import devices, sims
from tests.services.conftest import STARTED_MS

MINUTE = 60_000
WHOLE_FLEET = kept.Scope()


@dataclass
class Watch:
    """The service on its own, with the bus to tell it things."""

    database: InlineDatabase
    writer: BatchWriter
    bus: LocalBus
    alarms: Alarms
    told: dict[DeviceStatus, DeviceStatus] = field(default_factory=dict[DeviceStatus, DeviceStatus])

    def wall_ms(self) -> int:
        return STARTED_MS + round(trio.current_time() * 1000)

    def device(self, device_id: str = "phone-1", **settings: Any) -> None:
        row = {"device_id": device_id, "kind": "phone", "settings": settings or None, "created_at": 0, "updated_at": 0}
        with self.database.engine.begin() as connection:
            connection.execute(insert(devices).values(row))

    def come(self, device_id: str = "phone-1") -> None:
        self.bus.publish(DeviceLinked(device_id, "phone", 1, self.wall_ms()))

    def go(self, device_id: str = "phone-1") -> None:
        self.bus.publish(DeviceUnlinked(device_id, "phone", 1, self.wall_ms(), "closed"))

    def beat(self, *cards: SimCard, device_id: str = "phone-1", **told: Any) -> None:
        """As links do it, who says the same again is given the same object."""
        status = DeviceStatus(**told, sim_cards=cards or None)
        self.bus.publish(DeviceSeen(device_id, self.wall_ms(), self.told.setdefault(status, status)))

    def report(self, **data: Any) -> None:
        self.bus.publish(ReportFiled(Report("phone-1", "alarm", data, self.wall_ms())))

    async def kept(self) -> list[tuple[str, int | None, str, bool]]:
        """Oldest first: type, SIM, severity, whether it is open."""
        await trio.sleep(0.5)
        found = await self.database.read(lambda connection: kept.find(connection, WHOLE_FLEET, None, None, None, None, 500))
        return [(each.type.value, each.sim_slot, each.severity.value, each.cleared_at is None) for each in reversed(found)]

    async def disabled(self) -> dict[int, str | None]:
        await trio.sleep(0.5)
        query = select(sims.c.slot, sims.c.disabled_reason)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return {row.slot: row.disabled_reason for row in rows}


async def start(nursery: trio.Nursery, database: InlineDatabase, phones: PhoneSettings | None = None, **settings: Any) -> Watch:
    metrics = Metrics()
    writer, bus = BatchWriter(database, StorageSettings(), metrics), LocalBus(metrics)
    await nursery.start(writer.run)
    directory = DeviceDirectory(database, bus, phones or PhoneSettings())
    alarms = Alarms(
        database, writer, bus, directory, AlarmsSettings(**settings), metrics, lambda: STARTED_MS + round(trio.current_time() * 1000)
    )
    return Watch(database, writer, bus, alarms)


@pytest.fixture
async def watch(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Watch]:
    made = await start(nursery, InlineDatabase())
    made.device()
    await nursery.start(made.alarms.run)
    made.come()
    yield made
    nursery.cancel_scope.cancel()


OFFLINE = ("offline", None, "error", True)


async def test_a_phone_that_comes_and_goes_is_away_only_since_it_went_last(autojump_clock: MockClock, watch: Watch):
    """It was away for a second five minutes ago and is away for a second now: no alarm. Then it stays away."""
    watch.go()
    await trio.sleep(1)
    watch.come()
    await trio.sleep(297)
    watch.go()
    await trio.sleep(290)
    assert await watch.kept() == []
    await trio.sleep(15)
    assert await watch.kept() == [OFFLINE]


async def test_a_phone_that_flaps_is_remembered_once(autojump_clock: MockClock, watch: Watch):
    for _ in range(1000):
        watch.go()
        watch.come()
    watch.go()
    assert (len(watch.alarms._looks._heap), len(watch.alarms._away_since)) == (1, 1)


async def test_a_threshold_that_is_lowered_while_a_phone_is_linked_holds_when_it_goes(autojump_clock: MockClock, watch: Watch):
    """Before, it was away for a moment, and was to be looked at in a day."""
    watch.device("patient", offline_threshold_minutes=1440)
    await watch.alarms._directory.find("patient")
    watch.go("patient")
    watch.come("patient")
    watch.bus.publish(SettingsChanged("patient", PhoneSettings(offline_threshold_minutes=5), 2))
    watch.go("patient")
    await trio.sleep(295)
    assert await watch.kept() == []
    await trio.sleep(10)
    assert await watch.kept() == [OFFLINE]


async def test_the_settings_of_the_phone_itself_hold_from_when_they_change(autojump_clock: MockClock, watch: Watch):
    watch.device("slow", offline_threshold_minutes=60)
    watch.device("mute", enable_offline_alarms=False)
    for device_id in ("phone-1", "slow", "mute"):
        watch.go(device_id)
    watch.bus.publish(SettingsChanged("phone-1", PhoneSettings(offline_threshold_minutes=1), 2))
    await trio.sleep(55)
    assert await watch.kept() == []
    await trio.sleep(3500)
    assert await watch.kept() == [OFFLINE]
    await trio.sleep(60)
    assert await watch.kept() == [OFFLINE, OFFLINE]
    watch.bus.publish(SettingsChanged("mute", PhoneSettings(), 2))
    with watch.database.engine.begin() as connection:
        connection.execute(devices.update().where(devices.c.device_id == "mute").values(settings=None))
    watch.alarms._directory.forget("mute")
    assert await watch.kept() == [OFFLINE, OFFLINE]
    await trio.sleep(2)
    assert await watch.kept() == [OFFLINE, OFFLINE, OFFLINE]


@pytest.mark.parametrize("refusal", [DatabaseDown, DiskFull])
async def test_while_the_database_cannot_be_read_it_is_asked_once_a_second(
    autojump_clock: MockClock, watch: Watch, refusal: type[DatabaseDown | DiskFull]
):
    asked: list[float] = []

    async def down(device_id: str) -> None:
        asked.append(trio.current_time())
        raise refusal

    await trio.sleep(70)  # what was to be looked at since the start is over
    find, watch.alarms._directory.find = watch.alarms._directory.find, down  # type: ignore[method-assign, assignment]
    watch.go()
    await trio.sleep(310)
    assert 8 <= len(asked) <= 11
    watch.alarms._directory.find = find  # type: ignore[method-assign]
    await trio.sleep(2)
    assert await watch.kept() == [OFFLINE]


async def test_a_device_that_is_gone_raises_nothing_and_is_forgotten(autojump_clock: MockClock, watch: Watch):
    watch.go("deleted")
    await trio.sleep(400)
    assert await watch.kept() == []
    assert len(watch.alarms._away_since) == 0


async def test_a_restart_knows_how_bad_it_was(autojump_clock: MockClock, nursery: trio.Nursery):
    database = InlineDatabase()
    first = await start(nursery, database)
    first.device()
    await nursery.start(first.alarms.run)
    first.come()
    first.beat(battery_level=15)
    assert await first.kept() == [("battery_low", None, "warning", True)]

    second = await start(nursery, database)
    await nursery.start(second.alarms.run)
    second.come()
    second.beat(battery_level=14)
    assert [each.occurrences for each in await second.database.read(lambda c: kept.find(c, WHOLE_FLEET, None, None, None, None, 9))] == [1]
    second.beat(battery_level=3)
    assert await second.kept() == [("battery_low", None, "critical", True)]
    second.beat(battery_level=50)
    assert await second.kept() == [("battery_low", None, "critical", False)]
    nursery.cancel_scope.cancel()


async def test_what_the_writer_does_not_take_is_tried_with_the_next_reading(
    autojump_clock: MockClock, watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    post = watch.writer.post
    for level, expected in ((10, []), (90, [("battery_low", None, "warning", True)])):
        monkeypatch.setattr(watch.writer, "post", lambda *args: False)
        watch.beat(battery_level=level)
        assert await watch.kept() == expected
        monkeypatch.setattr(watch.writer, "post", post)
        watch.beat(battery_level=level)
        assert await watch.kept() == [("battery_low", None, "warning", level == 10)]


async def test_a_phone_cannot_fill_the_memory_with_slots(autojump_clock: MockClock, watch: Watch):
    def card(slot: int) -> SimCard:
        return SimCard(slot_index=slot, signal_strength=0, imsi=SubscriberId("0000", f"{slot}"))

    for odd in (True, 10**40, "1"):
        watch.report(alarm_type="sms_blocked", sim_slot=odd)
    assert await watch.kept() == [("sms_blocked", None, "warning", True)]
    for slot in range(-50, 500):
        watch.beat(card(slot))
        watch.report(alarm_type="sms_blocked", sim_slot=slot)
    found = await watch.kept()
    assert len(found) == 8 + 9  # weak signals; blocked SIMs, and one without a slot
    assert {slot for _, slot, _, _ in found} == {None, *range(8)}
    assert len(await watch.disabled()) == 8


async def test_a_sim_with_two_alarms_rests_until_both_are_over(autojump_clock: MockClock, nursery: trio.Nursery):
    watch = await start(nursery, InlineDatabase(), PhoneSettings(auto_disable_sim_on_alarm=True))
    watch.device()
    await nursery.start(watch.alarms.run)
    for alarm_type in ("sms_blocked", "sim_balance_low"):
        watch.report(alarm_type=alarm_type, sim_slot=0)
    watch.report(alarm_type="mms_blocked", sim_slot=1)  # no reason not to send SMS
    assert await watch.disabled() == {0: "sim_balance_low"}

    key = kept.AlarmKey("phone-1", AlarmType.SIM_BALANCE_LOW, 0)
    watch.alarms._clear(key, watch.wall_ms())
    assert await watch.disabled() == {0: "sms_blocked"}
    watch.alarms._clear(key._replace(type=AlarmType.SMS_BLOCKED), watch.wall_ms())
    assert await watch.disabled() == {0: None}
    nursery.cancel_scope.cancel()


async def test_a_heartbeat_that_changes_nothing_writes_nothing(autojump_clock: MockClock, watch: Watch):
    card = SimCard(slot_index=0, signal_strength=1, imsi=SubscriberId("0000", "a"))
    watch.beat(card, battery_level=10)
    await watch.kept()
    posted: list[object] = []
    watch.writer.post = lambda *args, **named: posted.append(args) or True  # type: ignore[method-assign]
    for level in (10, 12, 19, 22):
        watch.beat(card, battery_level=level)
    assert posted == []


async def test_the_same_reading_is_looked_at_again_once_something_is_different(autojump_clock: MockClock, watch: Watch):
    watch.beat(battery_level=90)
    watch.report(alarm_type="battery_low", message="says the phone")
    assert await watch.kept() == [("battery_low", None, "warning", True)]
    watch.beat(battery_level=90)
    assert await watch.kept() == [("battery_low", None, "warning", False)]

    watch.beat(battery_level=3)
    watch.beat(battery_level=3)
    assert (await watch.kept())[1:] == [("battery_low", None, "critical", True)]
    watch.go()
    watch.come()
    watch.bus.publish(SettingsChanged("phone-1", PhoneSettings(enable_battery_alarms=False), 2))
    assert (await watch.kept())[1:] == [("battery_low", None, "critical", False)]
    watch.bus.publish(SettingsChanged("phone-1", PhoneSettings(), 3))
    watch.beat(battery_level=3)
    assert (await watch.kept())[2:] == [("battery_low", None, "critical", True)]


async def test_of_whoever_is_not_linked_no_status_is_kept(autojump_clock: MockClock, watch: Watch):
    watch.beat(battery_level=90)
    watch.beat(battery_level=90, device_id="agent-1")
    watch.go()
    watch.bus.publish(DeviceUnlinked("agent-1", "agent", 1, watch.wall_ms(), "closed"))
    assert watch.alarms._open._judged == {}


async def test_sims_are_remembered_up_to_a_number(autojump_clock: MockClock, nursery: trio.Nursery):
    watch = await start(nursery, InlineDatabase(), sims_remembered_max=3)
    await nursery.start(watch.alarms.run)
    for number in range(5):
        watch.beat(SimCard(slot_index=0, imsi=SubscriberId("0000", "a")), device_id=f"phone-{number}")
    assert len(watch.alarms._seen) == 3
    assert watch.alarms._limits.value("alarms.sims_remembered_max") == 2
    assert await watch.kept() == []
    nursery.cancel_scope.cancel()
