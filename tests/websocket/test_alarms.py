"""Alarms of phones at the door: what raises them, what clears them, and what they do."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role, Scope
from signal_gateway.domain.alarm import Alarm
from signal_gateway.domain.command import CommandKind, Wait
from signal_gateway.domain.errors import AlarmNotFound
from signal_gateway.domain.events import SimChanged
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.storage import records
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, log_of, patient, report, request, sms, submit, told, waits


@pytest.fixture
def config() -> Config:
    return patient()


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


async def alarms(world: World, **asked: Any) -> list[Alarm]:
    await trio.sleep(1)
    return await world.gateway.alarms.find(BOSS, **asked)


async def seen(world: World) -> list[tuple[str, int | None, str, int, bool]]:
    """Oldest first: type, SIM, severity, how often, and whether it is open."""
    found = await alarms(world)
    return [(each.type.value, each.sim_slot, each.severity.value, each.occurrences, each.cleared_at is None) for each in found[::-1]]


async def test_a_battery_raises_once_gets_worse_and_is_cleared_with_hysteresis(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for level in (21, 20):
            await report(phone, "heartbeat", battery_level=level)
        assert await seen(world) == []
        for level in (19, 18, 19):
            await report(phone, "heartbeat", battery_level=level)
        assert await seen(world) == [("battery_low", None, "warning", 1, True)]
        await report(phone, "heartbeat", battery_level=4)
        assert await seen(world) == [("battery_low", None, "critical", 2, True)]
        await report(phone, "heartbeat", battery_level=24)
        assert (await seen(world))[0][4]
        await report(phone, "heartbeat", battery_level=25)
        assert await seen(world) == [("battery_low", None, "critical", 2, False)]
        await report(phone, "heartbeat", battery_level=10)
        assert len(await alarms(world, active=True)) == 1
        assert len(await alarms(world)) == 2


@pytest.mark.parametrize("config", [patient(phones=PhoneSettings(enable_battery_alarms=False, enable_signal_alarms=False))], ids=[""])
async def test_a_flag_switches_an_alarm_off(autojump_clock: MockClock, world: World, config: Config):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "heartbeat", battery_level=1, signal_strength=0)
        assert await seen(world) == []


async def test_signals_are_told_apart_by_sim(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        cards = [{"slot_index": 0, "signal_strength": 4}, {"slot_index": 1, "signal_strength": 0}]
        await report(phone, "heartbeat", signal_strength=1, sim_cards=cards)
        assert await seen(world) == [("signal_low", None, "warning", 1, True), ("signal_low", 1, "error", 1, True)]
        await report(phone, "heartbeat", signal_strength=2, sim_cards=[{"slot_index": 1, "signal_strength": 1}])
        assert [each[4] for each in await seen(world)] == [False, True]


async def test_a_phone_that_stays_away_is_offline_until_it_comes(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
    await trio.sleep(290)
    assert await seen(world) == []
    await trio.sleep(20)
    assert await seen(world) == [("offline", None, "error", 1, True)]
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await seen(world) == [("offline", None, "error", 1, False)]
        await report(phone, "alarm", alarm_type="offline", severity="critical")  # late: history (C-28)
        assert (await seen(world))[1] == ("offline", None, "critical", 1, False)


async def test_who_is_away_is_known_after_a_restart_and_raised_once(autojump_clock: MockClock, config: Config):
    database = InlineDatabase()
    async with open_world(config, database=database) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
    async with open_world(config, seed=1, database=database) as world:
        await trio.sleep(400)
        assert await seen(world) == [("offline", None, "error", 1, True)]
    async with open_world(config, seed=2, database=database) as world:
        await trio.sleep(400)
        assert await seen(world) == [("offline", None, "error", 1, True)]
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            assert await seen(world) == [("offline", None, "error", 1, False)]
    database.close()


async def test_what_a_device_reports_is_open_until_somebody_has_seen_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for _ in range(2):
            await report(phone, "alarm", alarm_type="mms_blocked", severity="error", message="no MMS")
        (alarm,) = await alarms(world)
        assert (alarm.source, alarm.message, alarm.occurrences) == ("device", "no MMS", 2)
        with pytest.raises(AlarmNotFound):
            await world.gateway.alarms.acknowledge(alarm.id, Operator("narrow", Role.OPERATOR, Scope(devices=frozenset({"other"}))))
        seen_by = await world.gateway.alarms.acknowledge(alarm.id, BOSS)
        assert (seen_by.acknowledged_by, seen_by.cleared_at is not None) == ("boss", True)
        assert (await world.gateway.alarms.acknowledge(alarm.id, Operator("late", Role.OPERATOR))).acknowledged_by == "boss"
        with pytest.raises(AlarmNotFound):
            await world.gateway.alarms.acknowledge(999, BOSS)


async def test_failures_in_a_row_raise_and_a_success_clears(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, request(CommandKind.FIND_DEVICE))
        for _ in range(5):
            assert await told(phone, 4000) is not None
            await report(phone, "find_device_failed", error="no speaker")
        assert await seen(world) == [("error_count", None, "error", 1, True)]
        assert await told(phone, 4000) is not None
        await report(phone, "find_device_success")
        assert await seen(world) == [("error_count", None, "error", 1, False)]


@pytest.mark.parametrize("is_waited_for", [False, True])
async def test_what_the_network_did_not_deliver_raises(autojump_clock: MockClock, world: World, is_waited_for: bool):
    """Phones tell it whether it was asked for or not (T-47)."""
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for status in ("failed", "delivered"):
            message_id = await submit(world, sms(sim_slot=0, delivery_report=is_waited_for))
            await log_of(phone, await told(phone))
            await report(phone, "sms_delivery_report", message_id=message_id, status=status)
            assert await seen(world) == [("error_count", 0, "warning", 1, status == "failed")]
        assert (await world.gateway.commands.view(message_id, BOSS)).command.state.value == ("delivered" if is_waited_for else "sent")
        await report(phone, "sms_delivery_report", sim_slot=1, phone_number="+905550000000", status="failed")  # of a message of its own
        assert ("error_count", 1, "warning", 1, True) in await seen(world)


@pytest.mark.parametrize("config", [patient(phones=PhoneSettings(auto_disable_sim_on_alarm=True))], ids=[""])
async def test_a_low_balance_raises_keeps_the_sim_from_sending_and_is_cleared_by_a_better_one(
    autojump_clock: MockClock, world: World, config: Config
):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)

        async def balance(text: str) -> None:
            await submit(world, request(CommandKind.SEND_USSD, ussd_code="*123#"))
            assert await told(phone) is not None
            await report(phone, "ussd_response", response=text)

        await balance("Bakiyeniz 9,50 TL")
        assert await seen(world) == [("sim_balance_low", 0, "warning", 1, True)]
        message_id = await submit(world, sms(sim_slot=0))
        assert await told(phone, 60) is None
        assert await waits(world, message_id) == Wait("sim_disabled")
        (alarm,) = await alarms(world)
        await world.gateway.alarms.acknowledge(alarm.id, BOSS)  # seen, and still low
        assert await waits(world, message_id) == Wait("sim_disabled")
        await balance("Bakiyeniz 90,50 TL")  # a SIM that is spared for its balance may still ask for it
        assert await seen(world) == [("sim_balance_low", 0, "warning", 1, False)]
        assert (await told(phone) or {})["type"] == "send_sms"


async def test_a_low_balance_holds_sms_back_until_it_is_better(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for text, is_open in (("Bakiyeniz 9,50 TL", True), ("Bakiyeniz 90,50 TL", False)):
            await submit(world, request(CommandKind.SEND_USSD, ussd_code="*123#"))
            assert (await told(phone) or {})["type"] == "send_ussd"
            message_id = await submit(world, sms(sim_slot=0))
            await report(phone, "ussd_response", response=text)
            assert await seen(world) == [("sim_balance_low", 0, "warning", 1, is_open)]
            if is_open:
                assert await waits(world, message_id) == Wait("low_balance")
        assert (await told(phone) or {})["type"] == "send_sms"


async def test_another_sim_in_a_slot_is_told_once(autojump_clock: MockClock, world: World):
    changed: list[SimChanged] = []
    world.gateway.dispatcher._bus.subscribe(SimChanged, changed.append)
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)

        async def beat(imsi: str) -> None:
            await report(phone, "heartbeat", sim_cards=[{"slot_index": 0, "imei": "355000123456789", "imsi": imsi}])
            await trio.sleep(1)

        for _ in range(2):
            await beat("286010123456789")
        assert await seen(world) == []
        for _ in range(2):
            await beat("286010000000000")
        assert await seen(world) == [("sim_changed", 0, "warning", 1, True)]
        assert changed == [SimChanged("phone-1", 0)]
        trail = await world.database.read(lambda connection: records.find_audit(connection, "phone-1"))
        assert trail[0].action == "sim_changed"


async def test_alarms_of_others_are_not_seen(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers(device_group="shop")) as phone:
        await hear(phone)
        await report(phone, "heartbeat", battery_level=1)
        await trio.sleep(1)
        for scope, count in (
            (Scope(groups=frozenset({"shop"})), 1),
            (Scope(devices=frozenset({"phone-1"})), 1),
            (Scope(groups=frozenset({"x"})), 0),
        ):
            assert len(await world.gateway.alarms.find(Operator("some", Role.VIEWER, scope))) == count
