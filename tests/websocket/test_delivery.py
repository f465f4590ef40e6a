"""Delivery reports on the wire: of long SMS whose parts have no number, and of RCS messages (T-23, C-25, H22)."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.command import CommandKind, CommandRequest, Target
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, NUMBER, S, log_of, patient, report, sms, state, submit, told


@pytest.fixture
def config() -> Config:
    return patient()


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


async def test_a_long_sms_of_a_phone_of_the_seed_is_delivered_with_its_last_part(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(message="x" * 400, delivery_report=True))
        command = await told(phone)
        await log_of(phone, command)
        for at, expected in ((1, S.SENT), (2, S.SENT), (2, S.SENT), (3, S.DELIVERED)):
            await report(
                phone, "sms_delivery_report", phone_number=NUMBER, message_id=message_id, status="delivered", sim_slot=0, timestamp=at
            )
            await trio.sleep(1)
            assert await state(world, message_id) is expected


async def test_one_report_of_a_long_sms_is_believed_after_a_while(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(message="x" * 400, delivery_report=True))
        await log_of(phone, await told(phone))
        await report(phone, "sms_delivery_report", phone_number=NUMBER, message_id=message_id, status="delivered", timestamp=1)
        await trio.sleep(110)
        assert await state(world, message_id) is S.SENT
        await trio.sleep(20)
        assert await state(world, message_id) is S.DELIVERED


async def test_an_rcs_message_is_sent_delivered_and_read(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        data = {"phone_number": NUMBER, "message": "hi"}
        target = Target(device_id="phone-1")
        message_id = await submit(world, CommandRequest(kind=CommandKind.SEND_RCS, target=target, data=data, delivery_report=True))
        await told(phone)
        for status, expected in (("sent", S.SENT), ("delivered", S.DELIVERED), ("read", S.DELIVERED)):
            await report(phone, "rcs_log", phone_number=NUMBER, status=status)
            await trio.sleep(1)
            assert await state(world, message_id) is expected
        view = await world.gateway.commands.view(message_id, BOSS)
        assert view.command.result == {"read": True}
        assert view.timeline[-1].detail == {"delivery_report": True, "read": True}
