"""All nine types of alarm at the door: each is raised and cleared by what it should be, each by its flag (T-51, T-53, C-27)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.alarm import FLAGS, AlarmType
from signal_gateway.domain.command import CommandKind, CommandRequest, Target
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.alarm_settings import AlarmsSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_alarms import seen
from tests.websocket.test_commands import BOSS, log_of, patient, report, request, sms, submit, told

IMPATIENT = CommandsSettings(backoff_first_s=1, backoff_max_s=1, backoff_jitter=0, sim_park_after=1000)
NINE = [each for each in AlarmType if each is not AlarmType.SIM_CHANGED]


@pytest.fixture
def config() -> Config:
    return patient(commands=IMPATIENT)


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


async def types(world: World) -> list[tuple[str, int | None, bool]]:
    """Oldest first: type, SIM, and whether it is open."""
    return [(kind, slot, is_open) for kind, slot, _, _, is_open in await seen(world)]


@pytest.mark.parametrize("kind", NINE)
async def test_every_type_is_raised_and_ended_by_the_device_itself(autojump_clock: MockClock, world: World, kind: AlarmType):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "alarm", alarm_type=kind.value, sim_slot=1)
        is_history = kind is AlarmType.OFFLINE  # told by one that is here (C-28)
        assert await types(world) == [(kind.value, 1, not is_history)]
        await report(phone, "alarm", alarm_type=kind.value, sim_slot=0, cleared=True)
        assert (await types(world))[0][2] is not is_history
        await report(phone, "alarm", alarm_type=kind.value, sim_slot=1, cleared=True)
        assert await types(world) == [(kind.value, 1, False)]


@pytest.mark.parametrize(("kind", "flag"), FLAGS.items())
async def test_a_flag_that_is_off_bars_what_the_device_says_and_ends_what_is_open(
    autojump_clock: MockClock, world: World, kind: AlarmType, flag: str
):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "alarm", alarm_type=kind.value)
        assert await types(world) == [(kind.value, None, kind is not AlarmType.OFFLINE)]
        await world.gateway.devices.change_settings("phone-1", {flag: False}, BOSS)
        assert await types(world) == [(kind.value, None, False)]
        await report(phone, "alarm", alarm_type=kind.value)
        assert await types(world) == [(kind.value, None, False)]


async def test_sms_that_fail_in_a_row_are_blocked_until_one_is_sent(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "heartbeat", sim_cards=[{"slot_index": 1}])
        await trio.sleep(2)
        await submit(world, sms())  # by any SIM: what was chosen is to blame all the same
        for count in range(1, 6):
            await log_of(phone, await told(phone), "failed")
            assert (("sms_blocked", 1, True) in await types(world)) == (count == 5)
        await log_of(phone, await told(phone), "sent")
        assert ("sms_blocked", 1, False) in await types(world)


async def test_a_device_that_says_that_sms_are_blocked_and_then_sends_one_was_wrong(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for kind in ("sms_blocked", "ussd_blocked", "sim_blocked"):
            await report(phone, "alarm", alarm_type=kind)  # as the source has it, of no SIM
        await report(phone, "alarm", alarm_type="sim_blocked", sim_slot=0)
        await submit(world, sms(sim_slot=0))
        await log_of(phone, await told(phone))
        open_ones = [(kind, slot) for kind, slot, is_open in await types(world) if is_open]
        assert open_ones == [("ussd_blocked", None), ("sim_blocked", None)]  # one SIM works: the other may be the one that is meant


async def fail_ussd(world: World, phone: Client, code: int) -> None:
    await submit(world, request(CommandKind.SEND_USSD, ussd_code="*123#"))
    assert await told(phone) is not None
    await report(phone, "ussd_response_failed", failure_code=code, sim_slot=0)
    await trio.sleep(0.1)


async def test_ussd_that_is_not_available_again_and_again_is_blocked_until_it_is_answered(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for _ in range(6):
            await fail_ussd(world, phone, 8)  # a wrong code is nobody's fault but the sender's
        assert "ussd_blocked" not in [kind for kind, _, _ in await types(world)]
        for _ in range(5):
            await fail_ussd(world, phone, 3)
        assert ("ussd_blocked", 0, True) in await types(world)
        await submit(world, request(CommandKind.SEND_USSD, ussd_code="*123#"))
        assert await told(phone) is not None
        await report(phone, "ussd_response", response="ok")
        assert ("ussd_blocked", 0, False) in await types(world)


@pytest.mark.parametrize("config", [patient(commands=IMPATIENT, alarms=AlarmsSettings(blocked_after=0))], ids=[""])
async def test_nothing_counts_as_blocked_where_that_is_switched_off(autojump_clock: MockClock, world: World, config: Config):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for _ in range(6):
            await fail_ussd(world, phone, 3)
        assert "ussd_blocked" not in [kind for kind, _, _ in await types(world)]


async def test_an_error_of_the_sim_is_its_own_though_any_sim_might_have_sent(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "heartbeat", sim_cards=[{"slot_index": 1}])
        await trio.sleep(2)
        data: dict[str, Any] = {"phone_number": "+905551234567", "message": "hello"}
        await submit(world, CommandRequest(kind=CommandKind.SEND_SMS, target=Target(), data=data))  # for any phone, too
        await log_of(phone, await told(phone), "failed", error_code=120)
        assert await types(world) == [("sim_blocked", 1, True)]
        await log_of(phone, await told(phone), "sent")
        assert await types(world) == [("sim_blocked", 1, False)]


async def test_a_balance_is_well_again_a_tenth_above_its_threshold(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for amount, is_open in (("9,99", True), ("10,00", True), ("10,99", True), ("11,00", False), ("10,00", False), ("9,00", True)):
            await submit(world, request(CommandKind.SEND_USSD, ussd_code="*123#"))
            assert await told(phone) is not None
            await report(phone, "ussd_response", response=f"Bakiyeniz {amount} TL")
            assert (await types(world))[-1] == ("sim_balance_low", 0, is_open), amount


@pytest.mark.parametrize("config", [patient(commands=IMPATIENT, phones=PhoneSettings(enable_error_alarms=False))], ids=[""])
async def test_a_delivery_that_failed_raises_nothing_where_error_alarms_are_off(autojump_clock: MockClock, world: World, config: Config):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=0, delivery_report=True))
        await log_of(phone, await told(phone))
        await report(phone, "sms_delivery_report", message_id=message_id, status="failed")
        assert await types(world) == []
