"""Doubtful cases of commands at the door: reports that look alike, an SMS that no limit lets through, a late word of another phone."""

import json
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.command import Wait
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, NUMBER, S, log_of, patient, report, sms, state, submit, told, waits


@pytest.fixture
def config() -> Config:
    return patient()


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


async def test_two_reports_at_once_that_say_the_same_are_about_two_commands(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        ids = [await submit(world, sms(sim_slot=slot)) for slot in (0, 1)]
        for _ in ids:
            assert await told(phone) is not None
        log = json.dumps({"type": "sms_log", "data": {"phone_number": NUMBER, "message": "hello", "status": "sent"}})
        for _ in ids:
            await phone.send(log)
        await trio.sleep(1)
        assert [await state(world, each) for each in ids] == [S.SENT, S.SENT]


@pytest.mark.parametrize("config", [patient(phones=PhoneSettings(enable_sms_limits=True, sim1_daily_sms_limit=2))], ids=[""])
async def test_an_sms_that_no_day_lets_through_says_so_and_holds_nothing_back(autojump_clock: MockClock, world: World, config: Config):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        long = await submit(world, sms(message="x" * 400, sim_slot=0, priority=50))
        short = await submit(world, sms(sim_slot=0))
        command = await told(phone)
        assert command is not None
        assert command["message_id"] == short
        await log_of(phone, command)
        await trio.sleep(2)
        assert await waits(world, long) == Wait("exceeds_daily_limit")
        await world.gateway.devices.change_settings("phone-1", {"sim1_daily_sms_limit": 20}, BOSS)
        while (command := await told(phone)) is not None and command["type"] != "send_sms":
            pass
        assert command is not None
        assert command["message_id"] == long


@pytest.mark.parametrize("config", [patient(commands=CommandsSettings(dispatched_s=10))], ids=[""])
async def test_a_phone_that_did_it_after_all_is_heard_though_an_operator_gave_it_to_any_phone_again(
    autojump_clock: MockClock, world: World, config: Config
):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(None))
        command = await told(phone)
        await trio.sleep(15)
        assert await state(world, message_id) is S.UNKNOWN
        await report(phone, "heartbeat", sim_cards=[])  # it has no SIM any more, so nobody takes what is requeued
        await trio.sleep(1)
        await world.gateway.commands.requeue(message_id, BOSS)
        assert await told(phone, 20) is None
        await log_of(phone, command, message_id=message_id)
        await trio.sleep(1)
        view = await world.gateway.commands.view(message_id, BOSS)
        assert (view.command.state, view.command.device_id, view.command.sim_slot) == (S.SENT, "phone-1", 0)
